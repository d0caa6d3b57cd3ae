"""The register of checks, and how draws and values are compared."""

from collections.abc import Callable
from typing import Any

import numpy as np

from sweep.networks.variables import Variable
from sweep.perturb import REGISTRY

CHECKS: dict[tuple[str, str], Callable[[], None]] = {}
BASES: dict[str, set[str]] = {}  # what the catalogue's table of bases may name, by basis

DRAWS = 40_000  # of each weight: a mean that is 2.5 %, or a standard deviation that is 2.6 %, of σ off is found
LIMIT = 5.0  # standard errors: a false alarm in 6e-7 of comparisons, were the seeds not fixed

W = (0.3 * np.random.default_rng(7).standard_normal((6, 4))).astype(np.float32)
W[0, 0] = 0.0
MAX = float(np.abs(W).max())


def peer(op: str, *names: str, basis: str = "") -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Registers a check of one entry, or of several, of the transform `op`."""

    def add(check: Callable[[], None]) -> Callable[[], None]:
        for name in names:
            assert (op, name) not in CHECKS
            CHECKS[op, name] = check
            if basis:
                BASES.setdefault(basis, set()).add(name)
        return check

    return add


def generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def ours(op: str, weight: np.ndarray = W, seed: int = 1, **parameters: Any) -> np.ndarray:
    """What our transform makes of a dense kernel (inputs, outputs)."""
    variable = Variable(0, "fc/kernel", "fc", 0, "Dense", weight.shape, True, (1,))
    return REGISTRY[op](**parameters).apply(weight, variable, generator(seed))


def drawn(op: str, weight: np.ndarray = W, **parameters: Any) -> np.ndarray:
    """(DRAWS, inputs, outputs): the kernel drawn many times, as one tall kernel with the same maxima and deviations."""
    tall = np.tile(weight, (DRAWS, 1))
    return ours(op, tall, **parameters).reshape(DRAWS, *weight.shape).astype(np.float64)


def many(weight: np.ndarray = W) -> tuple[np.ndarray, np.random.Generator]:
    """(DRAWS, inputs, outputs) float64 copies of the kernel, and a generator for a peer's draws."""
    return np.broadcast_to(weight.astype(np.float64), (DRAWS, *weight.shape)), np.random.default_rng(2024)


def errors(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By how many standard errors mean and standard deviation differ, weight by weight."""
    found = []
    for sample in (first, second):
        variance = sample.var(axis=0)
        fourth = ((sample - sample.mean(axis=0)) ** 4).mean(axis=0)
        found.append((sample.mean(axis=0), variance, np.maximum(fourth - variance**2, 0)))
    (m1, v1, q1), (m2, v2, q2) = found
    tiny = 1e-14
    mean = np.abs(m1 - m2) / np.sqrt((v1 + v2) / DRAWS + tiny)
    return mean, np.abs(v1 - v2) / np.sqrt((q1 + q2) / DRAWS + tiny**2)


def same_law(first: np.ndarray, second: np.ndarray, where: np.ndarray | None = None) -> None:
    """Two samples (DRAWS, ...) have the same mean and standard deviation for every weight."""
    chosen = np.ones(first.shape[1:], bool) if where is None else where
    assert chosen.any()
    for error in errors(first, second):
        assert error[chosen].max() < LIMIT, error


def other_law(first: np.ndarray, second: np.ndarray) -> None:
    """They do not: the comparison would find it."""
    assert max(error.max() for error in errors(first, second)) > 2 * LIMIT


def same_values(found: np.ndarray, expected: np.ndarray, ulps: int = 0) -> None:
    """Equal, or within some float32 roundings of the largest."""
    limit = ulps * np.spacing(np.float32(np.abs(expected).max()))
    assert np.abs(found.astype(np.float64) - expected).max() <= limit


def std(sample: np.ndarray) -> np.ndarray:
    return sample.std(axis=0)

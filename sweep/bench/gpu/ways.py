"""The ways to evaluate on a GPU, ours and PyTorch's, each measured by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from sweep.bench import baselines
from sweep.bench.fixed import Fixed
from sweep.bench.gpu.task import Task
from sweep.engine import near_ties, tensors
from sweep.engine.backends import Backend, Stacked
from sweep.engine.choice import entries_of
from sweep.engine.evaluator import Evaluator
from sweep.perturb.base import Array

ROUNDS = 5
Way = tuple[int, int, int, bool]
"""Trials of a pass, passes of a call, images a step, products; as of `Stacked`."""
Make = Callable[[Task], Backend]
Expected = tuple[Array, list[int]]
"""Scores (trials, images, outputs) and counts of the first trials, by the CPU."""


@dataclass
class Found:
    """What was measured of a way.

    Attributes:
        way: in words.
        trials: of a call.
        compiling: seconds of the first call.
        seconds: of a trial, decisions and near ties included, one of each round.
        settled: seconds of a trial's decisions but for near ties.
        with_draws: seconds of a trial, all included.
        error: of scores, as a share of the logits' range.
        differing: decisions of the first trials that are not the CPU's, before near ties are taken again.
        near_ties: of a trial.
        correct: counts of the first trials.
        unequal: how many of these are not the CPU's.
        failed: why there is nothing.
    """

    way: str
    trials: int = 0
    compiling: float = 0.0
    seconds: list[float] = field(default_factory=list)
    settled: float | None = None
    with_draws: float | None = None
    error: float | None = None
    differing: int | None = None
    near_ties: float | None = None
    correct: list[int] = field(default_factory=list)
    unequal: int | None = None
    failed: str = ""

    def said(self, flops: int) -> str:
        """In a line, for trials of so many operations."""
        if self.failed:
            return f"{self.way}: {self.failed}"
        rate = 1 / median(self.seconds)
        parts = [f"{rate:.4g} trials/s", f"{rate * flops / 1e12:.3g} TFLOP/s", f"first call {self.compiling:.1f} s"]
        if self.settled is not None:
            parts.append(f"{1 / self.settled:.4g} but for near ties")
        if self.with_draws is not None:
            parts.append(f"{1 / self.with_draws:.4g} with draws")
        if self.error is not None:
            parts.append(f"error {self.error:.1e}, {self.differing} decisions differ before near ties")
            parts.append(f"{self.near_ties:.2g} of these a trial")
            parts.append(f"{self.unequal} of {len(self.correct)} counts not the CPU's")
        return f"{self.way}: {', '.join(parts)}"


def stacked(way: Way, task: Task) -> Stacked:
    """Our way, of these sizes."""
    trials, passes, step, products = way
    return Stacked(task.subject, task.varied, min(step, task.images), trials, passes, bool(products))


def chosen(task: Task) -> Backend:
    """What a run takes."""
    return Evaluator(task.network, task.dataset).backend(task.varied)


def ours(label: str, make: Make, task: Task, expected: Expected, seconds: float) -> Found:
    """Measures a way of ours for about so long, and holds it to the CPU's scores and counts."""
    found = Found(label)
    try:
        backend = make(task)
        found.trials, exact = backend.trials, len(expected[1])
        sets = task.draws(range(max(exact, backend.trials)))
        full = sets[: backend.trials]
        fixed = Fixed(task.network, task.dataset, backend)
        begun = time.perf_counter()
        fixed.correct(full, task.varied)
        found.compiling = time.perf_counter() - begun
        scores = backend.scores(entries_of(sets[: min(exact, backend.trials)], backend))
        softmax, cpu = near_ties.is_softmax(scores[0]), expected[0][: len(scores)]
        found.error = near_ties.difference(scores, cpu, softmax)
        found.differing = int((scores.argmax(-1) != cpu.argmax(-1)).sum())
        for first in range(0, exact, backend.trials):
            found.correct += fixed.correct(sets[first : min(exact, first + backend.trials)], task.varied)
        found.unequal = sum(a != b for a, b in zip(found.correct, expected[1], strict=True))
        found.near_ties = fixed.ties / (exact + backend.trials)
        _time(found, lambda: fixed.correct(full, task.varied), backend.trials, seconds)
        if isinstance(backend, Stacked):
            found.settled = _settling(backend, full, softmax)
        begun = time.perf_counter()
        fixed.correct(task.draws(range(backend.trials)), task.varied)
        found.with_draws = (time.perf_counter() - begun) / backend.trials
    except Exception as error:  # of a library, such as a card's memory: the other ways are still worth measuring
        found.failed = _failed(error)
    return found


class Vmapped(Stacked):
    """As JAX makes one pass of many trials from that of one."""

    def _run(self, images: Sequence[Any], sets: Sequence[Any]) -> Any:
        import jax

        def step(part: Sequence[Any]) -> Any:
            def one(weights: Sequence[Any]) -> Any:
                return self._network.forward(part, [weight[None] for weight in weights])[0]

            batched: Any = jax.vmap(one)
            return batched([x[0] for x in sets])

        return tensors.loop(step, images)[None]


def vmapped(trials: int, step: int, task: Task) -> Stacked:
    """That way, of these sizes."""
    return Vmapped(task.subject, task.varied, min(step, task.images), trials)


def in_tf32(way: Way, task: Task, expected: Expected) -> dict[str, float | str]:
    """What TF32, which rounds factors to 11 bits, would give: trials/s, the error, and what it leaves open."""
    import jax

    try:
        with jax.default_matmul_precision("tensorfloat32"):
            backend = stacked(way, task)
            sets = task.draws(range(backend.trials))
            values = entries_of(sets, backend)
            scores = backend.scores(values)
            several = min(len(scores), len(expected[0]))
            softmax = near_ties.is_softmax(scores[0])
            error = near_ties.difference(scores[:several], expected[0][:several], softmax)
            left = backend.settled(values, 0, softmax, near_ties.MARGIN * error)
            rate = 1 / _settling(backend, sets, softmax)
            return {"rate": rate, "error": error, "open": float(np.mean([one.classes < 0 for one in left]))}
    except Exception as error:  # as above
        return {"failed": _failed(error)}


def torch(task: Task, seconds: float) -> Iterator[Found]:
    """PyTorch on the same card, in float32, for about so long each."""
    if baselines.torch_version() is None:
        return
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for together, batch in ((1, task.images), (1, 1000), (8, min(task.images, 2500))):
        words = f"torch.func.vmap over {together} trials" if together > 1 else "one trial at a time"
        found = Found(f"PyTorch, {words}, {batch} images", together)
        try:
            evaluate = baselines.torch_evaluate(task.network, task.dataset, together, device, batch)
            if evaluate is None:
                return
            sets = task.draws(range(together))
            begun = time.perf_counter()
            found.correct = evaluate(sets)
            found.compiling = time.perf_counter() - begun
            _time(found, partial(evaluate, sets), together, seconds)
        except Exception as error:  # as above
            found.failed = _failed(error)
        yield found


def _settling(backend: Stacked, sets: Sequence[Sequence[Array]], softmax: bool) -> float:
    """Seconds of a trial's decisions."""
    times = []
    values = entries_of(sets, backend)
    for _ in range(2):  # the first may compile
        begun = time.perf_counter()
        backend.settled(values, 0, softmax, near_ties.TIE)
        times.append((time.perf_counter() - begun) / backend.trials)
    return times[-1]


def _time(found: Found, call: Callable[[], object], trials: int, seconds: float) -> None:
    end = time.perf_counter() + seconds
    while len(found.seconds) < ROUNDS and (not found.seconds or time.perf_counter() < end):
        begun = time.perf_counter()
        call()
        found.seconds.append((time.perf_counter() - begun) / trials)


def _failed(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]

"""Faults against their definitions, bit by bit in Python's own integers, and against the chances they promise."""

import itertools
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sweep.errors import InputError
from sweep.networks.variables import Variable
from sweep.perturb import REGISTRY
from sweep.perturb.base import Transform
from sweep.perturb.faults import BitFlip, Float32BitFlip, OpenLines, StuckAt, flips
from sweep.perturb.quantize import FixedPointSaturating, Symmetric

W = np.random.default_rng(0).normal(0, 0.3, (3, 3, 4, 8)).astype(np.float32)
RATES = [0.0, 1e-4, 1e-3, 0.01, 0.1, 0.5, 1.0]


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([1, seed, 0, 0])))


def apply(transform: Transform, w: np.ndarray = W, seed: int = 0, axes: tuple[int, ...] | None = None) -> np.ndarray:
    axes = (w.ndim - 1,) if axes is None else axes
    return transform.apply(w, Variable(0, "k", "k", 0, "Conv2D", w.shape, True, axes), generator(seed))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(("high", "low"), [(0, 0), (1, 0), (0, 1), (0.3, 0.2), (0.4, 0.6)])
def test_stuck_at_equals_the_definition(rate: float, high: float, low: float):
    got = apply(StuckAt(rate=rate, high=high, low=low))
    rng = generator()
    which, where = rng.random(W.size), rng.random(W.size)
    top = max(abs(float(v)) for v in W.ravel())
    for value, was, u, v in zip(got.ravel(), W.ravel(), which, where, strict=True):
        stuck = top if v < high else -top if v >= 1 - low else 0.0
        assert value == (stuck if u < rate else was)


@pytest.mark.parametrize("op", ["stuck_at", "open_lines", "bit_flip", "float32_bit_flip"])
def test_a_higher_rate_keeps_the_same_faults_and_adds_more(op: str):
    more = {"stuck_at": {"high": 0.3}, "open_lines": {"lines": "rows"}, "bit_flip": {"bits": 8}}.get(op, {})

    def faults(rate: float, seed: int) -> np.ndarray:
        clean, moved = (apply(REGISTRY[op](rate=r, **more), seed=seed) for r in (0, rate))
        if op == "float32_bit_flip":
            return np.unpackbits((clean.view(np.uint32) ^ moved.view(np.uint32)).view(np.uint8)).astype(bool)
        if op == "bit_flip":
            step = np.abs(W).max() / 127
            codes = [np.rint(v.astype(np.float64) / step).astype(np.int64).astype(np.uint8) for v in (clean, moved)]
            return np.unpackbits(codes[0] ^ codes[1]).astype(bool)
        return (clean != moved).ravel()

    for seed in range(5):
        found = [faults(rate, seed) for rate in RATES]
        assert not found[0].any()
        for few, many in itertools.pairwise(found):
            assert np.all(many[few])
        assert 0 < found[-3].sum() < found[-2].sum() < found[-1].sum()


def test_stuck_shares_are_those_asked_for():
    """Binomial tests on 200,000 weights; fixed seed, false-alarm rate 0.001 each."""
    w = np.random.default_rng(1).uniform(-0.9, 0.9, 200_000).astype(np.float32)
    w[0] = 1
    got = apply(StuckAt(rate=0.2, high=0.3, low=0.1), w)
    for value, chance in ((1, 0.2 * 0.3), (-1, 0.2 * 0.1), (0, 0.2 * 0.6)):
        assert stats.binomtest(int((got == value).sum()), w.size, chance).pvalue > 0.001


def test_shares_beyond_one_are_a_mistake():
    with pytest.raises(InputError) as caught:
        StuckAt(rate=0.2, high=0.7, low=0.5)
    assert caught.value.problems == ("stuck_at: high, low: 0.7 + 0.5 is more than 1; these are shares",)
    with pytest.raises(InputError) as caught:
        StuckAt(rate=0.1, high=1.5, low=0.5)
    assert len(caught.value.problems) == 1
    assert StuckAt(rate=0.1, high=0.9, low=0.1)


@pytest.mark.parametrize("axes", [(3,), (2, 3), (0,)])
@pytest.mark.parametrize("lines", ["rows", "columns"])
def test_open_lines_are_whole_lines(lines: str, axes: tuple[int, ...]):
    got = apply(OpenLines(rate=0.4, lines=lines), axes=axes)
    rows = tuple(a for a in range(W.ndim) if a not in axes)
    run = axes if lines == "rows" else rows
    dead = np.all(got == 0, axis=run, keepdims=True)
    assert np.array_equal(got, np.where(np.broadcast_to(dead, W.shape), 0, W))
    kept = [W.shape[a] for a in range(W.ndim) if a not in run]
    assert np.array_equal(dead.ravel(), generator().random(int(np.prod(kept))) < 0.4)
    assert 0 < dead.sum() < dead.size or dead.size < 5


def test_open_lines_open_with_the_chance_asked_for():
    """Binomial test on 40,000 lines; fixed seed, false-alarm rate 0.001."""
    w = np.ones((2, 40_000), np.float32)
    dead = int((apply(OpenLines(rate=0.03, lines="columns"), w)[0] == 0).sum())
    assert stats.binomtest(dead, 40_000, 0.03).pvalue > 0.001


def masks(bits: int, rate: float, count: int) -> list[int]:
    """The documented draws: one call a bit, all lowest bits first."""
    rng = generator()
    drawn = [rng.random(count) for _ in range(bits)]
    return [sum(1 << k for k in range(bits) if drawn[k][i] < rate) for i in range(count)]


@pytest.mark.parametrize("bits", [2, 3, 8, 16, 31, 32])
@pytest.mark.parametrize("code", ["symmetric", "fixed_point"])
def test_bit_flips_equal_the_definition(bits: int, code: str):
    """In Python's integers: text of b bits, flipped, read again as two's complement."""
    w = W * np.float32(4)
    step = float(np.abs(w).max()) / (2 ** (bits - 1) - 1) if code == "symmetric" else 2.0 ** (1 - bits)
    got = apply(BitFlip(rate=0.2, bits=bits, code=code), w).ravel()
    for value, was, mask in zip(got, w.ravel(), masks(bits, 0.2, w.size), strict=True):
        number = min(max(round(float(was) / step), -(2 ** (bits - 1))), 2 ** (bits - 1) - 1)
        text = format(number % 2**bits, f"0{bits}b")
        flipped = "".join(str(int(t) ^ int(m)) for t, m in zip(text, format(mask, f"0{bits}b"), strict=True))
        decoded = int(flipped, 2) - (2**bits if flipped[0] == "1" else 0)
        assert value == np.float32(decoded * step)


@pytest.mark.parametrize("bits", [2, 5, 8, 16, 32])
def test_at_rate_0_bit_flips_quantize(bits: int):
    transform = BitFlip(rate=0, bits=bits)
    assert not transform.random
    assert np.array_equal(apply(transform), apply(Symmetric(bits=bits)))
    fixed = apply(BitFlip(rate=0, bits=bits, code="fixed_point"), W * 5)
    assert np.array_equal(fixed, apply(FixedPointSaturating(bits=bits - 1), W * 5))


@given(bits=st.integers(2, 10), seed=st.integers(0, 2**32))
def test_flipped_codes_stay_in_range(bits: int, seed: int):
    transform = BitFlip(rate=0.5, bits=bits)
    resolved = transform.resolve(W, Variable(0, "k", "k", 0, "Conv2D", W.shape, True, (3,)))
    got = apply(transform, seed=seed)
    assert got.min() >= np.float32(resolved.low)
    assert got.max() <= np.float32(resolved.high)
    codes = got.astype(np.float64) / resolved.step
    np.testing.assert_allclose(codes, np.rint(codes), atol=1e-4)


def test_all_flipped_is_the_complement():
    """Rate 1 turns code c into −1 − c."""
    clean, flipped = (apply(BitFlip(rate=r, bits=8, code="fixed_point")) for r in (0, 1))
    assert np.array_equal(flipped, -np.float32(2**-7) - clean)


def test_float32_bit_flips_equal_the_definition():
    with np.errstate(all="ignore"):
        got = apply(Float32BitFlip(rate=0.02)).ravel()
    for value, was, mask in zip(got, W.ravel(), masks(32, 0.02, W.size), strict=True):
        pattern = int.from_bytes(struct.pack("<f", was), "little") ^ mask
        assert struct.pack("<f", value) == pattern.to_bytes(4, "little") or np.isnan(value)
    assert np.array_equal(apply(Float32BitFlip(rate=0)), W)


@pytest.mark.parametrize("rate", [1e-4, 0.01, 0.3])
def test_each_bit_flips_with_the_chance_asked_for(rate: float):
    """Binomial tests of each of 32 bits, and of pairs of neighbours, on 50,000 weights; level 0.001 / 64 each."""
    drawn = flips((50_000,), range(32), rate, generator(3))
    planes = [(drawn >> k) & 1 for k in range(32)]
    for k, plane in enumerate(planes):
        assert stats.binomtest(int(plane.sum()), 50_000, rate).pvalue > 0.001 / 64
        both = int((plane & planes[k - 1]).sum())
        assert stats.binomtest(both, 50_000, rate**2).pvalue > 0.001 / 64


@pytest.mark.parametrize(
    "transform",
    [
        StuckAt(rate=0.2, high=0.5, low=0.1),
        StuckAt(rate=1, high=0.3),
        OpenLines(rate=0.3, lines="rows"),
        BitFlip(rate=0.05, bits=6),
        BitFlip(rate=0.5, bits=3, code="fixed_point"),
    ],
    ids=repr,
)
def test_resolved_sigma_is_the_spread_of_the_draws(transform: Transform):
    """Within 4 % of the standard deviation between 3,000 seeds, root mean square over the weights."""
    w, rng = W[0, 0], generator(9)
    variable = Variable(0, "k", "k", 0, "Dense", w.shape, True, (1,))
    draws = np.stack([transform.apply(w, variable, rng) for _ in range(3000)]).astype(np.float64)
    sigma = np.sqrt(np.mean(draws.var(0, ddof=1)))
    assert transform.resolve(w, variable).sigma == pytest.approx(sigma, rel=0.04)

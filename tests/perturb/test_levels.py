"""Binary, ternary and power-of-two weights against their definitions, written out weight by weight."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sweep.networks.variables import Variable
from sweep.perturb.base import Transform
from sweep.perturb.levels import Binary, PowerOfTwo, Ternary

weights = hnp.arrays(
    np.float32,
    hnp.array_shapes(max_dims=2, max_side=6),
    elements=st.floats(-8, 8, width=32, allow_subnormal=False),
)


def apply(transform: Transform, w: np.ndarray, axes: tuple[int, ...] | None = None, seed: int = 0) -> np.ndarray:
    axes = (w.ndim - 1,) if axes is None else axes
    variable = Variable(0, "k/kernel", "k", 0, "Dense", w.shape, True, axes)
    return transform.apply(w, variable, np.random.default_rng(seed))


def mean(numbers: list[Fraction]) -> Fraction:
    return sum(numbers, Fraction(0)) / max(len(numbers), 1)


@given(w=weights)
def test_binary_equals_the_definition(w: np.ndarray):
    numbers = [Fraction(float(v)) for v in w.ravel()]
    scale = float(mean([abs(n) for n in numbers]))
    expected = [scale if n >= 0 else -scale for n in numbers]
    np.testing.assert_allclose(
        apply(Binary(), w).ravel(), expected, rtol=1e-7, atol=1e-45
    )  # numbers below 1e-38 are coarse


def test_the_sign_of_zero_is_plus():
    assert apply(Binary(), np.float32([0.0, -0.0, -3, 1])).tolist() == [1, 1, -1, 1]


@given(w=weights)
def test_ternary_equals_the_definition(w: np.ndarray):
    numbers = [Fraction(float(v)) for v in w.ravel()]
    threshold = Fraction(0.7) * mean([abs(n) for n in numbers])
    scale = mean([abs(n) for n in numbers if abs(n) > threshold])
    expected = [0.0 if abs(n) <= threshold else math.copysign(float(scale), n) for n in numbers]
    near = [bool(threshold) and abs(abs(n) / threshold - 1) < Fraction(1, 10**6) for n in numbers]
    if not any(near):  # there float64 may decide either way
        np.testing.assert_allclose(apply(Ternary(), w).ravel(), expected, rtol=1e-7, atol=1e-45)


def nearest_power(n: Fraction, bits: int, largest: Fraction) -> float:
    """By trying all levels; the larger of two that are equally near."""
    if largest == 0:
        return 0.0
    e_max = min(range(-140, 10), key=lambda e: (abs(largest - Fraction(2) ** e), -e))
    levels = [Fraction(0), *(Fraction(2) ** (e_max - k) for k in range(2 ** (bits - 1) - 1))]
    size = min(levels, key=lambda level: (abs(abs(n) - level), -level))
    return math.copysign(float(size), n)


@given(w=weights, bits=st.integers(2, 5))
def test_power_of_two_equals_the_definition(w: np.ndarray, bits: int):
    numbers = [Fraction(float(v)) for v in w.ravel()]
    expected = [nearest_power(n, bits, max(map(abs, numbers))) for n in numbers]
    got = apply(PowerOfTwo(bits=bits), w)
    assert got.ravel().tolist() == expected
    assert np.array_equal(apply(PowerOfTwo(bits=bits), -w), -got)


@pytest.mark.parametrize("bits", [2, 3, 4, 5])
def test_the_number_of_levels(bits: int):
    w = np.concatenate([np.geomspace(1e-6, 1.2, 10_001), [0]]).astype(np.float32)
    q = apply(PowerOfTwo(bits=bits), np.concatenate([w, -w]))
    assert len(np.unique(q)) == 2**bits - 1
    assert len(np.unique(apply(Binary(), np.concatenate([w, -w])))) == 2
    assert len(np.unique(apply(Ternary(), np.concatenate([w, -w])))) == 3


def test_many_bits_reach_down_to_the_smallest_number():
    w = np.float32([1.4e-45, 1e-40, -1e-30, 1.0])
    q = apply(PowerOfTwo(bits=32), w)
    assert q[0] == w[0]
    assert np.all(np.abs(q / w - 1) <= 1 / 3 + 1e-6)


TRANSFORMS = [
    make(per=per, **given)
    for per in ("tensor", "channel")
    for make, given in [(Binary, {}), (Ternary, {}), *((PowerOfTwo, {"bits": b}) for b in (2, 3, 8, 32))]
]


@given(w=weights, transform=st.sampled_from(TRANSFORMS))
@settings(max_examples=300)
def test_is_idempotent_and_monotone(w: np.ndarray, transform: Transform):
    q = apply(transform, w)
    assert np.all(np.isfinite(q))
    assert np.array_equal(apply(transform, q), q)
    for column, was in zip(np.atleast_2d(q).T, np.atleast_2d(w).T, strict=True):
        assert np.all(np.diff(column[np.argsort(was, kind="stable")]) >= 0)


@pytest.mark.parametrize("make", [Binary, Ternary, lambda **given: PowerOfTwo(bits=3, **given)])
@pytest.mark.parametrize("axes", [(3,), (2, 3)])
def test_per_channel_is_per_tensor_on_each_channel(make, axes: tuple[int, ...]):
    w = np.random.default_rng(2).normal(0, 1, (3, 3, 4, 5)).astype(np.float32)
    got = apply(make(per="channel"), w, axes)
    for c in np.ndindex(*(w.shape[a] for a in axes)):
        one = (slice(None),) * (4 - len(axes)) + c
        np.testing.assert_allclose(got[one], apply(make(), w[one], ()), rtol=1e-7)


def test_stochastic_powers_keep_the_mean():
    """4,000 roundings of each of 200 weights below the largest power, within 4.5 standard errors."""
    w = np.random.default_rng(3).uniform(-1, 1, 200).astype(np.float32)
    w[0] = 1
    transform = PowerOfTwo(bits=3, rounding="stochastic")
    rng = np.random.default_rng(4)
    variable = Variable(0, "k", "k", 0, "Dense", w.shape, True, (0,))
    draws = np.stack([transform.apply(w, variable, rng) for _ in range(4000)]).astype(np.float64)
    assert set(np.unique(np.abs(draws))) == {0, 0.25, 0.5, 1}
    error = np.maximum(draws.std(0, ddof=1), 1e-9) / np.sqrt(4000)
    assert np.all(np.abs(draws.mean(0) - w) < 4.5 * error + 1e-7)


def test_resolved():
    w = np.float32([-1, 0, 0.5, 3.2])
    variable = Variable(0, "k", "k", 0, "Dense", w.shape, True, (0,))
    binary, ternary, power = (t.resolve(w, variable) for t in (Binary(), Ternary(), PowerOfTwo(bits=3)))
    assert (binary.step, binary.low, binary.high) == pytest.approx((2.35, -1.175, 1.175))
    assert (ternary.step, ternary.low, ternary.high) == pytest.approx((2.1, -2.1, 2.1))
    assert (power.step, power.low, power.high, power.saturated) == (None, -4, 4, 0)

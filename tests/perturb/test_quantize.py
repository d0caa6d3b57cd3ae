"""Quantizers against their definitions, evaluated in exact fractions, weight by weight."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sweep.errors import InputError
from sweep.networks.variables import Variable
from sweep.perturb import REGISTRY, perturb
from sweep.perturb.base import Transform
from sweep.perturb.quantize import (
    Affine,
    ConductanceStates,
    FixedPoint,
    FixedPointSaturating,
    Quantizer,
    Symmetric,
)

weights = hnp.arrays(
    np.float32,
    hnp.array_shapes(max_dims=2, max_side=6),
    elements=st.floats(-8, 8, width=32, allow_subnormal=False),
)
NORMAL = np.random.default_rng(0).normal(0, 0.3, (40, 30)).astype(np.float32)


def apply(transform: Transform, w: np.ndarray, axes: tuple[int, ...] | None = None, seed: int = 0) -> np.ndarray:
    axes = (w.ndim - 1,) if axes is None else axes
    return perturb([w], [Variable(0, "k/kernel", "k", 0, "Dense", w.shape, True, axes)], [transform], 0, seed)[0]


def resolve(transform: Transform, w: np.ndarray):
    return transform.resolve(w, Variable(0, "k/kernel", "k", 0, "Dense", w.shape, True, (w.ndim - 1,)))


def quantized(w: np.ndarray, bits: int) -> np.ndarray:
    return apply(FixedPoint(bits=bits), w)


def exact(w: np.ndarray, scale: Callable[[list[Fraction]], Fraction], low: int, high: int) -> tuple[list, list]:
    """Values by the definition, and whether the weight lies so near a tie that float64 may decide either way."""
    numbers = [Fraction(float(v)) for v in w.ravel()]
    step = scale(numbers)
    if step == 0:
        return [0.0] * len(numbers), [False] * len(numbers)
    values = [float(min(max(round(n / step), low), high) * step) for n in numbers]
    ties = [abs((n / step) % 1 - Fraction(1, 2)) < Fraction(1, 10**5) for n in numbers]
    return values, ties


def same(got: np.ndarray, values: list, ties: list, step: float) -> bool:
    off = np.abs(got.ravel().astype(np.float64) - np.float32(values))
    return bool(np.all((off == 0) | (np.array(ties) & (off <= step * (1 + 1e-6)))))


@given(w=weights, bits=st.integers(0, 16))
def test_equals_the_article(w: np.ndarray, bits: int):
    assert np.array_equal(quantized(w, bits), np.rint(w * 2**bits) / 2**bits)


@given(w=weights, bits=st.integers(0, 64))
def test_is_idempotent_symmetric_and_close(w: np.ndarray, bits: int):
    q = quantized(w, bits)
    assert q.dtype == np.float32
    assert np.array_equal(quantized(q, bits), q)
    assert np.array_equal(quantized(-w, bits), -q)
    assert np.all(np.abs(q.astype(np.float64) - w) <= 2.0 ** -(bits + 1))


@given(w=hnp.arrays(np.float32, 20, elements=st.floats(width=32, allow_nan=False)), bits=st.integers(0, 24))
def test_fixed_point_keeps_its_bits(w: np.ndarray, bits: int):
    """Of every float32 number, the sign of zero and infinity included: the float32 formula as first published."""
    w = w[np.abs(w) < 2.0**100]
    assume(w.size)
    expected = np.ldexp(np.rint(np.ldexp(w, bits)), -bits)
    assert np.array_equal(quantized(w, bits).view(np.uint32), expected.view(np.uint32))


def test_ties_go_to_the_even_neighbour():
    assert quantized(np.float32([0.5, 1.5, -0.5, -1.5]), 0).tolist() == [0, 2, 0, -2]


def test_32_bits_keep_the_weights():
    w = np.random.default_rng(0).normal(0, 0.3, 1000).astype(np.float32)
    assert np.abs(quantized(w, 32) - w).max() <= 2.0**-33


@pytest.mark.parametrize("bits", [-1, 65, 2.5, "8", True])
def test_refuses_other_bits(bits: object):
    with pytest.raises(InputError, match="whole number from 0 to 64"):
        FixedPoint(bits=bits)


@given(w=weights, bits=st.integers(0, 6), whole=st.integers(0, 3))
def test_saturating_fixed_point_is_twos_complement(w: np.ndarray, bits: int, whole: int):
    codes = 2 ** (whole + bits)
    values, _ = exact(w, lambda numbers: Fraction(1, 2**bits), -codes, codes - 1)
    assert np.array_equal(apply(FixedPointSaturating(bits=bits, integer_bits=whole), w).ravel(), np.float32(values))


@given(w=weights, bits=st.integers(2, 8))
def test_symmetric_equals_the_definition(w: np.ndarray, bits: int):
    top = 2 ** (bits - 1) - 1
    values, ties = exact(w, lambda numbers: max(map(abs, numbers)) / top, -top, top)
    got = apply(Symmetric(bits=bits), w)
    assert same(got, values, ties, resolve(Symmetric(bits=bits), w).step)
    assert np.array_equal(apply(Symmetric(bits=bits), -w), -got)


@given(w=weights, states=st.integers(2, 40))
def test_conductance_states_equal_the_definition(w: np.ndarray, states: int):
    values, ties = exact(w, lambda numbers: max(map(abs, numbers)) / (states - 1), 1 - states, states - 1)
    transform = ConductanceStates(states=states)
    assert same(apply(transform, w), values, ties, resolve(transform, w).step)


@given(w=weights, bits=st.integers(1, 8))
def test_affine_equals_the_definition(w: np.ndarray, bits: int):
    numbers = [Fraction(float(v)) for v in w.ravel()]
    low, high, top = min(0, *numbers), max(0, *numbers), 2**bits - 1
    step = Fraction(high - low) / top
    got = apply(Affine(bits=bits), w)
    assert np.all(got[w == 0] == 0)
    if step == 0:
        assert not np.any(got)
        return
    assume(abs((-low / step) % 1 - Fraction(1, 2)) > Fraction(1, 10**5))
    zero = round(-low / step)
    values = [float((min(max(round(n / step) + zero, 0), top) - zero) * step) for n in numbers]
    ties = [abs((n / step) % 1 - Fraction(1, 2)) < Fraction(1, 10**5) for n in numbers]
    assert same(got, values, ties, float(step))


@pytest.mark.parametrize(
    ("transform", "levels"),
    [
        *[(Symmetric(bits=b), 2**b - 1) for b in (2, 3, 8)],
        *[(Affine(bits=b), 2**b) for b in (1, 2, 3, 8)],
        *[(FixedPointSaturating(bits=b, integer_bits=m), 2 ** (1 + m + b)) for b, m in ((0, 0), (3, 0), (4, 2))],
        *[(ConductanceStates(states=n), 2 * n - 1) for n in (2, 5, 16)],
    ],
)
def test_the_number_of_levels(transform: Transform, levels: int):
    w = np.linspace(-8.1, 8.08, 100_001, dtype=np.float32)
    q = apply(transform, w)
    assert len(np.unique(q)) == levels
    steps = np.diff(np.unique(q).astype(np.float64))
    np.testing.assert_allclose(steps, resolve(transform, w).step, rtol=2e-5)
    assert np.all(np.diff(q) >= 0)


EVEN = [
    FixedPointSaturating(bits=4),
    FixedPointSaturating(bits=20, integer_bits=2),
    *[Symmetric(bits=b, per=per) for b in (2, 5, 16, 24, 25, 29, 32) for per in ("tensor", "channel")],
    *[ConductanceStates(states=n, per=per) for n in (2, 7, 1000) for per in ("tensor", "channel")],
]


@given(w=weights, transform=st.sampled_from(EVEN))
@settings(max_examples=400)
def test_quantizing_twice_changes_nothing(w: np.ndarray, transform: Transform):
    q = apply(transform, w)
    assert np.array_equal(apply(transform, q), q)


@pytest.mark.parametrize("bits", [1, 4, 8, 16, 32])
@pytest.mark.parametrize("per", ["tensor", "channel"])
def test_affine_twice_moves_no_code(bits: int, per: str):
    """The range is read again from rounded weights: nothing moves by more than float32 can see of it."""
    q = apply(Affine(bits=bits, per=per), NORMAL)
    again = apply(Affine(bits=bits, per=per), q)
    np.testing.assert_allclose(again, q, rtol=0, atol=2**-23)


@pytest.mark.parametrize("name", ["symmetric", "affine"])
@pytest.mark.parametrize("bits", [8, 16, 24, 31, 32])
def test_errors_are_at_most_half_a_step(name: str, bits: int):
    transform = REGISTRY[name](bits=bits)
    error = np.abs(apply(transform, NORMAL).astype(np.float64) - NORMAL)
    slack = np.spacing(np.abs(NORMAL).max()) if bits > 16 else np.spacing(np.abs(NORMAL).max()) / 2
    ends = 1.0 if name == "affine" else 0.5  # the zero point moves the ends by up to half a step more
    assert error.max() <= ends * resolve(transform, NORMAL).step + slack


@pytest.mark.parametrize("make", [Symmetric, Affine])
@pytest.mark.parametrize("axes", [(3,), (2, 3)])
def test_per_channel_is_per_tensor_on_each_channel(make, axes: tuple[int, ...]):
    w = np.random.default_rng(2).normal(0, 1, (3, 3, 4, 5)).astype(np.float32)
    got = apply(make(bits=4, per="channel"), w, axes)
    for c in np.ndindex(*(w.shape[a] for a in axes)):
        one = (slice(None),) * (4 - len(axes)) + c
        assert np.array_equal(got[one], apply(make(bits=4), w[one], ()))


@pytest.mark.parametrize("make", [Symmetric, FixedPoint, Affine])
def test_stochastic_rounding_equals_the_formula(make):
    """floor(x + u), one draw a weight on the documented stream."""
    transform = make(bits=4, rounding="stochastic")
    step = resolve(transform, NORMAL).step
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([0, 9, 0, 0])))
    draw = rng.random(NORMAL.shape, dtype=np.float32).astype(np.longdouble)
    expected = np.floor(NORMAL.astype(np.longdouble) / step + draw) * step
    inside = np.abs(NORMAL) < np.abs(NORMAL).max() - 2 * step
    got = apply(transform, NORMAL, seed=9)
    np.testing.assert_allclose(got[inside], expected[inside].astype(np.float32), rtol=0, atol=1e-6)


def test_stochastic_rounding_keeps_the_mean_and_the_levels():
    """The mean of 4,000 roundings of each of 30 weights within 4.5 standard errors; sigma as resolved."""
    w = NORMAL[0]
    for transform in (FixedPoint(bits=2, rounding="stochastic"), Symmetric(bits=4, rounding="stochastic")):
        rng = np.random.default_rng(5)
        variable = Variable(0, "k", "k", 0, "Dense", w.shape, True, (0,))
        draws = np.stack([transform.apply(w, variable, rng) for _ in range(4000)]).astype(np.float64)
        error = np.maximum(draws.std(0, ddof=1), 1e-9) / np.sqrt(4000)
        assert np.all(np.abs(draws.mean(0) - w) < 4.5 * error + 1e-7)
        sigma = np.sqrt(np.mean(draws.var(0, ddof=1)))
        assert transform.resolve(w, variable).sigma == pytest.approx(sigma, rel=0.02)


@given(x=hnp.arrays(np.float64, 10, elements=st.integers(-(2**62), 2**62).map(float)))
def test_stochastic_rounding_leaves_whole_numbers(x: np.ndarray):
    quantizer: Quantizer = FixedPoint(bits=0, rounding="stochastic")
    assert np.array_equal(quantizer.round(x, np.random.default_rng(1)), x)


def test_resolved_range_and_saturation():
    w = np.float32([-3, -1, -0.5, 0, 0.4, 0.87, 0.94, 2])
    resolved = resolve(FixedPointSaturating(bits=3), w)
    assert (resolved.step, resolved.low, resolved.high) == (0.125, -1, 0.875)
    assert resolved.saturated == 3 / 8  # -3 and 2, and 0.94, which is half a step beyond 0.875
    resolved = resolve(Symmetric(bits=3), w)
    assert (resolved.step, resolved.low, resolved.high, resolved.saturated) == (1, -3, 3, 0)
    resolved = resolve(Affine(bits=2), w)
    assert resolved.step == pytest.approx(5 / 3)
    assert (resolved.low, resolved.high) == (pytest.approx(-10 / 3), pytest.approx(5 / 3))
    resolved = resolve(FixedPoint(bits=1), w)
    assert (resolved.step, resolved.low, resolved.high, resolved.saturated) == (0.5, None, None, 0)

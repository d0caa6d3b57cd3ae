"""Formats against a table of all their numbers, made from the definition of their bits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.errors import InputError
from sweep.networks.variables import Variable
from sweep.perturb.levels import FORMATS, Floating

# exponent bits, mantissa bits, largest finite number
LAYOUT = {
    "float16": (5, 10, 65504.0),
    "bfloat16": (8, 7, (2 - 2.0**-7) * 2.0**127),
    "float8_e4m3": (4, 3, 448.0),
    "float8_e5m2": (5, 2, 57344.0),
}


def numbers(name: str) -> np.ndarray:
    """The finite numbers from 0 up, by their pattern of bits, in float64."""
    exponent_bits, mantissa_bits, largest = LAYOUT[name]
    bias = 2 ** (exponent_bits - 1) - 1
    mantissa = np.arange(2**mantissa_bits) / 2**mantissa_bits
    subnormal = mantissa * 2.0 ** (1 - bias)
    normal = [(1 + mantissa) * 2.0 ** (e - bias) for e in range(1, 2**exponent_bits)]
    found = np.concatenate([subnormal, *normal])
    return found[found <= largest]


def nearest(w: np.ndarray, name: str) -> np.ndarray:
    """Ties go to the even pattern: the even index."""
    levels = numbers(name)
    size = np.minimum(np.abs(w.astype(np.float64)), levels[-1])
    above = np.clip(np.searchsorted(levels, size), 1, len(levels) - 1)
    low, high = levels[above - 1], levels[above]
    up = (size - low > high - size) | ((size - low == high - size) & (above % 2 == 0))
    return np.copysign(np.where(up, high, low), w).astype(np.float32)


def rounded(w: np.ndarray, name: str) -> np.ndarray:
    variable = Variable(0, "k/kernel", "k", 0, "Dense", w.shape, True, (w.ndim - 1,))
    return Floating(format=name).apply(w, variable, np.random.default_rng(0))


@pytest.mark.parametrize("name", FORMATS)
def test_rounds_to_the_nearest_number_of_the_format(name: str):
    levels = numbers(name)
    middle = ((levels[:-1] + levels[1:]) / 2).astype(np.float32)
    spread = np.exp(np.random.default_rng(0).uniform(np.log(1e-9), np.log(1e6), 20_000)).astype(np.float32)
    w = np.concatenate([levels.astype(np.float32), middle, spread])
    w = np.concatenate([w, -w])
    assert np.array_equal(rounded(w, name), nearest(w, name))


@pytest.mark.parametrize("name", FORMATS)
def test_saturates_at_the_largest_number(name: str):
    largest = LAYOUT[name][2]
    top = np.finfo(np.float32).max
    w = np.float32([largest, top, -top, np.nextafter(np.float32(largest), np.inf, dtype=np.float32)])
    assert rounded(w, name).tolist() == [largest, largest, -largest, largest]
    resolved = Floating(format=name).resolve(w, Variable(0, "k", "k", 0, "Dense", (4,), True, (0,)))
    assert (resolved.low, resolved.high, resolved.saturated) == (-largest, largest, 0.75)


@given(
    w=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1),
    name=st.sampled_from([*FORMATS]),
)
def test_is_idempotent_odd_and_monotone(w: list[float], name: str):
    weight = np.sort(np.float32(w))
    got = rounded(weight, name)
    assert np.array_equal(rounded(got, name), got)
    assert np.array_equal(rounded(-weight, name), -got)
    assert np.all(np.diff(got.astype(np.float64)) >= 0)


def test_the_number_of_levels():
    assert {name: 2 * len(numbers(name)) - 1 for name in ("float8_e4m3", "float8_e5m2")} == {
        "float8_e4m3": 253,
        "float8_e5m2": 247,
    }


def test_an_unknown_format_lists_the_known():
    with pytest.raises(InputError, match="choose one of float16, bfloat16, float8_e4m3, float8_e5m2"):
        Floating(format="float8")

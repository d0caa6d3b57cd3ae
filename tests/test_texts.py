"""Numbers as people read them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.texts import duration, number, percent


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [
        (0.1, 4, "0.1"),
        (0.123456, 4, "0.1235"),
        (1 / 3, 10, "0.3333333333"),
        (32.0, 4, "32"),
        (31_536_000.0, 4, "31536000"),
        (-0.0, 4, "0"),
        (7.761e-11, 4, "7.761e-11"),
        (1e300, 4, "1e+300"),
        (math.inf, 4, "inf"),
    ],
)
def test_a_number_has_the_digits_that_it_needs(value: float, digits: int, expected: str) -> None:
    assert number(value, digits) == expected


@given(st.floats(-1e300, 1e300), st.integers(1, 17))
def test_a_text_is_the_number_to_so_many_digits(value: float, digits: int) -> None:
    assert float(number(value, digits)) == pytest.approx(value, rel=0.5 * 10.0 ** (1 - digits), abs=5e-324)
    assert float(number(value, 17)) == value


@pytest.mark.parametrize(("fraction", "places", "expected"), [(0.9844, 2, "98.44"), (1, 2, "100.00"), (0.567, 0, "57")])
def test_percent(fraction: float, places: int, expected: str) -> None:
    assert percent(fraction, places) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0 s"), (0.5, "0.5 s"), (25, "25 s"), (90, "1.5 min"), (3600, "1 h"), (2592000, "30 d"), (31536000, "1 y")],
)
def test_durations_have_the_largest_unit(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_durations_are_as_exact_as_asked_for() -> None:
    assert (duration(3599, 2), duration(7300), duration(7300, 2)) == ("60 min", "2.03 h", "2 h")

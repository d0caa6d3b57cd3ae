"""Tests of many alike: one of so many is in `make test`, all are in `make test-slow`."""

from collections.abc import Iterable

import pytest


def one_in(every: int, values: Iterable[object]) -> list[object]:
    """The values as parameters of a test, of which all but one in `every` are slow."""
    return [
        value if number % every == 0 else pytest.param(value, marks=pytest.mark.slow)
        for number, value in enumerate(values)
    ]

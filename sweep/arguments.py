"""What the command line's options take: each function makes a value of a text, or says what is wrong with it."""

from __future__ import annotations

import argparse
import math

from sweep.texts import bytes_of


def positive(text: str) -> int:
    """A whole number of at least 1."""
    return natural(text, least=1)


def natural(text: str, least: int = 0) -> int:
    """A whole number of at least `least`."""
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def size(text: str) -> int:
    """Bytes."""
    try:
        return bytes_of(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size, such as 4GiB or 800MiB") from None


def share(text: str) -> float:
    """A fraction of a GPU, or several."""
    value = _number(text)
    if not (0 <= value <= 1 or (value.is_integer() and value > 0)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a fraction of a GPU, or a whole number of them")
    return value


def label(text: str) -> tuple[str, str]:
    """A label of a node, key and value."""
    key, _, value = text.partition("=")
    return key, value


def seconds(text: str) -> float:
    """A time above 0."""
    value = _number(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def points(text: str) -> float:
    """A half-width."""
    value = _number(text)
    if not 0 < value <= 50:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of points above 0 and up to 50, such as 0.1")
    return value


def half_width(text: str) -> float:
    """One in the unit of a measure."""
    value = _number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0, such as 0.1")
    return value


def seeds(text: str) -> int | dict[str, int]:
    """A count, or a range."""
    start, colon, end = text.partition(":")
    if not colon:
        return positive(text)
    first, last = natural(start), natural(end)
    if last <= first:
        raise argparse.ArgumentTypeError(f"{text!r} is empty; A:B means the seeds A to B-1")
    return {"start": first, "count": last - first}

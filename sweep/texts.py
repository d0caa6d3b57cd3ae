"""Numbers as people read them; ids, and files for programs, have every digit."""

from __future__ import annotations

_EXACT = 2.0**53  # whole numbers below are exact
_SPANS = (("y", 31_536_000.0), ("d", 86_400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0))


def number(value: float, digits: int = 6) -> str:
    """A number in so many digits, without those that it does not need; whole numbers in full."""
    whole = abs(value) < _EXACT and float(value).is_integer()
    return f"{int(value)}" if whole else f"{value:.{digits}g}"


def percent(fraction: float, places: int = 2) -> str:
    """A fraction in %, without the sign."""
    return f"{100 * fraction:.{places}f}"


def duration(seconds: float, digits: int = 3) -> str:
    """Seconds in the largest unit of which there is one: 90 → 1.5 min; days to years of 365 days."""
    unit, size = next(((unit, size) for unit, size in _SPANS if seconds >= size), ("s", 1.0))
    return f"{seconds / size:.{digits}g} {unit}"

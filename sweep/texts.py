"""Numbers as people read them; ids, and files for programs, have every digit."""

from __future__ import annotations

import re

_EXACT = 2.0**53  # whole numbers below are exact
_SIZES = (("TiB", 1024.0**4), ("GiB", 1024.0**3), ("MiB", 1024.0**2), ("KiB", 1024.0))
_SPANS = (("y", 31_536_000.0), ("d", 86_400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0))


def number(value: float, digits: int = 6) -> str:
    """A number in so many digits, without those that it does not need; whole numbers in full."""
    whole = abs(value) < _EXACT and float(value).is_integer()
    return f"{int(value)}" if whole else f"{value:.{digits}g}"


def percent(fraction: float, places: int = 2) -> str:
    """A fraction in %, without the sign."""
    return f"{100 * fraction:.{places}f}"


def size_text(size: float) -> str:
    """Bytes in the largest unit of which there is one: 1,610,612,736 → 1.5 GiB."""
    unit, one = next(((unit, one) for unit, one in _SIZES if size >= one), _SIZES[-1])
    return f"{size / one:.3g} {unit}"


def bytes_of(text: str) -> int:
    """Bytes of a size such as 4GiB, 1.5 GB or 800M, of units of 1,024; ValueError where it is none."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.ASCII | re.IGNORECASE)
    if found is None:
        raise ValueError(text)
    return int(float(found[1]) * {unit[0]: one for unit, one in _SIZES}.get(found[2].upper(), 1))


def duration(seconds: float, digits: int = 3) -> str:
    """Seconds in the largest unit of which there is one: 90 → 1.5 min; days to years of 365 days."""
    unit, size = next(((unit, size) for unit, size in _SPANS if seconds >= size), ("s", 1.0))
    return f"{seconds / size:.{digits}g} {unit}"

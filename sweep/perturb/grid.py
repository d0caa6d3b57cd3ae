"""The one grid of evenly spaced levels, onto which weights and activations are rounded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sweep.perturb.base import Array, Resolved

Doubles = npt.NDArray[np.float64]
Numbers = Doubles | float


@dataclass(frozen=True)
class Levels:
    """Levels at offset + code · step for the whole codes lowest … highest, ±inf for none.

    Each is a number, or an array that broadcasts against the values. A step of 0, where all values are 0, keeps them.
    """

    step: Numbers
    offset: Numbers = 0.0
    lowest: Numbers = -np.inf
    highest: Numbers = np.inf

    def codes(self, values: npt.NDArray[np.floating]) -> Doubles:
        """The values as codes, neither rounded nor clipped; divided by the step, not multiplied by its inverse."""
        return np.asarray((values.astype(np.float64) - self.offset) / np.where(self.step > 0, self.step, 1.0))

    def round(self, values: npt.NDArray[np.floating], whole: Callable[[Doubles], Doubles] = np.rint) -> Doubles:
        """The values' levels, in float64; `whole` rounds codes, by default to the nearest, ties to even."""
        return self.values(np.clip(whole(self.codes(values)), self.lowest, self.highest))

    def values(self, codes: npt.NDArray[np.floating | np.integer]) -> Doubles:
        """The levels of codes."""
        at = codes * self.step
        return np.asarray(at + self.offset if np.any(self.offset) else at)  # without an offset, -0.0 keeps its sign

    def resolved(self, values: npt.NDArray[np.floating] | None, sigma: float | None = None) -> Resolved:
        """Mean step, range over all scales, and the share of the values more than half a step beyond their own."""
        low, high = np.min(self.values(np.asarray(self.lowest))), np.max(self.values(np.asarray(self.highest)))
        saturated = None
        if values is not None:
            codes = self.codes(values)
            saturated = float(np.mean((codes < self.lowest - 0.5) | (codes > self.highest + 0.5)))
        return Resolved(
            sigma=sigma,
            step=float(np.mean(self.step)),
            low=float(low) if np.isfinite(low) else None,
            high=float(high) if np.isfinite(high) else None,
            saturated=saturated,
        )

    def array(self) -> Array:
        """(4,) float32: offset, step, lowest, highest; of numbers."""
        return np.array([self.offset, self.step, self.lowest, self.highest], np.float32)


def twos_complement(step: Numbers, bits: int) -> Levels:
    """All codes of so many bits, the sign included."""
    half = 2.0 ** (bits - 1)
    return Levels(step, 0.0, -half, half - 1)


def symmetric(largest: Numbers, top: float) -> Levels:
    """Codes -top … top, the last at `largest`."""
    return Levels(largest / top, 0.0, -top, top)


def affine(low: Numbers, high: Numbers, bits: int, kind: type[np.floating] = np.float64) -> Levels:
    """2^bits levels from low to high, which hold 0 between them, shifted so that 0 is one; the step is of a `kind`."""
    top = 2.0**bits - 1
    step = np.asarray((high - low) / top, kind).astype(np.float64)
    zero = np.rint(-low / np.where(step > 0, step, 1.0))
    return Levels(step, 0.0, -zero, top - zero)

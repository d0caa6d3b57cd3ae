"""Transforms of the data flow inside a network: where they stand in its graph, and what a trial gives them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sweep.perturb.base import Array
from sweep.perturb.grid import Levels

IDENTITY = Levels(2.0**-20).array()  # too fine to matter
Kind = Literal["levels", "noise", "flips", "values"]


@dataclass(frozen=True)
class Site:
    """A place in the data flow where a transform acts.

    Attributes:
        layer: position in `inspection.leaves_of`; -1 for the images; of several inputs -2, -3, …
        side: of that layer.
        kind: rounding to levels, noise, rounding to codes of which bits flip, or values that take the place of others.
        rows: of an array, at most, where the side is "sums": those of the arrays into which the layer is cut.
        digital: there, whether the sums of positive and of negative weights are read apart.
    """

    layer: int
    side: Literal["output", "input", "sums"] = "output"
    kind: Kind = "levels"
    rows: int = 0
    digital: bool = False

    @property
    def drawn(self) -> bool:
        """Whether a trial gives it a `Drawn`."""
        return self.kind != "levels"

    @property
    def alone(self) -> bool:
        """Whether the plain pass alone covers it."""
        return self.drawn or self.side == "sums"

    def taken(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of what it is given for an activation of this shape, without the images."""
        return (len(IDENTITY) + math.prod(shape),) if self.kind == "flips" else shape


class Insert:
    """A site as an operation of a graph; it is its own and only variable.

    The value of that variable is (4,) offset, step, lowest and highest code of the levels; or, that of one use after
    the other, the noise (B, ...), or the values (B, ...) that are put in place, NaN for none; or (B, 4 + values), the
    levels and then the bits that flip, as whole numbers. B is 1 where it is the same for all images. At sums, levels
    are (3, arrays along the rows, columns or 1) step, lowest and highest code, these alike for all, and noise, in steps
    of these, (B, arrays along the rows, ..., columns).
    """

    def __init__(self, site: Site, layer: str = "") -> None:
        """At a layer of this name; without one, at the images."""
        self.site = site
        self.name = (
            f"the {site.kind} at the {site.side} of layer {layer}" if layer else f"the {site.kind} at the images"
        )
        self.weights: tuple[Any, ...] = (self,)


class Drawn(ABC):
    """What a trial gives a site that is no fixed array."""

    @abstractmethod
    def take(self, images: int, shape: tuple[int, ...]) -> Array:
        """What `Insert` says, float32, for the next so many images and an activation of this shape."""

    @abstractmethod
    def quiet(self) -> Drawn:
        """The same where nothing is drawn."""


class Noise(Drawn):
    """Draws of N(0, σ), image after image."""

    def __init__(self, sigma: float, generator: Callable[[], np.random.Generator]) -> None:
        self._sigma = np.float32(sigma)
        self._make = generator
        self._generator: np.random.Generator | None = None

    def take(self, images: int, shape: tuple[int, ...]) -> Array:
        self._generator = self._generator or self._make()
        return self._sigma * self._generator.standard_normal((images, *shape), dtype=np.float32)

    def quiet(self) -> Noise:
        return Noise(0.0, self._make)


class Faults(Drawn):
    """What fails in an activation: for each image anew, or the same for all."""

    def __init__(
        self, make: Callable[[], Callable[[int], Array]] | None, each_image: bool, fill: float, head: Array
    ) -> None:
        """Draws when it is first asked.

        Args:
            make: begins; gives what to give (images, values) for the next so many images. None where nothing fails.
            each_image: whether that is asked for all of them, and not once, for one.
            fill: the value where nothing fails.
            head: (k,) what stands before the values.
        """
        self._make, self._each_image, self._fill, self._head = make, each_image and make is not None, fill, head
        self._following: Callable[[int], Array] | None = None
        self._kept: Array | None = None

    def take(self, images: int, shape: tuple[int, ...]) -> Array:
        if self._kept is not None:
            return self._kept
        if self._following is None:
            self._following = self._make() if self._make else lambda n: np.full((n, math.prod(shape)), self._fill)
        found = self._following(images if self._each_image else 1).astype(np.float32)
        if len(self._head):
            found = np.concatenate([np.tile(self._head, (len(found), 1)), found], axis=1)
        else:
            found = found.reshape(-1, *shape)
        if not self._each_image:
            self._kept = found
        return found

    def quiet(self) -> Faults:
        return Faults(None, False, self._fill, self._head)


Entry = Array | Drawn  # what a trial has for a variable or a site

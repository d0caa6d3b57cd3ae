"""Transforms of the data flow inside a network: where they stand in its graph, and what a trial gives them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sweep.perturb.base import Array
from sweep.perturb.grid import Levels

IDENTITY = Levels(2.0**-20).array()  # too fine to matter


@dataclass(frozen=True)
class Site:
    """A place in the data flow where a transform acts.

    Attributes:
        layer: position in `inspection.leaves_of`; -1 for the images.
        side: of that layer.
        kind: rounding to levels, or noise.
    """

    layer: int
    side: Literal["output", "input"] = "output"
    kind: Literal["levels", "noise"] = "levels"


class Insert:
    """A site as an operation of a graph; it is its own and only variable.

    The value of that variable is (4,) offset, step, lowest and highest code of the levels, or the noise (B, ...),
    that of one use after the other.
    """

    def __init__(self, site: Site, layer: str = "") -> None:
        """At a layer of this name; without one, at the images."""
        self.site = site
        self.name = (
            f"the {site.kind} at the {site.side} of layer {layer}" if layer else f"the {site.kind} at the images"
        )
        self.weights: tuple[Any, ...] = (self,)


class Noise:
    """What a trial gives a noise site: draws of N(0, σ), image after image."""

    def __init__(self, sigma: float, generator: Callable[[], np.random.Generator]) -> None:
        self._sigma = np.float32(sigma)
        self._make = generator
        self._generator: np.random.Generator | None = None

    def take(self, images: int, shape: tuple[int, ...]) -> Array:
        """(images, *shape) float32, the next ones of the stream."""
        self._generator = self._generator or self._make()
        return self._sigma * self._generator.standard_normal((images, *shape), dtype=np.float32)


Entry = Array | Noise  # what a trial has for a variable or a site

"""Additive noise on weights."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from sweep.networks.variables import Variable
from sweep.perturb.base import Array, Random, parameter, register
from sweep.perturb.basis import BASES, resolve


@dataclass(frozen=True, kw_only=True)
class Additive(Random):
    """w + scale · basis · draw, in float32; subclasses say what is drawn."""

    scale: float = parameter("noise level, in units of the basis", minimum=0.0)
    basis: str = parameter("what scale is relative to", choices=BASES, default="absolute")

    @property
    def random(self) -> bool:
        """False at scale 0."""
        return self.scale > 0

    def apply(self, weight: Array, variable: Variable, generator: np.random.Generator) -> Array:
        """One call to the generator, in the variable's own shape."""
        level = np.float32(self.scale) * resolve(self.basis, weight, variable)
        return np.asarray(weight + level * self.draw(weight.shape, generator), np.float32)

    @abstractmethod
    def draw(self, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
        """Noise of level 1, float32."""


@register("gaussian")
@dataclass(frozen=True, kw_only=True)
class Gaussian(Additive):
    """w + σ · basis · ξ, ξ ~ N(0, 1), with σ = scale."""

    def draw(self, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
        """ξ ~ N(0, 1)."""
        return generator.standard_normal(shape, dtype=np.float32)


@register("uniform")
@dataclass(frozen=True, kw_only=True)
class Uniform(Additive):
    """w + s · basis · u, u ~ U[0, 1), with s = scale: one-sided, mean s/2, standard deviation s/√12.

    Source: the code of the article "CNN训练MNIST数据集tenflow2(中)", which calls s a standard deviation.
    """

    def draw(self, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
        """A draw u ~ U[0, 1)."""
        return generator.random(shape, dtype=np.float32)


@register("uniform_symmetric")
@dataclass(frozen=True, kw_only=True)
class UniformSymmetric(Additive):
    """w + s · basis · (2u − 1), u ~ U[0, 1), with s = scale: mean 0, standard deviation s/√3."""

    def draw(self, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
        """2u − 1, u ~ U[0, 1)."""
        return np.float32(2) * generator.random(shape, dtype=np.float32) - np.float32(1)

"""Noise on weights: additive, and multiplicative log-normal."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sweep.networks.variables import Variable
from sweep.perturb.base import Array, Random, Resolved, parameter, register
from sweep.perturb.basis import BASES, root_mean_square, unit


@dataclass(frozen=True, kw_only=True)
class Additive(Random):
    """w + scale · basis · draw, in float32; subclasses say what is drawn, and its standard deviation `spread`."""

    spread: ClassVar[float]

    scale: float = parameter("noise level, in units of the basis", minimum=0.0)
    basis: str = parameter("what scale is relative to", choices=BASES, default="absolute")

    @property
    def random(self) -> bool:
        """False at scale 0."""
        return self.scale > 0

    def apply(self, weight: Array, variable: Variable, generator: np.random.Generator) -> Array:
        """One call to the generator, in the variable's own shape."""
        level = np.float32(self.scale) * unit(self.basis, weight, variable)
        return np.asarray(weight + level * self.draw(weight.shape, generator), np.float32)

    def resolve(self, weight: Array, variable: Variable) -> Resolved:
        """The standard deviation of the noise: the root mean square over the weights."""
        return Resolved(sigma=self.scale * self.spread * root_mean_square(unit(self.basis, weight, variable)))

    @abstractmethod
    def draw(self, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
        """Noise of level 1, float32."""


@register("gaussian")
@dataclass(frozen=True, kw_only=True)
class Gaussian(Additive):
    """w + σ · basis · ξ, ξ ~ N(0, 1), with σ = scale.

    Mean 0, standard deviation σ · basis. With basis `weight` it is multiplicative, w · (1 + σξ).

    Source: CrossSim, `simulator/devices/generic_device.py`; aihwkit, `WeightModifierType.ADD_NORMAL`.

    Peers: CrossSim's `NormalIndependentDevice` is basis `layer_max`, `NormalProportionalDevice` basis `weight` and
    `NormalInverseProportionalDevice` basis `inverse`, each on conductances normalised to their maximum. aihwkit's
    `ADD_NORMAL` is basis `layer_max`, `MULT_NORMAL` basis `weight`; aihwkit-lightning's `ADD_NORMAL_PER_CHANNEL` is
    basis `channel_max`. NeuroSim's `vari` is basis `weight`, on the conductances of its cells. MRFI's `NormalDisturb`
    and, on conductances, xbtorch's `write_noise` are basis `absolute`.
    """

    spread = 1.0

    def draw(self, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
        """ξ ~ N(0, 1)."""
        return generator.standard_normal(shape, dtype=np.float32)


@register("uniform")
@dataclass(frozen=True, kw_only=True)
class Uniform(Additive):
    """w + s · basis · u, u ~ U[0, 1), with s = scale.

    One-sided: mean s/2, standard deviation s/√12, in units of the basis.

    Source: the code of the article "CNN训练MNIST数据集tenflow2(中)", which calls s a standard deviation.

    Peers: MRFI's `UniformDisturb` with low = 0 and high = s.
    """

    spread = 12**-0.5

    def draw(self, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
        """A draw u ~ U[0, 1)."""
        return generator.random(shape, dtype=np.float32)


@register("uniform_symmetric")
@dataclass(frozen=True, kw_only=True)
class UniformSymmetric(Additive):
    """w + s · basis · (2u − 1), u ~ U[0, 1), with s = scale.

    Mean 0, standard deviation s/√3, in units of the basis.

    Source: CrossSim, `simulator/devices/generic_device.py`, which draws (u − ½) · α: here that is s = α/2.

    Peers: CrossSim's `UniformIndependentDevice`, `UniformProportionalDevice` and `UniformInverseProportionalDevice` of
    magnitude α are s = α/2 with basis `layer_max`, `weight` and `inverse`. xbtorch's `read_noise` is basis `absolute`
    on its conductances; MRFI's `UniformDisturb` with low = −s and high = s is basis `absolute`.
    """

    spread = 3**-0.5

    def draw(self, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
        """2u − 1, u ~ U[0, 1)."""
        return np.float32(2) * generator.random(shape, dtype=np.float32) - np.float32(1)


@register("log_normal")
@dataclass(frozen=True, kw_only=True)
class LogNormal(Random):
    """w · exp(σξ), ξ ~ N(0, 1), with σ = scale; with mean_preserving, w · exp(σξ − σ²/2).

    Multiplicative: the sign is kept, and 0 stays 0. The median of the factor is 1, its mean exp(σ²/2); with
    mean_preserving its mean is 1 and its median exp(−σ²/2). For small σ both approach `gaussian` with basis `weight`.

    Source: Chen et al., DATE 2017, whose devices vary by exp(θ), θ ~ N(0, σ²); trained against before that by Liu et
    al., "Vortex: variation-aware training for memristor X-bar", DAC 2015.

    Peers: none known under this name; other tools draw the relative error from a normal distribution.
    """

    scale: float = parameter("standard deviation of the logarithm of the factor", minimum=0.0, maximum=10.0)
    mean_preserving: bool = parameter("whether the factor has mean 1 instead of median 1", default=False)

    @property
    def random(self) -> bool:
        """False at scale 0."""
        return self.scale > 0

    def apply(self, weight: Array, variable: Variable, generator: np.random.Generator) -> Array:  # noqa: ARG002
        """One standard normal draw a weight, in the variable's own shape."""
        exponent = np.float32(self.scale) * generator.standard_normal(weight.shape, dtype=np.float32)
        if self.mean_preserving:
            exponent = exponent - np.float32(self.scale**2 / 2)
        return np.asarray(weight * np.exp(exponent), np.float32)

    def resolve(self, weight: Array, variable: Variable) -> Resolved:  # noqa: ARG002
        """The standard deviation of the error: the root mean square over the weights."""
        spread = np.sqrt(np.expm1(self.scale**2))
        mean = 1.0 if self.mean_preserving else np.exp(self.scale**2 / 2)
        return Resolved(sigma=float(mean * spread) * root_mean_square(weight))

"""Noise on weights: additive, and multiplicative log-normal."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sweep.networks.variables import Variable
from sweep.perturb.base import Array, ErrorLaw, Random, Resolved, noise_level, parameter, register
from sweep.perturb.basis import BASES, UNITS, root_mean_square, unit

CHAPTER = "Noise on weights"  # of the catalogue


@dataclass(frozen=True, kw_only=True)
class Additive(Random):
    """w + scale · basis · draw, in float32; subclasses say what is drawn: its mean, variance and excess kurtosis."""

    mean: ClassVar[float] = 0.0
    variance: ClassVar[float]
    kurtosis: ClassVar[float]

    scale: float = noise_level("noise level, in units of the basis", unit={"basis": UNITS})
    basis: str = parameter("what scale is relative to", choices=BASES, default="absolute")

    @property
    def std_per_level(self) -> float | None:
        return 1 / math.sqrt(1 / self.variance) if self.basis == "absolute" else None  # 1/√12 to the last bit

    def apply(self, weight: Array, variable: Variable, generator: np.random.Generator) -> Array:
        """One call to the generator, in the variable's own shape."""
        level = np.float32(self.scale) * unit(self.basis, weight, variable)
        return np.asarray(weight + level * self.draw(weight.shape, generator), np.float32)

    def resolve(self, weight: Array, variable: Variable) -> Resolved:
        return Resolved(
            sigma=self.scale * math.sqrt(self.variance) * root_mean_square(unit(self.basis, weight, variable))
        )

    def error_law(self, weight: Array, variable: Variable) -> ErrorLaw | None:
        level = np.float32(self.scale) * unit(self.basis, weight, variable)
        return ErrorLaw(level * np.float32(self.mean), level * np.float32(math.sqrt(self.variance)), self.kurtosis)

    @abstractmethod
    def draw(self, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
        """Noise of level 1, float32."""


@register("gaussian")
@dataclass(frozen=True, kw_only=True)
class Gaussian(Additive):
    """w + σ · basis · ξ, ξ ~ N(0, 1), with σ = scale.

    Mean 0, standard deviation σ · basis. With basis `weight` it is multiplicative, w · (1 + σξ).

    Source: CrossSim, `simulator/devices/generic_device.py`; aihwkit, `WeightModifierType.ADD_NORMAL`.

    Peers, with σ = scale and, for CrossSim, r = R_min/R_max (0.1 by default; 0 with `infinite_on_off_ratio`):

    - CrossSim `NormalIndependentDevice`: magnitude α, relative to the largest conductance, on both devices of a
      balanced pair, each clipped at 0: exactly `conductance_noise` with table [[r, α], [1, α]]. Where few draws are
      clipped, basis `layer_max`, σ = √2 α / (1 − r): 0.0786 for α = 0.05 and r = 0.1, 1 % too much at that r = 2α (the
      shipped network keeps 92.6 % there, and 96.9 % with σ = 0.05). With r = 0 the unused device errs upwards only:
      standard deviation 1.16 α, and |w| smaller by 0.40 α, × max|W|.
    - CrossSim `NormalProportionalDevice`: magnitude α: exactly `conductance_noise` with table [[r, α r], [1, α]]; with
      r = 0 and α up to 0.3, basis `weight`, σ = α. With r = 0.1 the unused device adds an error of α / 9 × max|W|.
    - CrossSim `NormalInverseProportionalDevice`: magnitude α: with r = 0, basis `inverse`, σ = α where |w| is 2 √α
      max|W| or more; smaller ones are clipped at 0 there, not here. With r > 0 the unused device errs by α / r: no
      basis here.
    - aihwkit `WeightModifierType.ADD_NORMAL`: basis `layer_max`, σ = std_dev, the layer being a tile; a draw lasts for
      a mini-batch of training. With `rel_to_actual_wmax` off, basis `absolute`, σ = std_dev · assumed_wmax.
    - aihwkit `WeightModifierType.MULT_NORMAL`: basis `weight`, σ = std_dev · max|W| in the C++ tile, whose code has
      that factor, and σ = std_dev in the torch tile.
    - aihwkit-lightning `WeightModifierType.ADD_NORMAL_PER_CHANNEL`: basis `channel_max`, σ = std_dev.
    - MRFI `NormalDisturb`: basis `absolute`, σ = std, with bias 0; a draw lasts for a forward pass.
    - xbtorch `write_noise`: n, in units of conductance, on both devices of a pair, each then clipped to [g_min, g_max].
      Without clipping, basis `layer_max`, σ = √2 n / (g_max − g_min). In its default encoding every device is at an end
      of the range: standard deviation 0.826 n / (g_max − g_min), and |w| smaller by 0.798 n / (g_max − g_min), ×
      max|W|.
    - NeuroSim `vari`: relative to the conductance of a cell. A weight w in [−1, 1] is stored as w + 1: with one cell a
      weight and on/off ratio k, standard deviation vari · (1 + w + 2 / (k − 1)). No basis here is that.
    """

    variance = 1.0
    kurtosis = 0.0

    def draw(self, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
        return generator.standard_normal(shape, dtype=np.float32)


@register("uniform")
@dataclass(frozen=True, kw_only=True)
class Uniform(Additive):
    """w + s · basis · u, u ~ U[0, 1), with s = scale.

    One-sided: mean s/2, standard deviation s/√12, in units of the basis.

    Source: the code of the article "CNN训练MNIST数据集tenflow2(中)", which calls s a standard deviation.

    Peers:

    - MRFI `UniformDisturb`: low = 0, high = s, basis `absolute`; a draw lasts for a forward pass.
    """

    mean = 0.5
    variance = 1 / 12
    kurtosis = -1.2

    def draw(self, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
        return generator.random(shape, dtype=np.float32)


@register("uniform_symmetric")
@dataclass(frozen=True, kw_only=True)
class UniformSymmetric(Additive):
    """w + s · basis · (2u − 1), u ~ U[0, 1), with s = scale.

    Mean 0, standard deviation s/√3, in units of the basis.

    Source: CrossSim, `simulator/devices/generic_device.py`, which draws (u − ½) · α: here that is s = α/2.

    Peers, with r as for `gaussian`:

    - CrossSim `UniformIndependentDevice`: magnitude α: ±α/2 on both devices of a pair. With r ≥ α/2, so that none is
      clipped, mean and standard deviation are those of basis `layer_max`, s = α / (√2 (1 − r)); the law is triangular.
    - CrossSim `UniformProportionalDevice`: magnitude α: with r = 0 and α ≤ 2 exactly basis `weight`, s = α/2.
    - CrossSim `UniformInverseProportionalDevice`: magnitude α: with r = 0 basis `inverse`, s = α/2, where |w| is √(α/2)
      max|W| or more; smaller ones are clipped at 0 there, not here.
    - xbtorch `read_noise`: ±n on both devices of a pair, each then clipped to [g_min, g_max]; a draw lasts for one
      read. Without clipping, mean and standard deviation of basis `layer_max`, s = √2 n / (g_max − g_min).
    - MRFI `UniformDisturb`: low = −s, high = s, basis `absolute`; a draw lasts for a forward pass.
    """

    variance = 1 / 3
    kurtosis = -1.2

    def draw(self, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
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

    scale: float = noise_level("standard deviation of the logarithm of the factor", maximum=10.0)
    mean_preserving: bool = parameter("whether the factor has mean 1 instead of median 1", default=False)

    def apply(self, weight: Array, variable: Variable, generator: np.random.Generator) -> Array:  # noqa: ARG002
        """One standard normal draw a weight, in the variable's own shape."""
        exponent = np.float32(self.scale) * generator.standard_normal(weight.shape, dtype=np.float32)
        if self.mean_preserving:
            exponent = exponent - np.float32(self.scale**2 / 2)
        return np.asarray(weight * np.exp(exponent), np.float32)

    def resolve(self, weight: Array, variable: Variable) -> Resolved:  # noqa: ARG002
        spread = np.sqrt(np.expm1(self.scale**2))
        mean = 1.0 if self.mean_preserving else np.exp(self.scale**2 / 2)
        return Resolved(sigma=float(mean * spread) * root_mean_square(weight))

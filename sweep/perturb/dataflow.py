"""Imperfections of the data flow: what a layer hands on, or takes in, rounded or noisy.

Each value x of a selected activation becomes ``clip(rint((x − offset) / step), lowest, highest) · step + offset`` in
float32, ties to even; a transform says which numbers these four are. The images can be selected as ``input``.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from sweep.networks.variables import Variable
from sweep.perturb.base import Array, Transform, draws, noise_level, parameter, register
from sweep.perturb.grid import Levels, affine

CHAPTER = "The data flow"  # of the catalogue

Side = Literal["output", "input", "sums"]
UNITS = {"absolute": "units of the activations", "range": "× range of the activations"}
CLIPS = 100  # shares of the largest value that the least-squares calibration tries
BINS = 2048  # of the histogram on which it measures the error


@dataclass(frozen=True, kw_only=True)
class DataFlow(Transform):
    """A transform of activations; it leaves the weights alone.

    Attributes:
        side: of the selected layers, where it acts; "sums" are those of their products, before the bias.
    """

    of_weights = False
    side: ClassVar[Side] = "output"

    @property
    def acts(self) -> bool:
        """Whether it does anything, so that it needs a place."""
        return True

    @property
    def calibrated(self) -> bool:
        """Whether it needs the range of the activations on training images."""
        return False

    @property
    def random(self) -> bool:
        return False

    def apply(self, weight: Array, variable: Variable, generator: np.random.Generator) -> Array:  # noqa: ARG002
        return weight


@dataclass(frozen=True, kw_only=True)
class Rounding(DataFlow):
    """Activations rounded to levels."""

    @abstractmethod
    def levels(self, sample: Array | None) -> Levels:
        """The levels, from a sample of the clean activations (any shape) where `calibrated`."""


@register("activation_fixed_point")
@dataclass(frozen=True, kw_only=True)
class ActivationFixedPoint(Rounding):
    """x ↦ rint(x · 2^b) / 2^b with b = bits fractional bits: step 2^−b, no clipping, ties to even.

    On the outputs of the selected layers, after their activation function. In unit: that of the activations.

    Source: the quantizer of the article "CNN训练MNIST数据集tenflow2(中)", applied to the data flow.

    Peers:

    - QKeras `QActivation`: with `quantized_bits(1 + m + b, m, alpha=1)`, within [−2^m, 2^m − 2^−b], where it clips.
    - Brevitas `Int8ActPerTensorFixedPoint`: bits = 7 − m, 2^m the smallest power of two that is p or more, p the
      99.999-th percentile of |x|; clips to the codes −128 … 127.
    """

    bits: int = parameter("fractional bits", minimum=0, maximum=64, worse="low")

    def levels(self, sample: Array | None) -> Levels:  # noqa: ARG002
        return Levels(2.0**-self.bits)


@register("activation_affine")
@dataclass(frozen=True, kw_only=True)
class ActivationAffine(Rounding):
    """x ↦ (clip(rint(x / Δ) + z, 0, 2^b − 1) − z) · Δ, Δ = (high − low) / (2^b − 1), z = rint(−low / Δ).

    The range [low, high] always contains 0, which is exact, and comes from the clean network on training images,
    never from the test set, by `range`: `min_max`, the smallest and the largest value; `percentile`, the
    (100 − p)-th and the p-th percentile; `mse`, the share c of the min–max range, of c = 1/100 … 100/100, that has
    the least squared error at b bits. Exactly 2^b levels, one grid for the whole output of a layer.

    Source: Jacob et al., CVPR 2018 (affine quantization); Nagel et al., arXiv:2106.08295, section 3.1 (ranges).

    Peers:

    - Brevitas `ShiftedUint8ActPerTensorFloat`: bits = 8, range = "percentile", percentile = 99.999, of order statistics
      that are not interpolated; training then goes on from there.
    """

    bits: int = parameter("bits of a code", minimum=1, maximum=24, worse="low")
    range: str = parameter("how the range is found", choices=("min_max", "percentile", "mse"), default="min_max")
    percentile: float = parameter("p of range percentile", minimum=50.0, maximum=100.0, default=99.9)

    @property
    def calibrated(self) -> bool:
        return True

    def levels(self, sample: Array | None) -> Levels:
        if sample is None:
            raise ValueError("a calibrated range needs a sample")
        low, high = min(0.0, float(sample.min())), max(0.0, float(sample.max()))
        if self.range == "percentile":
            ends = np.percentile(sample, [100 - self.percentile, self.percentile])
            low, high = min(0.0, float(ends[0])), max(0.0, float(ends[1]))
        elif self.range == "mse":
            share = self._best_share(sample, low, high)
            low, high = low * share, high * share
        return self._grid(low, high)

    def _grid(self, low: float, high: float) -> Levels:
        levels = affine(low, high, self.bits, np.float32)
        return levels if levels.step > 0 else replace(levels, step=1.0)  # an output that is always 0 stays 0

    def _best_share(self, sample: Array, low: float, high: float) -> float:
        counts, edges = np.histogram(sample, BINS, (low, max(high, low + 1e-30)))
        middles = (edges[:-1] + edges[1:]) / 2
        grids = (self._grid(low * clip / CLIPS, high * clip / CLIPS) for clip in range(1, CLIPS + 1))
        errors = [float(counts @ (middles - levels.round(middles)) ** 2) for levels in grids]
        return (int(np.argmin(errors)) + 1) / CLIPS


@dataclass(frozen=True, kw_only=True)
class Converter(Rounding):
    """Levels over a stated range, both ends included."""

    bits: int = parameter("bits of a code", minimum=1, maximum=24, worse="low")
    low: float = parameter("the lowest level, in the unit of the activations")
    high: float = parameter("the highest level, in the unit of the activations")

    def joint_problems(self) -> list[str]:
        return [f"low {self.low:g} is not below high {self.high:g}"] if self.low >= self.high else []

    def levels(self, sample: Array | None) -> Levels:  # noqa: ARG002
        top = 2**self.bits - 1
        return Levels((self.high - self.low) / top, self.low, 0.0, float(top))


@register("adc")
@dataclass(frozen=True, kw_only=True)
class ADC(Converter):
    """x ↦ low + Δ · clip(rint((x − low) / Δ), 0, 2^b − 1), Δ = (high − low) / (2^b − 1): the outputs digitized.

    Exactly 2^b levels. It acts after the layer's activation function; where this is a ReLU and 0 is a level, that is
    the same as before it. Name a layer without one to digitize sums that are still to be activated.

    Source: the ideal converter, as in CrossSim's manual (section on ADCs).

    Peers, on sums as they leave an array, before bias, scale and activation function:

    - CrossSim `QuantizerADC`: bits, [low, high] = calibrated_range, exactly.
    - aihwkit `forward.out_res`: 1 / (2^b − 2), with no noise management: high = out_bound, low = −out_bound · 2^(b−1) /
      (2^(b−1) − 1), apart from that lowest level, which it has not.
    - NeuroSim `ADCprecision`: low + k (high − low) / 2^b, k rounded down, over the range of each batch: no level at
      high, and a mean error of half a step. No equal here.
    - MemTorch `ADC_resolution`: with `quant_method` linear and no overflow: low = −2^e, high = 2^e − 2^(e+1−b), 2^e the
      smallest power of two that is the batch's largest |x| or more; ties up.
    """


@register("dac")
@dataclass(frozen=True, kw_only=True)
class DAC(Converter):
    """x ↦ low + Δ · clip(rint((x − low) / Δ), 0, 2^b − 1), Δ = (high − low) / (2^b − 1): the inputs converted.

    Exactly 2^b levels, on what the selected layers take in.

    Source: the ideal converter, as in CrossSim's manual (section on DACs).

    Peers, on inputs scaled to their range:

    - CrossSim `QuantizerDAC`: bits, low = −1 or, unsigned, 0, high = 1, exactly.
    - aihwkit `forward.inp_res`: 1 / (2^b − 2): high = inp_bound, low = −inp_bound · 2^(b−1) / (2^(b−1) − 1), apart from
      that lowest level, which it has not.
    - NeuroSim `wl_input`: bits = wl_input, low = 0, high = 1, exactly.
    """

    side: ClassVar[Side] = "input"


@register("activation_noise")
@dataclass(frozen=True, kw_only=True)
class ActivationNoise(DataFlow):
    """x ↦ x + σ · basis · ξ, ξ ~ N(0, 1), with σ = scale: a fresh draw for every value of every image.

    `basis` is `absolute` (1) or `range`: the largest |x| of that layer's clean output on training images. The draws
    of a layer come from one stream, image after image, in the order of the test set.

    Source: additive output noise, as aihwkit's manual describes for the analog forward pass.

    Peers:

    - aihwkit `forward.out_noise`: basis `absolute`, scale = out_noise, before the converter, bias and activation
      function, with no noise management; by default it grows with the largest |input| of the image.
    - MRFI `NormalDisturb`: on activations: basis `absolute`, scale = std, with bias 0.
    """

    scale: float = noise_level("noise level, in units of the basis", unit={"basis": UNITS})
    basis: str = parameter("what scale is relative to", choices=tuple(UNITS), default="absolute")

    @property
    def random(self) -> bool:
        return not self.is_identity

    @property
    def acts(self) -> bool:
        return draws(self)

    @property
    def calibrated(self) -> bool:
        return self.basis == "range"

    def sigma(self, sample: Array | None) -> float:
        """σ in the unit of the activations, from a sample of them with basis `range`."""
        unit = 1.0 if self.basis == "absolute" or sample is None else float(np.max(np.abs(sample), initial=0))
        return self.scale * unit

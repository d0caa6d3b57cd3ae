"""Quantizers to uneven levels: two, three, powers of two, and floating-point formats of few bits."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import ml_dtypes
import numpy as np
import numpy.typing as npt

from sweep.networks.variables import Variable
from sweep.perturb.base import Array, Resolved, Transform, parameter, register
from sweep.perturb.basis import within
from sweep.perturb.grid import Doubles
from sweep.perturb.quantize import PER, PER_TEXT, Quantizer, largest

CHAPTER = "Quantizers of weights"  # of the catalogue

Mask = npt.NDArray[np.bool_]

FORMATS = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float8_e4m3": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
}
TERNARY_THRESHOLD = 0.7  # of mean |W|: the source's optimum for weights that are uniform or normal
SMALLEST = -149  # exponent of float32's smallest number


@dataclass(frozen=True, kw_only=True)
class Scaled(Transform):
    """Levels ±α and perhaps 0, with one α for each scale, computed in float64 from the weights."""

    random = False
    gap: ClassVar[int] = 1  # between neighbouring levels, in α

    per: str = parameter(PER_TEXT, choices=PER, default="tensor")

    @abstractmethod
    def scale(self, weight: Array, variable: Variable) -> tuple[Mask, Doubles]:
        """Which weights are of magnitude α, and α: their mean magnitude."""

    def resolve(self, weight: Array, variable: Variable) -> Resolved:
        """Step and range; the step is the mean over channels."""
        _, scale = self.scale(weight, variable)
        high = float(np.max(scale))
        return Resolved(step=float(self.gap * np.mean(scale)), low=-high, high=high)

    def mean(self, size: Doubles, chosen: Mask, variable: Variable) -> Doubles:
        """Of the chosen, over the tensor or over each channel; 0 where none is; with as many axes as the weights."""
        axes = within(size, variable) if self.per == "channel" else None
        total = np.sum(size, axis=axes, keepdims=True, where=chosen)
        return np.asarray(total / np.maximum(np.sum(chosen, axis=axes, keepdims=True), 1))


@register("binary")
@dataclass(frozen=True, kw_only=True)
class Binary(Scaled):
    """sign(w) · mean|W|, with sign(0) = +1.

    Exactly 2 levels; the mean is over the tensor or over each output channel, in float64. Weights that are all 0
    stay 0.

    Source: Courbariaux et al., NeurIPS 2015 (BinaryConnect: the sign); Rastegari et al., ECCV 2016 (XNOR-Net: the scale
    mean|W|, there per output channel).

    Peers:

    - QKeras `binary(alpha="auto")`: per = "channel".
    - Larq `MagnitudeAwareSign`: per = "channel".
    - Larq `SteSign`: the same signs, of magnitude 1.
    - Brevitas `SignedBinaryWeightPerTensorConst`: the same signs, of magnitude 0.1.
    """

    gap: ClassVar[int] = 2

    def bits_stored(self, weight: Array, variable: Variable) -> float:  # noqa: ARG002
        return 1

    def apply(self, weight: Array, variable: Variable, generator: np.random.Generator) -> Array:  # noqa: ARG002
        scale = self.scale(weight, variable)[1].astype(np.float32)
        return np.where(weight < 0, -scale, scale)

    def scale(self, weight: Array, variable: Variable) -> tuple[Mask, Doubles]:
        size, every = np.abs(weight).astype(np.float64), np.ones(weight.shape, bool)
        return every, self.mean(size, every, variable)


@register("ternary")
@dataclass(frozen=True, kw_only=True)
class Ternary(Scaled):
    """sign(w) · α where |w| > 0.7 · mean|W|, else 0; α = the mean of |w| over the weights beyond that threshold.

    Exactly 3 levels; threshold and α are those of the tensor or of each output channel, in float64. Weights that are
    all 0 stay 0.

    Source: Li et al., "Ternary weight networks", arXiv:1605.04711.

    Peers:

    - Larq `SteTern(ternary_weight_networks=True)`: the same threshold, of the tensor; magnitude 1.
    - QKeras `ternary(alpha="auto")`: per channel, with magnitudes as here and another threshold: half the magnitude of
      the round before, in five rounds from max|W| / 3 on.
    - QKeras `ternary()`: threshold 0.33, magnitude 1.
    - Brevitas `SignedTernaryWeightPerTensorConst`: threshold 0.05, magnitude 0.1.
    """

    def bits_stored(self, weight: Array, variable: Variable) -> float:  # noqa: ARG002
        return 2

    def apply(self, weight: Array, variable: Variable, generator: np.random.Generator) -> Array:  # noqa: ARG002
        beyond, scale = self.scale(weight, variable)
        return np.asarray(np.where(beyond, np.copysign(scale, weight), 0), np.float32)

    def scale(self, weight: Array, variable: Variable) -> tuple[Mask, Doubles]:
        size = np.abs(weight).astype(np.float64)
        beyond = size > TERNARY_THRESHOLD * self.mean(size, np.ones(size.shape, bool), variable)
        return beyond, self.mean(size, beyond, variable)


@register("power_of_two")
@dataclass(frozen=True, kw_only=True)
class PowerOfTwo(Quantizer):
    """sign(w) · the nearest to |w| of 0 and 2^e, e = e_max − 2^(b−1) + 2 … e_max, with b = bits.

    2^e_max is the power of two nearest to max|W|, over the tensor or over each output channel; |w| beyond it
    saturates. One bit holds the sign and b − 1 bits the magnitude, one code of which is 0: exactly 2^b − 1 levels,
    as long as float32 holds them (e ≥ −149). Nearest is meant in value, not in exponent: 2^e goes up from 1.5 · 2^e
    on, and 0 from half the smallest level on. With stochastic rounding, up or down between the same neighbours
    with the chances that keep the mean, except beyond 2^e_max.

    Source: Zhou et al., "Incremental network quantization", ICLR 2017 (rounding and e_max; it uses half as many
    exponents, 2^(b−2), at b bits).

    Peers:

    - QKeras `quantized_po2`: rounds log2|w|, so that 2^e goes up from √2 · 2^e on; has no level 0; its exponents are
      −2^(b−2) … 2^(b−2) − 1, or with a max_value of 1 or less −2^(b−1) … log2 max_value, whatever max|W| is. The same
      where |w| is within both ranges and not between √2 · 2^e and 1.5 · 2^e.
    """

    bits: int = parameter("bits of a code, the sign included", minimum=2, maximum=32, worse="low")
    per: str = parameter(PER_TEXT, choices=PER, default="tensor")

    def bits_stored(self, weight: Array, variable: Variable) -> float:  # noqa: ARG002
        return self.bits

    def apply(self, weight: Array, variable: Variable, generator: np.random.Generator) -> Array:
        """In float64, where powers of two and their neighbours' differences are exact."""
        highest = self.highest(weight, variable)
        smallest = np.ldexp(1.0, np.maximum(highest - (2 ** (self.bits - 1) - 2), SMALLEST))
        size = np.abs(weight).astype(np.float64)
        below = np.where(size < smallest, 0, _power_below(size))
        gap = np.where(size < smallest, smallest, below)
        part = (size - below) / gap
        up = self.round(part, generator) if self.random else part >= 0.5
        magnitude = np.minimum(below + gap * up, np.ldexp(1.0, highest))
        return np.asarray(np.where(weight == 0, 0, np.copysign(magnitude, weight)), np.float32)

    def resolve(self, weight: Array, variable: Variable) -> Resolved:
        """The range over all scales; there is no one step."""
        ends = np.ldexp(1.0, self.highest(weight, variable))
        if not np.any(weight):
            return Resolved(low=0.0, high=0.0, saturated=0.0)
        high = float(np.max(np.where(largest(weight, variable, self.per) > 0, ends, 0)))
        return Resolved(low=-high, high=high, saturated=float(np.mean(np.abs(weight) > 1.5 * ends)))

    def highest(self, weight: Array, variable: Variable) -> npt.NDArray[np.int64]:
        """e_max of each scale; of no account where all weights are 0."""
        mantissa, exponent = np.frexp(largest(weight, variable, self.per))  # mantissa in [0.5, 1)
        return np.asarray(exponent - (mantissa < 0.75), np.int64)


def _power_below(size: Doubles) -> Doubles:
    """The largest power of two that is at most `size`; 0.5 for 0."""
    return np.asarray(np.ldexp(1.0, np.frexp(size)[1] - 1))


@register("floating")
@dataclass(frozen=True, kw_only=True)
class Floating(Transform):
    """The number of the format nearest to clip(w, −largest, largest), ties to even, with largest = the format's.

    Largest finite numbers: float16 65504, bfloat16 3.3895e38, float8_e4m3 448, float8_e5m2 57344. Weights beyond them
    saturate (the saturating mode of the OCP specification). Subnormal numbers are kept. float8_e4m3 is the "fn"
    variant, without infinities. No scale is applied: float8 suits weights of about 0.01 and more.

    Source: IEEE 754-2019 (float16); the OCP 8-bit floating point specification, revision 1.0 (float8); ml_dtypes.

    Peers:

    - GoldenEye `num_fp16`: format float16; from 65520 on infinity, where this saturates.
    - GoldenEye `num_bfloat16`: format bfloat16; infinity beyond the range, where this saturates.
    - GoldenEye `num_float_n`: rounds stochastically and keeps no exponent for NaN: 4 + 3 bits reach 480, where
      float8_e4m3 ends at 448. No equal here.
    - Brevitas `Fp8e4m3OCPWeightPerTensorFloat`: float8_e4m3 of w · 448 / max|W|, scaled back; its e5m2 with 57344.
    """

    random = False

    format: str = parameter("number format", choices=tuple(FORMATS))

    @property
    def largest(self) -> np.float32:
        """The format's largest finite number."""
        return np.float32(ml_dtypes.finfo(FORMATS[self.format]).max)  # type: ignore[no-untyped-call]

    def bits_stored(self, weight: Array, variable: Variable) -> float:  # noqa: ARG002
        return float(8 * FORMATS[self.format].itemsize)

    def apply(self, weight: Array, variable: Variable, generator: np.random.Generator) -> Array:  # noqa: ARG002
        clipped = np.clip(weight, -self.largest, self.largest)
        return clipped.astype(FORMATS[self.format]).astype(np.float32)

    def resolve(self, weight: Array, variable: Variable) -> Resolved:  # noqa: ARG002
        """The range, and the share of the weights beyond it; there is no one step."""
        beyond = float(np.mean(np.abs(weight) > self.largest))
        return Resolved(low=-float(self.largest), high=float(self.largest), saturated=beyond)

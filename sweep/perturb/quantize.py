"""Quantizers of weights onto evenly spaced levels."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from sweep.networks.variables import Variable
from sweep.perturb.base import Array, Resolved, Transform, parameter, register
from sweep.perturb.basis import root_mean_square, within
from sweep.perturb.grid import Doubles, Levels, affine, symmetric, twos_complement

CHAPTER = "Quantizers of weights"  # of the catalogue

PER = ("tensor", "channel")
PER_TEXT = "tensor: one scale for the whole array; channel: one for each output channel"

_FLOAT_BITS = 32


@dataclass(frozen=True, kw_only=True)
class Quantizer(Transform):
    """Rounding to the nearest code, or stochastic."""

    rounding: str = parameter(
        "nearest: ties to even; stochastic: floor(x + u), u ~ U[0, 1), one draw a weight",
        choices=("nearest", "stochastic"),
        default="nearest",
    )

    @property
    def random(self) -> bool:
        return self.rounding == "stochastic"

    def round(self, codes: Doubles, generator: np.random.Generator) -> Doubles:
        """Whole numbers; floor(x + u) is evaluated without rounding, so that whole numbers always stay."""
        if self.rounding == "nearest":
            return np.rint(codes)
        below = np.floor(codes)
        draw = generator.random(codes.shape, dtype=np.float32)
        return below + (codes - below + draw >= 1)


@dataclass(frozen=True, kw_only=True)
class Even(Quantizer):
    """clip(round(w / step), lowest, highest) · step, in float64 and rounded once, at the end, to float32.

    The step is not rounded to float32 first: so the largest weight of a scale keeps its value, quantizing twice
    changes nothing, and 32-bit codes are exact.
    """

    @abstractmethod
    def grid(self, weight: Array, variable: Variable) -> Levels:
        """The levels for this weight array."""

    def apply(self, weight: Array, variable: Variable, generator: np.random.Generator) -> Array:
        levels = self.grid(weight, variable)
        return np.asarray(levels.round(weight, lambda codes: self.round(codes, generator)), np.float32)

    def resolve(self, weight: Array, variable: Variable) -> Resolved:
        """As `Levels.resolved`; with stochastic rounding, sigma is the root mean square over the weights."""
        levels = self.grid(weight, variable)
        if not self.random:
            return levels.resolved(weight)
        part = np.mod(levels.codes(weight), 1.0)
        return levels.resolved(weight, root_mean_square(levels.step * np.sqrt(part * (1 - part))))


def largest(weight: Array, variable: Variable, per: str) -> Doubles:
    """max |W| over the tensor or over each channel, float64, with as many axes as the weights."""
    axes = within(weight, variable) if per == "channel" else None
    return np.asarray(np.max(np.abs(weight), axis=axes, keepdims=True), np.float64)


@register("fixed_point")
@dataclass(frozen=True, kw_only=True)
class FixedPoint(Even):
    """rint(w · 2^b) / 2^b with b = bits fractional bits.

    Step 2^−b, no clipping, as many levels as the weights need. Exact: scaling by a power of two loses nothing. With
    stochastic rounding, floor(w · 2^b + u) / 2^b.

    Source: the code of the article "CNN训练MNIST数据集tenflow2(中)".

    Peers:

    - qtorch `fixed_point_quantize`: fl = b, clamp = False, rounding = "nearest"; ties to even there too.
    """

    bits: int = parameter("fractional bits", minimum=0, maximum=64, worse="low")

    @property
    def is_identity(self) -> bool:
        """With as many bits as float32 has, or more."""
        return self.bits >= _FLOAT_BITS

    @property
    def rounding_step(self) -> float | None:
        return 2.0**-self.bits

    def bits_stored(self, weight: Array, variable: Variable) -> float:
        """The sign, and what the largest of these weights takes: there is no clipping."""
        top = float(np.max(np.abs(self.grid(weight, variable).codes(weight)), initial=0))
        return 1 + math.ceil(math.log2(np.rint(top) + 1))

    def grid(self, weight: Array, variable: Variable) -> Levels:  # noqa: ARG002
        return Levels(2.0**-self.bits)


@register("fixed_point_saturating")
@dataclass(frozen=True, kw_only=True)
class FixedPointSaturating(Even):
    """clip(rint(w · 2^b), −2^(m+b), 2^(m+b) − 1) / 2^b with b = bits fractional and m = integer_bits integer bits.

    Two's complement with a sign bit: exactly 2^(1+m+b) levels from −2^m to 2^m − 2^−b, 1 + m + b bits a weight. From
    m + b = 25 on, float32 cannot hold the largest level, which becomes 2^m.

    Source: the standard fixed-point format, for example QKeras, `qkeras/quantizers.py`, `quantized_bits`.

    Peers:

    - QKeras `quantized_bits(alpha=1)`: bits = 1 + m + b, integer = m.
    - HLS `ap_fixed`: `ap_fixed<1+m+b, 1+m, AP_RND_CONV, AP_SAT>`; by default it truncates and wraps round.
    - GoldenEye `num_fixed_pt`: int_len = m, frac_len = b, with stochastic rounding.
    - Brevitas `Int8WeightPerTensorFixedPoint`: bits = 7 − m with 2^m the smallest power of two that is max|W| or more,
      for m ≥ 0, without the code −2^7.
    """

    bits: int = parameter("fractional bits", minimum=0, maximum=32, worse="low")
    integer_bits: int = parameter("integer bits, without the sign bit", minimum=0, maximum=16, default=0)

    def bits_stored(self, weight: Array, variable: Variable) -> float:  # noqa: ARG002
        return 1 + self.integer_bits + self.bits

    def grid(self, weight: Array, variable: Variable) -> Levels:  # noqa: ARG002
        return twos_complement(2.0**-self.bits, 1 + self.integer_bits + self.bits)


@register("symmetric")
@dataclass(frozen=True, kw_only=True)
class Symmetric(Even):
    """clip(rint(w / Δ), −N, N) · Δ with Δ = max|W| / N, N = 2^(b−1) − 1, b = bits.

    Exactly 2^b − 1 levels: the code −2^(b−1) is left out, so that w and −w round alike. max|W| is that of the tensor
    or of each output channel, and keeps its value. In float64, rounded once to float32.

    Source: Jacob et al., CVPR 2018; Krishnamoorthi, arXiv:1806.08342, section 2.2, with the restricted range.

    Peers, to the rounding of their float32 steps:

    - Brevitas `Int8WeightPerTensorFloat`: bits = 8.
    - Brevitas `Int8WeightPerChannelFloat`: bits = 8, per = "channel".
    - MRFI `SymmericQuantization`: (so spelt) bit_width = b, dynamic_range = max|W|.
    - aihwkit `WeightModifierType.DISCRETIZE`: res = 1 / (2^b − 2) in the torch tile, whose step is 2 res max|W|, and
      res = 1 / (2^(b−1) − 1) in the C++ tile, whose step is res max|W| and which rounds ties away from 0.
    - aihwkit-lightning `WeightModifierType.DISCRETIZE`: res = 2^b − 2; DISCRETIZE_PER_CHANNEL is per = "channel".
    - QKeras `quantized_bits(alpha="auto")`: bits = b, per = "channel", ties away from 0.
    """

    bits: int = parameter("bits of a code, the sign included", minimum=2, maximum=32, worse="low")
    per: str = parameter(PER_TEXT, choices=PER, default="tensor")

    def bits_stored(self, weight: Array, variable: Variable) -> float:  # noqa: ARG002
        return self.bits

    def grid(self, weight: Array, variable: Variable) -> Levels:
        return symmetric(largest(weight, variable, self.per), 2.0 ** (self.bits - 1) - 1)


@register("affine")
@dataclass(frozen=True, kw_only=True)
class Affine(Even):
    """(clip(rint(w / Δ) + z, 0, 2^b − 1) − z) · Δ with Δ = (high − low) / (2^b − 1), z = rint(−low / Δ), b = bits.

    low = min(0, min W) and high = max(0, max W), over the tensor or over each output channel. Exactly 2^b levels; 0 is
    one of them and stays exactly 0. As z is a whole number, the ends of the range move by up to half a step. In
    float64, rounded once to float32.

    Source: Jacob et al., CVPR 2018, section 2.1; Krishnamoorthi, arXiv:1806.08342, section 2.1.

    Peers, to the rounding of their float32 steps:

    - Brevitas `ShiftedUint8WeightPerTensorFloat`: bits = 8.
    - Brevitas `ShiftedUint8WeightPerChannelFloat`: bits = 8, per = "channel".
    - TensorFlow `fake_quant_with_min_max_vars`: num_bits = b, min = low, max = high; ties up.
    """

    bits: int = parameter("bits of a code", minimum=1, maximum=32, worse="low")
    per: str = parameter(PER_TEXT, choices=PER, default="tensor")

    def bits_stored(self, weight: Array, variable: Variable) -> float:  # noqa: ARG002
        return self.bits

    def grid(self, weight: Array, variable: Variable) -> Levels:
        axes = within(weight, variable) if self.per == "channel" else None
        low = np.minimum(0.0, np.min(weight, axis=axes, keepdims=True).astype(np.float64))
        high = np.maximum(0.0, np.max(weight, axis=axes, keepdims=True).astype(np.float64))
        return affine(low, high, self.bits)


@register("conductance_states")
@dataclass(frozen=True, kw_only=True)
class ConductanceStates(Even):
    """sign(w) · rint(|w| / Δ) · Δ with Δ = max|W| / (n − 1), n = states.

    Each weight is a differential pair of devices with n evenly spaced states from off (0) to max|W|, one device off:
    exactly 2n − 1 levels. The same as `symmetric` where n = 2^(b−1), but n need not be a power of two.

    Source: MemTorch, `memtorch/bh/nonideality/FiniteConductanceStates.py`; CrossSim, `simulator/devices/idevice.py`.

    Peers:

    - MemTorch `apply_finite_conductance_states`: states = n_conductance_states, from 1/r_off to 1/r_on.
    - CrossSim `cell_bits`: states = 2^cell_bits, whatever R_min/R_max is.
    - NeuroSim `cellBit`: cuts the code of w + 1 into cells and rounds nothing: all 2^b levels of its weights are kept,
      of which none is 0. No equal here.
    """

    states: int = parameter("states of one device, off included", minimum=2, maximum=2**31, worse="low")
    per: str = parameter(PER_TEXT, choices=PER, default="tensor")

    def bits_stored(self, weight: Array, variable: Variable) -> float:  # noqa: ARG002
        return math.log2(2 * self.states - 1)

    def grid(self, weight: Array, variable: Variable) -> Levels:
        return symmetric(largest(weight, variable, self.per), self.states - 1.0)

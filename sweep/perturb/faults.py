"""Faults: weights, bits or lines that fail, each by itself with probability `rate`.

What fails is drawn by comparing one uniform number u in [0, 1) with the rate: u < rate. So at one seed a higher rate
keeps the same faults and adds more. These numbers are float64: rates down to 1e-15 are meant as they stand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sweep.networks.variables import Variable
from sweep.perturb.base import Array, Random, Resolved, parameter, register
from sweep.perturb.basis import root_mean_square, within
from sweep.perturb.grid import Doubles, Levels, twos_complement

CHAPTER = "Faults of weights"  # of the catalogue

PROBABILITY = "probability for each weight, bit or line"
Bits = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Fault(Random):
    """Something that fails with probability `rate`."""

    rate: float = parameter(
        "probability of a fault", minimum=0.0, maximum=1.0, identity=0.0, label="Fault rate", unit=PROBABILITY
    )


@register("stuck_at")
@dataclass(frozen=True, kw_only=True)
class StuckAt(Fault):
    """+max|W|, −max|W| or 0 instead of w with probabilities p · high, p · low and p · (1 − high − low), p = rate.

    max|W| is that of the array before the faults. Two draws a weight, in this order: which is stuck, and at what.

    Source: MemTorch, `memtorch/bh/nonideality/DeviceFaults.py`; Chen et al., DATE 2017.

    Peers:

    - MemTorch `apply_device_faults`: shares l (lrs_proportion) and h (hrs_proportion) of the devices of a pair, exact
      numbers of them. A weight w > 0 becomes max|W| with about l, w − max|W| with l, and 0 with h. Here a weight is
      stuck as a whole: rate = 2l + h with high = low = l / rate has −max|W| in place of w − max|W|.
    - xbtorch `stuck_percentage`: a share q of all devices, an exact number, half at either end of the range with
      `stuck_mode` "ideal": as MemTorch's with l = h = q/2. By default they are at 10 and 500, whatever the range.
    - PyTorchFI `zero_func_rand_weight`: high = low = 0, exactly one fault, in a layer drawn evenly.
    - TensorFI2 `zeros`: high = low = 0, rate = Amount / 100, with an exact number of faults, rounded down.
    """

    high: float = parameter("share of the stuck weights at +max|W|", minimum=0.0, maximum=1.0, default=0.0)
    low: float = parameter("share of the stuck weights at -max|W|", minimum=0.0, maximum=1.0, default=0.0)

    def joint_problems(self) -> list[str]:
        if self.high + self.low > 1:
            return [f"high, low: {self.high:g} + {self.low:g} is more than 1; these are shares"]
        return []

    def apply(self, weight: Array, variable: Variable, generator: np.random.Generator) -> Array:  # noqa: ARG002
        """At v < high it is +max|W|, at v >= 1 − low it is −max|W|, with v the second draw."""
        stuck = generator.random(weight.shape) < self.rate
        where = generator.random(weight.shape)
        largest = np.max(np.abs(weight))
        value = np.where(where < self.high, largest, np.where(where >= 1 - self.low, -largest, 0))
        return np.asarray(np.where(stuck, value, weight), np.float32)

    def resolve(self, weight: Array, variable: Variable) -> Resolved:  # noqa: ARG002
        size = weight.astype(np.float64)
        largest = np.max(np.abs(size))
        value, square = largest * (self.high - self.low), largest**2 * (self.high + self.low)
        variance = self.rate * (square - 2 * size * value + size**2) - (self.rate * (value - size)) ** 2
        return Resolved(sigma=float(np.sqrt(np.mean(np.maximum(variance, 0)))))


@register("open_lines")
@dataclass(frozen=True, kw_only=True)
class OpenLines(Fault):
    """0 instead of w on every line of the weight matrix that is open; each line is open with probability p = rate.

    Rows are input lines: all axes but those of the output channels, flattened. Columns are output channels. One draw a
    line.

    Source: no paper in particular; word and bit lines that are open are a standard fault of memory arrays.

    Peers: none known.
    """

    lines: str = parameter("rows: input lines; columns: output channels", choices=("rows", "columns"))

    def apply(self, weight: Array, variable: Variable, generator: np.random.Generator) -> Array:
        inside = within(weight, variable)
        run = inside if self.lines == "columns" else variable.channel_axes
        shape = tuple(1 if axis in run else size for axis, size in enumerate(weight.shape))
        return np.where(generator.random(shape) < self.rate, np.float32(0), weight)

    def resolve(self, weight: Array, variable: Variable) -> Resolved:  # noqa: ARG002
        return Resolved(sigma=float(np.sqrt(self.rate * (1 - self.rate))) * root_mean_square(weight))


def flips(shape: tuple[int, ...], bits: int, rate: float, generator: np.random.Generator) -> Bits:
    """Masks of the bits to flip, each with probability `rate`: one draw a bit, all lowest bits first."""
    mask = np.zeros(shape, np.int64)
    for bit in range(bits):
        mask |= (generator.random(shape) < rate).astype(np.int64) << bit
    return mask


@register("bit_flip")
@dataclass(frozen=True, kw_only=True)
class BitFlip(Fault):
    """decode(code(w) ⊕ flips): code = clip(rint(w / Δ), −2^(b−1), 2^(b−1) − 1) in b = bits of two's complement.

    Each bit flips with probability rate, by itself; decode multiplies by Δ. With code `symmetric`, Δ = max|W| /
    (2^(b−1) − 1): undisturbed codes are those of the op `symmetric`, and a flip may give −2^(b−1), one step beyond
    −max|W|. With code `fixed_point`, Δ = 2^−(b−1): the range is [−1, 1), weights beyond it saturate. It quantizes at
    rate 0 too. Exactly 2^b levels; in float64, rounded once to float32. One draw a bit, all lowest bits first; weights
    that are all 0 stay 0 with code `symmetric`.

    Source: the error model of TensorFI2, GoldenEye and MRFI, with a rate per bit as in Reagen et al., "Ares", DAC 2018.

    Peers:

    - MRFI `IntRandomBitFlip`: after its `SymmericQuantization` (so spelt) with dynamic_range = max|W|, the codes of
      code `symmetric`. Exactly one bit flips in each weight that a selector takes, all alike likely: where it takes a
      share q, rate = q/b, and two flips in one weight, which happen here, do not happen there.
    - GoldenEye `num_fixed_pt`: sign and magnitude, truncated: the sign bit gives −w, here w ∓ 2^(b−1) Δ. It acts on
      what layers hand on, and clips to their largest value. No equal here.
    """

    bits: int = parameter("bits of a code, the sign included", minimum=2, maximum=32, worse="low")
    code: str = parameter(
        "symmetric: largest code at max|W|; fixed_point: range [-1, 1)",
        choices=("symmetric", "fixed_point"),
        default="symmetric",
    )

    @property
    def random(self) -> bool:
        return self.rate > 0

    @property
    def is_identity(self) -> bool:
        """Never: it quantizes at rate 0 too."""
        return False

    def grid(self, weight: Array) -> Levels:
        """Every code has a level; a step of 0 where all weights are 0 and the code is symmetric."""
        largest = float(np.max(np.abs(weight))) if self.code == "symmetric" else 1.0
        top = 2.0 ** (self.bits - 1) - (self.code == "symmetric")
        return twos_complement(largest / top, self.bits)

    def apply(self, weight: Array, variable: Variable, generator: np.random.Generator) -> Array:  # noqa: ARG002
        """Draws nothing at rate 0."""
        half = 2 ** (self.bits - 1)

        def stored(codes: Doubles) -> Doubles:
            whole = np.clip(np.rint(codes), -half, half - 1).astype(np.int64)
            if self.random:
                flipped = whole ^ flips(weight.shape, self.bits, self.rate, generator)
                whole = ((flipped + half) & (2 * half - 1)) - half  # the sign of a b-bit code
            return whole.astype(np.float64)

        return np.asarray(self.grid(weight).round(weight, stored), np.float32)

    def resolve(self, weight: Array, variable: Variable) -> Resolved:  # noqa: ARG002
        """Sigma is that of the flips alone: flipping bit k moves the code by 2^k, whatever the bit was."""
        levels = self.grid(weight)
        sigma = levels.step * np.sqrt(self.rate * (1 - self.rate) * (4.0**self.bits - 1) / 3)
        return levels.resolved(weight, float(sigma))


@register("float32_bit_flip")
@dataclass(frozen=True, kw_only=True)
class Float32BitFlip(Fault):
    """The float32 number whose IEEE 754 bits are those of w, each of the 32 flipped with probability p = rate.

    The identity at rate 0. One draw a bit, all lowest bits first, the sign last. A flip in the exponent can give huge
    numbers, infinities and NaN, and so a network whose scores are NaN.

    Source: TensorFI2, `src/tensorfi2.py`; Reagen et al., "Ares", DAC 2018 (a rate per bit).

    Peers:

    - TensorFI2 `bitflips`: in each of Amount weights of a variable of n exactly one bit flips, all 32 alike likely:
      rate = Amount / (32 n), and two flips in one weight, which happen here, do not happen there.
    - MRFI `FloatRandomBitFlip`: the same in each weight that a selector takes; where it takes a share q, rate = q/32.
    - GoldenEye `num_fp32`: one bit of what a layer hands on; what is beyond the layer's largest magnitude after that,
      NaN and infinities too, is set to it. No equal here.
    """

    def apply(self, weight: Array, variable: Variable, generator: np.random.Generator) -> Array:  # noqa: ARG002
        """Draws at every rate."""
        mask = flips(weight.shape, 32, self.rate, generator).astype(np.uint32)
        return (np.ascontiguousarray(weight).view(np.uint32).reshape(weight.shape) ^ mask).view(np.float32)

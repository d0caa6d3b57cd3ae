"""Faults: weights, bits or lines that fail, each by itself with probability `rate`, or exactly so many of them.

What fails is drawn by comparing one uniform number u in [0, 1) with the rate: u < rate. So at one seed a higher rate
keeps the same faults and adds more. These numbers are float64: rates down to 1e-15 are meant as they stand.

With `faults` instead of `rate`, exactly so many of all that a transform acts on together fail, whichever variables they
are in: all sets of that size are alike likely. They come from one stream of the transform, see `counted.distinct`, so
that more faults keep the fewer here, too.
"""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from sweep.networks.variables import Variable
from sweep.perturb.base import Array, Random, Resolved, Transform, parameter, register
from sweep.perturb.basis import root_mean_square
from sweep.perturb.counted import distinct, either, too_many
from sweep.perturb.grid import Doubles, Levels, twos_complement

CHAPTER = "Faults of weights"  # of the catalogue

PROBABILITY = "probability for each weight, bit or line"
Bits = npt.NDArray[np.int64]
Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Fault(Random):
    """Something that fails with probability `rate`, or exactly `faults` of it."""

    rate: float | None = parameter(
        "probability of a fault",
        minimum=0.0,
        maximum=1.0,
        identity=0.0,
        default=None,
        label="Fault rate",
        unit=PROBABILITY,
    )
    faults: int | None = parameter(
        "instead of rate: how many a chip has, or a read, in all variables together",
        minimum=0,
        identity=0,
        default=None,
        label="Faults a chip",
        unit="weights, bits or lines",
    )
    _dealt: ClassVar[tuple[Indices, float] | None] = None  # of a variable: which fail, and the chance of each

    def joint_problems(self) -> list[str]:
        return either(self.rate, self.faults)

    @property
    def fails(self) -> bool:
        """Whether anything can."""
        return bool(self.rate or self.faults)

    @property
    def joint(self) -> bool:
        return self.faults is not None

    def places(self, variable: Variable) -> tuple[int, ...]:
        """The shape of what can fail in a variable."""
        return variable.shape

    def misfit(self, variables: Sequence[Variable]) -> str:
        total = sum(math.prod(self.places(variable)) for variable in variables)
        return too_many(self.faults, total)

    def dealt(self, variables: Sequence[Variable], generator: np.random.Generator) -> Sequence[Transform]:
        """The same, each with those faults that fall to its variable."""
        ends = np.cumsum([math.prod(self.places(variable)) for variable in variables])
        failing = np.sort(distinct(self.faults or 0, int(ends[-1]), generator))
        parts = []
        for begin, end in zip((0, *ends[:-1]), ends, strict=True):
            part = copy.copy(self)
            own = failing[np.searchsorted(failing, begin) : np.searchsorted(failing, end)] - begin
            object.__setattr__(part, "_dealt", (own, (self.faults or 0) / int(ends[-1])))
            parts.append(part)
        return parts

    def chance(self, variable: Variable) -> float:
        """Of a fault, for each thing that can fail."""
        if self._dealt is not None:
            return self._dealt[1]
        return self.rate if self.rate is not None else (self.faults or 0) / math.prod(self.places(variable))

    def failing(self, variable: Variable, generator: np.random.Generator) -> Indices:
        """Which fail where their number is given, as indices into the flat `places`; of a variable alone, drawn now."""
        if self._dealt is not None:
            return self._dealt[0]
        return distinct(self.faults or 0, math.prod(self.places(variable)), generator)

    def where(self, variable: Variable, generator: np.random.Generator) -> Mask:
        """Which fail, in the shape of `places`: one draw each with a rate."""
        shape = self.places(variable)
        if self.rate is not None:
            return np.asarray(generator.random(shape) < self.rate)
        found = np.zeros(math.prod(shape), bool)
        found[self.failing(variable, generator)] = True
        return found.reshape(shape)


@register("stuck_at")
@dataclass(frozen=True, kw_only=True)
class StuckAt(Fault):
    """+max|W|, −max|W| or 0 instead of w with probabilities p · high, p · low and p · (1 − high − low), p = rate.

    max|W| is that of the array before the faults. Two draws a weight, in this order: which is stuck, and at what. With
    `faults` instead of `rate`, exactly so many weights are stuck, and one draw a weight says at what.

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
        problems = super().joint_problems()
        if self.high + self.low > 1:
            problems.append(f"high, low: {self.high:g} + {self.low:g} is more than 1; these are shares")
        return problems

    def apply(self, weight: Array, variable: Variable, generator: np.random.Generator) -> Array:
        """At v < high it is +max|W|, at v >= 1 − low it is −max|W|, with v the second draw."""
        stuck = self.where(variable, generator)
        where = generator.random(weight.shape)
        largest = np.max(np.abs(weight))
        value = np.where(where < self.high, largest, np.where(where >= 1 - self.low, -largest, 0))
        return np.asarray(np.where(stuck, value, weight), np.float32)

    def resolve(self, weight: Array, variable: Variable) -> Resolved:
        size, rate = weight.astype(np.float64), self.chance(variable)
        largest = np.max(np.abs(size))
        value, square = largest * (self.high - self.low), largest**2 * (self.high + self.low)
        variance = rate * (square - 2 * size * value + size**2) - (rate * (value - size)) ** 2
        return Resolved(sigma=float(np.sqrt(np.mean(np.maximum(variance, 0)))))


@register("open_lines")
@dataclass(frozen=True, kw_only=True)
class OpenLines(Fault):
    """0 instead of w on every line of the weight matrix that is open; each line is open with probability p = rate.

    Rows are input lines: all axes but those of the output channels, flattened. Columns are output channels. One draw a
    line. With `faults`, exactly so many lines are open. The biases of a layer are one row.

    Source: no paper in particular; word and bit lines that are open are a standard fault of memory arrays.

    Peers: none known.
    """

    lines: str = parameter("rows: input lines; columns: output channels", choices=("rows", "columns"))

    def places(self, variable: Variable) -> tuple[int, ...]:
        columns = self.lines == "columns"
        return tuple(
            size if (axis in variable.channel_axes) == columns else 1 for axis, size in enumerate(variable.shape)
        )

    def apply(self, weight: Array, variable: Variable, generator: np.random.Generator) -> Array:
        return np.where(self.where(variable, generator), np.float32(0), weight)

    def resolve(self, weight: Array, variable: Variable) -> Resolved:
        rate = self.chance(variable)
        return Resolved(sigma=float(np.sqrt(rate * (1 - rate))) * root_mean_square(weight))


def flips(shape: tuple[int, ...], bits: Iterable[int], rate: float, generator: np.random.Generator) -> Bits:
    """Masks of the bits to flip, each of `bits` with probability `rate`: one draw a bit, those of the first first."""
    mask = np.zeros(shape, np.int64)
    for bit in bits:
        mask |= (generator.random(shape) < rate).astype(np.int64) << bit
    return mask


@dataclass(frozen=True, kw_only=True)
class Flip(Fault):
    """Bits of a code that flip: all of them, or one."""

    bit: int | None = parameter(
        "the only bit that can flip, 0 the lowest; without it all can", minimum=0, maximum=31, default=None, label="Bit"
    )

    @property
    @abstractmethod
    def width(self) -> int:
        """Bits of a code."""

    @property
    def planes(self) -> Sequence[int]:
        """The bits that can flip."""
        return range(self.width) if self.bit is None else [self.bit]

    def places(self, variable: Variable) -> tuple[int, ...]:
        return (len(self.planes), *variable.shape)

    def mask(self, variable: Variable, generator: np.random.Generator) -> Bits:
        """Of the bits to flip, in the shape of the variable."""
        if self.rate is not None:
            return flips(variable.shape, self.planes, self.rate, generator)
        found = np.zeros(variable.size, np.int64)
        plane, index = np.divmod(self.failing(variable, generator), variable.size)
        np.bitwise_or.at(found, index, np.int64(1) << np.asarray(self.planes, np.int64)[plane])
        return found.reshape(variable.shape)


@register("bit_flip")
@dataclass(frozen=True, kw_only=True)
class BitFlip(Flip):
    """decode(code(w) ⊕ flips): code = clip(rint(w / Δ), −2^(b−1), 2^(b−1) − 1) in b = bits of two's complement.

    Each bit flips with probability rate, by itself; decode multiplies by Δ. With code `symmetric`, Δ = max|W| /
    (2^(b−1) − 1): undisturbed codes are those of the op `symmetric`, and a flip may give −2^(b−1), one step beyond
    −max|W|. With code `fixed_point`, Δ = 2^−(b−1): the range is [−1, 1), weights beyond it saturate. It quantizes at
    rate 0 too. Exactly 2^b levels; in float64, rounded once to float32. One draw a bit, all lowest bits first; weights
    that are all 0 stay 0 with code `symmetric`.

    With bit = k only bit k of each code can flip, 0 the lowest and b − 1 the sign: one draw a weight, the same for
    every k. With `faults` instead of `rate`, exactly so many bits flip.

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

    def joint_problems(self) -> list[str]:
        problems = super().joint_problems()
        if self.bit is not None and self.bit >= self.bits:
            problems.append(f"bit: {self.bit} is none of a code of {self.bits} bits, which are 0 to {self.bits - 1}")
        return problems

    @property
    def width(self) -> int:
        return self.bits

    @property
    def random(self) -> bool:
        return self.fails

    @property
    def is_identity(self) -> bool:
        """Never: it quantizes at rate 0 too."""
        return False

    def grid(self, weight: Array) -> Levels:
        """Every code has a level; a step of 0 where all weights are 0 and the code is symmetric."""
        largest = float(np.max(np.abs(weight))) if self.code == "symmetric" else 1.0
        top = 2.0 ** (self.bits - 1) - (self.code == "symmetric")
        return twos_complement(largest / top, self.bits)

    def apply(self, weight: Array, variable: Variable, generator: np.random.Generator) -> Array:
        """Draws nothing at rate 0."""
        half = 2 ** (self.bits - 1)

        def stored(codes: Doubles) -> Doubles:
            whole = np.clip(np.rint(codes), -half, half - 1).astype(np.int64)
            if self.random:
                flipped = whole ^ self.mask(variable, generator)
                whole = ((flipped + half) & (2 * half - 1)) - half  # the sign of a b-bit code
            return whole.astype(np.float64)

        return np.asarray(self.grid(weight).round(weight, stored), np.float32)

    def resolve(self, weight: Array, variable: Variable) -> Resolved:
        """Sigma is that of the flips alone: flipping bit k moves the code by 2^k, whatever the bit was.

        With `faults`, as if each bit flipped by itself.
        """
        levels, rate = self.grid(weight), self.chance(variable)
        powers = (4.0**self.bits - 1) / 3 if self.bit is None else 4.0**self.bit
        sigma = levels.step * np.sqrt(rate * (1 - rate) * powers)
        return levels.resolved(weight, float(sigma))


@register("float32_bit_flip")
@dataclass(frozen=True, kw_only=True)
class Float32BitFlip(Flip):
    """The float32 number whose IEEE 754 bits are those of w, each of the 32 flipped with probability p = rate.

    The identity at rate 0. One draw a bit, all lowest bits first, the sign last. A flip in the exponent can give huge
    numbers, infinities and NaN, and so a network whose scores are NaN.

    With bit = k only bit k can flip, one draw a weight: 0 to 22 are the fraction, 23 to 30 the exponent, 31 the sign.
    With `faults` instead of `rate`, exactly so many bits flip.

    Source: TensorFI2, `src/tensorfi2.py`; Reagen et al., "Ares", DAC 2018 (a rate per bit).

    Peers:

    - TensorFI2 `bitflips`: in each of Amount weights of a variable of n exactly one bit flips, all 32 alike likely:
      rate = Amount / (32 n), and two flips in one weight, which happen here, do not happen there.
    - MRFI `FloatRandomBitFlip`: the same in each weight that a selector takes; where it takes a share q, rate = q/32.
    - GoldenEye `num_fp32`: one bit of what a layer hands on; what is beyond the layer's largest magnitude after that,
      NaN and infinities too, is set to it. No equal here.
    """

    width = 32

    @property
    def passes_gradients(self) -> bool:
        return self.bit is not None and not 23 <= self.bit <= 30

    def apply(self, weight: Array, variable: Variable, generator: np.random.Generator) -> Array:
        """Draws at every rate."""
        mask = self.mask(variable, generator).astype(np.uint32)
        return (np.ascontiguousarray(weight).view(np.uint32).reshape(weight.shape) ^ mask).view(np.float32)

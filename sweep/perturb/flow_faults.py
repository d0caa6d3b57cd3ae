"""Faults of activations: bits of their codes that flip, values that are stuck.

What fails for a chip is drawn as for weights: one uniform number u in [0, 1) for each thing that can fail, u < rate. So
a higher rate keeps the same faults and adds more. What fails anew for each image is drawn by the distance from one
fault to the next, along all images of the test set: with rate p, ⌊E / −ln(1 − p)⌋ things in between do not fail,
E ~ Exp(1), which is the same law and takes one draw a fault. There another rate has other faults.

With `faults` instead of `rate`, exactly so many of all that a transform acts on together fail, in whichever layers they
are: all sets of that size are alike likely. They come from one stream of the transform, see `counted.distinct`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sweep.perturb.base import Array, Resolved, parameter, register
from sweep.perturb.counted import distinct, either, too_many
from sweep.perturb.dataflow import ActivationAffine, DataFlow
from sweep.perturb.grid import Levels

CHAPTER = "Faults of activations"  # of the catalogue

PROBABILITY = "probability for each bit or value"
LEAST, MOST = 64, 2**20  # distances drawn at a time
FARTHEST = 2**42  # that are told apart: more than any test set has

Indices = npt.NDArray[np.int64]
Failing = Callable[[int], tuple[Indices, Indices]]
"""For the next so many images: of each fault the image, from 0, and what fails in it."""


class Share(NamedTuple):
    """What one place in the data flow is of all that a transform acts on.

    Attributes:
        size: values of the activation.
        before: values of the places before it.
        total: values of all.
    """

    size: int
    before: int
    total: int


@dataclass(frozen=True, kw_only=True)
class ActivationFault(DataFlow):
    """Something of the data flow that fails with probability `rate`, or exactly `faults` of it."""

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
        "instead of rate: how many there are, in all layers together",
        minimum=0,
        identity=0,
        default=None,
        label="Faults",
        unit="bits or values",
    )

    def joint_problems(self) -> list[str]:
        return either(self.rate, self.faults)

    @property
    def random(self) -> bool:
        return bool(self.rate or self.faults)

    @property
    def each_image(self) -> bool:
        """Whether it fails anew for each image, and not once for a chip."""
        return False

    @property
    def planes(self) -> int:
        """How many things can fail in a value."""
        return 1

    def overfull(self, share: Share) -> str:
        """What keeps so many from failing, in words; empty for nothing."""
        return too_many(self.faults, self.planes * share.total)

    def chance(self, share: Share) -> float:
        """Of a fault, for each thing that can fail."""
        return self.rate if self.rate is not None else (self.faults or 0) / (self.planes * share.total)

    def failing(self, share: Share, own: np.random.Generator, joint: np.random.Generator) -> Failing:
        """What fails: of the values of a place first the first things of all, then the second.

        Args:
            share: the place.
            own: its generator.
            joint: that of the transform, the same at all its places.
        """
        things, before = self.planes * share.size, self.planes * share.before
        if self.faults is not None:
            count, total = self.faults, self.planes * share.total

            def exactly(images: int) -> tuple[Indices, Indices]:
                found = [np.sort(distinct(count, total, joint)) - before for _ in range(images)]
                image, thing = np.repeat(np.arange(images), count), np.concatenate(found or [np.empty(0, np.int64)])
                here = (thing >= 0) & (thing < things)
                return image[here], thing[here]

            return exactly
        rate = self.rate or 0.0
        if self.each_image:
            return _anew(rate, things, own)

        def once(images: int) -> tuple[Indices, Indices]:  # noqa: ARG001
            thing = np.flatnonzero(own.random(things) < rate)
            return np.zeros_like(thing), thing

        return once


def _anew(rate: float, things: int, generator: np.random.Generator) -> Failing:
    """Each of so many things in each image with probability `rate`, by the distances between faults."""
    scale = math.inf if rate == 1 else -math.log1p(-rate)
    ahead, last = np.empty(0, np.int64), -1  # places that are drawn, and the last of them, from the next image on

    def following(images: int) -> tuple[Indices, Indices]:
        nonlocal ahead, last
        end, parts = images * things, [ahead]
        while rate and last < end:
            count = min(MOST, LEAST + int(rate * (end - last)))
            gaps = np.minimum(np.floor(generator.standard_exponential(count) / scale), FARTHEST).astype(np.int64) + 1
            parts.append(last + np.cumsum(gaps))
            last = int(parts[-1][-1])
        ahead = np.concatenate(parts)
        image, thing = np.divmod(ahead[ahead < end], max(things, 1))
        ahead, last = ahead[ahead >= end] - end, last - end
        return image, thing

    return following


@register("activation_bit_flip")
@dataclass(frozen=True, kw_only=True)
class ActivationBitFlip(ActivationFault, ActivationAffine):
    """x ↦ ((clip(rint(x / Δ) + z, 0, 2^b − 1) ⊕ flips) − z) · Δ, with Δ, z and b = bits of `activation_affine`.

    Each of the b bits of a code flips with probability rate, by itself; it quantizes at rate 0 too, and is then
    `activation_affine`. Codes that are stored in two's complement, from −2^(b−1) on, are these with their highest bit
    the other way round: the same flips do the same.

    With lifetime = "image", the default, they flip anew for each image and value: transient faults. With lifetime =
    "chip" a seed draws once which bits of which values are inverted, for all images: cells of a buffer that has a place
    for each value. With bit = k only bit k of each code can flip, 0 the lowest. With `faults` instead of `rate`,
    exactly so many bits flip in an image, or in a chip, in all selected layers together.

    Source: Reagen et al., "Ares", DAC 2018 (a rate per bit, of activations too); Li et al., SC 2017 (transient faults
    in data paths and buffers of accelerators); Chen et al., "BinFI", SC 2019 (one flip in each inference).

    Peers:

    - PyTorchFI `random_neuron_single_bit_flip_inj`: faults = 1, but in a layer drawn evenly, whatever its size; codes
      of 8 bits in two's complement, x / max · 128 rounded towards 0.
    - MRFI `IntRandomBitFlip`: on activations, after its `SymmericQuantization` (so spelt). Of a ReLU, with bit_width =
      bits + 1 and dynamic_range = the largest value: the same levels, and the same flips of the lower bits; their sign
      bit is one more.
    """

    bit: int | None = parameter(
        "the only bit that can flip, 0 the lowest; without it all can", minimum=0, maximum=23, default=None, label="Bit"
    )
    lifetime: str = parameter(
        "image: a new draw for every image; chip: one draw a seed", choices=("image", "chip"), default="image"
    )

    def joint_problems(self) -> list[str]:
        problems = super().joint_problems()
        if self.bit is not None and self.bit >= self.bits:
            problems.append(f"bit: {self.bit} is none of a code of {self.bits} bits, which are 0 to {self.bits - 1}")
        return problems

    @property
    def is_identity(self) -> bool:
        """Never: it quantizes at rate 0 too."""
        return False

    @property
    def each_image(self) -> bool:
        return self.lifetime == "image"

    @property
    def planes(self) -> int:
        return self.bits if self.bit is None else 1

    def masks(self, images: int, share: Share, failing: Failing) -> Array:
        """(images, values) whole numbers, in float32, whose bits are those to flip, for the next images."""
        image, thing = failing(images)
        plane, value = np.divmod(thing, max(share.size, 1))
        masks = np.zeros((images, share.size), np.float32)
        for k in range(self.planes):  # each bit of a value once, so that places are different
            own = plane == k
            masks[image[own], value[own]] += np.float32(2.0 ** (k if self.bit is None else self.bit))
        return masks

    def resolved(self, levels: Levels, sample: Array | None, share: Share) -> Resolved:
        """Sigma is that of the flips alone: flipping bit k moves the code by 2^k, whatever the bit was."""
        chance = self.chance(share)
        powers = (4.0**self.bits - 1) / 3 if self.bit is None else 4.0**self.bit
        return levels.resolved(sample, float(levels.step * np.sqrt(chance * (1 - chance) * powers)))


@register("activation_stuck_at")
@dataclass(frozen=True, kw_only=True)
class ActivationStuckAt(ActivationFault):
    """The largest, the smallest value or 0 instead of x with probabilities p · high, p · low and p · (1 − high − low).

    With p = rate, for each value of the output of a selected layer; which are stuck, and at what, is drawn once for a
    chip and holds for all images. The largest and the smallest value are those of the layer's clean output on training
    images, over all its values; 0 is always between them. Two draws a value, in this order: whether it is stuck, and
    at what. With `faults` instead of `rate`, exactly so many values are stuck, in all selected layers together, and
    one draw a value says at what.

    Source: Zhang et al., VTS 2018 (permanent stuck-at faults of an accelerator).

    Peers:

    - TensorFI2 `zeros`: on the output of a layer: high = low = 0, rate = Amount / 100, with an exact number of faults,
      rounded down, drawn anew for each call.
    """

    high: float = parameter(
        "share of the stuck values at the largest of the layer's output", minimum=0.0, maximum=1.0, default=0.0
    )
    low: float = parameter(
        "share of the stuck values at the smallest of the layer's output", minimum=0.0, maximum=1.0, default=0.0
    )

    def joint_problems(self) -> list[str]:
        problems = super().joint_problems()
        if self.high + self.low > 1:
            problems.append(f"high, low: {self.high:g} + {self.low:g} is more than 1; these are shares")
        return problems

    @property
    def acts(self) -> bool:
        return self.random

    @property
    def calibrated(self) -> bool:
        return self.high + self.low > 0

    def ends(self, sample: Array | None) -> tuple[float, float]:
        """The smallest and the largest value, from a sample of the clean activations where `calibrated`."""
        if sample is None or not sample.size:
            return 0.0, 0.0
        return min(0.0, float(sample.min())), max(0.0, float(sample.max()))

    def stuck(self, share: Share, ends: tuple[float, float], failing: Failing, own: np.random.Generator) -> Array:
        """(1, values) what each value of a chip is stuck at; NaN where it is not.

        At v < high it is the largest, at v >= 1 − low the smallest, with v the second draw.
        """
        _, fails = failing(1)
        where = own.random(share.size)[fails]
        stuck = np.full((1, share.size), np.nan, np.float32)
        stuck[0, fails] = np.where(where < self.high, ends[1], np.where(where >= 1 - self.low, ends[0], 0))
        return stuck

    def resolved(self, sample: Array | None, share: Share) -> Resolved:
        """Sigma over draws and values, from a sample of these; without one it is not known."""
        if sample is None:
            return Resolved()
        chance, (smallest, largest), x = self.chance(share), self.ends(sample), sample.astype(np.float64)
        value, square = largest * self.high + smallest * self.low, largest**2 * self.high + smallest**2 * self.low
        variance = chance * (square - 2 * x * value + x**2) - (chance * (value - x)) ** 2
        sigma = float(np.sqrt(np.mean(np.maximum(variance, 0)))) if x.size else 0.0
        return Resolved(sigma=sigma, low=smallest, high=largest)

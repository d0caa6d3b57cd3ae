"""Layers on arrays of limited size: the columns of each array digitised by themselves, the numbers added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from sweep.perturb.base import Array, Resolved, noise_level, parameter, register
from sweep.perturb.dataflow import DataFlow, Side
from sweep.perturb.grid import Doubles, Levels

CHAPTER = "The data flow"  # of the catalogue
HEAD = 3  # what is known of all sums of an image, before those that are sampled


class Sums(NamedTuple):
    """What the arrays of a layer give in the clean network, on training images, before they are digitised.

    Attributes:
        lowest, highest: (arrays along the rows, columns) the smallest and the largest sum.
        worst: likewise, the largest that could be: rows of the array · max|x| · max|W|.
        sample: (n, arrays along the rows, columns) some of the sums.
    """

    lowest: Array
    highest: Array
    worst: Array
    sample: Array

    @classmethod
    def of(cls, observed: Array) -> Sums:
        """Of all images, by (images, HEAD + n, arrays, columns): the first three of each image, then its sample."""
        lowest, highest, worst = (observed[:, k] for k in range(HEAD))
        return cls(lowest.min(0), highest.max(0), worst.max(0), observed[:, HEAD:].reshape(-1, *observed.shape[2:]))


def split(size: int, most: int) -> list[int]:
    """A length cut into the fewest parts of at most so many, as even as can be, the first ones one longer."""
    parts = -(-size // most)
    return [size // parts + (k < size % parts) for k in range(parts)]


@register("tile_adc")
@dataclass(frozen=True, kw_only=True)
class TileADC(DataFlow):
    """y = Σ_t Q_t(x_t · W_t) + bias, Q_t(s) = Δ_t · clip(rint(s / Δ_t + noise · ξ), −N, N), Δ_t = range_t / N.

    N = 2^(b−1) − 1 with b = bits: 2^b − 1 levels with 0 among them. The matrix W of a layer, inputs × outputs, is cut
    into arrays of at most `rows` × `columns`, as few and as even as can be, the first ones one longer. The columns of
    each are digitised; the numbers of the arrays t that share an output are added in float32, before bias and
    activation function. A convolution is the matrix of its kernel, (window · input channels) × filters, in Keras's
    order: all channels of the window's first place, then of the next. Each group of a grouped or depthwise convolution
    is a matrix of its own. `layers = "*"` is every layer with a kernel, the last one too; it acts on Dense, Conv1D,
    Conv2D, Conv3D, DepthwiseConv1D and DepthwiseConv2D, and is refused by name on others.

    range_t comes from the clean network on training images, never from the test set, by `range`: `max`, the largest
    |s|; `percentile`, the p-th percentile of |s|; `sigma`, `sigmas` times the root mean square of s, both of these from
    up to 2^12 sums of an image, but of one place at least, evenly spaced; `full`, the largest that could be, rows of
    the array · max|x| · max|W|. With `range = "bound"` it is `bound`, without training images. One range is that of an
    array, of a column of an array, or of all arrays of the layer, as `per` says. What is larger is clipped.

    A weight is a pair of devices, one for max(W, 0) and one for max(−W, 0). With pair = "analog", the default, their
    currents are subtracted before the converter. With pair = "digital" each side has a converter, and Q_t(x_t · W_t)
    becomes Q_t(x_t · max(W_t, 0)) − Q_t(x_t · max(−W_t, 0)), with one range for both; where no such sum is negative on
    the training images, codes are 0 … 2^b − 1, with N = 2^b − 1.

    With `noise` every sum of every image has a draw ξ ~ N(0, 1), in steps of its converter, at each read: from one
    stream of a layer, image after image, of these first all of one array.

    Source: Shafiee et al., "ISAAC", ISCA 2016 (arrays of 128 × 128, a converter for each, digital sums); Xiao et al.,
    IEEE Circuits and Systems Magazine 22, 26 (2022) (ranges of converters, pairs subtracted before or after them).

    Peers:

    - aihwkit `mapping.max_input_size`: rows, with max_output_size = columns: the same arrays of a linear layer; those
      of its convolutions have all places of the window for the first channel, then for the next.
    - aihwkit `forward.out_res`: 1 / (2^b − 2), with no noise or bound management: range "bound", bound = out_bound, for
      weights and inputs that are not scaled.
    - CrossSim `SignMagnitudeADC`: rows = rows_max, columns = cols_max, bits, range "bound", bound = calibrated_range[1]
      for weights and inputs that are not scaled; the same arrays where rows and columns part evenly.
    - CrossSim `ADCRangeLimits.MAX`: range "full", with max|x| = 1 and max|W| = 1.
    """

    side: ClassVar[Side] = "sums"

    rows: int = parameter("rows of an array, at most", minimum=1, default=128)
    columns: int = parameter("columns of an array, at most", minimum=1, default=128)
    bits: int = parameter("bits of a converter", minimum=2, maximum=24, worse="low")
    range: str = parameter(
        "how the range is found", choices=("max", "percentile", "sigma", "full", "bound"), default="max"
    )
    percentile: float = parameter("p of range percentile", minimum=0.0, maximum=100.0, default=99.9)
    sigmas: float = parameter("root mean squares of range sigma", minimum=0.0, default=4.0)
    bound: float | None = parameter(
        "the range itself, with range bound",
        minimum=0.0,
        default=None,
        label="Range of a converter",
        unit="units of the sums",
    )
    per: str = parameter("what has one range", choices=("array", "column", "layer"), default="array")
    pair: str = parameter(
        "where the two sides of a weight are subtracted", choices=("analog", "digital"), default="analog"
    )
    noise: float = noise_level("σ of the noise before a converter, in its steps", default=0.0)

    @property
    def calibrated(self) -> bool:
        return self.range != "bound" or self.pair == "digital"

    @property
    def random(self) -> bool:
        return self.noise > 0

    @property
    def is_identity(self) -> bool:
        """Never: it quantizes without noise too."""
        return False

    def joint_problems(self) -> list[str]:
        if self.range == "bound" and not self.bound:
            return ['bound: range = "bound" needs one, a number above 0']
        if self.range != "bound" and self.bound is not None:
            return [f'bound: is the range itself, and there is another, {self.range}; set range = "bound"']
        return []

    def widths(self, columns: int, groups: int = 1) -> list[int]:
        """Of how many of a layer's columns, one after the other, each range is."""
        if self.per == "layer":
            return [columns]
        return [1] * columns if self.per == "column" else split(columns // groups, self.columns) * groups

    def levels(self, sums: Sums | None, arrays: int, widths: Sequence[int]) -> Levels:
        """The levels of all converters, with steps (arrays, widths).

        Args:
            sums: where `calibrated`.
            arrays: along the rows; of digital pairs first all of the positive side, then of the negative one.
            widths: of the layer.
        """
        largest, one_sided = self._ranges(sums, arrays, widths), False
        if self.pair == "digital" and sums is not None:
            one_sided = bool(sums.lowest.min(initial=0) >= 0)
            largest = np.tile(np.maximum(*np.split(largest, 2)), (2, 1))
        top = 2.0**self.bits - 1 if one_sided else 2.0 ** (self.bits - 1) - 1
        step = np.where(largest > 0, largest / top, 1.0)  # sums that are always 0 stay 0
        return Levels(step, 0.0, 0.0 if one_sided else -top, top)

    def _ranges(self, sums: Sums | None, arrays: int, widths: Sequence[int]) -> Doubles:
        if self.range == "bound":
            return np.full((arrays, len(widths)), self.bound, np.float64)
        if sums is None:
            raise ValueError("a calibrated range needs sums")
        values = sums.sample
        if self.range in ("max", "full"):
            values = (np.maximum(-sums.lowest, sums.highest) if self.range == "max" else sums.worst)[None]
        parts = np.split(values, np.cumsum(widths)[:-1], axis=2)
        if self.per == "layer":
            return np.full((arrays, 1), self._largest(values), np.float64)
        return np.array([[self._largest(part[:, t]) for part in parts] for t in range(arrays)], np.float64)

    def _largest(self, values: npt.NDArray[np.floating]) -> float:
        """The range of those that share one: what was found for each array and column, or the sums themselves."""
        if self.range == "percentile":
            return float(np.percentile(np.abs(values), self.percentile))
        if self.range == "sigma":
            return float(self.sigmas * np.sqrt(np.mean(np.square(values, dtype=np.float64))))
        return float(np.max(values, initial=0))

    def array(self, levels: Levels) -> Array:
        """(3, arrays, widths) float32: step, lowest, highest."""
        return np.stack(np.broadcast_arrays(levels.step, levels.lowest, levels.highest)).astype(np.float32)

    def resolved(self, levels: Levels, sums: Sums | None, widths: Sequence[int]) -> Resolved:
        """The mean step, the largest range, and the share of the sampled sums beyond their own."""
        wide = replace(levels, step=np.repeat(levels.step, widths, axis=1))
        return wide.resolved(None if sums is None else sums.sample)

"""Which few images a chip sees, and what they say of its accuracy on all of them, without bias.

A chip draws two half-samples of m images each, independently, with unequal probabilities: images whose decision is open
more often than those that nearly every chip gets right. Its estimate is the difference estimator with the weights of
Horvitz & Thompson: the mean of what was predicted, and what the sample says that the prediction missed.

All that decides which images these are is in whole numbers, so that it is the same on every machine.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sweep.statistics.estimates import Floats

Ints = NDArray[np.int64]

STRATA = 48
"""Parts of the test set, by the clean network's margin, each with a prediction of its own."""
FLOOR = 0.02
"""Added to √(p(1 - p)) where images are chosen: no image is left to chance too rarely, no weight is large."""
_UNIT = 2**10  # sizes are whole numbers of this part of 1
_STARTS = 2**62  # starting points are that fine
_LARGEST = 2**32  # sum of sizes: with these starting points nothing overflows
_DIGITS = 12  # of an estimate: sums on different processors may differ beyond


class Design(NamedTuple):
    """How the images of a test set are drawn in one cell.

    Attributes:
        order: (N,) numbers of the images: of each class together, by the clean network's margin within.
        predicted: (N,) the share of chips that decide rightly, in this order; any fraction is right, a good one saves.
        sizes: (N,) whole numbers: an image is in a half-sample with probability half · size / sum of sizes.
        half: m, images of a half-sample.
    """

    order: Ints
    predicted: Floats
    sizes: Ints
    half: int


class Sample(NamedTuple):
    """What chips see.

    Attributes:
        images: (chips, 2, m) numbers of images, ascending in the order of the design; the halves may share some.
        weights: (chips, 2, m) by which what the prediction missed counts.
        predicted: (chips, 2, m) of these images.
        base: the mean of what is predicted of all images.
    """

    images: Ints
    weights: Floats
    predicted: Floats
    base: float


def edges(images: int, strata: int = STRATA) -> Ints:
    """Where the strata of N images, ordered by margin, begin and end: (strata + 1,), fewer where N is small.

    Ranks go with the square, since few images have a margin so small that noise turns it.
    """
    ranks = np.arange(strata + 1, dtype=np.int64) ** 2 * images // strata**2
    return np.unique(ranks)


def design(
    margins: ArrayLike, right: ArrayLike, seen: ArrayLike, half: int, classes: ArrayLike | None = None
) -> Design:
    """The design of a cell, from what pilot chips, which are in no estimate, decided.

    Shares of right decisions are made to rise with the margin (pooled adjacent violators: Ayer, Brunk, Ewing, Reid &
    Silverman 1955), so that strata in which a pilot sees no wrong decision are known by many images together.

    Args:
        margins: (N,) of the clean network, by which images are ordered: the labelled score less the best other one.
        right, seen: (strata,) decisions of pilot chips on images of each of the `edges(N)`, the right ones and all.
        half: m; twice as many images are seen by a chip.
        classes: (N,) labels. Chips err by class: half-samples that spread over classes save a tenth of the chips.

    Returns:
        With predictions p = (right + ½)/(seen + 1) of pooled strata, and sizes in proportion to √(p(1 - p)) + `FLOOR`,
        limited so that no image would have to be twice in a half-sample.

    Raises:
        ValueError: fewer images than m, or counts that are no counts of these strata.
    """
    order = np.argsort(np.asarray(margins), kind="stable").astype(np.int64)
    right, seen = np.asarray(right, np.int64), np.asarray(seen, np.int64)
    bounds = edges(len(order))
    if half < 1 or len(order) < half:
        raise ValueError(f"half: expected 1 to {len(order)} images; got {half}")
    if right.shape != seen.shape or len(bounds) != len(seen) + 1 or np.any((right < 0) | (right > seen)):
        raise ValueError(f"right and seen: expected counts of {len(bounds) - 1} strata; got {right} of {seen}")
    unit = min(_UNIT, _LARGEST // len(order))
    least, share, size = int(unit * FLOOR), np.empty(len(seen)), np.empty(len(seen), np.int64)
    for k, (good, every) in enumerate(_rising(right.tolist(), seen.tolist())):
        odd, wrong, both = 2 * good + 1, 2 * (every - good) + 1, 2 * every + 2  # p = odd/both
        share[k], size[k] = odd / both, math.isqrt(unit**2 * odd * wrong) // both + least
    each = np.diff(bounds)
    predicted, sizes = np.repeat(share, each), np.repeat(size, each)
    while half * sizes.max() > sizes.sum():
        sizes = np.minimum(sizes, sizes.sum() // half)
    if classes is None:
        return Design(order, predicted, sizes, half)
    by_class = np.argsort(np.asarray(classes)[order], kind="stable")
    return Design(order[by_class], predicted[by_class], sizes[by_class], half)


def _rising(right: list[int], seen: list[int]) -> list[tuple[int, int]]:
    """For each stratum, the counts of those with which it is pooled, so that shares rise."""
    pools: list[tuple[int, int, int]] = []
    for good, every in zip(right, seen, strict=True):
        strata = 1
        while pools and pools[-1][0] * every >= good * pools[-1][1]:
            before = pools.pop()
            good, every, strata = good + before[0], every + before[1], strata + before[2]
        pools.append((good, every, strata))
    return [(good, every) for good, every, strata in pools for _ in range(strata)]


def starts(generator: np.random.Generator) -> Ints:
    """Where the two half-samples of a chip begin, whatever the design: (2,) from the chip's own stream."""
    return generator.integers(_STARTS, size=2, dtype=np.int64)


def draw(plan: Design, begin: ArrayLike) -> Sample:
    """The images of chips that begin there: systematic samples (Madow 1949) along the design's order.

    Args:
        plan: of the cell.
        begin: (chips, 2) of `starts`.
    """
    ends = np.cumsum(plan.sizes)
    total, first = int(ends[-1]), np.asarray(begin)
    # floor(start · total / _STARTS), in whole numbers that do not overflow.
    high, low = np.divmod(first, 2**31)
    offset = (high * total + (low * total >> 31)) >> 31
    points = offset[..., None] + np.arange(plan.half, dtype=np.int64) * total
    places = np.searchsorted(ends * plan.half, points, side="right")
    weights = total / (plan.half * plan.sizes[places]) / len(plan.order)
    return Sample(plan.order[places], weights, plan.predicted[places], float(np.mean(plan.predicted)))


def estimates_of(sample: Sample, right: ArrayLike) -> tuple[Floats, Floats]:
    """Each chip's accuracy on all images, and how far its two half-samples are apart.

    Args:
        sample: what the chips saw.
        right: (chips, 2, m) whether they decided rightly, or the probability of it.

    Returns:
        (chips,) the estimate, unbiased, which may lie outside [0, 1]; (chips,) the first half's less the second's.
    """
    missed = np.asarray(right, np.float64) - sample.predicted
    halves = sample.base + np.sum(sample.weights * missed, axis=-1)
    estimate = np.round(halves.mean(axis=-1), _DIGITS)
    return estimate, np.round(halves[:, 0] - halves[:, 1], _DIGITS)

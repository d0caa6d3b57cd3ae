"""Which decisions lie within float rounding, so that two right backends may take them differently.

A float32 forward pass is wrong by some units in the seventh digit of the largest logit. So a decision is judged
by the distance of its two best logits, as a share of the logits' range; a network that ends in softmax has its
logits, up to a constant, in the logarithms of its outputs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from keras import ops

from sweep.engine.steps import Tensor
from sweep.perturb.base import Array

TIE = 2e-5  # of the logits' range, at least; ten times what has been seen between backends on small networks
MARGIN = 8  # times the largest difference seen on the sample: a deep network rounds more
LARGEST_ERROR = 1e-4  # of the logits' range: more is not rounding
UNDERFLOW = 1e-30  # softmax outputs below tell no logit
_SURELY = 1.01  # times the limit, for the rounding of what it is compared with
_LOGARITHM = 1e-6  # probabilities and their logarithms are rounded
SCORE_FACTOR = 10  # a single output tells no range of logits: it is given that much more room


def is_softmax(scores: Array, within: float = 1e-3) -> bool:
    """Whether scores (images, outputs) are probabilities that sum to 1, `within` so much."""
    several = scores.shape[-1] > 1
    return bool(several and np.all(scores >= 0) and np.allclose(scores.sum(axis=-1), 1, atol=within))


def logits(scores: Array, softmax: bool) -> Array:
    """Scores (..., outputs) as logits, up to a constant for each image."""
    return np.log(np.maximum(scores, np.float32(UNDERFLOW))) if softmax else scores


def within_rounding(scores: Array, threshold: float | None, softmax: bool, tie: float = TIE) -> npt.NDArray[np.bool_]:
    """Which decisions (images,) rounding could turn.

    Args:
        scores: (images, outputs).
        threshold: of a single output; None for the largest of several.
        softmax: whether the scores are probabilities.
        tie: the share of the logits' range that counts as rounding.

    Scores that are not finite count as within rounding; all-zero ones, as a dead ReLU gives, do not: they are
    exact.
    """
    if threshold is not None:
        distance = np.abs(scores[..., 0] - threshold)
        limit = SCORE_FACTOR * tie * np.maximum(1.0, np.abs(scores[..., 0]))
        return np.asarray(~(distance > limit))
    best = logits(np.partition(scores, -2, axis=-1)[..., -2:], softmax)
    with np.errstate(invalid="ignore", over="ignore"):  # infinity less infinity
        size = best[..., 1] - logits(scores.min(axis=-1), softmax) if softmax else np.abs(scores).max(axis=-1)
        close = ~(best[..., 1] - best[..., 0] > tie * size)
    return np.asarray(close if softmax else close & (size != 0))


def rank_within_rounding(
    scores: Array, labels: npt.NDArray[np.int64], k: int, softmax: bool, tie: float = TIE
) -> npt.NDArray[np.bool_]:
    """Of which images (images,) rounding could take the label out of the k largest scores, or into them.

    Args:
        scores: (images, outputs), of which there are more than k.
        labels: (images,).
        k: how many.
        softmax, tie: as for `within_rounding`.

    Scores that are not finite count as within rounding.
    """
    values = logits(scores, softmax)
    own = np.take_along_axis(values, labels[:, None], axis=-1)
    others = values.copy()
    np.put_along_axis(others, labels[:, None], -np.inf, axis=-1)
    border = np.partition(others, -k, axis=-1)[:, -k]
    with np.errstate(invalid="ignore", over="ignore"):  # infinity less infinity
        size = np.ptp(values, axis=-1) if softmax else np.abs(scores).max(axis=-1)
        close = ~(np.abs(own[:, 0] - border) > tie * size)
    return np.asarray(close if softmax else close & (size != 0))


def settled(best: Array, second: Array, lowest: Array, softmax: bool, tie: float = TIE) -> npt.NDArray[np.bool_]:
    """Which decisions rounding clearly cannot turn: none of `within_rounding`, and nearly all others.

    Args:
        best, second, lowest: the two largest and the smallest score, of one shape; before the softmax if there is one.
        softmax: whether these are the logits of probabilities.
        tie: as for `within_rounding`.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # infinity less infinity
        size = best - lowest if softmax else np.maximum(np.abs(best), np.abs(lowest))
        return np.asarray(best - second > np.float32(_SURELY * tie) * size + np.float32(_LOGARITHM * softmax))


def settle(scores: Tensor, tie: Tensor, softmax: Tensor) -> Tensor:
    """Decisions (...) by tensors of scores (..., outputs): -1 where they are not `settled`, or scores not finite.

    Args:
        scores: of two outputs or more.
        tie: (), as for `settled`.
        softmax: (), as for `within_rounding`.
    """
    values = ops.where(softmax, ops.log(ops.maximum(scores, UNDERFLOW)), scores)
    best = ops.max(values, axis=-1)
    choice = ops.argmax(values, axis=-1)
    others = ops.where(ops.arange(scores.shape[-1]) == ops.expand_dims(choice, -1), -np.inf, values)
    second, lowest = ops.max(others, axis=-1), ops.min(values, axis=-1)
    size = ops.where(softmax, best - lowest, ops.maximum(ops.abs(best), ops.abs(lowest)))
    sure = best - second > _SURELY * tie * size + _LOGARITHM * ops.cast(softmax, "float32")
    sure = ops.logical_and(sure, ops.all(ops.isfinite(scores), axis=-1))
    return ops.where(sure, ops.cast(choice, "int32"), -1)


def difference(scores: Array, expected: Array, softmax: bool) -> float:
    """The largest difference of backends' scores (..., outputs), as a share of the logits' range; inf for one NaN."""
    ours, theirs = logits(scores, softmax), logits(expected, softmax)
    finite = np.isfinite(theirs)
    if not np.array_equal(finite, np.isfinite(ours)):
        return float("inf")
    ours, theirs = np.where(finite, ours, 0), np.where(finite, theirs, 0)
    if scores.shape[-1] == 1:
        size = SCORE_FACTOR * np.maximum(1.0, np.abs(theirs))
    else:
        size = (np.ptp(theirs, axis=-1) if softmax else np.abs(theirs).max(axis=-1))[..., None]
    relative = np.abs(ours - theirs) / np.maximum(size, np.finfo(np.float32).tiny)
    return float(relative.max())

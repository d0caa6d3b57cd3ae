"""Which decisions lie within float rounding, so that two right ways to evaluate may take them differently.

A float32 forward pass is wrong by some units in the seventh digit of the largest logit. So a decision is judged
by the distance of its two best logits, as a share of the logits' range; a network that ends in softmax has its
logits, up to a constant, in the logarithms of its outputs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sweep.perturb.base import Array

TIE = 2e-5  # of the logits' range; ten times what has been seen between ways (docs/engine.md)
UNDERFLOW = 1e-30  # softmax outputs below tell no logit
SCORE_TIE = 2e-4  # of a single output: its logit's range cannot be seen


def is_softmax(scores: Array) -> bool:
    """Whether scores (images, outputs) are probabilities that sum to 1."""
    several = scores.shape[-1] > 1
    return bool(several and np.all(scores >= 0) and np.allclose(scores.sum(axis=-1), 1, atol=1e-3))


def logits(scores: Array, softmax: bool) -> Array:
    """Scores (..., outputs) as logits, up to a constant for each image."""
    return np.log(np.maximum(scores, np.float32(UNDERFLOW))) if softmax else scores


def within_rounding(scores: Array, threshold: float | None, softmax: bool) -> npt.NDArray[np.bool_]:
    """Which decisions (images,) rounding could turn.

    Args:
        scores: (images, outputs).
        threshold: of a single output; None for the largest of several.
        softmax: whether the scores are probabilities.

    Scores that are not finite count as within rounding; all-zero ones, as a dead ReLU gives, do not: they are
    exact.
    """
    if threshold is not None:
        distance = np.abs(scores[..., 0] - threshold)
        limit = SCORE_TIE * np.maximum(1.0, np.abs(scores[..., 0]))
        return np.asarray(~(distance > limit))
    best = logits(np.partition(scores, -2, axis=-1)[..., -2:], softmax)
    with np.errstate(invalid="ignore"):  # infinity less infinity
        size = best[..., 1] - logits(scores.min(axis=-1), softmax) if softmax else np.abs(scores).max(axis=-1)
        close = ~(best[..., 1] - best[..., 0] > TIE * size)
    return np.asarray(close if softmax else close & (size != 0))


def agree(scores: Array, expected: Array, softmax: bool) -> bool:
    """Whether two ways' scores (..., outputs) differ by rounding alone: at most half a tie."""
    ours, theirs = logits(scores, softmax), logits(expected, softmax)
    finite = np.isfinite(theirs)
    if not np.array_equal(finite, np.isfinite(ours)):
        return False
    ours, theirs = np.where(finite, ours, 0), np.where(finite, theirs, 0)
    if scores.shape[-1] == 1:
        return bool(np.all(np.abs(ours - theirs) <= SCORE_TIE / 2 * np.maximum(1.0, np.abs(theirs))))
    size = np.ptp(theirs, axis=-1) if softmax else np.abs(theirs).max(axis=-1)
    return bool(np.all(np.abs(ours - theirs) <= TIE / 2 * size[..., None]))

"""What scores are worth, by formulas that several measures have in common; of arrays, whatever they are of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
EPSILON = 1e-7  # of Keras: probabilities are taken to be no closer to 0 and 1
MOST_VALUES = 1 << 22  # at a time, of what is computed in double precision
SOFTMAX, SIGMOID, LOGITS = "softmax", "sigmoid", "logits"


def parts(images: int, values: int) -> Iterator[slice]:
    """Some images at a time, whose values, so many each, take little memory in double precision."""
    size = max(1, MOST_VALUES // values)
    return (slice(at, min(at + size, images)) for at in range(0, images, size))


def cross_entropy(some: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], kind: str) -> Floats:
    """-log p(label) of each image (n,), in nats, of scores (n, outputs) of a kind."""
    scores = some.astype(np.float64)
    if scores.shape[1] == 1:
        score, right = scores[:, 0], labels == 1
        if kind == SIGMOID:
            p = np.clip(score, EPSILON, 1 - EPSILON)
            return np.asarray(-np.log(np.where(right, p, 1 - p)))
        return np.asarray(np.logaddexp(0, np.where(right, -score, score)))
    if kind == SOFTMAX:
        scores = np.log(np.clip(scores, EPSILON, 1 - EPSILON))
    own = np.take_along_axis(scores, labels[:, None], axis=1)[:, 0]
    return np.asarray(np.logaddexp.reduce(scores, axis=1) - own)


def roc_area(score: npt.NDArray[Any], ones: npt.NDArray[np.bool_]) -> float:
    """The probability that an image of `ones` (n,) has a higher score (n,) than another; equal ones count half.

    By the mean rank of the ones (Hanley & McNeil 1982, Radiology 143, 29-36).
    """
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    m, n = np.count_nonzero(ones), np.count_nonzero(~ones)
    return float((rank[ones].sum() - m * (m + 1) / 2) / (m * n))

"""Measures of several labels for an image: scores (n, labels) against which of them it has, (n, labels).

A label is given by a probability above 1/2, or a logit above 0. What a score is no finite number of is NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sweep.data.scoring import LOGITS, SIGMOID, Floats, cross_entropy, roc_area

Scores = npt.NDArray[np.float32]
Truth = npt.NDArray[np.bool_]


def right_share(scores: Scores, held: Truth, kind: str) -> Floats:
    """(n,) the share of its labels that an image is rightly given or not given: 1 less the Hamming loss."""
    return _known(scores, np.mean(_given(scores, kind) == held, axis=1))


def all_right(scores: Scores, held: Truth, kind: str) -> Floats:
    """(n,) whether an image is given just the labels that it has."""
    return _known(scores, np.all(_given(scores, kind) == held, axis=1))


def entropy(scores: Scores, held: Truth, kind: str) -> Floats:
    """(n,) the mean over labels of -log p(right), in nats, as `keras.losses.BinaryCrossentropy` has it."""
    kind, total = LOGITS if kind == LOGITS else SIGMOID, np.zeros(len(scores))
    for k in range(held.shape[1]):  # one at a time, which takes little memory
        total += cross_entropy(scores[:, k, None], held[:, k].astype(np.int64), kind)
    return np.asarray(total / held.shape[1])


def f1(scores: Scores, held: Truth, kind: str) -> Floats:
    """2·TP/(2·TP + FP + FN) of each label that an image has."""
    given, there = _given(scores, kind), held.any(axis=0)
    right, of_label, decided = (np.count_nonzero(one[:, there], axis=0) for one in (held & given, held, given))
    return _sound(scores, 2 * right / (of_label + decided))


def areas(scores: Scores, held: Truth, _: str) -> Floats:
    """The area under the ROC curve of each label that some images have and others have not."""
    apart = np.flatnonzero(held.any(axis=0) & ~held.all(axis=0))
    found = np.array([roc_area(scores[:, k], held[:, k]) for k in apart])
    return _sound(scores, found)


def _given(scores: Scores, kind: str) -> Truth:
    return np.asarray(scores > (0 if kind == LOGITS else 0.5))


def _sound(scores: Scores, values: Floats) -> Floats:
    """Values of labels, NaN where there are none, or a score is no finite number."""
    return values if values.size and np.isfinite(scores).all() else np.array([np.nan])


def _known(scores: Scores, values: npt.NDArray[Any]) -> Floats:
    return np.where(np.isfinite(scores).all(axis=1), values, np.nan)

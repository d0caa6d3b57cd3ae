"""Measures of scores at positions, such as the pixels of an image or the words of a text, against a label for each.

Scores are (n, positions × classes), those at one position beside each other; of a single score at each, a probability
above 1/2, or a logit above 0, decides for class 1. Labels are (n, positions) whole numbers, of which negative ones, and
255 where there are no such classes, mark positions that do not count; or one-hot as scores are, all 0 for one that does
not count. A position at which a score is no finite number is decided wrongly.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from sweep.data.scoring import LOGITS, SIGMOID, Floats, cross_entropy, parts

Scores = npt.NDArray[np.float32]
Targets = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
IGNORED = 255  # as in the masks of PASCAL VOC and Cityscapes
UNCOUNTED = -1


def problem_of(targets: Targets, positions: int, classes: int) -> str:
    """Why targets (n, ...) are no labels of positions, in words; empty where they are."""
    some, most, ones, ignored = False, max(classes, 2) - 1, False, False
    if targets[0].size != positions:
        for part in parts(len(targets), targets[0].size):
            rows = targets[part].reshape(-1, classes)
            if not ((rows == 0) | (rows == 1)).all() or np.count_nonzero(rows, axis=1).max() > 1:
                return f"labels of positions are numbers of classes, or one-hot rows of {classes}"
            some |= bool(rows.any())
        return "" if some else "no position has a label that counts"
    for part in parts(len(targets), positions):
        block = targets[part]
        if (block != np.rint(block)).any():
            return "labels of positions are whole numbers, and these have fractions"
        counted = block[_counts(block, classes)]
        some |= bool(counted.size)
        ones, ignored = ones or bool((counted == 1).any()), ignored or bool((block == IGNORED).any())
        if counted.size and counted.max() > most:
            return f"there are {most + 1} classes at each position, so labels are 0 to {most}; one is {counted.max():g}"
    if some and most == 1 and ignored and not ones:
        return f"labels are 0 and {IGNORED}, of which {IGNORED} does not count; write 1 for what is of class 1"
    return "" if some else "no position has a label that counts"


def accuracy(scores: Scores, targets: Targets, classes: int, kind: str) -> float:
    """The share of all positions that are decided as labelled: pixel accuracy (Long et al. 2015, arXiv:1411.4038)."""
    right, labelled, _ = _of_classes(scores, targets, classes, kind)
    return float(right.sum() / labelled.sum())


def all_right(scores: Scores, targets: Targets, classes: int, kind: str) -> Floats:
    """(n,) whether all positions of an image are decided as labelled."""
    found = [
        ((decided == labels) | (labels == UNCOUNTED)).all(axis=1)
        for decided, labels in _decided(scores, targets, classes, kind)
    ]
    return np.concatenate(found).astype(np.float64)


def intersection_over_union(scores: Scores, targets: Targets, classes: int, kind: str) -> Floats:
    """TP/(TP + FP + FN) of each class that is labelled or decided somewhere; its mean is mean IoU (likewise)."""
    right, labelled, decided = _of_classes(scores, targets, classes, kind)
    union = labelled + decided - right
    return np.asarray(right[union > 0] / union[union > 0])


def dice(scores: Scores, targets: Targets, classes: int, kind: str) -> Floats:
    """2·TP/(2·TP + FP + FN) of each class that is labelled or decided somewhere: the coefficient of Dice (1945)."""
    right, labelled, decided = _of_classes(scores, targets, classes, kind)
    both = labelled + decided
    return np.asarray(2 * right[both > 0] / both[both > 0])


def entropy(scores: Scores, targets: Targets, classes: int, kind: str) -> float:
    """The mean over positions of -log p(label), in nats, as `keras.losses` compute it."""
    kind = SIGMOID if classes == 1 and kind != LOGITS else kind
    total, count = 0.0, 0
    for part in parts(len(scores), scores.shape[1]):
        labels = labels_of(targets[part], scores.shape[1], classes).reshape(-1)
        counted = labels != UNCOUNTED
        total += float(cross_entropy(scores[part].reshape(-1, classes)[counted], labels[counted], kind).sum())
        count += int(counted.sum())
    return total / count


def _of_classes(scores: Scores, targets: Targets, classes: int, kind: str) -> tuple[Floats, Floats, Floats]:
    """Of each class, the positions that count which are rightly decided for it, labelled so, and decided so."""
    most = max(classes, 2)
    table = np.zeros((most, most + 1), np.int64)  # label × decision, the last of which is none
    for decided, labels in _decided(scores, targets, classes, kind):
        counted = labels != UNCOUNTED
        pairs = labels[counted] * (most + 1) + decided[counted] % (most + 1)  # -1 becomes the last
        table += np.bincount(pairs, minlength=table.size).reshape(table.shape)
    right, labelled, decisions = np.diag(table), table.sum(axis=1), table.sum(axis=0)[:most]
    return right.astype(np.float64), labelled.astype(np.float64), decisions.astype(np.float64)


def _decided(scores: Scores, targets: Targets, classes: int, kind: str) -> Iterator[tuple[Labels, Labels]]:
    """Decisions (k, positions), -1 for none, and labels (k, positions), for some images at a time."""
    for part in parts(len(scores), scores.shape[1]):
        at = scores[part].reshape(part.stop - part.start, -1, classes)
        largest = at.argmax(axis=-1) if classes > 1 else at[..., 0] > (0 if kind == LOGITS else 0.5)
        yield np.where(np.isfinite(at).all(axis=-1), largest, -1), labels_of(targets[part], scores.shape[1], classes)


def labels_of(targets: Targets, outputs: int, classes: int) -> Labels:
    """(k, positions) classes, `UNCOUNTED` where a position does not count, of targets (k, positions or outputs)."""
    if targets.shape[1] == outputs and classes > 1:
        rows = targets.reshape(len(targets), -1, classes)
        return np.where(rows.any(axis=-1), rows.argmax(axis=-1), UNCOUNTED)
    return np.where(_counts(targets, classes), targets, UNCOUNTED).astype(np.int64)


def _counts(targets: Targets, classes: int) -> npt.NDArray[np.bool_]:
    return np.asarray((targets >= 0) & ((targets != IGNORED) | (classes > IGNORED)))

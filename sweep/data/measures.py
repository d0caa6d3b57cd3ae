"""What a trial reports: accuracy, and whatever else a study names.

A measure is one number, or one for each image, of which the mean is taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sweep.data import multilabel, positions
from sweep.data.measure import Measure, Outputs, Task
from sweep.data.scoring import SOFTMAX, cross_entropy, parts, roc_area
from sweep.errors import printable

Floats = npt.NDArray[np.float64]


def _right(outputs: Outputs) -> Floats:
    return np.asarray(outputs.decisions == outputs.labels, np.float64)


def _among(k: int) -> Callable[[Outputs], Floats]:
    """Whether the label is among the k largest outputs; of equal outputs the first ones count, as in a decision."""

    def of(outputs: Outputs) -> Floats:
        scores, labels = outputs.scores, outputs.labels[:, None]
        own = np.take_along_axis(scores, labels, axis=1)
        before = (scores > own) | ((scores == own) & (np.arange(scores.shape[1]) < labels))
        finite = np.isfinite(scores).all(axis=1)
        return np.asarray((np.count_nonzero(before, axis=1) < k) & finite, np.float64)

    return of


def _cross_entropy(outputs: Outputs) -> Floats:
    """-log p(label), in nats, as `keras.losses` compute it: probabilities p are clipped to [ε, 1 - ε]."""
    return np.concatenate(
        [
            cross_entropy(outputs.scores[part], outputs.labels[part], outputs.kind)
            for part in parts(*outputs.scores.shape)
        ]
    )


def _agrees(outputs: Outputs) -> Floats:
    return np.asarray(outputs.decisions == outputs.clean, np.float64)


def _recalls(outputs: Outputs) -> Floats:
    """Of each class that occurs, the share of its images that are decided so; their mean is the balanced accuracy."""
    _, right, of_label, _ = _counts(outputs)
    return np.asarray(right / of_label)


def _f1(outputs: Outputs) -> Floats:
    """2·TP/(2·TP + FP + FN) of each class that occurs among the labels."""
    _, right, of_label, decided = _counts(outputs)
    return np.asarray(2 * right / (of_label + decided))


def _counts(outputs: Outputs) -> tuple[npt.NDArray[np.int64], Floats, Floats, Floats]:
    """Classes that occur among the labels; of each, images decided rightly, labelled, decided so."""
    classes = np.unique(outputs.labels)
    most = int(max(outputs.labels.max(), outputs.decisions.max())) + 1
    right, labelled, decided = (
        np.bincount(which, minlength=most)[classes].astype(np.float64)
        for which in (outputs.labels[outputs.labels == outputs.decisions], outputs.labels, outputs.decisions)
    )
    return classes, right, labelled, decided


def _errors(outputs: Outputs) -> Iterator[Floats]:
    """Outputs less targets, (some images, outputs) at a time."""
    assert outputs.targets is not None
    for some in parts(*outputs.scores.shape):
        yield np.subtract(outputs.scores[some], outputs.targets[some], dtype=np.float64)


def _squares(outputs: Outputs) -> Floats:
    return np.concatenate([np.mean(error**2, axis=1) for error in _errors(outputs)])


def _absolutes(outputs: Outputs) -> Floats:
    return np.concatenate([np.mean(np.abs(error), axis=1) for error in _errors(outputs)])


def _area(outputs: Outputs) -> float:
    """The probability that an image of class 1 has a higher score than one of class 0; equal scores count half.

    The score is the output for class 1, of two outputs their difference as logits. Of an autoencoder, whose labels are
    1 for anomalies, it is the mean squared error of the image, as in MLPerf Tiny's anomaly detection (Banbury et al.
    2021, arXiv:2106.07597).
    """
    if not outputs.decisions.size:
        score = _squares(outputs)
    elif outputs.scores.shape[1] == 1:
        score = outputs.scores[:, 0].astype(np.float64)
    else:
        two = outputs.scores.astype(np.float64)
        two = np.log(np.maximum(two, 1e-30)) if outputs.kind == SOFTMAX else two
        score = two[:, 1] - two[:, 0]
    if not np.isfinite(score).all():
        return np.nan
    return roc_area(score, outputs.labels == 1)


def _several(function: Callable[..., Any]) -> Callable[[Outputs], Any]:
    """A function of `multilabel` as a measure computes it."""

    def of(outputs: Outputs) -> Any:
        assert outputs.targets is not None
        return function(outputs.scores, outputs.targets == 1, outputs.kind)

    return of


def _at_positions(function: Callable[..., Any]) -> Callable[[Outputs], Any]:
    """A function of `positions` as a measure computes it."""

    def of(outputs: Outputs) -> Any:
        assert outputs.targets is not None
        return function(outputs.scores, outputs.targets, outputs.classes, outputs.kind)

    return of


def _all_right(outputs: Outputs) -> Floats:
    of = _at_positions(positions.all_right) if outputs.classes else _several(multilabel.all_right)
    return np.asarray(of(outputs))


def decided_at_a_border(task: Task) -> frozenset[str]:
    """Names of the measures that are of probabilities above 1/2, or logits above 0, where a task has such."""
    if task.positions and task.outputs == task.positions:
        return frozenset(name for name, measure in KNOWN.items() if measure.at_positions)
    if task.several:
        return frozenset(name for name, measure in KNOWN.items() if measure.no_fit is _of_several) | {"exact_match"}
    return frozenset(KNOWN) - {"mse", "mae", "auc"} if task.outputs == 1 and not task.no_classes else frozenset()


def _of_classes(task: Task) -> str:
    return task.no_classes


def _of_values(task: Task) -> str:
    if task.targets:
        return "" if task.targets == task.outputs else f"there are {task.targets} targets and {task.outputs} outputs"
    return "" if task.reconstructs else "the dataset has no targets, and the outputs are no image"


def _of_two(task: Task) -> str:
    if task.labels != 2:
        return "labels have to be 0 and 1"
    if task.no_classes:
        return "" if task.reconstructs else task.no_classes
    return "" if task.outputs <= 2 else f"the network has {task.outputs} outputs for two classes"


def _of_several(task: Task) -> str:
    return "" if task.several else "several labels for an image are rows of 0 and 1, a column for each output"


def _of_positions(task: Task) -> str:
    if not task.positions:
        return "the network's outputs are of the whole image, not at positions of it, such as pixels or words"
    if task.targets in (task.positions, task.outputs):
        return ""
    return f"the dataset has {task.targets or 'no'} labels for the {task.positions:,} positions of an image"


def _of_labels(task: Task) -> str:
    return _of_positions(task) if task.positions else _of_several(task)


def _of_likely_positions(task: Task) -> str:
    several = task.sigmoid and task.outputs > task.positions
    return _of_positions(task) or ("several outputs are sigmoids, which are no probabilities of classes" * several)


def _of_probabilities(task: Task) -> str:
    several = task.sigmoid and task.outputs > 1
    return task.no_classes or ("several outputs are sigmoids, which are no probabilities of classes" if several else "")


ACCURACY = Measure("accuracy", _right, "Accuracy", _of_classes)
KNOWN: Mapping[str, Measure] = {
    measure.name: measure
    for measure in (
        ACCURACY,
        Measure("loss", _cross_entropy, "Cross-entropy", _of_probabilities, fraction=False, higher=False, exact=False),
        Measure("agreement", _agrees, "Agreement with the clean network", _of_classes),
        Measure("balanced", _recalls, "Balanced accuracy", _of_classes, per_image=False),
        Measure("f1", _f1, "Macro F1", _of_classes, per_image=False),
        Measure("auc", _area, "Area under the ROC curve", _of_two, per_image=False, exact=False),
        *(
            Measure(name, _at_positions(of), label, _of_positions, per_image=False, exact=False, at_positions=True)
            for name, of, label in (
                ("position_accuracy", positions.accuracy, "Share of positions decided rightly"),
                ("miou", positions.intersection_over_union, "Mean intersection over union"),
                ("dice", positions.dice, "Mean Dice coefficient"),
            )
        ),
        Measure(
            "position_loss",
            _at_positions(positions.entropy),
            "Cross-entropy at positions",
            _of_likely_positions,
            fraction=False,
            higher=False,
            per_image=False,
            exact=False,
            at_positions=True,
        ),
        Measure(
            "multilabel_accuracy",
            _several(multilabel.right_share),
            "Share of labels decided rightly",
            _of_several,
            exact=False,
        ),
        Measure(
            "exact_match",
            _all_right,
            "Share of images with all labels right",
            _of_labels,
            exact=False,
            at_positions=True,
        ),
        *(
            Measure(name, of, label, _of_several, fraction, higher=fraction, per_image=per_image, exact=False)
            for name, of, label, fraction, per_image in (
                ("multilabel_loss", _several(multilabel.entropy), "Binary cross-entropy", False, True),
                ("multilabel_f1", _several(multilabel.f1), "Macro F1 of labels", True, False),
                ("multilabel_auc", _several(multilabel.areas), "Macro area under the ROC curve", True, False),
            )
        ),
        Measure("mse", _squares, "Mean squared error", _of_values, fraction=False, higher=False, exact=False),
        Measure("mae", _absolutes, "Mean absolute error", _of_values, fraction=False, higher=False, exact=False),
    )
}
"""The measures that come with this package, but for those called `topK`."""

_LONGEST_LABEL = 60
_TOP = re.compile(r"top([1-9]\d{0,3})")
_OWN = r".+\.py:[A-Za-z]\w*"
FORM = rf"^({'|'.join(KNOWN)}|{_TOP.pattern.replace('(', '').replace(')', '')}|{_OWN})$"
"""What a study may call a measure, as a pattern."""
VALID = f'{", ".join(KNOWN)}, topK such as top5, or "my_measure.py:function"'


def is_own(name: str) -> bool:
    """Whether a name that has `FORM` is that of a function of the user's own."""
    return ":" in name


def column(name: str) -> str:
    """The column of the measure that a study calls so."""
    return name.rpartition(":")[2]


def measure_of(name: str) -> Measure:
    """The measure of this name, one that comes with this package."""
    top = _TOP.fullmatch(name)
    if top is None:
        return KNOWN[name]
    k = int(top[1])

    def no_fit(task: Task) -> str:
        few = f"the network has {task.outputs} outputs" if task.outputs <= k else ""
        return task.no_classes or few

    return Measure(name, _among(k), f"Top-{k} accuracy", no_fit, k=k)


def further(names: Sequence[str]) -> tuple[str, ...]:
    """The columns of measures beside accuracy, sorted, whatever comes first."""
    return tuple(sorted(column(name) for name in names if name != ACCURACY.name))


def own(name: str, function: Callable[..., Any]) -> Measure:
    """The measure of a user's own function, of this column.

    It is called with scores (n, outputs) and the targets, (n, outputs), or labels, (n,), of all images, and returns a
    number, or one for each image. Its attributes `label`, `fraction` and `higher` say what they do in `Measure`;
    without them it is no fraction, and higher is better.
    """

    def of(outputs: Outputs) -> Any:
        found = np.asarray(function(outputs.scores, outputs.labels if outputs.targets is None else outputs.targets))
        if found.shape not in ((), outputs.scores.shape[:1]) or found.dtype.kind not in "biuf":
            raise ValueError(f"{name}: returned {found.dtype} of shape {found.shape}; a number, or one for each image")
        if fraction and ((found < 0) | (found > 1)).any():
            raise ValueError(f"{name}: returned a value outside 0 to 1, though its `fraction` is true")
        return found

    fraction = getattr(function, "fraction", False) is True
    return Measure(name, of, **facts(name, vars(function)), per_image=False, exact=False)


def stand_in(name: str, said: Mapping[str, Any]) -> Measure:
    """A measure of a user's own for those who read values of it, by what is stored of it."""
    return Measure(name, lambda _: None, **facts(name, said), per_image=False, exact=False)


def facts(name: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of a measure of a user's own, as far as it is of the right kind."""
    label, fraction, higher = said.get("label"), said.get("fraction"), said.get("higher")
    words = " ".join(printable(label[:_LONGEST_LABEL]).split()) if isinstance(label, str) else ""
    return {"label": words or name, "fraction": fraction is True, "higher": higher is not False}


def is_exact(column: str) -> bool:
    """Whether what stands in a measure's column is the same on every machine."""
    return bool(re.fullmatch(FORM, column)) and measure_of(column).exact


def fitting(task: Task) -> Sequence[str]:
    """Names of the measures that a task has."""
    return [name for name, measure in KNOWN.items() if not measure.no_fit(task)]

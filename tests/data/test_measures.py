"""Each measure against plain Keras, or against the formula written out image by image."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sweep.data import scoring
from sweep.data.measure import Outputs, Task
from sweep.data.measures import ACCURACY, FORM, KNOWN, column, fitting, further, is_exact, measure_of
from sweep.data.scoring import LOGITS, SIGMOID, SOFTMAX
from sweep.networks.backend import import_keras

keras = import_keras()
IMAGES, CLASSES = 200, 7
POSITIONS, LOSS = {"position_accuracy", "miou", "dice", "position_loss", "exact_match"}, {"position_loss"}


def outputs_of(scores: np.ndarray, labels: np.ndarray, kind: str = LOGITS, **more: np.ndarray) -> Outputs:
    decisions = scores.argmax(axis=1) if scores.shape[1] > 1 else (scores[:, 0] > (0.5 if kind == SIGMOID else 0))
    given = {"targets": None, "decisions": decisions.astype(np.int64), "clean": labels, **more}
    return Outputs(scores=scores.astype(np.float32), labels=labels, kind=kind, **given)  # type: ignore[arg-type]


@pytest.fixture(name="several", params=[LOGITS, SOFTMAX])
def of_several(request: pytest.FixtureRequest) -> Outputs:
    rng = np.random.default_rng(3)
    scores = 4 * rng.standard_normal((IMAGES, CLASSES)).astype(np.float32)
    if request.param == SOFTMAX:
        scores = np.array(keras.ops.softmax(scores))
        scores[0] = [1, 0, 0, 0, 0, 0, 0]  # no probability is taken to be 0
    labels = rng.integers(0, CLASSES, IMAGES)
    labels[0] = 1
    return outputs_of(scores, labels, request.param)


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_top_k_is_that_of_keras(several: Outputs, k: int) -> None:
    expected = keras.metrics.SparseTopKCategoricalAccuracy(k)
    rows = slice(1, None)  # in the first one outputs are equal, and Keras counts all of them
    expected.update_state(several.labels[rows], several.scores[rows])
    found = np.asarray(measure_of(f"top{k}").of(several))[rows].mean()
    assert found == pytest.approx(float(expected.result()), abs=1e-6)
    if k == 1:
        assert measure_of("top1").value(several) == ACCURACY.value(several)


def test_of_equal_outputs_the_first_ones_count() -> None:
    scores, labels = np.zeros((5, 5), np.float32), np.arange(5)
    assert np.asarray(measure_of("top2").of(outputs_of(scores, labels))).tolist() == [1, 1, 0, 0, 0]


def test_an_image_without_finite_scores_is_not_among_the_best() -> None:
    scores = np.array([[np.nan, 1, 0], [0, 1, 2]], np.float32)
    assert measure_of("top2").value(outputs_of(scores, np.array([0, 1]))) == 0.5


def test_loss_is_that_of_keras(several: Outputs) -> None:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=several.kind == LOGITS)
    assert KNOWN["loss"].value(several) == pytest.approx(float(loss(several.labels, several.scores)), rel=1e-5)


@pytest.mark.parametrize("kind", [LOGITS, SIGMOID])
def test_loss_of_a_single_output_is_that_of_keras(kind: str) -> None:
    rng = np.random.default_rng(5)
    scores = 5 * rng.standard_normal((IMAGES, 1)).astype(np.float32)
    scores = np.array(keras.ops.sigmoid(scores)) if kind == SIGMOID else scores
    scores[0] = 0 if kind == SIGMOID else -30
    labels = rng.integers(0, 2, IMAGES)
    labels[0] = 1
    loss = keras.losses.BinaryCrossentropy(from_logits=kind == LOGITS)
    expected = float(loss(labels[:, None].astype(np.float32), scores))
    assert KNOWN["loss"].value(outputs_of(scores, labels, kind)) == pytest.approx(expected, rel=1e-5)


def test_f1_and_balanced_accuracy_are_those_of_keras_and_of_the_formula(several: Outputs) -> None:
    f1 = keras.metrics.F1Score("macro")
    f1.update_state(np.eye(CLASSES)[several.labels], np.eye(CLASSES)[several.decisions])
    assert KNOWN["f1"].value(several) == pytest.approx(float(f1.result()), rel=1e-5)
    recalls = [np.mean(several.decisions[several.labels == c] == c) for c in range(CLASSES)]
    assert KNOWN["balanced"].value(several) == pytest.approx(np.mean(recalls), rel=1e-11)


def test_classes_without_images_count_in_no_mean() -> None:
    scores = np.eye(6, dtype=np.float32)[[0, 0, 3, 5]]
    found = outputs_of(scores, np.array([0, 3, 3, 3]))
    assert KNOWN["balanced"].value(found) == pytest.approx((1 + 1 / 3) / 2, rel=1e-11)
    assert KNOWN["f1"].value(found) == pytest.approx((2 / 3 + 2 / 4) / 2, rel=1e-11)


def test_agreement_is_with_the_clean_network_whatever_the_labels(several: Outputs) -> None:
    clean = np.where(np.arange(IMAGES) < 50, several.decisions, several.decisions + 1)
    assert KNOWN["agreement"].value(outputs_of(several.scores, several.labels, several.kind, clean=clean)) == 0.25


def test_errors_are_means_over_all_values() -> None:
    rng = np.random.default_rng(1)
    scores, targets = (rng.standard_normal((IMAGES, 9)).astype(np.float32) for _ in range(2))
    found = outputs_of(scores, np.zeros(IMAGES, np.int64), targets=targets)
    for name, loss in (("mse", keras.losses.MeanSquaredError()), ("mae", keras.losses.MeanAbsoluteError())):
        assert KNOWN[name].value(found) == pytest.approx(float(loss(targets, scores)), rel=1e-5)


def test_images_are_taken_some_at_a_time(several: Outputs, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    whole = outputs_of(several.scores, several.labels, several.kind, targets=rng.random((IMAGES, CLASSES)))
    expected = {name: np.asarray(KNOWN[name].of(whole)) for name in ("loss", "mse", "mae")}
    monkeypatch.setattr(scoring, "MOST_VALUES", 3 * CLASSES)
    for name, values in expected.items():
        np.testing.assert_array_equal(KNOWN[name].of(whole), values)


def pairs(scores: np.ndarray, labels: np.ndarray) -> float:
    """The area under the ROC curve by all pairs of an image of class 1 and one of class 0."""
    found = [np.sign(a - b) for a, b in itertools.product(scores[labels == 1], scores[labels == 0])]
    return float((np.mean(found) + 1) / 2)


@pytest.mark.parametrize("outputs", [1, 2])
def test_auc_counts_pairs(outputs: int) -> None:
    rng = np.random.default_rng(outputs)
    labels = (np.arange(60) % 3 == 0).astype(np.int64)
    scores = np.round(rng.standard_normal((60, outputs)) + labels[:, None] * [[0, 1]][0][-outputs:], 1)  # with ties
    score = scores[:, 0] if outputs == 1 else scores.astype(np.float32)[:, 1] - scores.astype(np.float32)[:, 0]
    found = KNOWN["auc"].value(outputs_of(scores, labels))
    assert found == pytest.approx(pairs(score.astype(np.float32), labels), rel=1e-3)


def test_auc_of_an_autoencoder_is_by_its_errors() -> None:
    rng = np.random.default_rng(2)
    labels = (np.arange(40) % 2).astype(np.int64)
    targets = rng.standard_normal((40, 8)).astype(np.float32)
    scores = targets + (0.3 + 0.3 * labels[:, None]) * rng.standard_normal((40, 8))
    found = outputs_of(scores, labels, targets=targets, decisions=np.zeros(0, np.int64))
    errors = np.mean((scores.astype(np.float32).astype(float) - targets) ** 2, axis=1)
    assert KNOWN["auc"].value(found) == pytest.approx(pairs(errors, labels), rel=1e-9)


def test_what_is_no_finite_number_has_no_value() -> None:
    scores = np.array([[np.inf], [1.0]], np.float32)
    assert KNOWN["auc"].value(outputs_of(scores, np.array([0, 1]))) is None
    assert KNOWN["loss"].value(outputs_of(scores, np.array([0, 1]))) is None


@pytest.mark.parametrize(
    ("task", "names"),
    [
        (Task(outputs=10, labels=10, targets=0, values=784), {"accuracy", "loss", "agreement", "balanced", "f1"}),
        (Task(outputs=1, labels=2, targets=0, values=8), {"accuracy", "loss", "agreement", "balanced", "f1", "auc"}),
        (Task(outputs=784, labels=2, targets=0, values=784), {"auc", "mse", "mae"}),
        (Task(outputs=784, labels=0, targets=0, values=784), {"mse", "mae"}),
        (Task(outputs=3, labels=0, targets=3, values=8), {"mse", "mae"}),
        (Task(outputs=3, labels=0, targets=4, values=8), set()),
        (
            Task(outputs=3, labels=0, targets=3, values=8, several=True),
            {"mse", "mae", "exact_match", *(f"multilabel_{name}" for name in ("accuracy", "loss", "f1", "auc"))},
        ),
        (Task(outputs=4, labels=4, targets=0, values=8, sigmoid=True), {"accuracy", "agreement", "balanced", "f1"}),
        (Task(outputs=12, labels=0, targets=4, values=8, positions=4), POSITIONS),
        (Task(outputs=12, labels=0, targets=12, values=8, positions=4), {*POSITIONS, "mse", "mae"}),
        (
            Task(outputs=12, labels=0, targets=12, values=8, positions=4, sigmoid=True),
            {*POSITIONS, "mse", "mae"} - LOSS,
        ),
        (Task(outputs=12, labels=0, targets=5, values=8, positions=4), set()),
        (Task(outputs=12, labels=2, targets=0, values=12, positions=4), {"auc", "mse", "mae"}),
    ],
)
def test_which_measures_a_task_has(task: Task, names: set[str]) -> None:
    assert set(fitting(task)) == names


def test_a_top_k_wants_more_outputs_than_k() -> None:
    task = Task(outputs=5, labels=5, targets=0, values=8)
    assert measure_of("top4").no_fit(task) == ""
    assert "5 outputs" in measure_of("top5").no_fit(task)


def test_names() -> None:
    import re

    for name in (*KNOWN, "top1", "top50", "my/folder/m.py:area"):
        assert re.fullmatch(FORM, name)
    for name in ("top0", "Accuracy", "m.py", "m.py:1a", ""):
        assert not re.fullmatch(FORM, name)
    assert column("my/folder/m.py:area") == "area"
    assert further(["loss", "accuracy", "m.py:area"]) == ("area", "loss")
    assert [is_exact(name) for name in ("top5", "f1", "loss", "area")] == [True, True, False, False]


def test_what_people_read() -> None:
    assert ACCURACY.text(0.98765) + ACCURACY.unit == "98.77 %"
    assert KNOWN["mse"].text(0.0123456) + KNOWN["mse"].unit == "0.01235"
    assert KNOWN["mse"].average == "mean squared error"
    assert KNOWN["auc"].average == "mean area under the ROC curve"


LABELS = 6


@pytest.fixture(name="multilabel", params=[LOGITS, SIGMOID])
def of_several_labels(request: pytest.FixtureRequest) -> tuple[Outputs, np.ndarray]:
    """With the targets; no image has the last label, and all have the one before."""
    rng = np.random.default_rng(8)
    scores = 3 * rng.standard_normal((IMAGES, LABELS)).astype(np.float32)
    targets = (rng.random((IMAGES, LABELS)) < 0.3).astype(np.float32)
    targets[:, -1], targets[:, -2] = 0, 1
    scores = np.array(keras.ops.sigmoid(scores)) if request.param == SIGMOID else scores
    none = np.zeros(0, np.int64)
    return Outputs(scores, none, targets, none, none, request.param), targets


def test_measures_of_several_labels_are_those_of_keras(multilabel: tuple[Outputs, np.ndarray]) -> None:
    found, targets = multilabel
    threshold = 0.5 if found.kind == SIGMOID else 0.0
    accuracy = keras.metrics.BinaryAccuracy(threshold=0.5)
    probabilities = found.scores if found.kind == SIGMOID else np.array(keras.ops.sigmoid(found.scores))
    accuracy.update_state(targets, probabilities)
    assert KNOWN["multilabel_accuracy"].value(found) == pytest.approx(float(accuracy.result()), rel=1e-6)
    f1 = keras.metrics.F1Score(threshold=0.5)
    f1.update_state(targets, probabilities)
    assert KNOWN["multilabel_f1"].value(found) == pytest.approx(np.mean(np.asarray(f1.result())[:-1]), rel=1e-5)
    loss = keras.losses.BinaryCrossentropy(from_logits=found.kind == LOGITS)
    assert KNOWN["multilabel_loss"].value(found) == pytest.approx(float(loss(targets, found.scores)), rel=1e-5)
    right = [all((s > threshold) == (t == 1)) for s, t in zip(found.scores, targets, strict=True)]
    assert KNOWN["exact_match"].value(found) == np.mean(right)
    areas = [pairs(found.scores[:, k], targets[:, k]) for k in range(LABELS - 2)]
    assert KNOWN["multilabel_auc"].value(found) == pytest.approx(np.mean(areas), rel=1e-6)
    whole = np.asarray(KNOWN["multilabel_loss"].of(found))
    assert whole.shape == (IMAGES,)


def test_measures_of_several_labels_are_void_where_a_score_is_no_number() -> None:
    none, targets = np.zeros(0, np.int64), np.array([[1, 0], [0, 1]], np.float32)
    found = Outputs(np.array([[np.nan, 1], [1, 2]], np.float32), none, targets, none, none, LOGITS)
    for name in ("multilabel_accuracy", "exact_match", "multilabel_loss", "multilabel_f1", "multilabel_auc"):
        assert KNOWN[name].value(found) is None
    bare = Outputs(np.ones((2, 2), np.float32), none, np.zeros((2, 2), np.float32), none, none, LOGITS)
    assert [KNOWN[f"multilabel_{name}"].value(bare) for name in ("f1", "auc")] == [None, None], "no label occurs"


@pytest.mark.parametrize(("classes", "kind"), [(4, SOFTMAX), (4, LOGITS), (1, SIGMOID), (1, LOGITS)])
def test_measures_at_positions(classes: int, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some images at a time, against Keras's own metrics of all positions."""
    monkeypatch.setattr(scoring, "MOST_VALUES", 30 * 6 * classes)
    rng, none, most = np.random.default_rng(2), np.zeros(0, np.int64), max(classes, 2)
    scores = rng.standard_normal((IMAGES, 6, classes)).astype(np.float32)
    if kind != LOGITS:
        scores = np.exp(scores) / (np.exp(scores).sum(-1, keepdims=True) + (classes == 1))
    labels = rng.integers(-1, most, (IMAGES, 6))
    found = Outputs(scores.reshape(IMAGES, -1), none, labels.astype(np.float32), none, none, kind, classes)
    decided = scores.argmax(-1) if classes > 1 else (scores[..., 0] > (0.5 if kind == SIGMOID else 0)).astype(int)
    counted = labels >= 0
    iou = keras.metrics.MeanIoU(most, ignore_class=-1, sparse_y_true=True, sparse_y_pred=True)
    iou.update_state(labels, decided)
    assert KNOWN["miou"].value(found) == pytest.approx(float(iou.result()), rel=1e-6)
    f1 = keras.metrics.F1Score(average="macro")
    f1.update_state(np.eye(most)[labels[counted]], np.eye(most)[decided[counted]])
    assert KNOWN["dice"].value(found) == pytest.approx(float(f1.result()), rel=1e-6)
    assert KNOWN["position_accuracy"].value(found) == pytest.approx(np.mean((decided == labels)[counted]), rel=1e-9)
    right = [all(d == y or y < 0 for d, y in zip(*rows, strict=True)) for rows in zip(decided, labels, strict=True)]
    assert KNOWN["exact_match"].value(found) == np.mean(right)
    truth, given = labels[counted], scores[counted]
    if classes > 1:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=kind == LOGITS)(truth, given)
    else:
        loss = keras.losses.BinaryCrossentropy(from_logits=kind == LOGITS)(truth[:, None].astype(np.float32), given)
    assert KNOWN["position_loss"].value(found) == pytest.approx(float(loss), rel=1e-5)


def test_a_position_without_finite_scores_is_decided_wrongly() -> None:
    none, scores = np.zeros(0, np.int64), np.array([[[2, 1], [np.nan, 1]], [[1, 2], [np.inf, 1]]], np.float32)
    labels = np.array([[0, 0], [1, 1]], np.float32)
    found = Outputs(scores.reshape(2, 4), none, labels, none, none, LOGITS, 2)
    assert KNOWN["position_accuracy"].value(found) == 0.5
    assert KNOWN["miou"].value(found) == 0.5
    assert KNOWN["exact_match"].value(found) == 0
    assert KNOWN["position_loss"].value(found) is None

"""What the evaluator reports of trials, against plain Keras with the same weights, whatever evaluates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sweep.data.datasets import Dataset
from sweep.data.measures import measure_of
from sweep.engine import near_ties
from sweep.engine.evaluator import Evaluator
from sweep.networks.backend import import_keras
from sweep.networks.loading import Network, check_fit, load_network

keras = import_keras()
NAMES = ("agreement", "balanced", "f1", "loss", "top3")
RNG = np.random.default_rng(7)
IMAGES = RNG.standard_normal((300, 8)).astype(np.float32)


def saved(folder: Path, *layers: object) -> Network:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((8,)), *layers])
    model.save(folder / "n.keras")
    return load_network(folder / "n.keras")


def noisy(evaluator: Evaluator, seeds: int) -> list[list[np.ndarray]]:
    draws = [np.random.default_rng(seed) for seed in range(seeds)]
    return [[(w + 0.2 * rng.standard_normal(w.shape)).astype(np.float32) for w in evaluator.weights] for rng in draws]


@pytest.mark.parametrize("engine", ["plain", "stacked", "compiled"])
@pytest.mark.parametrize("end", ["softmax", None])
def test_measures_are_those_of_plain_keras(tmp_path: Path, engine: str, end: str | None) -> None:
    network = saved(tmp_path, keras.layers.Dense(16, "relu"), keras.layers.Dense(6, end))
    labels = RNG.integers(0, 6, len(IMAGES))
    evaluator = Evaluator(network, Dataset(IMAGES, labels, ""), engine, measures=[measure_of(name) for name in NAMES])
    trials = noisy(evaluator, 5)
    clean = np.asarray(network.model.predict(IMAGES, verbose=0)).argmax(axis=1)
    counts = evaluator.count([iter([trial]) for trial in trials], range(4))
    for trial, count in zip(trials, counts, strict=True):
        network.model.set_weights(trial)
        scores = np.asarray(network.model.predict(IMAGES, verbose=0))
        decided = scores.argmax(axis=1)
        f1 = keras.metrics.F1Score("macro")
        f1.update_state(np.eye(6)[labels], np.eye(6)[decided])
        top = keras.metrics.SparseTopKCategoricalAccuracy(3)
        top.update_state(labels, scores)
        expected = [
            np.mean(decided == clean),
            np.mean([np.mean(decided[labels == c] == c) for c in range(6)]),
            float(f1.result()),
            float(keras.losses.SparseCategoricalCrossentropy(from_logits=end is None)(labels, scores)),
            float(top.result()),
        ]
        assert count.correct == np.count_nonzero(decided == labels)
        assert count.values == pytest.approx(expected, rel=2e-5)


def test_without_classes_nothing_is_counted_as_right(tmp_path: Path) -> None:
    network = saved(tmp_path, keras.layers.Dense(3, "relu"), keras.layers.Dense(8))
    flags = np.arange(len(IMAGES)) % 2
    data = Dataset(IMAGES, flags, "")
    assert check_fit(network, data, ["auc", "mse"]) == []
    (problem,) = check_fit(network, data)
    assert "it is an autoencoder" in problem
    assert 'write measures = ["auc"]' in problem
    evaluator = Evaluator(network, data, measures=[measure_of("auc"), measure_of("mse")])
    (count,) = evaluator.count([iter([evaluator.weights])], ())
    errors = np.mean((np.asarray(network.model.predict(IMAGES, verbose=0)) - IMAGES) ** 2, axis=1)
    above = errors[flags == 1][:, None] > errors[flags == 0]
    assert count.correct is None
    assert count.nonfinite == 0
    assert count.values == pytest.approx((np.mean(above), np.mean(errors)), rel=1e-5)


def test_an_autoencoder_of_whole_number_images_is_held_against_what_it_takes(tmp_path: Path) -> None:
    """A study that says y = "x_test" has the images as targets, as they are stored."""
    network = saved(tmp_path, keras.layers.Dense(3, "relu"), keras.layers.Dense(8))
    images = RNG.integers(0, 256, (len(IMAGES), 8), dtype=np.uint8)
    data = Dataset(images, np.zeros(0, np.int64), "", (), images)
    assert "it has the images themselves" in check_fit(network, data)[0]
    evaluator = Evaluator(network, data, measures=[measure_of("mse")])
    (count,) = evaluator.count([iter([evaluator.weights])], ())
    taken = (images / np.float32(255)).astype(np.float32)
    error = np.asarray(network.model.predict(taken, verbose=0)) - taken
    assert count.values == pytest.approx((np.mean(error**2),), rel=1e-5)


def test_errors_are_against_the_targets_of_the_data(tmp_path: Path) -> None:
    network = saved(tmp_path, keras.layers.Dense(2))
    targets = RNG.standard_normal((len(IMAGES), 2)).astype(np.float32)
    data = Dataset(IMAGES, np.zeros(0, np.int64), "", (), targets)
    assert check_fit(network, data, ["mse", "mae"]) == []
    assert "no class for each image" in check_fit(network, data)[0]
    evaluator = Evaluator(network, data, measures=[measure_of("mae"), measure_of("mse")])
    (count,) = evaluator.count([iter([evaluator.weights])], ())
    error = np.asarray(network.model.predict(IMAGES, verbose=0)) - targets
    assert count.values == pytest.approx((np.mean(np.abs(error)), np.mean(error**2)), rel=1e-5)


def test_a_score_that_is_no_number_leaves_a_measure_of_scores_without_a_value(tmp_path: Path) -> None:
    network = saved(tmp_path, keras.layers.Dense(6))
    data = Dataset(IMAGES, np.arange(len(IMAGES)) % 6, "")
    evaluator = Evaluator(network, data, measures=[measure_of("agreement"), measure_of("loss")])
    broken = [w.copy() for w in evaluator.weights]
    broken[0][0, 0] = np.nan
    (count,) = evaluator.count([iter([broken])], [0])
    assert count.nonfinite == len(IMAGES)
    assert count.values[1] is None
    assert count.values[0] is not None


@pytest.mark.parametrize("softmax", [False, True])
def test_ranks_within_rounding_are_found(softmax: bool) -> None:
    scores = np.array([[5, 3, 3 + 1e-6, 1], [5, 3, 2, 1], [5, 4, 3, 1], [0, 0, 0, 0]], np.float32)
    if softmax:
        scores = np.asarray(keras.ops.softmax(scores))
    found = near_ties.rank_within_rounding(scores, np.array([1, 1, 0, 2]), 2, softmax)
    assert found.tolist() == [True, False, False, softmax]


def test_where_targets_are_the_images_these_are_as_the_network_takes_them(tmp_path: Path) -> None:
    network = saved(tmp_path, keras.layers.Dense(3), keras.layers.Dense(8))
    images = RNG.integers(0, 256, (40, 8), dtype=np.uint8)
    data = Dataset(images, np.zeros(0, np.int64), "", (), images)
    evaluator = Evaluator(network, data.first(30), measures=[measure_of("mse")])
    (count,) = evaluator.count([iter([evaluator.weights])], ())
    fed = images[:30] / np.float32(255)
    assert count.values == pytest.approx((np.mean((network.model.predict(fed, verbose=0) - fed) ** 2),), rel=1e-5)

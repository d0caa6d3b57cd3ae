"""Gradients of margins, and the errors that a chip draws, from which its controls are computed."""

import dataclasses
import hashlib

import keras
import numpy as np
import pytest

from sweep.data.datasets import Dataset
from sweep.engine.evaluator import Evaluator
from sweep.engine.gradients import margin_gradients
from sweep.networks.feeding import Fed
from sweep.networks.inspection import layers_of, threshold_of, variables_of
from sweep.networks.loading import Network
from sweep.perturb.base import Transform
from sweep.perturb.faults import StuckAt
from sweep.perturb.noise import Gaussian, LogNormal, Uniform, UniformSymmetric
from sweep.perturb.perturbation import perturb
from sweep.perturb.quantize import FixedPoint
from sweep.perturb.shared import Shared
from sweep.randomness import stream
from sweep.statistics.controls import ERROR_UNIT

layers = keras.layers
RNG = np.random.default_rng(7)
IMAGES = RNG.random((300, 6, 6, 1)).astype(np.float32)


def evaluator(classes: int = 3, **dense: object) -> Evaluator:
    keras.utils.set_random_seed(3)
    first = [keras.Input((6, 6, 1)), layers.Conv2D(3, 3, activation="tanh", name="conv"), layers.BatchNormalization()]
    model = keras.Sequential([*first, layers.Flatten(), layers.Dense(classes, name="fc", **dense)])
    net = Network(
        model, "0" * 64, variables_of(model), (6, 6, 1), classes, threshold_of(model), layers_of(model)
    )  # fmt: skip
    return Evaluator(net, Dataset(IMAGES, RNG.integers(0, max(2, classes), 300), "1" * 64))


def gradients(ours: Evaluator) -> np.ndarray:
    data = Dataset(IMAGES, ours.labels, "1" * 64)
    return margin_gradients(ours.network, Fed(ours.network, data, None), data.labels)


def margins(ours: Evaluator, weights: list[np.ndarray]) -> np.ndarray:
    """(P,) by Keras and NumPy."""
    model = ours.network.model
    model.set_weights(weights)
    logits = np.asarray(model(IMAGES), np.float64)
    logits = np.concatenate([-logits, logits], axis=1) / 2 if logits.shape[1] == 1 else logits
    model.set_weights(ours.weights)
    own = [logits[ours.labels == c][:50] for c in range(logits.shape[1])]
    size = range(logits.shape[1])
    return np.array([(own[c][:, c] - own[c][:, k]).mean() for c in size for k in size if c != k])


@pytest.mark.parametrize("classes", [1, 3])
def test_gradients_are_differences_of_margins(classes: int):
    ours = evaluator(classes)
    found = gradients(ours)
    before = [k for k, variable in enumerate(ours.network.variables) if variable.layer != "fc"]
    assert found.shape == (max(2, classes * (classes - 1)), sum(ours.weights[k].size for k in before))
    assert (np.abs(found).max(axis=1) == 1).all()
    differences, step = [], 1e-2
    for k in before:
        for place in range(ours.weights[k].size):
            ends = []
            for sign in (1, -1):
                weights = [w.copy() for w in ours.weights]
                weights[k].ravel()[place] += sign * step
                ends.append(margins(ours, weights))
            differences.append((ends[0] - ends[1]) / (2 * step))
    expected = np.array(differences).T
    expected /= np.abs(expected).max(axis=1, keepdims=True)
    assert np.abs(found - expected).max() < 5e-3


def test_gradients_are_the_same_everywhere():
    """To the last of their eleven bits: with any number of threads, on any processor, by TensorFlow and by JAX."""
    ours, rng = evaluator(), np.random.default_rng(11)
    ours.labels = np.arange(300) % 3
    ours.network.model.set_weights([rng.normal(0.5, 0.2, w.shape).astype(np.float32) for w in ours.weights])
    assert hashlib.sha256(gradients(ours).tobytes()).hexdigest()[:16] == "a9316ae974ee3ce7"


def test_of_many_classes_those_most_often_confused_are_taken():
    ours = evaluator(12, activation="softmax")
    ours.labels = RNG.integers(0, 12, 300)
    assert len(gradients(ours)) == 90
    ours.labels = np.zeros(300, np.int64)
    assert len(gradients(ours)) == 11


def test_a_network_that_is_not_cut_has_none():
    assert gradients(evaluator(3, activation="relu")).size == 0


KNOWN = {
    "gaussian": (Gaussian(scale=0.1),),
    "in units of each weight": (Gaussian(scale=0.3, basis="weight"),),
    "of each channel": (UniformSymmetric(scale=0.2, basis="channel_max"),),
    "one-sided": (Uniform(scale=0.3, basis="layer_std"),),
    "after rounding": (FixedPoint(bits=4), Gaussian(scale=0.1)),
}


@pytest.mark.parametrize("transforms", KNOWN.values(), ids=KNOWN)
def test_errors_are_what_was_drawn(transforms: tuple[Transform, ...]):
    ours = evaluator()
    drawn, conv = ours.weight_errors(transforms), 0
    assert ours.network.variables[conv].layer == "conv"
    assert (drawn.places == np.arange(ours.weights[conv].size)).all()
    chips = [perturb(ours.weights, ours.network.variables, transforms, 0, seed) for seed in range(40)]
    values, shared = np.stack([drawn.values(chip) for chip in chips]), Shared()
    assert (values == np.stack([drawn.of_seed(0, seed, shared) for seed in range(40)])).all()
    found = drawn.whole(values) * ERROR_UNIT
    last, position = transforms[-1], len(transforms) - 1
    shape = ours.weights[conv].shape
    draws = np.stack([last.draw(shape, stream(0, seed, position, conv)).ravel() for seed in range(40)])
    told = drawn.stds > 0
    assert told.any()
    assert np.abs(found - (draws - last.mean) / last.variance**0.5)[:, told].max() <= ERROR_UNIT * 0.51
    assert (found[:, ~told] == 0).all()
    law = last.error_law(ours.weights[conv], ours.network.variables[conv])
    if position == 0:
        stds = np.broadcast_to(law.std, shape).ravel()
        assert drawn.stds == pytest.approx(stds / stds.max(), rel=1e-3, abs=1e-6)


def test_what_has_no_law_has_no_errors():
    ours = evaluator()
    fc = dataclasses.replace(Gaussian(scale=0.1), layers="fc")
    conv = dataclasses.replace(fc, layers="conv")
    read = dataclasses.replace(conv, lifetime="read", block=50)
    assert ours.weight_errors((conv, fc)) is not None
    for other in ((fc,), (conv,), (StuckAt(rate=0.1, layers="conv"), fc), (LogNormal(scale=0.1),), (read, fc)):
        assert ours.weight_errors(other) is None
    assert ours.weight_errors((StuckAt(rate=0.1, layers="conv"), Gaussian(scale=0.1))) is None
    assert ours.weight_errors((Gaussian(scale=1e-12),)) is None  # finer than the weights' own rounding

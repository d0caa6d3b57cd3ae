"""Counts are those of `keras.Model.predict`, whatever the way, the size of a pass and the company in it."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from sweep.data.datasets import load_dataset
from sweep.engine import backends, pieces
from sweep.engine.evaluator import Evaluator
from sweep.networks.loading import load_network

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def sequential(*stack: layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((12, 12, 1)), *stack])


def branched() -> keras.Model:
    inputs = keras.Input((12, 12, 1))
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    y = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(x))
    z = layers.GlobalAveragePooling2D()(layers.ReLU()(layers.Add()([x, y])))
    return keras.Model(inputs, layers.Dense(5)(z))


class Odd(layers.Layer):
    """A layer that no list knows."""

    def call(self, x):
        return x * keras.ops.cos(x)


NETWORKS: dict[str, Callable[[], keras.Model]] = {
    "softmax": lambda: sequential(
        layers.Conv2D(4, 3, activation="relu", use_bias=False),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(5, activation="softmax"),
    ),
    "logits, branched": branched,
    "sigmoid": lambda: sequential(layers.Flatten(), layers.Dense(8, activation="tanh"), layers.Dense(1, "sigmoid")),
    "one logit": lambda: sequential(layers.Flatten(), layers.Dense(8, activation="gelu"), layers.Dense(1)),
    "relu at the end": lambda: sequential(layers.Flatten(), layers.Dense(5, activation="relu", use_bias=False)),
}


def prepared(
    model: keras.Model, folder: Path, monkeypatch: pytest.MonkeyPatch, trust: bool = False
) -> tuple[Evaluator, np.ndarray, np.ndarray]:
    """An evaluator with small passes on 300 images, and the images and labels."""
    monkeypatch.setattr(pieces, "IMAGES_PER_STEP", 70)
    rng = np.random.default_rng(1)
    model.set_weights(
        [rng.normal(0, 0.5, w.shape).astype(np.float32) ** (1 + (w.ndim == 1)) for w in model.get_weights()]
    )
    images = rng.integers(0, 256, (300, 12, 12), dtype=np.uint8)
    outputs = model.output_shape[-1]
    labels = rng.integers(0, max(2, outputs), 300)
    np.savez(folder / "d.npz", x_test=images, y_test=labels)
    model.save(folder / "m.keras")
    network = load_network(folder / "m.keras", trust=trust)
    return (
        Evaluator(network, load_dataset(folder / "d.npz")),
        images[..., None].astype(np.float32) / np.float32(255),
        labels,
    )


def noisy(weights: list[np.ndarray], varied: tuple[int, ...], seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [
        (w + 0.3 * rng.standard_normal(w.shape)).astype(np.float32) if i in varied else w for i, w in enumerate(weights)
    ]


def predicted(model: keras.Model, weights: list[np.ndarray], images: np.ndarray, labels: np.ndarray) -> int:
    model.set_weights(weights)
    scores = model.predict(images, verbose=0)
    if scores.shape[1] > 1:
        return int((scores.argmax(1) == labels).sum())
    threshold = 0.5 if model.layers[-1].activation is keras.activations.sigmoid else 0.0
    return int(((scores[:, 0] > threshold) == labels).sum())


@pytest.mark.parametrize("name", NETWORKS)
def test_every_way_counts_as_predict(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = NETWORKS[name]()
    ours, images, labels = prepared(model, tmp_path, monkeypatch)
    varied = tuple(v.index for v in ours.network.variables if v.kernel)
    trials = [noisy(ours.weights, varied, seed) for seed in range(11)]
    expected = [predicted(model, w, images, labels) for w in trials]
    assert len(set(expected)) > 1, "the trials differ"
    for engine in (None, "plain", "stacked", "compiled"):
        ours._engine = engine
        ours._backends.clear()
        assert ours.correct(trials, varied) == expected, engine
        assert [ours.correct([w], varied)[0] for w in trials[:3]] == expected[:3], "alone as in company"


def test_backends_that_are_asked_for_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ours, *_ = prepared(NETWORKS["softmax"](), tmp_path, monkeypatch)
    for engine in ("plain", "stacked", "compiled"):
        ours._engine = engine
        ours._backends.clear()
        assert ours.backend((0, 1)).name == engine, "however slow"


def test_a_network_with_an_unknown_layer_runs_one_at_a_time_and_says_so(tmp_path: Path, monkeypatch):
    with keras.saving.custom_object_scope({"Odd": Odd}):
        model = sequential(layers.Flatten(), layers.Dense(6), Odd(name="odd"), layers.Dense(5))
        ours, images, labels = prepared(model, tmp_path, monkeypatch, trust=True)
    varied = (0, 2)
    trials = [noisy(ours.weights, varied, seed) for seed in range(3)]
    assert ours.correct(trials, varied) == [predicted(model, w, images, labels) for w in trials]
    assert ours.backend(varied).name == "plain"
    assert len(ours.notes) == 1
    assert "odd (Odd)" in ours.notes[0]


def test_a_way_that_is_wrong_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ours, *_ = prepared(NETWORKS["softmax"](), tmp_path, monkeypatch)
    right = backends.Compiled.scores
    monkeypatch.setattr(backends.Compiled, "scores", lambda way, *given: right(way, *given)[..., ::-1])
    assert ours.backend((0, 1)).name != "compiled"
    assert any("compiled evaluation differs from plain Keras" in note for note in ours.notes)


def test_decisions_within_rounding_are_taken_as_predict_takes_them(tmp_path: Path, monkeypatch):
    """A way that is wrong only in the last digits cannot change a count."""
    model = NETWORKS["logits, branched"]()
    ours, images, labels = prepared(model, tmp_path, monkeypatch)
    varied = tuple(v.index for v in ours.network.variables if v.kernel)
    trial = noisy(ours.weights, varied, 5)
    expected = predicted(model, trial, images, labels)
    backend = ours.backend(varied)
    exact = backend.scores([trial[i][None] for i in backend.varied])
    tied = np.repeat(exact.max(axis=-1, keepdims=True), 5, axis=-1) * np.float32([1, 1 + 1e-7, 1 - 1e-7, 1, 1])
    monkeypatch.setattr(backend, "scores", lambda weights, block: tied)
    assert ours.correct([trial], varied) == [expected]
    assert ours.ties == 300


def test_an_unperturbed_beginning_is_kept_unless_it_is_too_large(tmp_path: Path, monkeypatch):
    model = NETWORKS["softmax"]()
    ours, images, labels = prepared(model, tmp_path, monkeypatch)
    last = (len(ours.weights) - 2,)
    trial = noisy(ours.weights, last, 2)
    assert ours.backend(last).varied == last
    kept = ours.correct([trial], last)
    ours._backends.clear()
    monkeypatch.setattr(backends, "PREFIX_BYTES", 10)
    assert ours.backend(last).varied == (0, 1, 2)
    assert ours.correct([trial], last) == kept == [predicted(model, trial, images, labels)]


def test_non_finite_weights_count_as_in_keras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = NETWORKS["softmax"]()
    ours, images, labels = prepared(model, tmp_path, monkeypatch)
    trial = [w.copy() for w in ours.weights]
    trial[1][0, 2] = np.nan
    assert ours.correct([trial], (0, 1)) == [predicted(model, trial, images, labels)]

"""Training of networks of several inputs or outputs, of scores at positions, and on values instead of labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as kl

import sweep
from sweep.errors import InputError
from sweep.networks.loading import network_of
from sweep.training.losses import loss_of
from sweep.training.recipes import Recipe, read_recipe, recipe_digest
from sweep.training.training import train

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
RECIPE = """
name = "further"
dataset = "data.npz"
from = "mine.keras"
epochs = {epochs}
batch = 16
optimizer = "adam"
learning_rate = 0.02
seed = 3
formats = ["keras"]
{keys}
[noise]
perturb = [ {{ op = "gaussian", scale = 0.05 }} ]
"""
RNG = np.random.default_rng(0)
SPOTS = RNG.integers(0, 3, (96, 4, 6))
PHOTOS = (np.eye(3)[SPOTS] + RNG.normal(0, 0.3, (96, 4, 6, 3))).astype(np.float32)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(3)
    return tmp_path


def written(keys: str = "", epochs: int = 12) -> str:
    Path("further.toml").write_text(RECIPE.format(keys=keys, epochs=epochs))
    return "further.toml"


def halves(**arrays: np.ndarray) -> None:
    """The first two thirds to train on, the others to test."""
    parts = {"train": slice(0, 64), "test": slice(64, None)}
    np.savez("data.npz", **{f"{name}_{part}": of[s] for name, of in arrays.items() for part, s in parts.items()})


def maps(scores: int, activation: str | None, size: tuple[int | None, ...] = (None, None)) -> keras.Model:
    inputs = keras.Input((*size, 3))
    return keras.Model(inputs, kl.Conv2D(scores, 1, activation=activation)(kl.Conv2D(4, 1, activation="relu")(inputs)))


def predicted(model: keras.Model) -> np.ndarray:
    return np.asarray(model.predict(PHOTOS[64:], verbose=0))


@pytest.mark.parametrize("activation", ["softmax", None])
def test_labels_of_positions_are_learned(activation: str | None):
    """But for those that do not count; the file has the form that it had, and a study of it has the card's figures."""
    labels = np.where(RNG.random(SPOTS.shape) < 0.2, 255, SPOTS)
    halves(x=PHOTOS, y=labels)
    begun = maps(3, activation)
    begun.save("mine.keras")
    (trained,) = train(written())
    model = keras.models.load_model(trained.path)
    assert model.output_shape == begun.output_shape
    assert [layer.name for layer in model.layers] == [layer.name for layer in begun.layers]
    right = (predicted(model).argmax(axis=-1) == labels[64:])[labels[64:] != 255].mean()
    assert right > 0.9 > (predicted(begun).argmax(axis=-1) == SPOTS[64:]).mean() + 0.1
    assert trained.quality.measures["position_accuracy"] == pytest.approx(right)
    assert "position accuracy" not in str(trained.quality)
    tables = {"name": "check", "model": str(trained.path), "dataset": "data.npz", "seeds": 1}
    noise = {"name": "gaussian", "perturb": [{"op": "gaussian", "scale": 0.01}]}
    study = sweep.Study.from_dict({**tables, "measures": ["position_accuracy"], "family": [noise]})
    assert sweep.run(study, "run", runner="inline").trials()["position_accuracy"][0] == pytest.approx(right)
    card = trained.card.read_text()
    assert "| loss | cross-entropy at positions |" in card
    assert "share of positions decided rightly" in card


def test_one_score_at_each_position_is_learned():
    halves(x=PHOTOS, y=(SPOTS == 2).astype(np.uint8)[..., None])
    maps(1, "sigmoid", (4, 6)).save("mine.keras")
    (trained,) = train(written())
    right = ((predicted(keras.models.load_model(trained.path))[..., 0] > 0.5) == (SPOTS[64:] == 2)).mean()
    assert right > 0.9
    assert trained.quality.measures["position_accuracy"] == pytest.approx(right)


def test_values_are_learned():
    """At positions, and one for an image."""
    halves(x=PHOTOS, y=PHOTOS.sum(axis=-1))
    maps(1, None).save("mine.keras")
    (trained,) = train(written('target = "values"', 20))
    error = np.mean((predicted(keras.models.load_model(trained.path))[..., 0] - PHOTOS[64:].sum(axis=-1)) ** 2)
    assert error < 0.1 < np.var(PHOTOS.sum(axis=-1))
    assert trained.quality.measures["mse"] == pytest.approx(error, rel=1e-4)
    inputs = keras.Input((4, 6, 3))
    keras.Model(inputs, kl.Dense(1)(kl.Flatten()(inputs))).save("mine.keras")
    with pytest.raises(InputError, match="holds 24 values for each image, and the network has 1 outputs"):
        train(written('target = "values"'))
    halves(x=PHOTOS, y=PHOTOS.sum(axis=(1, 2, 3)))
    (single,) = train(written('target = "values"', 20))
    assert single.quality.measures["mse"] < 0.2 * np.var(PHOTOS.sum(axis=(1, 2, 3)))


def test_a_network_of_several_inputs_and_outputs_is_trained_on_one_of_these():
    rng = np.random.default_rng(1)
    left, right = rng.normal(size=(2, 96, 5)).astype(np.float32)
    digit = (left[:, 0] > right[:, 0]).astype(int)
    inputs = [keras.Input((5,), name="left"), keras.Input((5,), name="right")]
    both = kl.Concatenate()(inputs)
    outputs = [kl.Dense(2, "softmax", name="digit")(both), kl.Dense(1, name="angle")(both)]
    begun = keras.Model(inputs, outputs)
    begun.save("mine.keras")
    halves(left=left, right=right, digit=digit)
    (trained,) = train(written('x = ["left_test", "right_test"]\ny = "digit_test"\noutput = "digit"', 20))
    model = keras.models.load_model(trained.path)
    found = model.predict([left[64:], right[64:]], verbose=0)[0].argmax(axis=1)
    assert trained.quality.n_correct == np.count_nonzero(found == digit[64:]) > 28
    np.testing.assert_array_equal(model.get_layer("angle").get_weights()[0], begun.get_layer("angle").get_weights()[0])
    assert [list(one.shape) for one in model.inputs] == [[None, 5], [None, 5]]
    assert "| output | `digit`, which is trained |" in trained.card.read_text()
    main = recipe_digest(read_recipe("further.toml"), "d" * 64)
    assert recipe_digest(replace(read_recipe("further.toml"), output="angle"), "d" * 64) != main


def test_words_are_learned_under_noise_on_their_embedding():
    """Whose gradient comes in slices; a layer that also gives its state is on the card."""
    rng = np.random.default_rng(1)
    words = rng.integers(1, 9, (96, 6))
    halves(x=words, y=words % 3)
    inputs = keras.Input((None,), dtype="int32")
    sequence, *_ = kl.LSTM(8, return_sequences=True, return_state=True)(kl.Embedding(9, 8)(inputs))
    keras.Model(inputs, kl.TimeDistributed(kl.Dense(3, "softmax"))(sequence)).save("mine.keras")
    (trained,) = train(written(epochs=15))
    assert trained.quality.measures["position_accuracy"] > 0.9


def test_the_loss_is_of_the_output_of_a_model_within():
    inner_inputs = keras.Input((4,))
    logits = kl.Dense(3)(inner_inputs)
    inner = keras.Model(inner_inputs, [logits, kl.Softmax()(logits)])
    inputs = keras.Input((4,))
    Path("mine.keras").touch()
    recipe = read_recipe(written())
    by_logits, by_softmax = (loss_of(recipe, network_of(keras.Model(inputs, inner(inputs)[k]))) for k in (0, 1))
    assert by_logits.get_config()["from_logits"] is True
    assert by_softmax == "categorical_crossentropy"


@pytest.mark.parametrize(("classes", "activation"), [(3, "softmax"), (3, None), (1, "sigmoid"), (1, None)])
def test_the_loss_at_positions_is_that_of_keras_over_those_that_count(classes: int, activation: str | None):
    Path("mine.keras").touch()
    recipe: Recipe = read_recipe(written())
    rng = np.random.default_rng(2)
    loss = loss_of(recipe, network_of(maps(classes, activation, (2, 3))))
    labels = rng.integers(-1, max(classes, 2), (8, 6))
    scores = rng.random((8, 6, classes)).astype(np.float32)
    scores = scores / scores.sum(axis=-1, keepdims=True) if classes > 1 and activation else scores
    found = float(loss(tf.constant(labels), tf.constant(scores.reshape(8, -1))))
    truth, given = labels[labels >= 0], scores[labels >= 0]
    if classes > 1:
        each = keras.losses.sparse_categorical_crossentropy(truth, given, from_logits=activation is None)
    else:
        each = keras.losses.binary_crossentropy(truth[:, None].astype("float32"), given, from_logits=activation is None)
    assert found == pytest.approx(float(np.mean(each)), rel=1e-5)

"""Recipes of more than a chain of layers on labelled images: graphs, raw pixels, autoencoders, data of any format."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sweep import cli
from sweep.data.datasets import load_dataset
from sweep.errors import InputError
from sweep.networks.backend import import_keras
from sweep.networks.loading import load_network
from sweep.training.recipes import Recipe, read_recipe, recipe_digest
from sweep.training.training import train

# Keras 3.15 converts its variables to arrays in a way that NumPy 2 is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn:DeprecationWarning")

HEAD = """
name = "tiny"
dataset = "tiny.npz"
input_shape = [6, 6, 1]
epochs = 2
batch = 10
optimizer = "adam"
learning_rate = 0.01
seed = 3
"""
GRAPH = """
[[layer]]
type = "Conv2D"
name = "conv"
filters = 2
kernel_size = 3
padding = "same"
[[layer]]
type = "BatchNormalization"
[[layer]]
type = "Conv2D"
name = "beside"
inputs = ["conv"]
filters = 2
kernel_size = 1
[[layer]]
type = "Add"
name = "sum"
inputs = ["batchnormalization_1", "beside"]
[[layer]]
type = "Concatenate"
inputs = ["sum", "images"]
[[layer]]
type = "GlobalAveragePooling2D"
[[layer]]
type = "Dense"
name = "fc"
units = 3
activation = "softmax"
"""
AUTOENCODER = """
[[layer]]
type = "Flatten"
[[layer]]
type = "Dense"
units = 4
[[layer]]
type = "Dense"
units = 36
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a recipe of these layers, more keys before them, beside images of three kinds: dark, medium, bright."""
    monkeypatch.chdir(tmp_path)
    draws = np.random.default_rng(5)
    labels = draws.integers(0, 3, 260)
    images = (draws.integers(0, 60, (260, 6, 6)) + 90 * labels[:, None, None]).astype(np.uint8)
    parts = {"x_train": images[:200], "y_train": labels[:200], "x_test": images[200:], "y_test": labels[200:]}
    np.savez("tiny.npz", **parts)

    def written(layers: str, *more: str, without: str = "\0") -> Path:
        path = tmp_path / "tiny.toml"
        path.write_text("\n".join([HEAD.replace(without, ""), *more, layers]), encoding="utf-8")
        return path

    return written


def test_a_graph_is_that_of_keras(write: Callable[..., Path]) -> None:
    keras = import_keras()
    (trained,) = train(write(GRAPH))
    network = load_network(trained.path)
    weights = {w.path: np.asarray(w) for w in network.model.weights}
    images = keras.Input((6, 6, 1))
    conv = keras.layers.Conv2D(2, 3, padding="same", name="conv")(images)
    norm = keras.layers.BatchNormalization(name="batchnormalization_1")(conv)
    both = norm + keras.layers.Conv2D(2, 1, name="beside")(conv)
    pooled = keras.ops.mean(keras.ops.concatenate([both, images], axis=-1), axis=(1, 2))
    plain = keras.Model(images, keras.layers.Dense(3, activation="softmax", name="fc")(pooled))
    assert {w.path for w in plain.weights} == set(weights)
    plain.set_weights([weights[w.path] for w in plain.weights])
    test = load_dataset("tiny.npz")
    x = test.images[..., None].astype(np.float32) / np.float32(255)
    scores = plain.predict(x, verbose=0)
    np.testing.assert_allclose(network.model.predict(x, verbose=0), scores, atol=1e-6)
    assert trained.quality.n_correct == (scores.argmax(1) == test.labels).sum() > 25
    facts = json.loads(Path("tiny.json").read_text(encoding="utf-8"))
    assert [layer["name"] for layer in facts["layers"]] == [layer.name for layer in network.model.layers]
    assert "| 0 | images | InputLayer |  | (6, 6, 1) | 0 |" in trained.card.read_text(encoding="utf-8")
    again = train(write(GRAPH), "again")
    assert again[0].digest == trained.digest


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"beside"]', '"besides"]', "layer[3].inputs[1]: 'besides' is none of the layers above: images, conv, "),
        ('["conv"]', '["fc"]', "layer[2].inputs[0]: 'fc' is none of the layers above"),
        ('["batchnormalization_1", "beside"]', '["beside"]', "layer[3].inputs: Add joins two or more layers"),
        ('inputs = ["batchnormalization_1", "beside"]', "", "layer[3].inputs: Add joins two or more layers"),
        ('["conv"]', '["conv", "images"]', "layer[2].inputs: Conv2D takes one layer; several are joined by Add, "),
        ('["batchnormalization_1", "beside"]', '["images", "beside"]', "layer[1]: nothing takes the output of batch"),
        ('"sum"\n', '"images"\n', "layer[3].name: 'images' is the name of something above"),
        ('["conv"]', "[1]", "layer[2].inputs[0]: 1 is not a name of letters"),
        ('["conv"]', '"conv"', "layer[2].inputs: 'conv' is not a list of names of layers"),
    ],
)
def test_mistakes_in_a_graph_name_the_place(write: Callable[..., Path], old: str, new: str, words: str) -> None:
    assert old in GRAPH
    path = write(GRAPH.replace(old, new))
    with pytest.raises(InputError) as caught:
        read_recipe(path)
    assert any(line.startswith(f"{path}: {words}") for line in caught.value.problems), caught.value.problems


def test_layers_that_do_not_fit_are_refused_before_training(write: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"tiny: layer 3 \(Add\): "):
        train(write(GRAPH.replace("filters = 2\nkernel_size = 1", "filters = 3\nkernel_size = 1")))


def test_raw_pixels_reach_the_network_as_they_are(write: Callable[..., Path]) -> None:
    (raw,) = train(write(GRAPH, 'rescale = "0..255"'), "raw")
    network = load_network(raw.path)
    test = load_dataset("tiny.npz")
    scores = network.model.predict(test.images[..., None].astype(np.float32), verbose=0)
    assert raw.quality.n_correct == (scores.argmax(1) == test.labels).sum()
    card = raw.card.read_text(encoding="utf-8")
    assert "float32; uint8 images are as stored |" in card
    assert '`rescale = "0..255"`' in card
    np.savez("other.npz", **{k: v / np.float32(255) for k, v in np.load("tiny.npz").items() if k[0] == "x"},
             **{k: v for k, v in np.load("tiny.npz").items() if k[0] == "y"})  # fmt: skip
    usual = train(write(GRAPH), "usual")[0]
    floating = train(write(GRAPH, 'dataset = "other.npz"', without='dataset = "tiny.npz"'), "f")
    same = zip(*(load_network(m.path).model.get_weights() for m in (usual, floating[0])), strict=True)
    assert all(np.array_equal(one, other) for one, other in same), "divided by 255 here or there"


def test_whole_numbers_other_than_uint8_need_a_word(write: Callable[..., Path]) -> None:
    arrays = {k: v.astype(np.int16) for k, v in np.load("tiny.npz").items()}
    np.savez("tiny.npz", **arrays)
    with pytest.raises(InputError) as caught:
        train(write(GRAPH))
    assert caught.value.problems[0].startswith("tiny: rescale: is missing: say how int16 images in ")
    train(write(GRAPH, 'rescale = "0..1"'))


def flagged() -> None:
    """A test set whose bright images are anomalies, as a function has it."""
    code = 'import numpy as np\ndef test():\n    d = np.load("tiny.npz")\n    return d["x_test"], d["y_test"] == 2\n'
    Path("flags.py").write_text(code, encoding="utf-8")


ANOMALIES = ('dataset = "flags.py:test"', 'train = "tiny.npz"', 'target = "images"', "train_classes = [0, 1]")


def test_an_autoencoder_is_trained_on_the_classes_that_are_named(
    write: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    flagged()
    path = write(AUTOENCODER, *ANOMALIES, without='dataset = "tiny.npz"')
    assert cli.main(["train", str(path)]) == 0
    network = load_network(path.with_name("tiny.h5"))
    arrays = np.load("tiny.npz")
    x = arrays["x_test"].reshape(-1, 36) / np.float32(255)
    error = np.square(network.model.predict(x.reshape(-1, 6, 6, 1), verbose=0) - x).mean(axis=1)
    flags = arrays["y_test"] == 2
    pairs = error[flags][:, None] - error[~flags][None, :]
    auc = np.mean((pairs > 0) + 0.5 * (pairs == 0))
    assert 0.5 < auc <= 1
    facts = json.loads(Path("tiny.json").read_text(encoding="utf-8"))
    assert facts["measures"] == {"auc": pytest.approx(auc), "mse": pytest.approx(error.mean(), rel=1e-5)}
    assert "n_correct" not in facts
    kept = np.isin(arrays["y_train"], [0, 1]).sum()
    assert (facts["train_images"], facts["train_classes"], facts["loss"]) == (kept, [0, 1], "mean_squared_error")
    assert facts["recipe"] == recipe_digest(read_recipe(path), load_dataset("tiny.npz", "train").digest)
    assert (facts["dataset"], facts["train_dataset"]) == ("flags.py:test", "tiny.npz")
    said = f"auc {100 * auc:.2f} %, mse {error.mean():.4g}"
    assert f"tiny.h5: {said} of 60 test images" in capsys.readouterr().out
    card = path.with_suffix(".md").read_text(encoding="utf-8")
    assert f"| clean area under the ROC curve | {100 * auc:.2f} % (60 test images) |" in card
    assert "| classes trained on | 0, 1 |" in card


def test_what_is_not_trained_on_makes_no_difference(write: Callable[..., Path]) -> None:
    """The same training images without those of the class that is left out, and without labels."""
    flagged()
    few = train(write(AUTOENCODER, *ANOMALIES, without='dataset = "tiny.npz"'), "few")
    arrays = np.load("tiny.npz")
    kept = np.isin(arrays["y_train"], [0, 1])
    np.savez("one.npz", x_train=arrays["x_train"][kept])
    one = ('dataset = "flags.py:test"', 'train = "one.npz"', 'target = "images"')
    alone = train(write(AUTOENCODER, *one, without='dataset = "tiny.npz"'), "alone")
    assert few[0].digest == alone[0].digest
    assert few[0].quality == alone[0].quality


def test_a_training_is_measured_again_on_another_test_set(
    write: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    flagged()
    path = write(AUTOENCODER, *ANOMALIES, without='dataset = "tiny.npz"')
    first = train(path, "out", seeds=1)
    capsys.readouterr()
    assert train(path, "out", seeds=1) == first
    assert "there already, auc " in capsys.readouterr().out
    Path("flags.py").write_text(Path("flags.py").read_text().replace("== 2", "== 0"))
    second = train(path, "out", seeds=1)
    assert second[0].quality != first[0].quality
    assert second[0].digest == first[0].digest


@pytest.mark.parametrize("values", ["{}", '{"auc": "high"}', "[]"])
def test_facts_without_values_are_none(write: Callable[..., Path], values: str) -> None:
    flagged()
    path = write(AUTOENCODER, *ANOMALIES, without='dataset = "tiny.npz"')
    train(path, "out", seeds=1)
    place = Path("out/tiny-seed3.json")
    facts = json.loads(place.read_text()) | {"measures": json.loads(values)}
    place.write_text(json.dumps(facts))
    train(path, "out", seeds=1)
    assert json.loads(place.read_text())["measures"].keys() == {"auc", "mse"}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("train_classes = [0, 7]",), "train_classes: no training image in "),
        (('target = "images"',), "the last layer has 3 outputs, and an image 36 values"),
        (("labels = [5, 6, 7]",), "labels: y_train has 200 labels that are not among them"),
        (("labels = [2, 1, 0]", 'y = "kinds"'), "no array kinds"),
        (('train = "none.npz"',), "none.npz: no such file"),
    ],
)
def test_data_that_do_not_fit_are_refused(write: Callable[..., Path], more: tuple[str, ...], words: str) -> None:
    with pytest.raises(InputError) as caught:
        train(write(GRAPH, *more))
    assert any(words in line for line in caught.value.problems), caught.value.problems
    assert not list(Path().glob("*.h5"))


def test_training_and_test_set_have_the_same_texts_as_labels(write: Callable[..., Path]) -> None:
    arrays = np.load("tiny.npz")
    names = np.array(["dark", "medium", "bright"])
    texts = {key: names[arrays[key]] for key in ("y_train", "y_test")}
    few = {"x_test": arrays["x_test"][texts["y_test"] != "dark"], "y_test": texts["y_test"][texts["y_test"] != "dark"]}
    np.savez("tiny.npz", **{"x_train": arrays["x_train"], "y_train": texts["y_train"]} | few)
    with pytest.raises(InputError, match="labels: are missing: training and test set have other labels"):
        train(write(GRAPH))
    (trained,) = train(write(GRAPH, 'labels = ["dark", "medium", "bright"]'))
    scores = load_network(trained.path).model.predict(few["x_test"][..., None] / np.float32(255), verbose=0)
    assert trained.quality.n_correct == (names[scores.argmax(1)] == few["y_test"]).sum()


def test_keys_that_change_weights_change_the_digest_and_others_do_not() -> None:
    plain = Recipe("n", Path("d"), (6, 6, 1), ({"type": "Flatten"},), 1, 1, "adam", 0.1, 0)
    digest = recipe_digest(plain, "d")
    for same in ({"rescale": "0..1"}, {"train": Path("t")}, {"x": "a"}, {"labels": ("a", "b")}):
        assert recipe_digest(replace(plain, **same), "d") == digest
    others = ({"rescale": "0..255"}, {"target": "images"}, {"train_classes": (0, 1)}, {"train_classes": (0, 2)})
    assert len({digest, *(recipe_digest(replace(plain, **other), "d") for other in others)}) == 5
    one, two = (replace(plain, train_classes=classes) for classes in ((0, 1), (1, 0)))
    assert recipe_digest(one, "d") == recipe_digest(two, "d")

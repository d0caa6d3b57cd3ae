"""The networks that ship: what their cards say, and that the source article's own lines run on them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from sweep.data.datasets import Dataset, load_dataset, prepare_images
from sweep.data.decisions import decide
from sweep.files import file_digest
from sweep.networks.backend import import_tensorflow
from sweep.networks.loading import check_fit, load_network, network_of
from sweep.training.cards import card, facts_of, json_of, read_facts
from sweep.training.quality import Quality
from sweep.training.recipes import read_recipe

# Keras 3.15 converts its variables to arrays in a way that NumPy 2 is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn:DeprecationWarning")

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "models"
BITS = {"mnist_tf2_fw": None, "mnist_tf2_fw_16bit": 16, "mnist_tf2_fw_8bit": 8}


@pytest.fixture(scope="module")
def mnist() -> Dataset:
    return load_dataset(MODELS / "data" / "mnist.npz")


def test_the_data_are_mnist(mnist):
    train = load_dataset(MODELS / "data" / "mnist.npz", "train")
    assert (train.images.shape, mnist.images.shape) == ((60000, 28, 28), (10000, 28, 28))
    assert train.images.dtype == mnist.images.dtype == np.uint8
    assert np.bincount(mnist.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(train.labels).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip
    assert int(mnist.images.sum(dtype=np.int64)) == 264_923_200


def test_every_model_has_a_card():
    for suffix in ("h5", "md", "json"):
        assert {path.stem for path in MODELS.glob(f"*.{suffix}")} == set(BITS), suffix


@pytest.mark.parametrize("name", BITS)
def test_the_card_tells_the_digest_and_the_accuracy(name, mnist):
    card = (MODELS / f"{name}.md").read_text(encoding="utf-8")
    path = MODELS / f"{name}.h5"
    assert f"| SHA-256 of `{name}.h5` | `{file_digest(path)}` |" in card
    assert mnist.digest in card

    network = load_network(path)
    assert check_fit(network, mnist) == []
    scores = network.model.predict(prepare_images(mnist.images, network.input_shape), batch_size=1000, verbose=0)
    n_correct = int((decide(scores, network.threshold) == mnist.labels).sum())
    assert f"| clean accuracy | {n_correct / 100:.2f} % ({n_correct} of 10000 test images) |" in card
    assert 9830 <= n_correct <= 9870
    assert f"| parameters | {network.model.count_params()} |" in card


def test_the_card_agrees_with_the_recipe():
    recipe = read_recipe(MODELS / "mnist_tf2_fw.toml")
    assert {recipe.name: None} | {item.name: item.bits for item in recipe.rounded} == BITS
    for name in BITS:
        card = (MODELS / f"{name}.md").read_text(encoding="utf-8")
        assert f"| training seed | {recipe.seed} |" in card
        assert f"{recipe.epochs} epochs over 60000 images in batches of {recipe.batch}" in card
        assert recipe.notes.strip() in card


@pytest.mark.parametrize("name", BITS)
def test_the_facts_and_the_card_are_what_the_code_writes(name):
    """From the shipped files; the versions, of which nothing tells today, are those of the training."""
    recipe, path = read_recipe(MODELS / "mnist_tf2_fw.toml"), MODELS / f"{name}.h5"
    model = network_of(import_tensorflow().keras.models.load_model(path))
    sets = load_dataset(recipe.dataset, "train"), load_dataset(recipe.dataset, "test")
    shipped = read_facts(MODELS / f"{name}.json")
    assert shipped is not None
    quality = Quality(shipped["n_images"], shipped["n_correct"])
    facts = facts_of(recipe, model, name, BITS[name], {path.name: file_digest(path)}, quality, sets)
    assert shipped["versions"].keys() == facts["versions"].keys()
    assert all(re.fullmatch(r"[\d.]+", number) for number in shipped["versions"].values())
    assert json_of(facts | {"versions": shipped["versions"]}) == (MODELS / f"{name}.json").read_text(encoding="utf-8")
    assert card(shipped) == (MODELS / f"{name}.md").read_text(encoding="utf-8")


def test_the_recipe_for_several_trainings_has_the_articles_layers_and_a_folder_of_its_own():
    recipe, several = read_recipe(MODELS / "mnist_tf2_fw.toml"), read_recipe(MODELS / "trainings.toml")
    assert (several.layers, several.input_shape, several.dataset) == (recipe.layers, recipe.input_shape, recipe.dataset)
    assert several.folder == MODELS / "trainings"


def test_the_network_has_the_articles_shape():
    network = load_network(MODELS / "mnist_tf2_fw.h5")
    assert [(v.path, v.layer_index, v.shape, v.kernel, v.channel_axes) for v in network.variables] == [
        ("conv1/kernel", 0, (3, 3, 1, 8), True, (3,)),
        ("conv2/kernel", 2, (3, 3, 8, 16), True, (3,)),
        ("fc/kernel", 5, (400, 10), True, (1,)),
    ]
    assert (network.input_shape, network.outputs, network.threshold) == ((28, 28, 1), 10, None)


@pytest.mark.parametrize("name", ["mnist_tf2_fw_16bit", "mnist_tf2_fw_8bit"])
def test_the_rounded_models_are_the_trained_one_rounded(name):
    trained = load_network(MODELS / "mnist_tf2_fw.h5").model.get_weights()
    for exact, coarse in zip(trained, load_network(MODELS / f"{name}.h5").model.get_weights(), strict=True):
        np.testing.assert_array_equal(coarse, np.rint(exact * 2 ** BITS[name]) / 2 ** BITS[name])


@pytest.mark.parametrize("name", BITS)
def test_the_file_is_small_and_tells_nothing_of_the_machine(name):
    content = (MODELS / f"{name}.h5").read_bytes()
    assert len(content) < 64 * 1024
    for text in (content, *((MODELS / f"{name}.{suffix}").read_bytes() for suffix in ("md", "json"))):
        assert not re.search(rb"/(home|root|work|tmp|usr|Users)/", text)


@pytest.fixture
def article(mnist, monkeypatch):
    """What stands before the article's lines: TensorFlow, and the test set as the article prepares it."""
    tf = import_tensorflow()
    monkeypatch.chdir(ROOT)
    np.random.seed(0)
    x_test = mnist.images.reshape(-1, 28, 28, 1) / 255
    y_test_onehot = tf.keras.utils.to_categorical(mnist.labels)
    return tf, x_test, y_test_onehot


def test_the_articles_evaluation_runs_as_it_stands(article, caplog):
    tf, x_test, y_test_onehot = article
    model = tf.keras.models.load_model("models/mnist_tf2_fw.h5")
    loss, accuracy = model.evaluate(x_test, y_test_onehot, verbose=0)
    assert 0 < loss < 0.1
    assert accuracy == pytest.approx(0.985, abs=0.002)
    # Keras says this of every compiled .h5 file; nothing else is amiss.
    assert all("compiled metrics have yet to be built" in record.message for record in caplog.records)


def test_the_articles_noise_runs_as_it_stands(article):
    tf, x_test, y_test_onehot = article
    model = tf.keras.models.load_model("models/mnist_tf2_fw.h5")
    for i in (0, 2, 5):
        w = model.layers[i].get_weights()[0]
        w = w + np.random.rand(w.shape[0], w.shape[1], *w.shape[2:]) * 0.15
        model.layers[i].set_weights([w])
    _, accuracy = model.evaluate(x_test[:2000], y_test_onehot[:2000], verbose=0)
    assert 0.15 < accuracy < 0.8


@pytest.mark.parametrize(("bit", "low", "high"), [(16, 0.965, 0.985), (4, 0.96, 0.985), (1, 0.1, 0.8)])
def test_the_articles_rounding_runs_as_it_stands(article, bit, low, high):
    tf, x_test, y_test_onehot = article
    model = tf.keras.models.load_model("models/mnist_tf2_fw.h5")
    for i in (0, 2, 5):
        w = model.layers[i].get_weights()[0]
        w = np.rint(w * 2**bit) / 2**bit
        model.layers[i].set_weights([w])
    _, accuracy = model.evaluate(x_test[:2000], y_test_onehot[:2000], verbose=0)
    assert low < accuracy < high


def test_a_shipped_model_can_be_trained_on(article):
    tf, x_test, y_test_onehot = article
    model = tf.keras.models.load_model("models/mnist_tf2_fw_8bit.h5")
    before = model.get_weights()
    model.fit(x_test[:256], y_test_onehot[:256], verbose=0)
    assert not np.array_equal(before[0], model.get_weights()[0])

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sweep.data.datasets import load_dataset, prepare_images
from sweep.errors import InputError
from sweep.networks.backend import import_keras
from sweep.networks.loading import check_fit, load_network
from sweep.training.recipes import Rounded, read_recipe, recipe_digest
from sweep.training.training import train

# Keras 3.15 converts its variables to arrays in a way that NumPy 2 is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn:DeprecationWarning")

RECIPE = """
name = "tiny"
dataset = "tiny.npz"
input_shape = [8, 8, 1]
epochs = 1
batch = 8
optimizer = "adam"
learning_rate = 0.01
seed = 3
formats = ["h5", "keras"]
notes = "Words for the card."

[[layer]]
type = "Conv2D"
name = "conv"
filters = 2
kernel_size = 3
activation = "relu"

[[layer]]
type = "Dropout"
rate = 0.1

[[layer]]
type = "Flatten"

[[layer]]
type = "Dense"
name = "fc"
units = 2
activation = "softmax"

[[rounded]]
name = "tiny_3bit"
bits = 3
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Path]:
    """Writes the recipe, with replacements, beside a dataset of dark and bright images."""
    draws = np.random.default_rng(5)
    labels = draws.integers(0, 2, 360)
    images = (draws.integers(0, 80, (360, 8, 8)) + 175 * labels[:, None, None]).astype(np.uint8)
    np.savez(
        tmp_path / "tiny.npz",
        x_train=images[:300],
        y_train=labels[:300],
        x_test=images[300:],
        y_test=labels[300:],
    )

    def write(*changes: tuple[str, str]) -> Path:
        text = RECIPE
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "tiny.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refusal(path: Path, **arguments: object) -> tuple[str, ...]:
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(InputError) as caught:
        train(path, **arguments)  # type: ignore[arg-type]
    assert sorted(path.parent.rglob("*")) == before
    assert all("\n" not in line for line in caught.value.problems)
    return caught.value.problems


def test_training_twice_gives_equal_weights_files_and_cards(recipe, tmp_path, capsys):
    path = recipe()
    random.seed(1)
    np.random.seed(1)
    expected = random.random(), np.random.random()
    random.seed(1)
    np.random.seed(1)
    first = train(path)
    assert (random.random(), np.random.random()) == expected, "the caller's generators were touched"
    second = train(path, tmp_path / "again")

    names = ["tiny.h5", "tiny.keras", "tiny_3bit.h5", "tiny_3bit.keras"]
    assert [model.path.name for model in first] == [model.path.name for model in second] == names
    assert {model.path.parent for model in first} == {tmp_path}
    for one, other in zip(first, second, strict=True):
        a, b = load_network(one.path), load_network(other.path)
        for have, want in zip(a.model.get_weights(), b.model.get_weights(), strict=True):
            np.testing.assert_array_equal(have, want)
        assert (one.quality.n_correct, one.quality.n_images) == (other.quality.n_correct, 60)
        assert one.digest == a.digest == hashlib.sha256(one.path.read_bytes()).hexdigest()
    assert first[0].digest == second[0].digest, "equal weights give equal .h5 files"
    assert not list(tmp_path.rglob("*.partial*"))

    out = capsys.readouterr()
    assert [line.split(":")[:2] for line in out.out.splitlines()] == [["tiny", " epoch 1/1"]] * 2
    assert out.err == ""

    card = first[0].card.read_text(encoding="utf-8")
    for model in first[:2]:
        assert f"| SHA-256 of `{model.path.name}` | `{model.digest}` |" in card
    assert f"({first[0].quality.n_correct} of 60 test images)" in card
    assert "| training seed | 3 |" in card
    assert "Words for the card." in card
    assert "| 0 | conv | Conv2D | filters = 2, kernel_size = 3, activation = relu | (6, 6, 2) | 20 |" in card
    assert str(tmp_path) not in card
    assert "Made from [tiny](tiny.md)" in first[2].card.read_text(encoding="utf-8")
    facts = json.loads((tmp_path / "tiny_3bit.json").read_text(encoding="utf-8"))
    assert facts["files"] == {model.path.name: model.digest for model in first[2:]}
    assert (facts["made_from"], facts["bits"], facts["seed"], facts["n_correct"]) == (
        "tiny",
        3,
        3,
        first[2].quality.n_correct,
    )
    assert facts["recipe"] == recipe_digest(read_recipe(path), load_dataset(tmp_path / "tiny.npz").digest)
    assert facts["layers"][1]["arguments"] == {"rate": 0.1}
    assert [layer["output_shape"] for layer in facts["layers"]] == [[6, 6, 2], [6, 6, 2], [72], [2]]


def test_rounded_models_round_kernels_only_and_are_measured(recipe, tmp_path):
    trained, rounded = (model for model in train(recipe(('["h5", "keras"]', '["h5"]'))))
    plain, coarse = load_network(trained.path), load_network(rounded.path)
    for variable, before, after in zip(
        plain.variables, plain.model.get_weights(), coarse.model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(after, np.rint(before * 2**3) / 2**3 if variable.kernel else before)
    test = load_dataset(tmp_path / "tiny.npz")
    assert check_fit(coarse, test) == []
    scores = coarse.model.predict(prepare_images(test.images, coarse.input_shape), verbose=0)
    assert rounded.quality.n_correct == (scores.argmax(axis=1) == test.labels).sum()
    assert rounded.quality.n_correct > 40, "it has learned something"


@pytest.mark.parametrize("suffix", ["h5", "keras"])
def test_a_written_model_is_compiled_and_can_be_trained_on(recipe, suffix):
    keras = import_keras()
    model = keras.models.load_model(train(recipe(('["h5", "keras"]', f'["{suffix}"]')))[0].path)
    before = model.get_weights()
    images = np.random.default_rng(0).random((16, 8, 8, 1), dtype=np.float32)
    model.fit(images, np.eye(2)[np.arange(16) % 2], verbose=0)
    assert not np.array_equal(before[0], model.get_weights()[0])


def test_another_seed_gives_other_weights_under_another_name(recipe, tmp_path):
    path = recipe(('["h5", "keras"]', '["h5"]'))
    own, other = train(path), train(path, seed=4)
    assert [model.path.name for model in other] == ["tiny-seed4.h5", "tiny_3bit-seed4.h5"]
    assert "| training seed | 4 |" in (tmp_path / "tiny-seed4.md").read_text(encoding="utf-8")
    a, b = (load_network(models[0].path).model.get_weights() for models in (own, other))
    assert not np.array_equal(a[0], b[0])


def test_several_trainings_differ_in_their_seed_alone(recipe, tmp_path, capsys):
    path = recipe(('["h5", "keras"]', '["h5"]'), ("epochs = 1", 'epochs = 1\nfolder = "runs"'))
    written = train(path, seeds=2)
    names = ["tiny-seed3.h5", "tiny_3bit-seed3.h5", "tiny-seed4.h5", "tiny_3bit-seed4.h5"]
    assert [model.path.relative_to(tmp_path) for model in written] == [Path("runs") / name for name in names]
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["tiny-seed3"] * 2 + ["tiny-seed4"] * 2
    assert lines[1] == f"tiny-seed3: {100 * written[0].quality.n_correct / 60:.2f} %, training 1 of 2"
    assert written[0].digest != written[2].digest
    alone = train(path, tmp_path / "alone", seed=4)
    assert [model.digest for model in alone] == [model.digest for model in written[2:]], "other trainings do not matter"
    assert "Made from [tiny-seed4](tiny-seed4.md)" in written[3].card.read_text(encoding="utf-8")


@pytest.mark.parametrize("gone", ["md", "json"])
def test_what_is_trained_already_is_not_trained_again(recipe, tmp_path, capsys, gone):
    path = recipe(('["h5", "keras"]', '["h5"]'))
    first = train(path, tmp_path, seeds=2)
    (tmp_path / f"tiny_3bit-seed4.{gone}").unlink()
    times = {model.path: model.path.stat().st_mtime_ns for model in first}
    capsys.readouterr()
    assert train(path, tmp_path, seed=3, seeds=3)[:4] == first
    again = [model.path.name for model in first if model.path.stat().st_mtime_ns != times[model.path]]
    assert again == ["tiny-seed4.h5", "tiny_3bit-seed4.h5"], "its card or its facts were gone"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("tiny-seed3: there already, ")
    told = f"{tmp_path}/tiny_3bit-seed4.md: no tiny_3bit-seed4.json beside it, as beside cards of 0.1.0: training again"
    assert (told in lines) == (gone == "json")
    assert sum("epoch 1/1" in line for line in lines) == 2


@pytest.mark.parametrize("change", ["recipe", "dataset", "file", "facts", "no facts", "other facts"])
def test_another_recipe_dataset_file_or_other_facts_are_trained_anew(recipe, tmp_path, capsys, change):
    single = ('["h5", "keras"]', '["h5"]')
    path = recipe(single)
    model = train(path, tmp_path, seeds=1)[0]
    if change == "recipe":
        path = recipe(single, ("0.01", "0.02"))
    elif change == "dataset":
        np.savez(tmp_path / "tiny.npz", **{k: v[::-1] for k, v in np.load(tmp_path / "tiny.npz").items()})
    elif change == "file":
        model.path.write_bytes(model.path.read_bytes()[:-1])
    else:
        facts = tmp_path / "tiny-seed3.json"
        texts = {"facts": facts.read_text()[:-3], "no facts": "[1]", "other facts": '{"recipe": "a", "seed": 3}'}
        facts.write_text(texts[change])
    capsys.readouterr()
    train(path, tmp_path, seeds=1)
    assert "epoch 1/1" in capsys.readouterr().out


def test_other_words_and_another_name_are_the_same_recipe(recipe, tmp_path):
    plain = read_recipe(recipe())
    worded = read_recipe(recipe(("Words", "Other words"), ('"tiny"', '"small"'), ("seed = 3", "seed = 5")))
    assert recipe_digest(plain, "d") == recipe_digest(worded, "d") != recipe_digest(plain, "e")
    assert recipe_digest(read_recipe(recipe(("bits = 3", "bits = 4"))), "d") != recipe_digest(plain, "d")


def test_a_stopped_training_leaves_no_half_written_file(recipe, tmp_path, monkeypatch):
    def stopped(*arguments: object) -> str:
        raise KeyboardInterrupt

    path = recipe(('["h5", "keras"]', '["h5"]'))
    monkeypatch.setattr("sweep.training.training.card", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(path, tmp_path / "out", seeds=2)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["tiny-seed3.h5"], "without a card it does not count"
    monkeypatch.undo()
    assert len(train(path, tmp_path / "out", seeds=1)) == 2
    assert not list((tmp_path / "out").glob(".*"))


def test_one_sigmoid_unit_is_trained_on_its_threshold(recipe, tmp_path):
    path = recipe(("units = 2", "units = 1"), ('"softmax"', '"sigmoid"'), ('["h5", "keras"]', '["keras"]'))
    model = train(path)[0]
    assert load_network(model.path).threshold == 0.5
    assert model.quality.n_correct > 40
    assert "| loss | binary_crossentropy |" in model.card.read_text(encoding="utf-8")


def test_a_recipe_is_read_with_its_defaults(recipe, tmp_path):
    read = read_recipe(recipe(('formats = ["h5", "keras"]\n', "")))
    assert read.formats == ("h5",)
    assert read.dataset == tmp_path / "tiny.npz"
    assert read.rounded == (Rounded("tiny_3bit", 3),)
    assert read.layers[0] == {
        "type": "Conv2D",
        "name": "conv",
        "filters": 2,
        "kernel_size": 3,
        "activation": "relu",
    }


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("epochs = 1", "epochs = 0", "epochs: 0 is not a whole number of at least 1"),
        ("epochs = 1", "epochs = true", "epochs: True is not a whole number of at least 1"),
        ("epochs = 1", "", "epochs: is missing; it must be a whole number of at least 1"),
        ("epochs = 1", "epoch = 1", "epoch: unknown key; valid: name, dataset"),
        ("batch = 8", 'batch = "32"', "batch: '32' is not a whole number of at least 1"),
        ('"adam"', '"adamant"', "optimizer: 'adamant' is not valid; choose one of adam, rmsprop, sgd"),
        ("0.01", "nan", "learning_rate: nan is not a number above 0"),
        ("0.01", "-1", "learning_rate: -1 is not a number above 0"),
        ("seed = 3", "seed = -3", "seed: -3 is not a whole number from 0 to 2^32 - 1"),
        ('["h5", "keras"]', '["pt"]', "formats[0]: 'pt' is not valid; choose one of h5, keras"),
        ('["h5", "keras"]', "[]", "formats: [] is not a list of h5, keras"),
        ("[8, 8, 1]", "[8, 0, 1]", "input_shape[1]: 0 is not a whole number of at least 1"),
        ('"tiny"', '"../tiny"', "name: '../tiny' is not a name of letters"),
        ('"tiny_3bit"', '"tiny"', "rounded: the name 'tiny' is used more than once"),
        ("seed = 3", 'folder = ""', "folder: '' is not the path of a folder"),
        ('"fc"', '"conv"', "layer: the name 'conv' is used more than once"),
        ("bits = 3", "bits = 33", "rounded[0].bits: 33 is not a whole number from 0 to 32"),
        ("bits = 3", "bit = 3", "rounded[0].bit: unknown key; valid: name, bits (did you mean 'bits'?)"),
        ('"Conv2D"', '"Lambda"', "layer[0].type: 'Lambda' is not valid; choose one of Activation, "),
        ('"Conv2D"', "[1]", "layer[0].type: [1] is not valid; choose one of Activation, "),
        ('name = "fc"', 'name = "f/c"', "layer[3].name: 'f/c' is not a name"),
        ('type = "Flatten"', "", "layer[2].type: is missing; it must be one of Activation, "),
        ('type = "Flatten"', "type = ", "is not valid TOML: "),
    ],
)
def test_mistakes_in_a_recipe_name_the_key_and_what_is_valid(recipe, old, new, words):
    path = recipe((old, new))
    assert any(line.startswith(f"{path}: {words}") for line in refusal(path)), refusal(path)


def test_all_mistakes_in_a_recipe_are_told_together(recipe):
    path = recipe(("epochs = 1", "epochs = 0"), ("seed = 3", ""), ('"Flatten"', '"Flat"'), ("bits = 3", "x = 1"))
    assert len(refusal(path)) == 5


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("filters = 2", "filter = 2", "tiny: layer 0 (Conv2D): "),
        ("kernel_size = 3", "kernel_size = 9", "tiny: layer 0 (Conv2D): "),
        ('"softmax"', '"relu"', "tiny: the last layer must end in softmax over the classes, or in sigmoid"),
        ('type = "Flatten"', 'type = "ReLU"', "holds no labels for the 36 positions of an image"),
        ("[8, 8, 1]", "[8, 9, 1]", "tiny: input_shape is (8, 9, 1), but x_train in"),
        ("tiny.npz", "none.npz", "none.npz: no such file (looked for "),
    ],
)
def test_what_does_not_fit_together_is_found_before_training(recipe, old, new, words):
    assert any(words in line for line in refusal(recipe((old, new))))


def test_labels_beyond_the_outputs_are_found_before_training(recipe, tmp_path):
    path = recipe()
    arrays = dict(np.load(tmp_path / "tiny.npz"))
    arrays["y_train"][7] = 5
    np.savez(tmp_path / "tiny.npz", **arrays)
    (problem,) = refusal(path)
    assert "y_train in " in problem
    assert problem.endswith("has label 5; the outputs allow 0 to 1")


def test_a_dataset_without_training_images_names_the_arrays_there(recipe, tmp_path):
    path = recipe()
    np.savez(tmp_path / "tiny.npz", x_test=np.zeros((1, 8, 8), np.uint8), y_test=np.zeros(1, int))
    assert "no array x_train and y_train; the arrays there are: x_test, y_test" in refusal(path)[0]


def test_a_folder_that_cannot_be_written_is_refused(recipe, tmp_path):
    path = recipe()
    (tmp_path / "occupied").touch()
    assert "occupied: cannot write here (" in refusal(path, out=tmp_path / "occupied")[0]


def test_a_bad_seed_or_a_missing_recipe_is_refused(recipe, tmp_path):
    assert refusal(recipe(), seed=-1) == ("seed: -1 is not a whole number from 0 to 2^32 - 1",)
    assert refusal(recipe(), seeds=0) == ("seeds: 0 is not a whole number of at least 1",)
    assert refusal(recipe(), seed=2**32 - 2, seeds=3) == ("seeds: 4294967294 to 4294967296 go beyond 2^32 - 1",)
    assert "no such file" in refusal(tmp_path / "none.toml")[0]
    with pytest.raises(InputError, match="needs a folder to write to"):
        train(read_recipe(recipe()))


def test_a_fresh_process_shows_the_progress_of_training_and_no_more(recipe):
    path = recipe(('["h5", "keras"]', '["h5"]'))
    code = (
        "from sweep.networks.loading import load_network\n"
        "from sweep.training.training import train\n"
        f"load_network(train({str(path)!r})[0].path)"
    )
    plain = {key: value for key, value in os.environ.items() if not key.startswith("TF_")}
    done = subprocess.run([sys.executable, "-c", code], env=plain, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("tiny: epoch 1/1: ")
    assert len(done.stdout.splitlines()) == 1

"""Data as people have it, from the study to the counts: those of plain Keras, whatever the format."""

import re
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import sweep
from sweep import cli
from sweep.data.datasets import load_dataset
from sweep.errors import InputError
from sweep.preparation.inputs import prepare
from sweep.study.study import Study, parse_file
from tests.oracle import count, perturbed

Arrays = tuple[np.ndarray, np.ndarray]
BARE: dict[str, Any] = {
    "name": "n",
    "model": "m.keras",
    "seeds": 1,
    "family": [{"name": "f", "perturb": [{"op": "gaussian", "scale": 0.1}]}],
}
NAMES = ("ant", "bee", "cat", "dog", "eel")


def study(dataset: str, extra: str = "", perturb: str = '{ op = "gaussian", scale = 0.2 }') -> str:
    lines = ['name = "data"', 'model = "net.keras"', f'dataset = "{dataset}"', "seeds = 2", extra]
    Path("data.toml").write_text("\n".join([*lines, "[[family]]", 'name = "f"', f"perturb = [ {perturb} ]"]))
    return "data.toml"


def counted(out: str = "run", **options: Any) -> list[int]:
    """Of the clean network, then of the two seeds."""
    return sweep.run("data.toml", out, runner="inline", **options).trials().sort_values("seed")["n_correct"].tolist()


def by_keras(images: np.ndarray, labels: np.ndarray) -> list[int]:
    model = keras.models.load_model("net.keras")
    kernels = [i for i, w in enumerate(model.weights) if w.path.endswith("kernel")]
    ops = [{"op": "gaussian", "scale": 0.2}]
    clean = count(model, model.get_weights(), images, labels)
    trials = [count(model, perturbed(model, kernels, ops, seed), images, labels) for seed in range(2)]
    return [clean, trials[0], trials[1]]


def npz(x: np.ndarray, y: np.ndarray) -> tuple[str, str]:
    np.savez("d.npz", pictures=x, kinds=y + 1)
    return "d.npz", 'x = "pictures"\ny = "kinds"\nlabels = [1, 2, 3, 4, 5]'


def npy(x: np.ndarray, y: np.ndarray) -> tuple[str, str]:
    Path("d").mkdir()
    np.save("d/x_test.npy", x)
    np.save("d/y_test.npy", y.astype(np.float32)[:, None])
    return "d", ""


def saved(x: np.ndarray) -> list[str]:
    Path("pngs").mkdir()
    for i, image in enumerate(x):
        Image.fromarray(image).save(f"pngs/{i:03}.png")
    return [f"pngs/{i:03}.png" for i in range(len(x))]


def parquet(x: np.ndarray, y: np.ndarray) -> tuple[str, str]:
    pictures = [{"bytes": Path(path).read_bytes(), "path": path} for path in saved(x)]
    pd.DataFrame({"image": pictures, "label": y}).to_parquet("d.parquet")
    return "d.parquet", ""


def csv(x: np.ndarray, y: np.ndarray) -> tuple[str, str]:
    pd.DataFrame({"file": saved(x), "kind": np.array(NAMES)[y]}).to_csv("d.csv", index=False)
    return "d.csv", 'x = "file"\ny = "kind"'


def classes(x: np.ndarray, y: np.ndarray) -> tuple[str, str]:
    for name in NAMES:
        Path("d", name).mkdir(parents=True)
    for path, kind in zip(saved(x), y, strict=True):
        shutil.move(path, Path("d", NAMES[kind]))
    return "d", ""


def function(x: np.ndarray, y: np.ndarray) -> tuple[str, str]:
    np.savez("raw.npz", x=x, y=y)
    code = """
    import numpy as np
    import tensorflow as tf

    def load():
        raw = np.load("raw.npz")
        return tf.data.Dataset.from_tensor_slices((raw["x"], raw["y"])).batch(64)
    """
    Path("my_data.py").write_text("\n".join(line[4:] for line in code.splitlines()))
    return "my_data.py:load", ""


@pytest.fixture
def arrays(place: Path) -> Arrays:
    found = np.load("data.npz")
    return found["x_test"], found["y_test"]


@pytest.mark.parametrize("written", [npz, npy, parquet, csv, classes, function])
def test_counts_are_those_of_keras(arrays: Arrays, written: Callable[..., tuple[str, str]]):
    x, y = arrays
    study(*written(x, y))
    assert counted() == by_keras(x[..., None].astype(np.float32) / np.float32(255), y)
    assert sweep.plan("data.toml", "run").done == 3, "the same study goes on"


def test_plain_numbers_in_a_table(place: Path):
    rng = np.random.default_rng(2)
    net = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)])
    net.set_weights([rng.normal(size=w.shape) for w in net.get_weights()])
    net.save("net.keras")
    x = rng.normal(size=(80, 6)).astype(np.float32)
    y = net.predict(x, verbose=0).argmax(1)
    y[::7] = 0
    frame = pd.DataFrame(x, columns=[f"f{i}" for i in range(6)])
    frame.insert(3, "label", np.array(["low", "mid", "top"])[y])
    frame.to_csv("d.csv", index=False)
    study("d.csv")
    assert counted() == by_keras(x, y)


def laid_out(x: np.ndarray, y: np.ndarray) -> None:
    """These images in all places that the README names."""
    np.savez("my_data.npz", x_test=x, y_test=y)
    for folder in ("arrays", "hub/data", *(f"photos/{label}" for label in np.unique(y))):
        Path(folder).mkdir(parents=True)
    np.save("arrays/x_test.npy", x)
    np.save("arrays/y_test.npy", y)
    frame = pd.DataFrame({"image": [Path(path).read_bytes() for path in saved(x)], "label": y})
    for place in ("test.parquet", "hub/data/test-0.parquet", "hub/data/train-0.parquet"):
        frame.to_parquet(place)
    pd.DataFrame(x.reshape(len(x), -1)).assign(label=y).to_csv("measured.csv", index=False)
    for i, label in enumerate(y):
        shutil.copy(f"pngs/{i:03}.png", f"photos/{label}/{i:03}.png")
    Path("my_data.py").write_text("import numpy as np\ndef load():\n    return tuple(np.load('my_data.npz').values())")


def data_lines(root: Path) -> list[str]:
    """The lines of the README's section on data that a study may hold."""
    section = (
        (root / "README.md").read_text(encoding="utf-8").partition("### Your data\n")[2].partition("\nPaths are")[0]
    )
    return [line for block in re.findall(r"```toml\n(.*?)```", section, re.DOTALL) for line in block.splitlines()]


def test_the_lines_of_the_readme_say_what_is_read(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    named = [tomllib.loads(line) for line in data_lines(root)]
    for table in named:
        assert Study.from_dict({"dataset": "d.npz", **BARE, **table})
    assert {key for table in named for key in table} == {"dataset", "x", "y", "output", "labels", "calibration"}
    monkeypatch.chdir(tmp_path)
    x, y = np.arange(6 * 4 * 4, dtype=np.uint8).reshape(6, 4, 4), np.arange(6) % 2
    laid_out(x, y)
    for table in named[:7]:
        found = load_dataset(table["dataset"])
        order = np.argsort(y, kind="stable") if table["dataset"] == "photos" else np.arange(6)
        np.testing.assert_array_equal(found.images.reshape(6, 16), x.reshape(6, 16)[order])
        np.testing.assert_array_equal(found.labels, y[order])


def test_a_study_copied_from_the_readme_counts_as_keras(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its six lines, with each of the lines for data in place of theirs: the same images in every format."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(4)
    x = rng.integers(0, 256, (40, 6, 6), dtype=np.uint8)
    images = x[..., None].astype(np.float32) / np.float32(255)
    net = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(3, "softmax")])
    net.set_weights([rng.normal(size=w.shape) for w in net.get_weights()])
    flat = keras.Sequential([keras.Input((36,)), keras.layers.Dense(3, "softmax")])
    flat.set_weights(net.get_weights())
    y = (net.predict(images, verbose=0).argmax(1) + (rng.random(40) < 0.2)) % 3
    lines = [line for line in data_lines(root) if line.startswith("dataset = ")]
    assert len(lines) == 7
    laid_out(x, y)
    kernel, bias = net.get_weights()
    want = {0.0: {0: count(net, [kernel, bias], images, y)}, 0.02: {}, 0.05: {}, 0.1: {}}
    for scale in (0.02, 0.05, 0.1):
        for seed in range(2):
            draw = np.random.Generator(np.random.Philox(np.random.SeedSequence([0, seed, 0, 0])))
            noise = np.float32(scale) * np.abs(kernel).max() * draw.standard_normal(kernel.shape, np.float32)
            want[scale][seed] = count(net, [kernel + noise, bias], images, y)
    assert len({right for rights in want.values() for right in rights.values()}) > 2, "noise changes something"
    block = re.search(r"```toml\n(.*?)```", (root / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert block
    text = re.sub("^precision = .*$", "seeds = 2", block[1], flags=re.MULTILINE)
    for k, line in enumerate(lines):
        place = tomllib.loads(line)["dataset"]
        numbers = place == "measured.csv"
        (flat if numbers else net).save("my_network.keras")
        study, replaced = re.subn("^dataset = .*$", line, text, flags=re.MULTILINE)
        assert replaced == 1
        more = 'rescale = "0..1"\n' if numbers else ""  # whole numbers in a table
        Path("mine.toml").write_text(more + study)
        trials = sweep.run("mine.toml", f"run{k}", runner="inline").trials()
        family = trials[trials["family"] == "gaussian"]
        found = {
            scale: dict(zip(some["seed"], some["n_correct"], strict=True)) for scale, some in family.groupby("scale")
        }
        assert found == want, place


def test_the_mapping_is_said(arrays: Arrays):
    dataset, names = csv(*arrays)
    study(dataset, names)
    assert sweep.plan("data.toml").images[0].endswith("labels ant = 0, bee = 1, cat = 2, dog = 3, eel = 4, 5 outputs")


def refused(**options: Any) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        prepare(parse_file("data.toml"), **options)
    assert all("\n" not in problem for problem in caught.value.problems)
    return caught.value.problems


def test_labels_are_never_renumbered_silently(arrays: Arrays):
    x, y = arrays
    np.savez("d.npz", x_test=x, y_test=y + 1)
    study("d.npz")
    (problem,) = refused()
    assert "labels are 0 to 4; the highest is 5; if its classes are those that occur, in order, say " in problem
    assert problem.endswith("labels = [1, 2, 3, 4, 5]")


def test_sorted_order_is_not_taken_where_classes_are_missing(arrays: Arrays):
    x, y = arrays
    np.savez("d.npz", x_test=x[y < 3], y_test=np.array(NAMES)[y[y < 3]])
    study("d.npz")
    (problem,) = refused()
    assert "labels: are missing: the dataset has 3 different ones and the network 5 classes" in problem
    study("d.npz", f"labels = {list(NAMES)}".replace("'", '"'))
    assert counted() == by_keras(x[y < 3, ..., None].astype(np.float32) / np.float32(255), y[y < 3])


def test_more_labels_than_the_network_has_classes_are_refused(arrays: Arrays):
    study("data.npz", "labels = [0, 1, 2, 3, 4, 5]")
    assert refused() == ("data.toml: labels: 6 are given, and the network has 5 classes (net)",)


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (np.eye(5)[[0] * 300] + np.eye(5)[[1] * 300], "300 rows that are not one-hot"),
        (np.full(300, 0.5), "numbers with fractions"),
        (np.zeros((300, 4, 4)), "4 × 4 numbers for each image"),
    ],
)
def test_accuracy_needs_classes(arrays: Arrays, y: np.ndarray, words: str):
    np.savez("d.npz", x_test=arrays[0], y_test=y)
    study("d.npz")
    (problem,) = refused()
    assert f"the dataset has no class for each image, it has {words}" in problem
    study("d.npz", 'y = "x_test"')
    assert "it has the images themselves" in refused()[0]


def test_other_names_and_labels_are_another_study(arrays: Arrays):
    x, y = arrays
    np.savez("d.npz", x_test=x, y_test=y, x_more=x[::-1], y_more=(y + 1) % 5)
    found = {}
    for extra in ("", 'x = "x_more"', 'y = "y_more"', "labels = [4, 3, 2, 1, 0]"):
        study("d.npz", extra)
        found[prepare(parse_file("data.toml")).digest] = counted(f"run{len(found)}")
    assert len(found) == 4
    assert len({tuple(counts) for counts in found.values()}) == 4, "no worker mistakes one for another"
    with pytest.raises(InputError, match="dataset was"):
        counted("run0")


CALIBRATED = '{ op = "activation_affine", bits = 3 }'


@pytest.mark.parametrize("place_", ["other.npz", "folder", "train.parquet", "my_data.py:load"])
def test_calibration_from_elsewhere_is_that_of_the_same_file(arrays: Arrays, place_: str):
    x, y = arrays
    train = np.random.default_rng(9).integers(0, 200, (40, 12, 12), dtype=np.uint8)
    np.savez("whole.npz", x_test=x, y_test=y, x_train=train)
    np.savez("other.npz", x_train=train, x_test=x[:3])
    Path("folder").mkdir()
    np.save("folder/x_train.npy", train)
    contents = [Path(path).read_bytes() for path in saved(train)]
    pd.DataFrame({"image": contents}).to_parquet("train.parquet")
    Path("my_data.py").write_text("import numpy as np\ndef load():\n    return np.load('whole.npz')['x_train']")
    study("whole.npz", perturb=CALIBRATED)
    expected = counted("whole")
    study("data.npz", f'calibration = "{place_}"', perturb=CALIBRATED)
    assert counted("other") == expected
    prepared = prepare(parse_file("data.toml"))
    assert set(prepared.identity["files"]) == {"dataset", "model net", "calibration"}
    study("whole.npz", perturb=CALIBRATED)
    assert set(prepare(parse_file("data.toml")).identity["files"]) == {"dataset", "model net"}, "as ever"


def test_the_test_set_does_not_calibrate(arrays: Arrays):
    """As where the arrays have names by which those that were trained on are not found."""
    x, y = arrays
    np.savez("named.npz", pictures=x, kinds=y, others=x[::-1])
    np.savez("more.npz", x_train=x[::-1])
    named = 'x = "pictures"\ny = "kinds"\ncalibration = '
    study("named.npz", f'{named}"named.npz"', perturb=CALIBRATED)
    (problem,) = refused()
    assert "named.npz: what is read there are the images of the test set; name training images" in problem
    study("named.npz", f'{named}"more.npz"', perturb=CALIBRATED)
    assert f"for ranges and statistics the first {len(x)} training images in more.npz" in str(sweep.plan("data.toml"))


def test_calibration_that_does_not_fit_is_refused(arrays: Arrays):
    np.savez("small.npz", x_train=np.zeros((5, 6, 6), np.uint8))
    study("data.npz", 'calibration = "small.npz"', perturb=CALIBRATED)
    (problem,) = refused()
    assert "calibration: the network takes images of shape (12, 12, 1), the dataset has (6, 6)" in problem
    study("data.npz", 'calibration = "gone.npz"')
    assert "data.toml: calibration: gone.npz: no such file" in refused()[0]


MARK = """
import numpy as np
from pathlib import Path

def load():
    with Path("ran").open("a") as file:
        file.write("x")
    found = np.load("data.npz")
    return found["x_test"], found["y_test"]
"""


def test_reading_a_run_never_runs_the_function(arrays: Arrays, capsys: pytest.CaptureFixture[str]):
    Path("my_data.py").write_text(MARK)
    study("my_data.py:load")
    assert len(counted()) == 3
    assert Path("ran").read_text() == "x", "once, in the driver"
    run = sweep.open_run("run")
    assert len(run.trials()) == 3
    assert run.summary() is not None
    Path("my_data.py").write_text(MARK + "# as a stranger's")  # which has not run in this process
    verdict = cli.main(["verify", "run"])
    assert "brings code of its own (my_data.py:load)" in "".join(capsys.readouterr())
    assert verdict in (0, 1)
    for study_ in ("run/study.toml", run.study, Study.from_toml("run/study.toml")):
        with pytest.raises(InputError, match="only with --trust-plugins"):
            sweep.run(study_, "run", runner="inline")
    assert Path("ran").read_text() == "x"
    with pytest.raises(InputError, match="dataset was"):  # it ran, and is another file
        sweep.run("run/study.toml", "run", runner="inline", trust_plugins=True)
    assert Path("ran").read_text() == "xx"

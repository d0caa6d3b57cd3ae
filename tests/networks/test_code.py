"""Networks that need code of a user's own, or are in no file: evaluated, kept, and read without running anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

import sweep
from sweep.errors import InputError
from sweep.networks.saving import saved
from sweep.study.study import Study
from tests.networks import own_layers
from tests.oracle import count, perturbed

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
FAMILIES = [{"name": "weights", "perturb": [{"op": "gaussian", "scale": 0.1}]}]
IMAGES = 40


def graph(name: str = "graph") -> keras.Model:
    layers = [keras.layers.Flatten(), own_layers.Own(6), own_layers.Registered(5), keras.layers.Dense(4)]
    return keras.Sequential([keras.Input((8, 8, 3)), *layers], name=name)


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """In data.npz of the current folder, where my_code.py is, too."""
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(3)
    drawn = np.random.default_rng(0).random((IMAGES, 8, 8, 3)).astype(np.float32)
    np.savez("data.npz", x_test=drawn, y_test=np.arange(IMAGES) % 4)
    Path("my_code.py").write_bytes(Path(own_layers.__file__).read_bytes())
    return drawn


def study(model: object, **keys: object) -> Study:
    tables = {"name": "own", "model": model, "dataset": "data.npz", "seeds": 2, "family": FAMILIES}
    return Study.from_dict({**tables, **keys}, "study.toml")


def expected(model: keras.Model, images: np.ndarray) -> list[int]:
    matrices = [i for i, w in enumerate(model.weights) if len(w.shape) > 1]
    weights = [perturbed(model, matrices, [{"op": "gaussian", "scale": 0.1}], seed) for seed in (0, 1)]
    return [count(model, own, images, np.arange(IMAGES) % 4) for own in weights]


def counts(run: sweep.Run, model: str) -> list[int]:
    trials = run.trials().query("family == 'weights' and model == @model")
    return trials.sort_values("seed").n_correct.tolist()


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_layers_of_ones_own_are_known_by_the_file_that_defines_them(images: np.ndarray, suffix: str):
    model = graph()
    model.save(f"net{suffix}")
    with pytest.raises(InputError, match="if it is yours, name the Python file that defines it: custom_objects"):
        sweep.plan(study(f"net{suffix}"))
    run = sweep.run(study(f"net{suffix}", custom_objects=["my_code.py"]), runner="inline")
    assert counts(run, "net") == expected(model, images)


@pytest.mark.slow
def test_workers_get_the_code_of_networks(images: np.ndarray):
    model, other = graph(), own_layers.build()
    model.save("net.keras")
    other.save_weights("other.weights.h5")
    Path("build.py").write_text(Path("my_code.py").read_text().replace('"mine"', '"build"'))
    both = ["net.keras", {"build": "build.py:build", "weights": "other.weights.h5"}]
    run = sweep.run(study(both, custom_objects=["my_code.py"]), workers=1)
    assert counts(run, "net") == expected(model, images)
    assert counts(run, "other") == expected(other, images)
    kept = sorted(path.name.partition("-")[2] for path in Path("results/own/plugins").iterdir())
    assert kept == ["build.py", "my_code.py"]


def test_weights_go_with_the_function_that_builds_their_network(images: np.ndarray):
    first, second = own_layers.build(), own_layers.build()
    for name, model in (("first", first), ("second", second)):
        model.save_weights(f"{name}.weights.h5")
    models = [{"build": "my_code.py:build", "weights": f"{name}.weights.h5"} for name in ("first", "second")]
    made = study(models)
    assert list(made.models) == ["first", "second"]
    run = sweep.run(made, runner="inline")
    assert counts(run, "first") == expected(first, images)
    assert counts(run, "second") == expected(second, images)
    assert Study.from_dict(made.to_dict(), "study.toml") == made
    names = set(pd.read_parquet("results/own/resolved.parquet").layer)
    assert names == {"dense", "dense_1"}  # as in a process that has made no other layers


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"build": "my_code.py:nothing", "weights": "net.weights.h5"}, "has no function nothing"),
        ({"build": "my_code.py:swoosh", "weights": "net.weights.h5"}, "swoosh() fails: TypeError"),
        ({"build": "my_code.py:int", "weights": "net.weights.h5"}, "has no function int"),
        ({"build": "no.py:build", "weights": "net.weights.h5"}, "no.py: no such file"),
        ({"build": "my_code.py:build", "weights": "no.weights.h5"}, "no.weights.h5: no such file"),
        ({"build": "my_code.py:build", "weights": "other.weights.h5"}, "not the weights of what build() builds"),
        ({"build": "my_code.py", "weights": "net.weights.h5"}, 'a function in it, such as "my_model.py:build"'),
        ({"build": "my_code.py:build"}, "weights: is missing"),
        ("net.weights.h5", "it may hold weights only; these go with what builds their network: model = { build ="),
    ],
)
def test_what_is_wrong_with_built_networks_is_said_in_one_line(images: np.ndarray, model: object, words: str):
    own_layers.build().save_weights("net.weights.h5")
    graph().save_weights("other.weights.h5")
    with pytest.raises(InputError) as refused:
        sweep.plan(study(model))
    assert words in str(refused.value)
    assert not any("\n" in problem for problem in refused.value.problems)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("x = 1", "brings no layer and no function"),
        ("raise ValueError('first\\nsecond')", "ValueError: first"),
        ("def swoosh(x):\n    return x", "brings swoosh, as another file does"),
    ],
)
def test_files_that_bring_nothing_or_the_same_are_refused(images: np.ndarray, code: str, words: str):
    graph().save("net.keras")
    Path("more.py").write_text(code)
    with pytest.raises(InputError) as refused:
        sweep.plan(study("net.keras", custom_objects=["my_code.py", "more.py"]))
    assert words in str(refused.value)
    assert not any("\n" in problem for problem in refused.value.problems)


def test_a_run_is_read_without_its_code_and_goes_on_where_it_is_trusted(images: np.ndarray):
    graph().save("net.keras")
    with Path("my_code.py").open("a") as file:
        file.write("\nimport pathlib\npathlib.Path('ran').touch()\n")
    sweep.run(study("net.keras", custom_objects=["my_code.py"]), runner="inline")
    assert Path("ran").exists()
    Path("ran").unlink()
    script = (
        "import sys, sweep\nfrom sweep.errors import UntrustedError\n"
        "assert len(sweep.open_run('results/own').trials()) == 3\n"
        "try:\n    sweep.run('results/own/study.toml', 'results/own', seeds=3, runner='inline')\n"
        "except UntrustedError as error:\n    assert 'my_code.py' in str(error)\n"
        "else:\n    raise AssertionError\n"
        "import pathlib\nassert not pathlib.Path('ran').exists()\n"
        "run = sweep.run('results/own/study.toml', 'results/own', seeds=3, runner='inline', trust_plugins=True)\n"
        "assert len(run.trials()) == 4\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    Path("my_code.py").write_text(Path("my_code.py").read_text() + "\n")
    with pytest.raises(InputError, match=r"file my_code.py was"):
        sweep.plan(study("net.keras", custom_objects=["my_code.py"]))


def test_a_model_in_memory_is_evaluated_and_goes_on_as_the_same(images: np.ndarray):
    layers = [keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.Flatten(), keras.layers.Dense(4)]
    model = keras.Sequential([keras.Input((8, 8, 3)), *layers], name="mine")
    assert saved(model) == saved(model)

    def made() -> Study:
        families = [sweep.Family(**family) for family in FAMILIES]
        return Study("own", model, "data.npz", seeds=2, family=families)

    run = sweep.run(made(), runner="inline")
    assert counts(run, "mine") == expected(model, images)
    assert 'model = "<in memory: mine>"' in Path("results/own/study.toml").read_text()
    plan = sweep.plan(made())
    assert (plan.trials, plan.done) == (3, 3)
    with pytest.raises(InputError, match=r"is in no file; give the model again"):
        sweep.plan("results/own/study.toml")
    assert len(sweep.open_run("results/own").trials()) == 3
    model.layers[-1].bias.assign([1, 2, 3, 4])
    with pytest.raises(InputError, match="mine was"):
        sweep.plan(made())


def test_models_in_memory_with_one_name_or_no_way_to_be_saved_are_refused(images: np.ndarray):
    families = [sweep.Family(**family) for family in FAMILIES]
    with pytest.raises(InputError, match="two models in memory are called 'graph'"):
        Study("own", [graph(), graph()], "data.npz", seeds=2, family=families)
    with pytest.raises(InputError, match="name the Python file that defines it"):
        sweep.plan(Study("own", graph(), "data.npz", seeds=2, family=families))
    with pytest.raises(InputError, match=r"a Dense is no path and no keras\.Model"):
        Study("own", keras.layers.Dense(3), "data.npz", seeds=2, family=families)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("net.tflite", "is a TFLite file"),
        ("net.onnx", "is an ONNX file; build the same network in Keras"),
        ("net.pt", "holds weights of PyTorch"),
        ("net.safetensors", "holds weights of PyTorch"),
        ("net.pb", "is a TensorFlow graph"),
        ("net.pkl", "is a pickle, which can run any code"),
        ("net.json", "is an architecture without weights"),
        ("net.txt", "not a Keras model by its name"),
        ("folder", "is a SavedModel; `pip install tf_keras`"),
        ("other", "is a folder, not a file; give one that ends in .keras"),
    ],
)
def test_other_forms_are_refused_with_what_to_do(images: np.ndarray, name: str, words: str):
    Path("folder").mkdir()
    Path("other").mkdir()
    Path("folder/saved_model.pb").touch()
    if "." in name:
        Path(name).write_bytes(b"\x00")
    with pytest.raises(InputError) as refused:
        sweep.plan(study(name))
    (problem,) = refused.value.problems
    assert words in problem
    assert "\n" not in problem

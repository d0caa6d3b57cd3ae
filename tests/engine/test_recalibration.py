"""Batch normalisation with statistics of the chip's own: against plain Keras and NumPy, layer by layer."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers as kl

import sweep
from sweep import cli
from sweep.engine.recalibration import Recalibration, moments
from sweep.errors import InputError
from sweep.execution.verify import verify
from sweep.networks.loading import load_network
from sweep.storage.schema import PROVENANCE
from sweep.study.study import Study
from tests.oracle import count, draw, perturbed

ROOT = Path(__file__).parent.parent.parent
CALIBRATION = 90
STUDY = """
name = "anew"
model = "norms.keras"
dataset = "data.npz"
seeds = 2

[[family]]
name = "as trained"
perturb = [ { op = "gaussian", scale = [0, 0.2] } ]

[[family]]
name = "anew"
perturb = [ { op = "gaussian", scale = [0, 0.2] } ]
recalibrate = { images = 90 }
"""
ACTIVATIONS = """
name = "flow"
model = "norms.keras"
dataset = "data.npz"
seeds = 2

[[family]]
name = "noisy"
perturb = [ { op = "gaussian", scale = 0.2 }, { op = "activation_noise", scale = 0.5, layers = "first" } ]
recalibrate = { kind = "batch_norm", images = 90 }
"""


def residual() -> keras.Model:
    """Norms behind convolutions, a sum and a dense layer; one of them frozen, one behind a dropout."""
    rng = np.random.default_rng(7)
    x = keras.Input((8, 8, 1))
    y = a = kl.ReLU()(kl.BatchNormalization(name="norm1")(kl.Conv2D(6, 3, use_bias=False, name="first")(x)))
    y = kl.BatchNormalization(name="norm2")(kl.Conv2D(6, 3, padding="same", use_bias=False, name="second")(y))
    y = kl.Dropout(0.5)(kl.ReLU()(kl.Add()([a, y])))
    y = kl.BatchNormalization(name="norm3", trainable=False)(kl.Dense(7, name="third")(kl.GlobalAveragePooling2D()(y)))
    net = keras.Model(x, kl.Dense(5, activation="softmax", name="fc")(kl.ReLU()(y)))
    for weight in net.weights:
        name = weight.path.rsplit("/", 1)[-1]
        value = rng.normal(1 if name in ("gamma", "moving_variance") else 0, 0.3, weight.shape)
        weight.assign(np.abs(value) if name == "moving_variance" else value)
    return net


@pytest.fixture(scope="module")
def norms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with norms.keras, and data.npz with 300 test and 120 training images."""
    folder = tmp_path_factory.mktemp("norms")
    rng = np.random.default_rng(8)
    net = residual()
    net.save(folder / "norms.keras")
    images = rng.integers(0, 256, (420, 8, 8), dtype=np.uint8)
    labels = net.predict(as_seen(images), verbose=0).argmax(1)
    np.savez(folder / "data.npz", x_test=images[:300], y_test=labels[:300], x_train=images[300:], y_train=labels[300:])
    return folder


@pytest.fixture
def here(norms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("norms.keras", "data.npz"):
        (tmp_path / name).write_bytes((norms / name).read_bytes())
    (tmp_path / "study.toml").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def as_seen(images: np.ndarray) -> np.ndarray:
    return images[..., None].astype(np.float32) / 255


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Test images and labels, calibration images."""
    with np.load("data.npz") as found:
        return as_seen(found["x_test"]), found["y_test"], as_seen(found["x_train"][:CALIBRATION])


def recalibrated(model: keras.Model, weights: list[np.ndarray], images: np.ndarray) -> list[np.ndarray]:
    """By hand: norm after norm, the mean and variance of what it is handed by those that have theirs already."""
    clean = model.get_weights()
    model.set_weights(weights)
    for layer in model.layers:
        if isinstance(layer, kl.BatchNormalization):
            handed = np.asarray(keras.Model(model.input, layer.input)(images, training=False), np.float64)
            handed = handed.reshape(-1, handed.shape[-1])
            layer.moving_mean.assign(handed.mean(0))
            layer.moving_variance.assign(handed.var(0))
    found = model.get_weights()
    model.set_weights(clean)
    return found


def test_statistics_are_those_of_one_pass_of_training(norms: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(norms)
    network, images = load_network(Path("norms.keras")), data()[2]
    model = keras.saving.load_model("norms.keras")
    kernels = [i for i, w in enumerate(model.weights) if w.path.endswith("kernel")]
    weights = perturbed(model, kernels, [{"op": "gaussian", "scale": 0.2}], seed=4)
    found = Recalibration(network, images).of(weights)
    for w, ours, theirs in zip(model.weights, found, recalibrated(model, weights, images), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6, err_msg=w.path)
    # And by Keras's own pass of training, but for its dropout, and for the norm that it would leave as it is.
    model.set_weights(weights)
    for layer in model.layers:
        layer.trainable = True
        if isinstance(layer, kl.BatchNormalization):
            layer.momentum = 0.0
        if isinstance(layer, kl.Dropout):
            layer.rate = 0.0
    model(images, training=True)
    for w, ours in zip(model.weights, found, strict=True):
        np.testing.assert_allclose(ours, w.numpy(), rtol=2e-4, atol=2e-5, err_msg=w.path)


def test_moments_keep_their_digits():
    """A million values far from 0, with the channels in whatever place."""
    x = np.random.default_rng(0).normal(30, 0.1, (64, 128, 128, 2)).astype(np.float32)
    for axis, values in ((-1, x), (1, np.moveaxis(x, -1, 1))):
        mean, variance = (np.asarray(m) for m in moments(values, axis))
        np.testing.assert_allclose(mean, x.astype(np.float64).mean((0, 1, 2)), rtol=1e-6)
        np.testing.assert_allclose(variance, x.astype(np.float64).var((0, 1, 2)), rtol=1e-4)


@pytest.mark.slow
def test_every_way_counts_as_predict_does_with_the_new_statistics(here: Path, capsys: pytest.CaptureFixture[str]):
    runs = {engine: sweep.run("study.toml", engine, runner="inline", engine=engine) for engine in WAYS}
    trials = {engine: run.trials() for engine, run in runs.items()}
    for engine, found in trials.items():
        random = found[found["scale"] == 0.2]
        assert set(random["engine"]) == {engine}
        pairs = (found.drop(columns=list(PROVENANCE)), trials["plain"].drop(columns=list(PROVENANCE)))
        assert pairs[0].equals(pairs[1])
    check_counts(trials["plain"].set_index(["cell", "seed"])["n_correct"])
    check_chip(runs["compiled"], capsys)
    check_plan(capsys)
    assert verify("stacked", sample=100).sound
    check_identity()


WAYS = ("plain", "stacked", "compiled")


def check_counts(counts) -> None:
    model = keras.saving.load_model("norms.keras")
    images, labels, calibration = data()
    kernels = [i for i, w in enumerate(model.weights) if w.path.endswith("kernel")]
    apart = 0
    for seed in range(2):
        noisy = perturbed(model, kernels, [{"op": "gaussian", "scale": 0.2}], seed)
        wanted = [count(model, w, images, labels) for w in (noisy, recalibrated(model, noisy, calibration))]
        assert wanted == [counts["norms/as trained/scale=0.2", seed], counts["norms/anew/scale=0.2", seed]]
        apart += abs(wanted[0] - wanted[1])
    clean = recalibrated(model, model.get_weights(), calibration)
    assert counts["norms/anew/scale=0", 0] == count(model, clean, images, labels)
    assert counts["norms/clean", 0] == counts["norms/as trained/scale=0", 0] == len(images)
    assert apart > 20, "which would not have been seen"


def check_chip(run: sweep.Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Its file has the new statistics, and Keras decides every image with it as `inspect` says."""
    chip = run.chip("norms/anew/scale=0.2", 1)
    images, labels, _ = data()
    saved = keras.saving.load_model(chip.save("chip.keras"))
    decided = saved.predict(images, verbose=0).argmax(1)
    assert chip.images["decision"].tolist() == decided.tolist()
    for ours, theirs in zip(chip.weights, saved.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert cli.main(["inspect", str(run.store.folder.uri), "--cell", chip.cell, "--seed", "1"]) == 0
    assert f"{(decided == labels).sum()} of 300 images right" in capsys.readouterr().out


def check_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "study.toml"]) == 0
    told = "anew: then statistics of norm1, norm2, norm3 anew, from 90 training images at most; weights of first"
    out = capsys.readouterr().out
    assert told in " ".join(out.split())
    assert out.count("anew, from") == 1


def check_identity() -> None:
    """Of a study without it nothing changes; another number of images is another study."""
    tables = tomllib.loads(STUDY)
    study = Study.from_dict(tables)
    assert Study.from_toml("plain/study.toml") == study
    assert tomllib.loads(study.to_toml()) == {**tables, "root_seed": 0}
    cells = study.identity({})["cells"]
    assert cells["norms/as trained/scale=0.2"] == cells["norms/anew/scale=0.2"][:-1]
    assert cells["norms/anew/scale=0.2"][-1] == {"op": "recalibrate", "kind": "batch_norm", "images": 90}
    Path("study.toml").write_text(STUDY.replace("images = 90", "images = 50"))
    with pytest.raises(InputError, match=r"cell norms/anew/scale=0\.2 was .*'images': 90.*'images': 50"):
        sweep.run("study.toml", "plain", runner="inline")
    Path("study.toml").write_text(STUDY.replace("{ images = 90 }", '"batch_norm"'))
    assert Study.from_toml("study.toml").cells[-1].recalibrated == 1000


def test_noise_of_the_data_flow_acts_on_calibration_images_too(here: Path):
    """With draws of its own there: the test images have those that they have without recalibration."""
    Path("study.toml").write_text(ACTIVATIONS)
    counts = sweep.run("study.toml", "run", runner="inline").trials().set_index(["cell", "seed"])["n_correct"]
    model = keras.saving.load_model("norms.keras")
    images, labels, calibration = data()
    kernels = [i for i, w in enumerate(model.weights) if w.path.endswith("kernel")]
    layer = model.get_layer("first")
    clean = model.get_weights()
    position = [other.name for other in model.layers if not isinstance(other, kl.InputLayer)].index("first")
    for seed in range(2):
        model.set_weights(clean)
        model.set_weights(perturbed(model, kernels, [{"op": "gaussian", "scale": 0.2}], seed))
        flows = {}
        for streams, given in ((2**33, calibration), (2**32, images)):
            rng = draw(0, seed, 1, streams + 1 + position)
            flows[streams] = np.float32(0.5) * rng.standard_normal((len(given), *layer.output.shape[1:]), np.float32)
        norms = [one for one in model.layers if isinstance(one, kl.BatchNormalization)]
        for norm in norms:
            with adding(layer, flows[2**33]):
                handed = np.asarray(keras.Model(model.input, norm.input)(calibration), np.float64)
            handed = handed.reshape(-1, handed.shape[-1])
            norm.moving_mean.assign(handed.mean(0))
            norm.moving_variance.assign(handed.var(0))
        with adding(layer, flows[2**32]):
            scores = np.asarray(model(images))
        assert counts["norms/noisy", seed] == (scores.argmax(1) == labels).sum()


@contextmanager
def adding(layer: keras.Layer, noise: np.ndarray) -> Iterator[None]:
    """The layer's outputs with these numbers added."""
    call = layer.call
    layer.call = lambda *args, **kwargs: call(*args, **kwargs) + noise
    try:
        yield
    finally:
        del layer.call


def test_chips_that_see_a_sample_are_recalibrated_as_well(here: Path):
    """Each trial again by plain Keras, on the images that it saw; and what the search for settings evaluates."""
    few = STUDY.replace("seeds = 2", 'seeds = 12\nimages = "sampled"')
    Path("study.toml").write_text(few)
    trials = sweep.run("study.toml", "few", runner="inline").trials()
    assert set(trials.loc[trials["scale"] == 0.2, "n_images"]) == {32}
    assert verify("few", sample=30).sound
    means = trials[trials["scale"] == 0.2].groupby("family")["estimate"].mean()
    assert means["anew"] != means["as trained"]


REFUSED = {
    "nothing to recalibrate": (
        {"model": "plain.keras"},
        r"^study: family\[1\]\.recalibrate: plain has no batch normalisation, whose statistics could be taken anew; ",
    ),
    "no images": (
        {"dataset": "bare.npz"},
        r"^study: dataset: .*bare.npz: .*; recalibrate takes statistics of training images$",
    ),
    "a norm used twice": (
        {"model": "twice.keras"},
        r"^study: family\[1\]\.recalibrate: cannot be done here: layer norm acts more than once, .* \(twice\)$",
    ),
    "a norm within another layer": (
        {"model": "within.keras"},
        r"^study: family\[1\]\.recalibrate: cannot be done here: layer \w+ stands within another, out of sight \(",
    ),
    "another word": (
        {"recalibrate": "layer_norm"},
        r'^study: family\[1\]\.recalibrate: .layer_norm. is not "batch_norm" or a table such as',
    ),
    "no number of images": (
        {"recalibrate": {"images": 1}},
        r"recalibrate\.images: 1 is not a whole number of at least 2$",
    ),
    "another weight in each read": (
        {"perturb": [{"op": "gaussian", "scale": 0.1, "lifetime": "read"}]},
        r'^study: family\[1\]\.recalibrate: takes the statistics of a chip once, and with lifetime = "read" each',
    ),
    "the clean network": ({"name": "clean"}, r"^study: family\[1\]\.name: 'clean' is the family of the unperturbed"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_recalibrated_is_refused_in_a_line(here: Path, what: str):
    changes, told = REFUSED[what]
    x = keras.Input((8, 8, 1))
    norm = kl.BatchNormalization(name="norm")
    bodies = {
        "plain": lambda: kl.Dense(5)(kl.Flatten()(x)),
        "twice": lambda: kl.Dense(5)(norm(kl.Dense(4)(norm(kl.Dense(4)(kl.Flatten()(x)))))),
        "within": lambda: kl.Dense(5)(kl.Flatten()(kl.TimeDistributed(kl.BatchNormalization())(kl.Dense(4)(x)))),
    }
    for name in bodies:
        if changes.get("model") == f"{name}.keras":
            keras.Model(x, bodies[name]()).save(f"{name}.keras")
    if "dataset" in changes:
        with np.load("data.npz") as found:
            np.savez("bare.npz", x_test=found["x_test"], y_test=found["y_test"])
    tables = tomllib.loads(STUDY)
    own = {key: value for key, value in changes.items() if key in ("recalibrate", "perturb", "name")}
    tables["family"][1] |= own
    tables |= {key: value for key, value in changes.items() if key not in own}
    with pytest.raises(InputError) as error:
        sweep.run(Study.from_dict(tables), "run", runner="inline")
    assert len(error.value.problems) == 1
    error.match(told)
    assert not Path("run").exists()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed")
def test_jax_takes_the_same_statistics(here: Path):
    ours = sweep.run("study.toml", "tensorflow", runner="inline").trials()
    command = [sys.executable, "-m", "sweep", "run", "study.toml", "--runner", "inline", "--backend", "jax"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([*command, "--out", "jax"], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    theirs = sweep.open_run("jax").trials()
    assert json.loads(Path("jax/manifest.json").read_text())["devices"] == ["JAX CPU"]
    columns = list(PROVENANCE)
    assert theirs.drop(columns=columns).equals(ours.drop(columns=columns))

"""Layers that act more than once in a network: each use has draws of its own, and ranges are those of all uses."""

import json
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as kl

import sweep
from sweep.errors import InputError
from sweep.execution.job import Job
from sweep.execution.plan import Chunk, wanted
from sweep.execution.worker import evaluate_chunk
from sweep.preparation.inputs import prepare
from sweep.preparation.sites import STREAMS
from sweep.study.study import Study
from tests.oracle import draw

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
IMAGES = 40


def two_sizes() -> keras.Model:
    x = keras.Input((8, 8, 2))
    several = kl.Conv2D(4, 3, activation="relu", name="several")
    a = kl.GlobalAveragePooling2D()(several(x))
    b = kl.GlobalMaxPooling2D()(several(kl.AveragePooling2D(2)(2 * x)))
    return keras.Model(x, kl.Dense(4)(kl.Concatenate()([a, b])))


def one_size() -> keras.Model:
    x = keras.Input((8, 8, 2))
    several = kl.Dense(6, activation="tanh", name="several")
    return keras.Model(x, kl.Dense(4)(several(several(kl.Dense(6)(kl.Flatten()(x))))))


def states() -> keras.Model:
    x = keras.Input((8, 8, 2))
    y, h, c = kl.LSTM(5, return_sequences=True, return_state=True, name="several")(kl.Reshape((16, 8))(x))
    return keras.Model(x, kl.Dense(4)(kl.Concatenate()([kl.GlobalMaxPooling1D()(y), h, c])))


NETWORKS: dict[str, Callable[[], keras.Model]] = {"two sizes": two_sizes, "one size": one_size, "states": states}
STUDY = """
name = "uses"
model = "{0}/net.keras"
dataset = "{0}/data.npz"
seeds = 3

[[family]]
name = "noise"
perturb = [ {{ op = "activation_noise", scale = 0.4, layers = "several" }} ]

[[family]]
name = "levels"
perturb = [ {{ op = "activation_affine", bits = 3, layers = "several" }} ]
"""


@contextmanager
def around(layer: keras.Layer, change: Callable[[Any], Any]) -> Iterator[None]:
    """Whatever the layer puts out, changed."""
    call = layer.call
    layer.call = lambda *args, **kwargs: keras.tree.map_structure(change, call(*args, **kwargs))
    try:
        yield
    finally:
        del layer.call


def uses(model: keras.Model, images: np.ndarray) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    with around(model.get_layer("several"), lambda y: found.append(np.asarray(y)) or y):
        model(images)
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_each_use_has_draws_of_its_own_and_ranges_are_those_of_all(name: str, tmp_path: Path):
    keras.utils.set_random_seed(5)
    model, rng = NETWORKS[name](), np.random.default_rng(7)
    images = rng.random((IMAGES, 8, 8, 2)).astype(np.float32)
    labels = model.predict(images, verbose=0).argmax(1)
    model.save(tmp_path / "net.keras")
    np.savez(tmp_path / "data.npz", x_test=images, y_test=labels, x_train=images[:30], y_train=labels[:30])
    study = Study.from_dict(tomllib.loads(STUDY.format(tmp_path)))
    prepared = prepare(study)
    job = Job("", "", 0, study.columns, {c.id: c for c in prepared.study.cells}, prepared.flow)
    table, _ = evaluate_chunk(job, prepared.models["net"], prepared.dataset, Chunk("net", tuple(wanted(study))))
    rows = table.to_pylist()
    found = {(row["family"], row["seed"]): row["n_correct"] for row in rows}
    shapes = [y.shape[1:] for y in uses(model, images)]
    assert len(shapes) > 1
    sizes = [int(np.prod(shape)) for shape in shapes]
    layer = [leaf for leaf in model.layers if not isinstance(leaf, kl.InputLayer)].index(model.get_layer("several"))
    for seed in range(3):
        values = draw(0, seed, 0, STREAMS + 1 + layer).standard_normal((IMAGES, sum(sizes)), dtype=np.float32)
        parts = np.split(np.float32(0.4) * values, np.cumsum(sizes)[:-1], axis=1)
        noise = iter([part.reshape(IMAGES, *shape) for part, shape in zip(parts, shapes, strict=True)])
        with around(model.get_layer("several"), lambda y, noise=noise: y + next(noise)):
            assert found["noise", seed] == (np.asarray(model(images)).argmax(1) == labels).sum()
    (placed,) = next(flow for flow in prepared.flow.values() if flow and flow[0].levels is not None)
    seen = np.concatenate([y.ravel() for y in uses(model, images[:30])])
    step = (max(seen.max(), 0) - min(seen.min(), 0)) / 7
    assert placed.resolved.step == pytest.approx(step, rel=1e-5)


def rotated() -> keras.Model:
    layers = [kl.RandomRotation(0.5, name="turned"), kl.Conv2D(3, 3, name="several"), kl.Flatten(), kl.Dense(4)]
    return keras.Sequential([keras.Input((8, 8, 2)), *layers])


def once() -> keras.Model:
    return keras.Sequential([keras.Input((8, 8, 2)), kl.Conv2D(3, 3, name="several"), kl.Flatten(), kl.Dense(4)])


ROUNDED = '[ { op = "activation_fixed_point", bits = 4 } ]'
NOISY = '[ { op = "activation_noise", scale = 0.4, layers = "several" } ]'
WEIGHTS = '[ { op = "gaussian", scale = 0.1 } ]'


@pytest.mark.parametrize(
    ("build", "perturb", "wrong"),
    [
        (rotated, ROUNDED, "layer turned of net was random"),
        (one_size, NOISY, "layer several of net is used 2 times, and was as in its first use"),
        (rotated, WEIGHTS, ""),
        (one_size, ROUNDED, ""),
        (once, NOISY, ""),
    ],
    ids=["random", "draws", "weights alone", "levels alone", "one use"],
)
def test_wrong_trials_of_0_1_0_are_not_mixed_with_right_ones(
    build: Callable[[], keras.Model], perturb: str, wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    build().save("net.keras")
    rng = np.random.default_rng(7)
    np.savez("data.npz", x_test=rng.random((IMAGES, 8, 8, 2)).astype(np.float32), y_test=np.arange(IMAGES) % 4)
    text = STUDY.format(".").partition("[[family]]")[0]
    Path("s.toml").write_text(f'{text}[[family]]\nname = "f"\nperturb = {perturb}\n')
    sweep.run("s.toml", "run", runner="inline")
    assert sweep.plan("s.toml", "run", seeds=5).done >= 2  # of this version
    manifest = json.loads(Path("run/manifest.json").read_text())
    manifest["versions"]["noisesweep"] = "0.1.0"
    Path("run/manifest.json").write_text(json.dumps(manifest))
    assert sweep.plan("s.toml", "run", seeds=5).done >= 2  # as this version called itself before it had a number
    del manifest["chance"]
    Path("run/manifest.json").write_text(json.dumps(manifest))
    if wrong:
        with pytest.raises(InputError, match=f"holds trials of noisesweep 0.1.0, wrong in the data flow \\({wrong}\\)"):
            sweep.run("s.toml", "run", seeds=5, runner="inline")
    else:
        assert len(sweep.run("s.toml", "run", seeds=5, runner="inline").trials()) >= 2

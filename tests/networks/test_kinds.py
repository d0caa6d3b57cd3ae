"""Every kind of network: what passes the plan runs and counts as plain Keras; all else is refused before."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

import sweep
from sweep.engine import choice
from sweep.errors import InputError
from sweep.preparation.inputs import prepare
from sweep.study.study import Study
from tests.networks.kinds import KINDS, balance, data, randomize, rounded, scores
from tests.oracle import draw

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask:UserWarning"),
    pytest.mark.filterwarnings("ignore:[\\s\\S]*does not support masking:UserWarning"),
    pytest.mark.filterwarnings("ignore:[\\s\\S]*get_config:UserWarning"),
    pytest.mark.filterwarnings("ignore:`build.*was called on layer:UserWarning"),
    pytest.mark.filterwarnings("ignore:[\\s\\S]*`quantize` method:UserWarning"),
    pytest.mark.filterwarnings("ignore:[\\s\\S]*:RuntimeWarning"),  # half precision overflows in casts
]
IMAGES = 64
SCALE, BITS = 0.2, 5
OWN = str(Path(__file__).parent / "own_layers.py")
REFUSED = {
    "stateful": "batches of exactly 8",
    "no weights": "selects no kernel",
    "own model of one output": "may be a probability or a logit",
    "lambda": "runs code stored in the file; make it a layer of your own (custom_objects), or say --trust-model",
    "own layer without its arguments": "not a model that Keras can load",
    "quantized to float8": "is quantized by Keras to float8",
}
FLOW_REFUSED = {
    "own model": "of the class Net, is not known",
}
WEIGHTS = {"name": "weights", "perturb": [{"op": "gaussian", "scale": SCALE}]}
FLOW = [
    {"name": "rounded", "perturb": [{"op": "activation_fixed_point", "bits": BITS}]},
    {"name": "noisy", "perturb": [{"op": "activation_noise", "scale": 0.1}]},
]


def tables(name: str, folder: Path, families: list[dict]) -> dict:
    own = {"custom_objects": [OWN]} if name.startswith("own") else {}
    files = {"model": str(folder / "net.keras"), "dataset": str(folder / "data.npz")}
    return {"name": "kinds", **files, "seeds": 2, "family": families, **own}


def correct(model: keras.Model, images: np.ndarray, labels: np.ndarray, weights: list[np.ndarray] | None = None) -> int:
    clean = model.get_weights()
    model.set_weights(weights or clean)
    try:
        return int((scores(model, images).argmax(axis=1) == labels).sum())
    finally:
        model.set_weights(clean)


def noisy(model: keras.Model, kernels: list[int], seed: int) -> list[np.ndarray]:
    weights = model.get_weights()
    for i in kernels:
        noise = draw(0, seed, 0, i).standard_normal(weights[i].shape, dtype=np.float32)
        weights[i] = weights[i] + np.float32(SCALE) * noise
    return weights


QUICK = {*REFUSED, *list(KINDS)[::16]}
ALL = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in KINDS]


@pytest.mark.parametrize("name", ALL)
def test_what_passes_the_plan_runs_and_counts_as_plain_keras(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(choice, "CPU_STACKS", ())
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(5)
    model, rng = KINDS[name](), np.random.default_rng(7)
    images = data(model, rng, IMAGES)
    if not name.startswith("quantized"):
        randomize(model, rng)
    labels = rng.integers(0, 4, IMAGES)
    if name not in REFUSED:
        balance(model, images)
        labels = np.where(rng.random(IMAGES) < 0.9, scores(model, images).argmax(axis=1), labels)
    model.save("net.keras")
    np.savez("data.npz", x_test=images, y_test=labels)
    if name in REFUSED:
        with pytest.raises(InputError) as refused:
            sweep.plan(Study.from_dict(tables(name, tmp_path, [WEIGHTS])))
        assert REFUSED[name] in str(refused.value)
        assert not any("\n" in problem for problem in refused.value.problems)
        return
    flow = [] if name in FLOW_REFUSED else FLOW
    study = Study.from_dict(tables(name, tmp_path, [WEIGHTS, *flow]))
    sweep.plan(study)
    trials = sweep.run(study, runner="inline").trials()
    network = prepare(study).networks["net"]
    kernels = [v.index for v in network.variables if v.kernel]
    assert kernels
    assert len(trials) == 3 + bool(flow) + 2 * bool(flow)
    rows = {family: dict(zip(own.seed, own.n_correct, strict=True)) for family, own in trials.groupby("family")}
    assert rows["clean"] == {0: correct(model, images, labels)}
    assert rows["weights"] == {s: correct(model, images, labels, noisy(model, kernels, s)) for s in (0, 1)}
    if flow:
        places = [layer.layer for layer in network.layers if layer.kernel and not layer.scores]
        with rounded(model, places, BITS):
            assert rows["rounded"] == {0: correct(model, images, labels)}
        assert len(rows["noisy"]) == 2


@pytest.mark.parametrize("name", FLOW_REFUSED)
def test_data_flow_that_is_not_known_is_refused_in_one_line(name: str, tmp_path: Path):
    keras.utils.set_random_seed(5)
    model, rng = KINDS[name](), np.random.default_rng(7)
    model.save(tmp_path / "net.keras")
    np.savez(tmp_path / "data.npz", x_test=data(model, rng, IMAGES), y_test=np.arange(IMAGES) % 4)
    with pytest.raises(InputError) as refused:
        sweep.plan(Study.from_dict(tables(name, tmp_path, FLOW)), out=tmp_path / "out")
    assert all(FLOW_REFUSED[name] in problem and "\n" not in problem for problem in refused.value.problems)

"""Networks of several inputs and outputs: counts are those of `predict` with all of them, or a line says why not."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as kl

import sweep
from sweep.engine import choice
from sweep.errors import InputError
from sweep.networks.ends import Ends
from sweep.networks.loading import load_network
from sweep.preparation.inputs import prepare
from sweep.study.study import Study
from tests.networks.kinds import rounded
from tests.networks.several import CASES, IMAGES, SCALE, Case, decisions, given, made, noisy

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
ROOT = Path(__file__).parents[2]
MORE = ("shared layer", "first of two outputs")
BITS = 4
OTHER = {"digit": ("before_side", "side"), "side": ("before_digit", "digit"), "kind": ("years",)}
WEIGHTS = {"name": "weights", "perturb": [{"op": "gaussian", "scale": SCALE}]}
GRID = {"op": "activation_fixed_point", "bits": BITS}
ROUNDED = {"name": "rounded", "perturb": [GRID]}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(choice, "CPU_STACKS", ())


def labels_of(case: Case) -> np.ndarray:
    rng, found = np.random.default_rng(4), decisions(case)
    return np.where(rng.random(len(found)) < 0.9, found, rng.integers(0, found.max() + 1, len(found)))


def study(case: Case, *families: dict[str, Any], labels: np.ndarray | None = None, **keys: Any) -> Study:
    """A study of the case, in files here."""
    case.model.save("net.keras")
    arrays = {f"{name}_test": x for name, x in case.stored.items()}
    np.savez("data.npz", **arrays, y_test=labels_of(case) if labels is None else labels)
    x = {name: f"{name}_test" for name in case.stored}
    own = {"output": case.output} if case.output else {}
    tables = {"name": "several", "model": "net.keras", "dataset": "data.npz", "x": x, "seeds": 2, **own, **keys}
    return Study.from_dict({**tables, "family": list(families)})


def counts(found: Study) -> dict[str, dict[int, int]]:
    trials = sweep.run(found, runner="inline").trials()
    return {family: dict(zip(own.seed, own.n_correct, strict=True)) for family, own in trials.groupby("family")}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in MORE else ()) for name in CASES])
def test_counts_are_those_of_predict_with_all_inputs(name: str):
    case = made(name)
    labels = labels_of(case)
    network_study = study(case, WEIGHTS, ROUNDED, labels=labels)
    found = counts(network_study)
    without = OTHER.get(case.output or "", ())
    assert found["clean"] == {0: (decisions(case) == labels).sum()}
    assert found["weights"] == {s: (decisions(case, noisy(case, s, without)) == labels).sum() for s in (0, 1)}
    network = prepare(network_study).networks["net"]
    places = [layer.layer for layer in network.layers if layer.kernel and not layer.scores]
    assert places
    assert not set(places) & set(without)
    with rounded(case.model, places, BITS):
        assert found["rounded"] == {0: (decisions(case) == labels).sum()}
    assert len(set(found["weights"].values()) | set(found["clean"].values())) > 1
    ours = [(v.path, v.shape) for v in network.variables]
    assert ours == [(v.path, tuple(v.shape)) for v in keras.models.load_model("net.keras").weights]
    assert {layer.layer for layer in network.layers if layer.position >= 0} <= {
        layer.name for layer in case.model._flatten_layers(include_self=False)
    }


def test_decisions_within_rounding_are_those_of_predict():
    a, b = keras.Input((64,), name="a"), keras.Input((64,), name="b")
    one, other = kl.Dense(1, use_bias=False, name="one"), kl.Dense(1, use_bias=False, name="other")
    model = keras.Model([a, b], kl.Concatenate()([one(a), other(b)]))
    rng = np.random.default_rng(0)
    order, kernel = rng.permutation(64), rng.normal(size=(64, 1)).astype(np.float32)
    model.set_weights([kernel, kernel[order]])
    x = rng.normal(size=(IMAGES, 64)).astype(np.float32)
    stored = {"a": x, "b": x[:, order]}
    case, labels = Case(model, stored, stored), rng.integers(0, 2, IMAGES)
    family = {"name": "bits", "perturb": [{"op": "fixed_point", "bits": [24, 20]}]}
    trials = sweep.run(study(case, family, labels=labels), runner="inline").trials()
    for bits, correct in zip(trials.bits.fillna(30).astype(int), trials.n_correct, strict=True):  # 30: as it is
        weights = [(np.rint(w * 2.0**bits) / 2.0**bits).astype(np.float32) for w in model.get_weights()]
        assert correct == (decisions(case, weights) == labels).sum()
    assert 0 < decisions(case).mean() < 1, "some go one way, some the other"


@pytest.mark.parametrize(("side", "at"), [("output", "image"), ("output", "meta")])
def test_the_data_flow_at_one_input_is_that_input_alone(side: str, at: str):
    case = made("image and metadata")
    labels = labels_of(case)
    op = {"op": "activation_fixed_point", "bits": 1, "layers": at}
    found = counts(study(case, {"name": "in", "perturb": [op]}, labels=labels))
    x = case.taken[at]
    changed = case._replace(taken={**case.taken, at: np.rint(x * 2).astype(np.float32) / 2})
    assert found["in"] == {0: (decisions(changed) == labels).sum()}
    assert found["in"] != found["clean"]


def test_a_chip_is_saved_with_the_inputs_and_outputs_of_its_file():
    case = made("two inputs, two outputs")
    labels = labels_of(case)
    run = sweep.run(study(case, WEIGHTS, labels=labels), runner="inline")
    chip = run.chip("net/weights", 1)
    chip.save("chip.keras")
    saved = keras.models.load_model("chip.keras")
    assert {x.name for x in saved.inputs} == {"image", "meta"}
    found = saved.predict(given(case), verbose=0)
    assert set(found) == {"kind", "age"}
    trials = run.trials()
    (count,) = trials[(trials.family == "weights") & (trials.seed == 1)].n_correct
    assert (found["kind"].argmax(axis=1) == labels).sum() == count
    expected = noisy(case, 1, ("years",))
    assert all(np.array_equal(w, e) for w, e in zip(saved.get_weights(), expected, strict=True))
    assert chip.images.right.sum() == count


def test_what_other_outputs_depend_on_is_left_alone():
    case = made("second of two outputs")
    layered = {**WEIGHTS, "sensitivity": "per-layer"}
    trials = sweep.run(study(case, layered), runner="inline").trials()
    assert set(trials.layer.dropna()) == {"conv", "before_side", "side"}
    with pytest.raises(InputError, match=r"'digit' selects no kernel; layers with kernels: conv \(1, Conv2D\), before"):
        prepare(study(case, {"name": "w", "perturb": [{"op": "gaussian", "scale": 0.1, "layers": "digit"}]}))


def test_two_outputs_of_one_file_are_two_networks_in_a_process():
    rows = {}
    for name in ("first of two outputs", "second of two outputs"):
        case = made(name)
        found = study(case, WEIGHTS, labels=np.arange(IMAGES) % 2)
        rows[case.output] = counts(found.but(name=str(case.output)))
        assert rows[case.output]["clean"] == {0: (decisions(case) == np.arange(IMAGES) % 2).sum()}
    assert rows["digit"] != rows["side"]


def test_another_output_is_another_study():
    sweep.run(study(made("first of two outputs"), WEIGHTS), runner="inline")
    with pytest.raises(InputError, match="outputs"):
        sweep.run(study(made("second of two outputs"), WEIGHTS), runner="inline")


def test_an_output_that_is_no_class_has_measures_of_its_own():
    case = made("second of two outputs")
    angles = case.model.predict(given(case), verbose=0)[1] + np.float32(0.5)
    run = sweep.run(study(case, WEIGHTS, labels=angles, measures=["mse"]), runner="inline")
    trials = run.trials().set_index("family")
    np.testing.assert_allclose(trials.loc["clean", "mse"], 0.25, rtol=1e-5)


def test_statistics_are_taken_anew_from_training_images_of_all_inputs():
    image, meta = keras.Input((6, 6, 1), name="image"), keras.Input((3,), name="meta")
    x = kl.Concatenate()([kl.Flatten()(kl.Conv2D(3, 3, name="conv")(image)), meta])
    norm = kl.BatchNormalization(name="norm")
    model = keras.Model([image, meta], kl.Dense(4, name="fc")(norm(x)))
    rng = np.random.default_rng(0)
    model.set_weights([np.abs(rng.normal(0, 0.5, w.shape)).astype(np.float32) for w in model.get_weights()])
    parts = {"image": (6, 6, 1), "meta": (3,)}
    test, train = ({n: rng.normal(size=(64, *s)).astype(np.float32) for n, s in parts.items()} for _ in range(2))
    case = Case(model, test, test)
    labels = labels_of(case)
    family = {**WEIGHTS, "recalibrate": "batch_norm"}
    found = study(case, family, labels=labels)
    arrays = {f"{name}_{split}": x for split, of in (("test", test), ("train", train)) for name, x in of.items()}
    np.savez("data.npz", **arrays, y_test=labels)
    trials = counts(found)
    for seed, weights in enumerate([noisy(case, 0), noisy(case, 1)]):
        model.set_weights(weights)
        before = keras.Model(model.inputs, norm.input).predict([train["image"], train["meta"]], verbose=0)
        norm.moving_mean.assign(before.mean(axis=0))
        norm.moving_variance.assign(before.var(axis=0))
        assert trials["weights"][seed] == (decisions(case) == labels).sum()


WRONG: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "no output named": ("first of two outputs", {"output": None}, ["the model has 2 outputs (digit, side); say which"]),
    "another output": ("first of two outputs", {"output": "digits"}, ["none called 'digits'; valid: digit, side"]),
    "output of one": ("siamese", {"output": "far"}, ["output: the model has none called 'far'; valid: apart"]),
    "one array": ("siamese", {"x": "left_test"}, ["takes 2 inputs (left (8, 8, 1), right (8, 8, 1)), and the dataset"]),
    "too many": (
        "siamese",
        {"x": ["left_test", "right_test", "y_test"]},
        ["takes 2 inputs (left (8, 8, 1), right (8, 8, 1)), and 3 are given: left_test, right_test, y_test"],
    ),
    "other names": (
        "siamese",
        {"x": {"left": "left_test", "write": "right_test"}},
        ["the network's inputs are left (8, 8, 1), right (8, 8, 1), and those given are called left, write"],
    ),
    "in another order": (
        "image and metadata",
        {"x": ["meta_test", "image_test"]},
        ["input image takes (8, 8, 1), and meta_test has (3,)", "input meta takes (3,), and image_test has (8, 8)"],
    ),
    "several into one": (
        "first of two outputs",
        {"x": ["image_test", "y_test"]},
        ["takes one input, and 2 are given: image_test, y_test"],
    ),
    "no such array": (
        "siamese",
        {"x": ["left_test", "b"]},
        ["no array b; the arrays there are: left_test, right_test"],
    ),
    "no list of names": (
        "siamese",
        {"x": {"left": 3}},
        ["x: {'left': 3} is not the name of an array or column, a list"],
    ),
    "images of no input": (
        "siamese",
        {"family": [{"name": "f", "perturb": [{**GRID, "layers": "input"}]}]},
        ["'input' selects no layer; layers: left (-1, Images), right (-1, Images)"],
    ),
    "noise on tokens": (
        "tokens and mask",
        {"family": [{"name": "f", "perturb": [{**GRID, "layers": "ids"}]}]},
        ["'ids' selects no layer; layers: embedding"],
    ),
}


@pytest.mark.parametrize(("name", "keys", "words"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_said_in_a_line_for_each(name: str, keys: dict[str, Any], words: list[str]):
    case = made(name)
    tables = {**study(case, WEIGHTS).to_dict(), **keys}
    with pytest.raises(InputError) as refused:
        sweep.plan(Study.from_dict({key: value for key, value in tables.items() if value is not None}))
    assert len(refused.value.problems) == len(words), refused.value.problems
    for problem, word in zip(refused.value.problems, words, strict=True):
        assert word in problem
        assert "\n" not in problem


@pytest.mark.parametrize(
    ("meta", "rescale", "words"),
    [
        (np.full((IMAGES, 3), 40), None, "rescale: is missing: say how int64 values for input meta reach the network"),
        (np.full((IMAGES, 3), 40, np.uint8), None, "say how uint8 values for input meta reach the network"),
        (np.full((IMAGES, 3), 40), "0..255", None),
        (np.full((IMAGES, 3), True), None, None),
        (np.full((IMAGES, 3), 2**24), "0..255", "meta has whole numbers of 16,777,216 and more, which float32"),
        (np.full((IMAGES, 3), np.nan), None, "meta has NaN or infinite values in 96 images, the first at 0"),
        (np.full((IMAGES, 3), "a"), None, "meta is <U1; inputs are numbers"),
        (np.zeros((IMAGES - 1, 3)), None, "inputs differ in length: meta has 95, image has 96"),
    ],
)
def test_each_input_is_rescaled_on_its_own(meta: np.ndarray, rescale: str | None, words: str | None):
    case = made("image and metadata")
    case = case._replace(stored={**case.stored, "meta": meta})
    found = study(case, WEIGHTS, **({"rescale": rescale} if rescale else {}))
    if words is not None:
        with pytest.raises(InputError) as refused:
            sweep.plan(found)
        assert words in str(refused.value)
        assert len(refused.value.problems) == 1
        return
    taken = {"image": case.taken["image"], "meta": meta.astype(np.float32)}
    if rescale:
        taken["image"] = case.stored["image"][..., None].astype(np.float32)
    labels = np.load("data.npz")["y_test"]
    assert counts(found)["clean"] == {0: (decisions(case._replace(taken=taken)) == labels).sum()}


def test_the_plan_says_what_goes_into_each_input():
    text = str(sweep.plan(study(made("image and metadata"), WEIGHTS)))
    (line,) = [line for line in text.splitlines() if line.startswith("images")]
    assert "image: uint8 8 × 8, divided by 255: 0 to 1; meta: float32 3, as stored: -" in line
    assert "labels 0 to 4, 5 outputs" in line
    assert f"all images, {96 * (64 + 3) * 4 / 1024:.1f} KiB as the network takes them" in text


def test_layers_and_indices_are_those_of_the_file():
    case = made("two inputs, two outputs")
    case.model.save("net.keras")
    network = load_network("net.keras", ends=Ends("kind"))
    index = {layer.name: k for k, layer in enumerate(case.model.layers)}
    assert {v.layer: v.layer_index for v in network.variables} == {
        name: index[name] for name in ("conv", "about", "fc", "years")
    }
    assert [layer.position for layer in network.layers[:2]] == [-2, -3]
    assert [layer.layer for layer in network.layers if layer.scores] == ["fc"]


def test_a_subclassed_model_of_two_inputs_counts_as_predict():
    (Path() / "own.py").write_text(
        "import keras\n\n\n@keras.saving.register_keras_serializable()\nclass Own(keras.Model):\n"
        "    def __init__(self, **how):\n        super().__init__(**how)\n        self.fc = keras.layers.Dense(4)\n\n"
        "    def call(self, x):\n        return self.fc(x['a'] * x['b'])\n"
    )
    names: dict[str, Any] = {}
    exec((Path() / "own.py").read_text(), names)
    model, rng = names["Own"](name="own"), np.random.default_rng(0)
    stored = {name: rng.normal(size=(IMAGES, 6)).astype(np.float32) for name in ("a", "b")}
    labels = model.predict(stored, verbose=0).argmax(axis=1)
    model.save("net.keras")
    np.savez("data.npz", **stored, y_test=labels)
    tables = {"name": "own", "model": "net.keras", "dataset": "data.npz", "x": {"b": "b", "a": "a"}, "seeds": 2}
    found = counts(Study.from_dict({**tables, "custom_objects": ["own.py"], "family": [WEIGHTS]}))
    assert found["clean"] == {0: IMAGES}
    clean = model.get_weights()
    for seed in (0, 1):
        case = Case(model, stored, stored)
        model.set_weights(noisy(case, seed))
        assert found["weights"][seed] == (model.predict(stored, verbose=0).argmax(axis=1) == labels).sum()
        model.set_weights(clean)


@pytest.mark.parametrize(
    ("name", "dense", "of"), [("image and metadata", "fc", 5), ("first of two outputs", "digit", 5)]
)
def test_it_is_cut_before_the_last_layer_of_the_output(name: str, dense: str, of: int):
    from sweep.engine.last_layer import split
    from sweep.networks.feeding import feed

    case = made(name)
    prepared = prepare(study(case, WEIGHTS))
    network = prepared.networks["net"]
    cut = split(network)
    assert cut is not None
    layer = next(layer for layer in case.model.layers if layer.name == dense)
    expected = keras.Model(case.model.input, layer.input).predict(given(case), verbose=0)
    features = cut.before.model.predict(feed(network, prepared.dataset, None), verbose=0)
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)
    assert network.variables[cut.kernel].layer == network.variables[cut.bias or 0].layer == dense
    assert network.model.get_weights()[cut.kernel].shape[1] == of
    assert [network.variables[i].layer for i in cut.numbers] == [v.layer for v in cut.before.variables]
    for number, own in zip(cut.numbers, cut.before.model.get_weights(), strict=True):
        np.testing.assert_array_equal(network.model.get_weights()[number], own)


def test_means_come_from_few_images_too():
    case = made("image and metadata")
    labels = np.tile(labels_of(case), 40)
    case = case._replace(stored={name: np.tile(x, (40,) + (1,) * (x.ndim - 1)) for name, x in case.stored.items()})
    keys = {"seeds": 40, "precision": 1.5, "min_seeds": 32, "max_seeds": 64}
    run = sweep.run(study(case, WEIGHTS, labels=labels, **keys), runner="inline")
    trials = run.trials().set_index("family").loc["weights"]
    few, whole = trials[trials.estimate.notna()], trials[trials.estimate.isna()]
    assert few.n_images.max() < len(labels)
    assert abs(few.estimate.mean() - whole.accuracy.mean()) < 4 * whole.accuracy.std() / np.sqrt(32)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed")
def test_jax_counts_as_tensorflow():
    found = study(made("two inputs, two outputs"), WEIGHTS, ROUNDED)
    Path("study.toml").write_text(found.to_toml())
    ours = sweep.run("study.toml", runner="inline", out="ours").trials()
    command = [
        sys.executable,
        "-m",
        "sweep",
        "run",
        "study.toml",
        "--runner",
        "inline",
        "--backend",
        "jax",
        "--out",
        "j",
    ]
    ran = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert ran.returncode == 0, ran.stderr
    theirs = sweep.open_run("j").trials()
    columns = ["cell", "seed", "n_correct"]
    assert ours[columns].equals(theirs[columns])


@pytest.mark.slow
def test_workers_get_records_and_the_output():
    case = made("two inputs, two outputs")
    labels = labels_of(case)
    found = study(case, WEIGHTS, labels=labels)
    trials = sweep.run(found, workers=1).trials()
    rows = trials[trials.family == "weights"].set_index("seed").n_correct.to_dict()
    assert rows == {s: (decisions(case, noisy(case, s, OTHER["kind"])) == labels).sum() for s in (0, 1)}


LOADS = {
    "a function": "    return {'image': D['image'], 'meta': D['meta']}, {'age': D['age'], 'kind': D['kind']}",
    "tf.data": "    import tensorflow as tf\n    x, y = (D['image'], D['meta']), (D['age'], D['kind'])\n"
    "    return tf.data.Dataset.from_tensor_slices((x, y)).batch(32)",
}


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
def test_a_function_of_several_inputs_and_outputs_counts_as_predict(load: str):
    case = made("two inputs, two outputs")
    found = study(case, WEIGHTS, labels=labels_of(case)).to_dict()
    labels = np.load("data.npz")["y_test"]
    np.savez("arrays.npz", **case.stored, kind=labels, age=labels[::-1])
    Path("my_data.py").write_text(f"import numpy as np\nD = np.load('arrays.npz')\n\n\ndef load():\n{load}\n")
    del found["x"]
    trials = counts(Study.from_dict({**found, "dataset": "my_data.py:load"}))
    assert trials["clean"] == {0: (decisions(case) == labels).sum()}
    assert trials["weights"] == {s: (decisions(case, noisy(case, s, OTHER["kind"])) == labels).sum() for s in (0, 1)}


def test_inputs_of_any_length_have_that_of_the_dataset():
    """So what lies behind the tokens is machine code, as where the length is fixed."""
    case = made("tokens and mask")
    family = {"name": "behind", "perturb": [{"op": "gaussian", "scale": SCALE, "layers": "!embedding"}]}
    labels = labels_of(case)
    trials = sweep.run(study(case, family, labels=labels), runner="inline", engine="compiled").trials()
    rows = trials[trials.family == "behind"].set_index("seed")
    assert set(rows.engine) == {"compiled"}
    assert rows.n_correct.to_dict() == {
        s: (decisions(case, noisy(case, s, ("embedding",))) == labels).sum() for s in (0, 1)
    }


def test_on_several_test_sets_each_counts_as_predict():
    case, half = made("image and metadata"), slice(0, IMAGES, 2)
    labels = labels_of(case)
    one = study(case, WEIGHTS, labels=labels)
    arrays = {f"{name}_test": x[half] for name, x in case.stored.items()}
    np.savez("half.npz", **arrays, y_test=labels[half])
    trials = sweep.run(one.but(dataset=["data.npz", "half.npz"]), runner="inline").trials()
    found = trials[trials.family == "weights"].set_index(["dataset", "seed"]).n_correct.to_dict()
    right = {seed: decisions(case, noisy(case, seed)) == labels for seed in (0, 1)}
    assert found == {
        ("data", 0): right[0].sum(),
        ("data", 1): right[1].sum(),
        ("half", 0): right[0][half].sum(),
        ("half", 1): right[1][half].sum(),
    }


def test_inputs_of_any_length_have_one_length_in_all_test_sets():
    case = made("tokens and mask")
    one = study(case, WEIGHTS)
    np.savez("short.npz", **{f"{name}_test": x[:, :6] for name, x in case.stored.items()}, y_test=labels_of(case))
    with pytest.raises(InputError, match=r"have \(10,\), \(10,\) in the first test set but \(6,\), \(6,\) here"):
        prepare(one.but(dataset=["data.npz", "short.npz"]))

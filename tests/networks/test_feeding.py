"""What a network is fed: counts are those of `predict` on what it was trained on, or the study is asked to say."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as kl

import sweep
from sweep.data.datasets import Dataset
from sweep.errors import InputError
from sweep.networks.feeding import rescale_of
from sweep.networks.loading import load_network
from tests.few import one_in

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
Build = Callable[[], keras.Model]


def normalized() -> keras.Model:
    layer = kl.Normalization(mean=[120.0], variance=[5000.0])
    return keras.Sequential([keras.Input((8, 8, 1)), layer, *head()])


def head() -> list[Any]:
    return [kl.Conv2D(3, 3, activation="relu"), kl.Flatten(), kl.Dense(4)]


def arithmetic() -> keras.Model:
    inputs = keras.Input((8, 8, 1))
    x = inputs / 127.5 - 1.0
    for layer in head():
        x = layer(x)
    return keras.Model(inputs, x)


def function(name: str) -> Build:
    """A network that begins with a function which means something in certain units only."""

    def build() -> keras.Model:
        inputs = keras.Input((8, 8, 1))
        more = {"power": (0.5,), "clip": (0, 100), "greater": (100,)}.get(name, ())
        x = keras.ops.cast(getattr(keras.ops, name)(inputs, *more), "float32")
        for layer in head():
            x = layer(x)
        return keras.Model(inputs, x)

    return build


def one_hot() -> keras.Model:
    inputs = keras.Input((9,), dtype="int32")
    return keras.Model(inputs, kl.Dense(4)(kl.Flatten()(keras.ops.one_hot(inputs, 30))))


@keras.saving.register_keras_serializable(package="feeding")
class Halved(keras.Layer):
    """A layer of a user's own that scales."""

    def call(self, x):
        return x / 127.5 - 1.0


def own_layer() -> keras.Model:
    return keras.Sequential([keras.Input((8, 8, 1)), Halved(), *head()])


def a_lambda() -> keras.Model:
    return keras.Sequential([keras.Input((8, 8, 1)), kl.Lambda(lambda x: x / 127.5 - 1.0), *head()])


def nested() -> keras.Model:
    before = keras.Sequential([keras.Input((8, 8, 1)), kl.RandomRotation(0.2), kl.RandomZoom(0.2)], name="augmentation")
    return keras.Sequential([keras.Input((8, 8, 1)), before, kl.Rescaling(1 / 255), *head()])


def plain() -> keras.Model:
    return keras.Sequential([keras.Input((8, 8, 1)), *head()])


def typed(dtype: str) -> keras.Model:
    """A network whose input says itself which numbers go in."""
    return keras.Sequential([keras.Input((8, 8, 1), dtype=dtype), kl.Rescaling(1 / 64), *head()])


def tokens(mask: bool = False) -> keras.Model:
    layers = [kl.Embedding(30, 6, mask_zero=mask), kl.GlobalAveragePooling1D(), kl.Dense(4)]
    return keras.Sequential([keras.Input((9,)), *layers])


def residual() -> keras.Model:
    """Two layers called Add that add activations, not numbers."""
    inputs = keras.Input((8, 8, 1))
    x = kl.Conv2D(1, 3, padding="same")(inputs)
    x = kl.Add()([x, inputs])
    return keras.Model(inputs, kl.Dense(4)(kl.Flatten()(x)))


CODE = (own_layer, a_lambda)  # which load with trust alone
RNG = np.random.default_rng(4)
UINT8 = RNG.integers(0, 256, (60, 8, 8), dtype=np.uint8)
IDS = RNG.integers(0, 30, (60, 9))
AS_STORED = "0..255"
# network, images as stored, the study's rescale, what the network must be given
EQUAL: dict[str, tuple[Build, np.ndarray, str | None, np.ndarray]] = {
    "uint8": (plain, UINT8, None, UINT8.astype(np.float32) / np.float32(255)),
    "uint8, said": (plain, UINT8, "0..1", UINT8.astype(np.float32) / np.float32(255)),
    "uint8, -1 to 1": (plain, UINT8, "-1..1", UINT8.astype(np.float32) / np.float32(127.5) - 1),
    "uint8, as stored": (plain, UINT8, AS_STORED, UINT8.astype(np.float32)),
    "uint8, Rescaling inside": (nested, UINT8, AS_STORED, UINT8.astype(np.float32)),
    "uint8, Rescaling inside, trained on fractions all the same": (nested, UINT8, "0..1", UINT8 / np.float32(255)),
    "uint8, Normalization inside": (normalized, UINT8, AS_STORED, UINT8.astype(np.float32)),
    "uint8, arithmetic inside": (arithmetic, UINT8, AS_STORED, UINT8.astype(np.float32)),
    "uint8, logarithm inside": (function("log1p"), UINT8, AS_STORED, UINT8.astype(np.float32)),
    "uint8, own scaling inside": (own_layer, UINT8, AS_STORED, UINT8.astype(np.float32)),
    "uint8, one-hot": (one_hot, IDS.astype(np.uint8), AS_STORED, IDS),
    "uint8, whole-number input": (lambda: typed("uint8"), UINT8, None, UINT8),
    "int32, as stored": (plain, UINT8.astype(np.int32), AS_STORED, UINT8.astype(np.float32)),
    "int64, divided": (plain, UINT8.astype(np.int64), "0..1", UINT8 / np.float32(255)),
    "half input": (lambda: typed("float16"), UINT8, AS_STORED, UINT8.astype(np.float32)),
    "half input, fractions": (lambda: typed("float16"), UINT8 / np.float32(9), None, UINT8 / np.float32(9)),
    "floating": (plain, UINT8 / np.float32(9), None, UINT8 / np.float32(9)),
    "floating, Rescaling inside": (nested, UINT8 / np.float64(1), None, UINT8.astype(np.float32)),
    "floating, never touched": (plain, UINT8 / np.float32(9), "-1..1", UINT8 / np.float32(9)),
    "int64 tokens": (tokens, IDS, None, IDS),
    "int32 tokens, masked": (lambda: tokens(mask=True), IDS.astype(np.int32), None, IDS),
    "uint8 tokens": (tokens, IDS.astype(np.uint8), AS_STORED, IDS),
    "an Add that adds activations": (residual, UINT8, None, UINT8 / np.float32(255)),
}
REFUSED: dict[str, tuple[Build, np.ndarray, str | None, str]] = {
    "Rescaling": (nested, UINT8, None, r"rescale: is missing: .* layer rescaling\w* \(Rescaling\); say how uint8"),
    "Normalization": (normalized, UINT8, None, r"layer normalization\w* \(Normalization\)"),
    "arithmetic": (arithmetic, UINT8, None, r"scaling of its own, layer \w+ \(TrueDivide\)"),
    **{
        f"function {name}": (function(name), UINT8, None, rf"scaling of its own, layer {name}\w* \(\w+\)")
        for name in ("power", "clip", "greater", "log1p", "tanh", "square")
    },
    "a layer of one's own": (own_layer, UINT8, None, r"scaling of its own, layer halved\w* \(Halved\)"),
    "a Lambda": (a_lambda, UINT8, None, r"scaling of its own, layer lambda\w* \(Lambda\)"),
    "int32": (plain, UINT8.astype(np.int32), None, r"rescale: is missing: say how int32 images"),
    "uint8, one-hot": (one_hot, IDS.astype(np.uint8), "0..1", r"layer one_hot\w* \(OneHot\), which looks up indices"),
    "uint8 tokens": (tokens, IDS.astype(np.uint8), None, r'layer embedding\w* \(Embedding\).* say "0\.\.255"'),
    "tokens, rescaled": (tokens, IDS.astype(np.uint8), "0..1", r"'0\.\.1': the values go to layer embedding"),
    "whole input, rescaled": (lambda: typed("uint8"), UINT8, "0..1", "'0..1': the values go to an uint8 input"),
    "whole input, fractions": (lambda: typed("int32"), UINT8 / np.float32(255), None, "the images have fractions"),
    "another word": (plain, UINT8, "0..2", r"rescale: '0\.\.2' is not valid; choose one of 0\.\.1, 0\.\.255, -1\.\.1"),
}


def write(build: Build, images: np.ndarray, rescale: str | None) -> keras.Model:
    keras.utils.set_random_seed(11)
    model = build()
    model.save("net.keras")
    np.savez("data.npz", x_test=images, y_test=np.arange(len(images)) % 4)
    line = f'rescale = "{rescale}"' if rescale else ""
    Path("s.toml").write_text(
        f'name = "s"\nmodel = "net.keras"\ndataset = "data.npz"\nseeds = 2\n{line}\n[[family]]\nname = "g"\n'
        'perturb = [ { op = "gaussian", scale = 0.2 } ]\n'
    )
    return model


@pytest.mark.parametrize("name", one_in(3, EQUAL))
def test_the_clean_network_decides_as_predict_does_on_what_it_is_meant_to_see(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    build, images, rescale, given = EQUAL[name]
    model = write(build, images, rescale)
    expected = model.predict(given if given.ndim == 2 else given[..., None], verbose=0).argmax(1)
    np.savez("data.npz", x_test=images, y_test=expected)
    trials = sweep.run("s.toml", runner="inline", trust_model=build in CODE).trials().set_index("family")
    assert trials.loc["clean", "n_correct"] == len(images)
    assert (trials.loc["g", "n_correct"] < len(images)).all()


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_told_is_asked(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    build, images, rescale, words = REFUSED[name]
    write(build, images, rescale)
    with pytest.raises(InputError) as refused:
        sweep.plan("s.toml", trust_model=build in CODE)
    (problem,) = refused.value.problems
    assert re.search(words, problem)
    assert problem.startswith("s.toml: ")


def test_a_network_trained_on_other_units_is_told_by_its_clean_accuracy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    model = write(nested, UINT8, "0..1")
    expected = model.predict(UINT8[..., None].astype(np.float32), verbose=0).argmax(1)
    np.savez("data.npz", x_test=UINT8, y_test=(expected + 1) % 4)
    sweep.run("s.toml", runner="inline")
    assert "WARNING: net: the clean network is right about" in capsys.readouterr().err
    assert "near chance" in sweep.open_run("results/s").table()


def test_the_plan_says_what_goes_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    write(plain, UINT8, "-1..1")
    text = str(sweep.plan("s.toml"))
    assert "images   uint8 images of 8 × 8, divided by 127.5, less 1: -1 to 1; labels 0 to 3, 4 outputs" in text


def test_a_run_of_other_units_is_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    write(plain, UINT8, None)
    sweep.run("s.toml", "run", runner="inline")
    text = Path("s.toml").read_text()
    Path("s.toml").write_text('rescale = "0..1"\n' + text)
    sweep.run("s.toml", "run", runner="inline")
    Path("s.toml").write_text('rescale = "0..255"\n' + text)
    with pytest.raises(InputError, match=r"rescale of net is new"):
        sweep.run("s.toml", "run", runner="inline")


def test_a_nested_model_that_scales_is_found(tmp_path: Path):
    nested().save(tmp_path / "net.keras")
    network = load_network(tmp_path / "net.keras")
    assert network.scaling.endswith("(Rescaling)")
    assert network.lookup == ""
    dataset = Dataset(UINT8, np.zeros(60, np.int64), "")
    assert rescale_of(network, dataset, "-1..1") == "-1..1"

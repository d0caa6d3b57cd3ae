"""What a selection reached is said, layer by layer, in the plan and in resolved.parquet."""

from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers as kl

import sweep
from sweep.networks.inspection import variables_of
from tests.oracle import count, perturbed

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@keras.saving.register_keras_serializable("reach")
class Mixing(kl.Layer):
    """A matrix that is called w, an offset of one axis, and a matrix that is not trained."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 6), name="w")
        self.offset = self.add_weight(shape=(6,), name="offset")
        self.fixed = self.add_weight(shape=(6, 6), name="fixed", initializer="identity", trainable=False)

    def call(self, x):
        return keras.ops.relu(x @ self.w @ self.fixed + self.offset)


def network() -> keras.Model:
    keras.utils.set_random_seed(3)
    layers = [kl.Flatten(), Mixing(name="mixing"), kl.BatchNormalization(name="bn"), kl.Dense(4, name="fc")]
    return keras.Sequential([keras.Input((5, 5, 1)), *layers])


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> keras.Model:
    monkeypatch.chdir(tmp_path)
    made = network()
    made.save("net.keras")
    images = np.random.default_rng(1).integers(0, 256, (80, 5, 5), dtype=np.uint8)
    labels = made.predict(images[..., None].astype(np.float32) / np.float32(255), verbose=0).argmax(1)
    np.savez("data.npz", x_test=images, y_test=labels)
    Path("s.toml").write_text(
        'name = "s"\nmodel = "net.keras"\ndataset = "data.npz"\nseeds = 4\n'
        '[[family]]\nname = "all"\nperturb = [ { op = "gaussian", scale = [0.3, 0.6] } ]\n'
        '[[family]]\nname = "last"\nperturb = [ { op = "uniform", scale = 0.3, layers = "fc" } ]\n'
        '[[family]]\nname = "flow"\nperturb = [ { op = "activation_fixed_point", bits = 3, layers = "mixing" } ]\n'
    )
    return made


def test_a_matrix_of_an_own_layer_is_perturbed_whatever_its_name(model: keras.Model):
    variables = variables_of(model)
    assert [v.path.split("/")[-1] for v in variables if v.kernel] == ["w", "kernel"]
    trials = sweep.run("s.toml", runner="inline", trust_model=True).trials()
    data = np.load("data.npz")
    images = data["x_test"][..., None].astype(np.float32) / np.float32(255)
    kernels = [v.index for v in variables if v.kernel]
    found = trials[trials["family"] == "all"]
    assert len(found) == 8
    for row in found.to_dict("records"):
        weights = perturbed(model, kernels, [{"op": "gaussian", "scale": row["scale"]}], row["seed"])
        assert row["n_correct"] == count(model, weights, images, data["y_test"])


def test_the_plan_says_what_is_reached_and_what_is_not(model: keras.Model):
    lines = str(sweep.plan("s.toml", trust_model=True)).splitlines()
    assert "reached  all: weights of mixing 150 of 192, fc 24 of 28; nothing of bn" in lines
    assert "reached  last: weights of fc 24 of 28; nothing of mixing, bn" in lines
    assert "reached  flow: data flow at mixing" in lines


def test_many_layers_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    layers = [layer for k in range(9) for layer in (kl.Dense(5, name=f"d{k}"), kl.BatchNormalization(name=f"b{k}"))]
    keras.Sequential([keras.Input((5,)), *layers]).save("net.keras")
    np.savez("data.npz", x_test=np.random.default_rng(1).random((20, 5)), y_test=np.arange(20) % 5)
    Path("s.toml").write_text(
        'name = "s"\nmodel = "net.keras"\ndataset = "data.npz"\nseeds = 1\n'
        '[[family]]\nname = "all"\nperturb = [ { op = "gaussian", scale = 0.1 } ]\n'
    )
    (line,) = [line for line in str(sweep.plan("s.toml")).splitlines() if line.startswith("reached")]
    assert line.endswith(
        "weights of d0 25 of 30, d1 25 of 30, d2 25 of 30, … d8 25 of 30: 9 layers; nothing of 9 BatchNormalization"
    )


def test_resolved_has_every_layer_with_weights(model: keras.Model):
    sweep.run("s.toml", runner="inline", trust_model=True)
    table = pd.read_parquet("results/s/resolved.parquet")
    last = table[table["family"] == "last"].set_index("layer")
    assert last["weights"].to_dict() == {"mixing": 0, "bn": 0, "fc": 24}
    assert last["variable"].isna().to_dict() == {"mixing": True, "bn": True, "fc": False}
    every = table[table["cell"] == "net/all/scale=0.3"].set_index("layer")
    assert every["weights"].to_dict() == {"bn": 0, "mixing": 150, "fc": 24}
    assert every["sigma"].dropna().to_dict() == pytest.approx({"mixing": 0.3, "fc": 0.3})

"""Layers on arrays of limited size, end to end, against a Keras network whose layers are made of explicit arrays."""

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

import sweep
from sweep.errors import InputError
from sweep.execution.verify import verify
from tests.oracle import count, perturbed
from tests.test_families import data, prepared, study, trials  # noqa: F401

Array = np.ndarray


class Arrays(keras.layers.Layer):
    """A convolution or dense layer as the sum of the rounded products of parts of its kernel; all else of it is 0."""

    def __init__(self, layer: Any, rows: int) -> None:
        super().__init__(name=layer.name)
        self.layer, self.rows, self.steps, self.top = layer, rows, None, 0.0

    def parts(self, x: Any) -> list[Any]:
        """The sums of each array."""
        kernel = keras.ops.convert_to_tensor(self.layer.kernel)
        flat = np.arange(int(np.prod(kernel.shape[:-1])))
        masks = [np.isin(flat, own) for own in np.array_split(flat, -(-len(flat) // self.rows))]
        columns = [m.reshape(*kernel.shape[:-1], 1).astype(np.float32) for m in masks]
        if len(kernel.shape) == 2:
            return [keras.ops.matmul(x, kernel * column) for column in columns]
        how = {"strides": self.layer.strides, "padding": self.layer.padding}
        return [keras.ops.conv(x, kernel * column, **how) for column in columns]

    def call(self, x: Any) -> Any:
        total = 0.0
        for y, step in zip(self.parts(x), self.steps, strict=True):
            total = total + keras.ops.clip(keras.ops.round(y / step), -self.top, self.top) * step
        total = total + self.layer.bias if self.layer.use_bias else total
        return self.layer.activation(total)


def arrays_in(model: keras.Model, rows: int, columns: int, bits: int) -> keras.Model:
    """The network of explicit arrays, each with the range of its largest sum in the plain one on training images."""
    x = prepared(np.load("data.npz")["x_train"])
    layers = []
    for layer in model.layers:
        if layer.weights:
            own = Arrays(layer, rows)
            top = 2 ** (bits - 1) - 1
            steps = []
            for y in own.parts(x):
                highest = np.abs(np.asarray(y)).reshape(-1, y.shape[-1]).max(0).astype(np.float64)
                pieces = np.array_split(highest, -(-len(highest) // columns))
                steps.append(np.concatenate([np.full(len(p), p.max() / top) for p in pieces]).astype(np.float32))
            own.steps, own.top = steps, float(top)
            layers.append(own)
        else:
            layers.append(layer)
        x = np.asarray(layer(x))
    return keras.Sequential([keras.Input(model.inputs[0].shape[1:]), *layers])


def test_counts_are_those_of_explicit_arrays(data: Any):  # noqa: F811
    model, images, labels = data
    found = trials('perturb = [ { op = "tile_adc", rows = [64, 5], columns = 3, bits = [8, 5, 3] } ]')
    assert len(found) == 6
    assert set(found["engine"]) == {"plain"}
    clean = count(model, model.get_weights(), images, labels)
    for row in found.itertuples():
        whole = arrays_in(model, row.rows, 3, row.bits)
        assert row.n_correct == int((np.asarray(whole(images)).argmax(1) == labels).sum()), row
    assert found["n_correct"].nunique() > 4
    assert clean not in set(found.loc[found["bits"] == 3, "n_correct"])


def test_weights_before_they_are_read(data: Any):  # noqa: F811
    """Ranges are those of the clean network; chips of noisy weights have them, too."""
    model, images, labels = data
    found = trials(
        'perturb = [ { op = "gaussian", scale = 0.1 }, { op = "tile_adc", rows = 20, columns = 8, bits = 6 } ]'
    )
    whole = arrays_in(model, 20, 8, 6)
    clean = model.get_weights()
    for row in found.itertuples():
        model.set_weights(perturbed(model, [0, 1], [{"op": "gaussian", "scale": 0.1}], row.seed))
        assert row.n_correct == int((np.asarray(whole(images)).argmax(1) == labels).sum()), row
        model.set_weights(clean)
    assert verify("run").sound


def test_in_the_limit_it_is_the_plain_network_and_the_rounding_of_its_sums(data: Any):  # noqa: F811
    """With many bits and a range that holds all sums; and with one array for a layer without a bias."""
    model, images, labels = data
    found = trials(
        'perturb = [ { op = "tile_adc", rows = 4, columns = 3, bits = 24, range = "full" } ]',
        'perturb = [ { op = "tile_adc", rows = 9999, bits = 4, range = "bound", bound = 2.0, layers = "conv1" } ]',
        f'perturb = [ {{ op = "adc", bits = 4, low = {-2.0 * 8 / 7}, high = 2.0, layers = "conv1" }} ]',
    ).set_index("family")["n_correct"]
    assert found["f0"] == count(model, model.get_weights(), images, labels)
    assert found["f1"] == found["f2"] != found["f0"]


@pytest.mark.slow
def test_images_a_step_change_nothing(data: Any, monkeypatch: pytest.MonkeyPatch):  # noqa: F811
    families = [
        'perturb = [ { op = "tile_adc", rows = 20, columns = 2, bits = 5, noise = 0.5, pair = "digital" } ]',
        'perturb = [ { op = "gaussian", scale = 0.2 }, { op = "tile_adc", rows = 20, bits = 4, layers = "fc" } ]',
    ]
    whole = trials(*families)
    monkeypatch.setattr("sweep.engine.pieces.IMAGES_PER_STEP", 37)
    steps = trials(*families, out="steps")
    keys = ["cell", "seed", "n_correct"]
    pd.testing.assert_frame_equal(whole[keys], steps[keys])
    assert whole["n_correct"].nunique() > 4
    assert verify("run").sound


def test_what_each_layer_gets_is_told(data: Any):  # noqa: F811
    run = sweep.run(
        study('perturb = [ { op = "tile_adc", rows = 20, columns = 2, bits = 4, noise = [0, 0.5] } ]'),
        "run",
        runner="inline",
    )
    found = pd.read_parquet("run/resolved.parquet").query("op == 'tile_adc'")
    whole = arrays_in(data[0], 20, 2, 4)
    for name, group in found.groupby("layer"):
        step = float(np.mean(next(layer.steps for layer in whole.layers if layer.name == name)))
        assert set(group["variable"]) == {"sums"}
        assert len(group) == 3, "levels of both cells, and the noise of one"
        assert np.allclose(group["step"].dropna(), step, rtol=1e-5)
        assert np.allclose(group["sigma"].dropna(), 0.5 * step, rtol=1e-5)
        assert (group["saturated"].dropna() == 0).all()
    assert run.trials().query("noise > 0")["n_correct"].nunique() > 1


@pytest.mark.parametrize(
    ("family", "text"),
    [
        ('layers = "input"', "tile_adc: the images are no layer, and have no arrays"),
        ('layers = ["*", "MaxPooling2D"]', "MaxPooling2D"),
        ("rows = 0", "rows"),
        ("bound = 1.0", "bound: is the range itself, and there is another, max"),
        ('range = "bound"', 'bound: range = "bound" needs one'),
    ],
)
def test_mistakes_before_any_compute(data: Any, family: str, text: str):  # noqa: F811
    with pytest.raises(InputError, match=re.escape(text)):
        trials(f'perturb = [ {{ op = "tile_adc", bits = 4, {family} }} ]')
    assert not Path("run").exists()


def test_a_layer_is_cut_once(data: Any):  # noqa: F811
    with pytest.raises(InputError, match="tile_adc: layer fc is cut twice; name the layers of each"):
        trials('perturb = [ { op = "tile_adc", bits = 4 }, { op = "tile_adc", bits = 4, layers = "fc" } ]')

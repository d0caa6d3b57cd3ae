"""Files as Keras 2 wrote them: made by Keras 3, their configuration then put back into Keras 2's form."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from sweep.errors import InputError
from sweep.files import file_digest
from sweep.networks.backend import import_keras
from sweep.networks.keras2 import LEFTOVERS, clean, without_leftovers
from sweep.networks.loading import load_network, load_network_bytes

# Keras 3.15 converts its variables to arrays in a way that NumPy 2 is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn:DeprecationWarning")

keras = import_keras()
layers = keras.layers
Change = Callable[[dict[str, Any]], None]


def each(kind: str, **arguments: Any) -> Change:
    """Adds arguments to every layer of a class, wherever it is nested."""

    def change(node: Any) -> None:
        for item in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            change(item)
        if isinstance(node, dict) and node.get("class_name") == kind:
            node["config"] |= arguments

    return change


def old_h5(model: keras.Model, path: Path, *changes: Change, version: str = "2.15.0") -> Path:
    model.save(path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        for change in changes:
            change(config)
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = version
    return path


def old_keras(model: keras.Model, path: Path, *changes: Change, version: str = "2.15.0") -> Path:
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    for change in changes:
        change(config)
    parts["config.json"] = json.dumps(config).encode()
    parts["metadata.json"] = json.dumps({"keras_version": version}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def mobile(name: str = "mobile") -> keras.Model:
    """A small MobileNet: convolution, depthwise and pointwise blocks, each with normalisation and ReLU6."""
    images = x = keras.Input((12, 12, 3), name=f"{name}_images")
    x = layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False, name="conv1")(x)
    for block in (1, 2):
        x = layers.BatchNormalization(name=f"bn_{block}")(x)
        x = layers.ReLU(6.0, name=f"relu_{block}")(x)
        x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"dw_{block}")(x)
        x = layers.BatchNormalization(name=f"dw_bn_{block}")(x)
        x = layers.ReLU(6.0, name=f"dw_relu_{block}")(x)
        x = layers.Conv2D(6, 1, use_bias=False, name=f"pw_{block}")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return filled(keras.Model(images, layers.Dense(3, activation="softmax", name="fc")(x), name=name))


def filled(model: keras.Model) -> keras.Model:
    """The model with random weights; variances stay positive."""
    draws = np.random.default_rng(4)
    model.set_weights([draws.uniform(0.1, 0.9, w.shape).astype(w.dtype) for w in model.get_weights()])
    return model


def keras_2_graph(config: dict[str, Any]) -> None:
    """A functional configuration as Keras 2 wrote it: calls as lists, those of a model counted from 1.

    Of outputs, Keras 3 counts those of a functional model from 1 itself.
    """
    for layer in config["config"]["layers"]:
        if layer["class_name"] in ("Functional", "Sequential"):
            keras_2_graph(layer)
    if config["class_name"] == "Sequential":
        return
    kinds = {layer["name"]: layer["class_name"] for layer in config["config"]["layers"]}
    inner = {name: kind for name, kind in kinds.items() if kind in ("Functional", "Sequential")}
    for layer in config["config"]["layers"]:
        histories = [call["args"][0]["config"]["keras_history"] for call in layer["inbound_nodes"]]
        layer["inbound_nodes"] = [[[name, call + (name in inner), out, {}]] for name, call, out in histories]
    for ends in ("input_layers", "output_layers"):
        name, call, out = config["config"][ends]
        config["config"][ends] = [[name, call + (inner.get(name) == "Sequential"), out]]


def predictions(model: keras.Model) -> np.ndarray:
    shape = tuple(size or 4 for size in model.inputs[0].shape[1:])
    return np.asarray(model.predict(np.random.default_rng(7).random((5, *shape), dtype=np.float32), verbose=0))


OLD_AXIS = each("BatchNormalization", axis=[3], renorm=False)


@pytest.mark.parametrize("write", [old_h5, old_keras])
def test_a_mobilenet_of_keras_2_computes_what_it_did(tmp_path, write):
    model = mobile()
    suffix = ".h5" if write is old_h5 else ".keras"
    path = write(model, tmp_path / f"net{suffix}", keras_2_graph, each("DepthwiseConv2D", groups=1), OLD_AXIS)
    with pytest.raises(TypeError):
        keras.models.load_model(path, compile=False)
    content = path.read_bytes()
    network, from_bytes = load_network(path), load_network_bytes(content, suffix)
    assert network.digest == from_bytes.digest == file_digest(path)
    assert path.read_bytes() == content
    np.testing.assert_array_equal(predictions(network.model), predictions(model))
    np.testing.assert_array_equal(predictions(from_bytes.model), predictions(model))
    assert [v.path for v in network.variables if v.kernel] == [
        "conv1/kernel", "dw_1/kernel", "pw_1/kernel", "dw_2/kernel", "pw_2/kernel", "fc/kernel",
    ]  # fmt: skip


UNUSED = {"kernel_initializer": {"class_name": "HeNormal", "config": {}}, "kernel_regularizer": None}
CASES = [
    (layers.Conv1DTranspose(2, 3), (6, 3), {"groups": 1}),
    (layers.Conv2DTranspose(2, 3), (6, 6, 2), {"groups": 1}),
    (layers.Conv3DTranspose(2, 2), (4, 4, 4, 1), {"groups": 1}),
    (layers.DepthwiseConv1D(3), (6, 3), {"groups": 1}),
    (layers.SeparableConv1D(4, 3), (6, 3), {"groups": 1, **UNUSED, "kernel_constraint": None}),
    (layers.SeparableConv2D(4, 3), (6, 6, 2), {"groups": 1, **UNUSED, "kernel_constraint": None}),
    (layers.LSTM(3), (5, 4), {"time_major": False}),
    (layers.GRU(3), (5, 4), {"time_major": False}),
    (layers.SimpleRNN(3), (5, 4), {"time_major": False}),
    (layers.RNN(layers.GRUCell(3)), (5, 4), {"time_major": False}),
    (layers.ConvLSTM2D(2, 2, recurrent_activation="sigmoid"), (3, 5, 5, 1), {"time_major": False}),
    (layers.SpatialDropout1D(0.1), (5, 4), {"trainable": True, "noise_shape": None}),
    (layers.SpatialDropout2D(0.1), (5, 4, 2), {"trainable": True, "noise_shape": None}),
    (layers.RandomFlip(), (6, 6, 3), {"rng_type": "stateful"}),
    (layers.RandomRotation(0.1), (6, 6, 3), {"rng_type": "stateful"}),
]


@pytest.mark.parametrize(("layer", "shape", "arguments"), CASES, ids=lambda value: type(value).__name__)
def test_each_leftover_is_passed_over(tmp_path, layer, shape, arguments):
    inner = type(layer).from_config(layer.get_config())
    model = filled(keras.Sequential([keras.Input(shape), inner, layers.Flatten(), layers.Dense(2)]))
    path = old_h5(model, tmp_path / "net.h5", each(type(layer).__name__, **arguments))
    with pytest.raises((TypeError, ValueError)):
        keras.models.load_model(path, compile=False)
    np.testing.assert_array_equal(predictions(load_network(path).model), predictions(model))


def test_wrapped_layers_are_cleaned_too(tmp_path):
    model = filled(
        keras.Sequential(
            [
                keras.Input((4, 6, 6, 2)),
                layers.TimeDistributed(layers.DepthwiseConv2D(3)),
                layers.TimeDistributed(layers.Flatten()),
                layers.Bidirectional(layers.LSTM(3)),
                layers.Dense(2),
            ]
        )
    )
    path = old_h5(model, tmp_path / "net.h5", each("DepthwiseConv2D", groups=1), each("LSTM", time_major=False))
    np.testing.assert_array_equal(predictions(load_network(path).model), predictions(model))


def test_the_weights_stay_the_same_bytes(tmp_path):
    path = old_h5(mobile(), tmp_path / "net.h5", each("DepthwiseConv2D", groups=1))
    copy = without_leftovers(path, tmp_path)
    assert copy is not None
    found: dict[str, bytes] = {}
    with h5py.File(path) as old, h5py.File(copy) as new:
        old.visititems(lambda name, item: found.update({name: item[()].tobytes()}) if hasattr(item, "dtype") else None)
        assert len(found) == 23
        assert all(new[name][()].tobytes() == content for name, content in found.items())
        assert {key for key in old.attrs if old.attrs[key] != new.attrs[key]} == {"model_config"}


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_file_without_leftovers_is_not_copied(tmp_path, suffix):
    write = old_h5 if suffix == ".h5" else old_keras
    plain = write(mobile(), tmp_path / f"plain{suffix}")
    recent = write(mobile(), tmp_path / f"recent{suffix}", each("DepthwiseConv2D", groups=1), version="3.15.0")
    broken = write(mobile(), tmp_path / f"broken{suffix}", lambda config: config["config"].update(output_layers=[]))
    nonsense = tmp_path / f"nonsense{suffix}"
    nonsense.write_bytes(b"nonsense")
    folder = tmp_path / "copies"
    folder.mkdir()
    assert without_leftovers(plain, folder) is None
    assert without_leftovers(recent, folder) is None
    assert without_leftovers(broken, folder) is None
    assert without_leftovers(nonsense, folder) is None
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "arguments", "words"),
    [
        ("DepthwiseConv2D", {"groups": 2}, "Unrecognized keyword arguments passed to DepthwiseConv2D: {'groups': 2}"),
        ("DepthwiseConv2D", {"groups": True}, "DepthwiseConv2D: {'groups': True}"),
        ("DepthwiseConv2D", {"strange": 1}, "DepthwiseConv2D: {'strange': 1}"),
        ("Conv2D", {"groups": 3}, ""),
    ],
)
@pytest.mark.parametrize("write", [old_h5, old_keras])
def test_what_means_something_is_left_for_keras_to_refuse(tmp_path, write, kind, arguments, words):
    path = write(mobile(), tmp_path / f"net{'.h5' if write is old_h5 else '.keras'}", each(kind, **arguments))
    with pytest.raises(InputError) as caught:
        load_network(path)
    assert caught.value.problems[0].startswith(f"{path}: not a model that Keras can load: ")
    assert words in caught.value.problems[0]
    assert len(caught.value.problems) == 1


def test_time_major_is_refused_where_it_is_used(tmp_path):
    model = keras.Sequential([keras.Input((5, 4)), layers.LSTM(3), layers.Dense(2)])
    path = old_h5(model, tmp_path / "net.h5", each("LSTM", time_major=True))
    with pytest.raises(InputError, match=r"LSTM: \{'time_major': True\}"):
        load_network(path)


@pytest.mark.parametrize("write", [old_h5, old_keras])
def test_hard_sigmoid_is_refused_because_it_computes_otherwise(tmp_path, write):
    model = keras.Sequential([keras.Input((5,)), layers.Dense(3, activation="hard_sigmoid"), layers.Dense(2)])
    suffix = ".h5" if write is old_h5 else ".keras"
    path = write(model, tmp_path / f"net{suffix}")
    with pytest.raises(InputError, match=r"saved by Keras 2, it uses hard_sigmoid") as caught:
        load_network(path)
    assert caught.value.problems[0].startswith(f"{path}: ")
    assert load_network(write(model, path, version="3.15.0")).outputs == 2


def test_a_precision_of_keras_2_is_read_by_its_name(tmp_path):
    model = filled(keras.Sequential([keras.Input((5,)), layers.Dense(3, dtype="mixed_float16"), layers.Dense(2)]))
    policy = {"class_name": "Policy", "config": {"name": "mixed_float16"}}

    def change(config: dict[str, Any]) -> None:
        config["config"]["layers"][1]["config"]["dtype"] = policy

    network = load_network(old_h5(model, tmp_path / "net.h5", change))
    assert network.model.layers[0].dtype_policy.name == "mixed_float16"
    np.testing.assert_array_equal(predictions(network.model), predictions(model))


def test_names_with_a_slash_are_read_with_a_line(tmp_path):
    def change(node: Any) -> Any:
        text = json.dumps(node).replace("dw_1", "dw/1").replace("conv1", "conv/1")
        node.clear()
        node.update(json.loads(text))

    model = mobile()
    path = old_h5(model, tmp_path / "net.h5", change, each("DepthwiseConv2D", groups=1))
    network = load_network(path)
    assert [v.layer for v in network.variables if v.kernel][:2] == ["conv_1", "dw_1"]
    np.testing.assert_array_equal(predictions(network.model), predictions(model))


def test_two_names_are_never_made_one():
    config = {"layers": [{"class_name": "Dense", "config": {"name": name}} for name in ("a/b", "a_b", "c/d")]}
    assert clean(config) == config


@pytest.mark.parametrize("outer", ["functional", "sequential", "last", "sequential last"])
def test_a_model_within_a_model_is_found_again(tmp_path, outer):
    images = keras.Input((12, 12, 3))
    inner = mobile("features")
    if outer == "sequential last":
        inner = keras.Sequential([keras.Input((12, 12, 3)), inner], name="body")
    if outer == "sequential":
        model = keras.Sequential([inner, layers.Dense(2)])
    elif outer == "functional":
        model = keras.Model(images, layers.Dense(2)(inner(images)))
    else:
        model = keras.Model(images, inner(images))
    filled(model)
    path = old_h5(model, tmp_path / "net.h5", keras_2_graph, each("DepthwiseConv2D", groups=1))
    np.testing.assert_array_equal(predictions(load_network(path).model), predictions(model))


def test_a_functional_model_is_found_where_keras_3_keeps_it(tmp_path):
    def change(config: dict[str, Any]) -> None:
        assert config["module"] == "keras.src.models.functional"
        config["module"] = "keras.src.engine.functional"

    model = mobile()
    path = old_keras(model, tmp_path / "net.keras", change)
    np.testing.assert_array_equal(predictions(load_network(path).model), predictions(model))


def test_code_in_an_old_file_is_refused_all_the_same(tmp_path):
    model = keras.Sequential([keras.Input((6, 6, 2)), layers.DepthwiseConv2D(3), layers.Lambda(lambda x: x * 2)])
    path = old_h5(model, tmp_path / "net.h5", each("DepthwiseConv2D", groups=1))
    with pytest.raises(InputError, match=r"not safe to load: Lambda"):
        load_network(path)


def test_the_table_names_layers_of_this_keras():
    assert all(hasattr(layers, kind) for kind in LEFTOVERS)

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import sweep
from sweep.data.datasets import Dataset
from sweep.errors import InputError
from sweep.networks.backend import import_keras
from sweep.networks.ends import ONE, Ends
from sweep.networks.loading import Network, check_fit, load_network, load_network_bytes
from tests.few import one_in

# Keras 3.15 converts its variables to arrays in a way that NumPy 2 is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn:DeprecationWarning")

keras = import_keras()
layers = keras.layers


def saved(model: keras.Model, folder: Path, suffix: str = ".keras") -> Path:
    path = folder / f"model{suffix}"
    model.save(path)
    return path


def classifier(*inner: object, shape: tuple[int, ...] = (6, 6, 1), outputs: int = 3) -> keras.Model:
    head = [layers.Flatten(), layers.Dense(outputs, name="head")]
    return keras.Sequential([keras.Input(shape), *inner, *head])


def refusal(path: Path, ends: Ends = ONE) -> str:
    with pytest.raises(InputError) as caught:
        load_network(path, ends=ends)
    assert all(line.startswith(str(path)) and "\n" not in line for line in caught.value.problems)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_network_is_loaded_and_described(tmp_path, suffix):
    model = classifier(layers.Conv2D(4, 3, name="conv"))
    path = saved(model, tmp_path, suffix)
    network = load_network(path)
    assert network.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (network.input_shape, network.outputs, network.threshold) == ((6, 6, 1), 3, None)
    assert [(v.index, v.path, v.layer, v.layer_index, v.layer_type) for v in network.variables] == [
        (0, "conv/kernel", "conv", 0, "Conv2D"),
        (1, "conv/bias", "conv", 0, "Conv2D"),
        (2, "head/kernel", "head", 2, "Dense"),
        (3, "head/bias", "head", 2, "Dense"),
    ]
    assert [v.shape for v in network.variables] == [(3, 3, 1, 4), (4,), (64, 3), (3,)]
    assert [v.kernel for v in network.variables] == [True, False, True, False]
    images = np.random.default_rng(0).random((5, 6, 6, 1), dtype=np.float32)
    np.testing.assert_array_equal(network.model.predict(images, verbose=0), model.predict(images, verbose=0))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_bytes_give_the_same_network_and_leave_nothing_behind(tmp_path, monkeypatch, suffix):
    path = saved(classifier(), tmp_path, suffix)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    network, from_file = load_network_bytes(path.read_bytes(), suffix), load_network(path)
    assert (network.digest, network.variables) == (from_file.digest, from_file.variables)
    for have, want in zip(network.model.get_weights(), from_file.model.get_weights(), strict=True):
        np.testing.assert_array_equal(have, want)
    assert list(scratch.iterdir()) == []
    with pytest.raises(InputError, match="not a model that Keras can load") as caught:
        load_network_bytes(b"nonsense", suffix)
    assert str(scratch) not in str(caught.value)
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("layer", "shape", "leaf", "axes"),
    [
        (layers.Conv1D(2, 3), (6, 3), "kernel", (2,)),
        (layers.Conv2D(4, 3, groups=2), (6, 6, 2), "kernel", (3,)),
        (layers.Conv3D(2, 2), (4, 4, 4, 1), "kernel", (4,)),
        (layers.Conv1DTranspose(2, 3), (6, 3), "kernel", (1,)),
        (layers.Conv2DTranspose(2, 3), (6, 6, 1), "kernel", (2,)),
        (layers.Conv3DTranspose(2, 2), (4, 4, 4, 1), "kernel", (3,)),
        (layers.DepthwiseConv1D(3, depth_multiplier=2), (6, 3), "kernel", (1, 2)),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), (6, 6, 2), "kernel", (2, 3)),
        (layers.SeparableConv1D(4, 3), (6, 3), "depthwise_kernel", (1, 2)),
        (layers.SeparableConv2D(4, 3), (6, 6, 2), "depthwise_kernel", (2, 3)),
        (layers.SeparableConv2D(4, 3), (6, 6, 2), "pointwise_kernel", (3,)),
        (layers.Dense(5), (4,), "kernel", (1,)),
        (layers.EinsumDense("abc,cde->abde", (6, 2, 3)), (6, 4), "kernel", (1, 2)),
        (layers.EinsumDense("abc,bcd->abd", (6, 3)), (6, 4), "kernel", (0, 2)),
        (layers.EinsumDense("...x,xy->...y", 3), (6, 4), "kernel", (1,)),
        (layers.Embedding(7, 4), (5,), "embeddings", (1,)),
        (layers.LSTM(3), (5, 4), "kernel", (1,)),
        (layers.LSTM(3), (5, 4), "recurrent_kernel", (1,)),
        (layers.TimeDistributed(layers.Conv2DTranspose(2, 3)), (2, 6, 6, 1), "kernel", (2,)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, layers.Layer) else None,
)
def test_kernels_and_their_output_channels(tmp_path, layer, shape, leaf, axes):
    model = classifier(type(layer).from_config(layer.get_config()), shape=shape)
    network = load_network(saved(model, tmp_path))
    own = [v for v in network.variables if v.layer_index == 0]
    (found,) = [v for v in own if v.path.endswith(f"/{leaf}")]
    assert found.kernel
    assert found.channel_axes == axes
    assert (found.layer, found.layer_type) == (model.layers[0].name, type(layer).__name__)
    assert not any(v.kernel for v in own if v.path.endswith("bias"))


def test_normalisation_holds_no_kernel(tmp_path):
    network = load_network(saved(classifier(layers.BatchNormalization(), layers.LayerNormalization()), tmp_path))
    assert [v.path for v in network.variables if v.kernel] == ["head/kernel"]
    assert len(network.variables) == 8


def test_attention_projections_are_the_kernels_of_the_layer_a_user_sees(tmp_path):
    words = keras.Input((5, 8))
    attended = layers.MultiHeadAttention(2, 4, name="attention")(words, words)
    model = keras.Model(words, layers.Dense(2, name="head")(layers.Flatten()(attended)))
    network = load_network(saved(model, tmp_path))
    kernels = [v for v in network.variables if v.kernel]
    assert [v.layer for v in kernels] == ["attention"] * 4 + ["head"]
    # query, key and value keep (heads, size); the output projection keeps its last axis
    assert [v.channel_axes for v in kernels] == [(1, 2), (1, 2), (1, 2), (2,), (1,)]


def test_frozen_layers_keep_their_kernels(tmp_path):
    model = classifier(layers.Conv2D(2, 3, name="conv"))
    model.layers[0].trainable = False
    network = load_network(saved(model, tmp_path))
    assert {v.path for v in network.variables if v.kernel} == {"conv/kernel", "head/kernel"}
    assert [v.shape for v in network.variables] == [tuple(w.shape) for w in network.model.weights]


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_nested_models_count_by_the_layer_that_contains_them(tmp_path, suffix):
    images = keras.Input((6, 6, 1))
    inner = keras.Model(images, layers.Conv2D(2, 3, name="conv")(images), name="features")
    middle = keras.Sequential([keras.Input((6, 6, 1)), inner, layers.Dense(2, name="mix")], name="body")
    network = load_network(saved(classifier(middle), tmp_path, suffix))
    assert [(v.layer, v.layer_index, v.layer_type) for v in network.variables if v.kernel] == [
        ("conv", 0, "Conv2D"),
        ("mix", 0, "Dense"),
        ("head", 2, "Dense"),
    ]
    assert [v.path.split("/")[-2:] for v in network.variables if v.kernel] == [
        ["conv", "kernel"],
        ["mix", "kernel"],
        ["head", "kernel"],
    ]


def test_a_functional_model_counts_its_input_layer_and_a_shared_layer_once(tmp_path):
    images = keras.Input((8,))
    shared = layers.Dense(8, name="shared")
    model = keras.Model(images, layers.Dense(2, name="head")(shared(shared(images))))
    network = load_network(saved(model, tmp_path))
    assert [(v.layer, v.layer_index) for v in network.variables if v.kernel] == [("shared", 1), ("head", 2)]
    for variable in network.variables:
        assert network.model.layers[variable.layer_index].name == variable.layer


@pytest.mark.parametrize(
    ("tail", "threshold"),
    [
        ([layers.Dense(1)], 0.0),
        ([layers.Dense(1, activation="sigmoid")], 0.5),
        ([layers.Dense(1, activation="hard_sigmoid")], 0.5),
        ([layers.Dense(1), layers.Activation("sigmoid")], 0.5),
        ([layers.Dense(1, activation="sigmoid"), layers.Activation("linear")], 0.5),
        ([layers.Dense(1, activation="sigmoid"), layers.Flatten(), layers.Reshape((1,))], 0.5),
        ([layers.Dense(1, activation="sigmoid"), layers.Dense(1)], 0.0),
        ([layers.Dense(2, activation="sigmoid")], None),
        ([layers.Dense(2, activation="softmax")], None),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_the_threshold_follows_the_last_activation(tmp_path, tail, threshold, nested):
    copies = [type(layer).from_config(layer.get_config()) for layer in tail]
    model = keras.Sequential([keras.Input((4,)), *copies])
    if nested:
        images = keras.Input((4,))
        model = keras.Model(images, model(images))
    assert load_network(saved(model, tmp_path)).threshold == threshold


def test_a_sigmoid_operation_is_seen_in_a_functional_model(tmp_path):
    images = keras.Input((4,))
    model = keras.Model(images, keras.ops.sigmoid(layers.Dense(1)(images)))
    assert load_network(saved(model, tmp_path)).threshold == 0.5


def test_a_missing_file_is_reported_with_its_resolved_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^m\.h5: no such file \(looked for /.*/m\.h5\)$"):
        load_network("m.h5")


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x89HDF\r\n\x1a\n cut", b"PK\x03\x04 cut"])
def test_a_file_that_keras_cannot_load_gets_one_line(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    assert "not a model that Keras can load: " in refusal(path)


def test_a_truncated_model_or_mere_weights_are_refused(tmp_path):
    path = saved(classifier(), tmp_path)
    path.write_bytes(path.read_bytes()[:-300])
    refusal(path)
    weights = tmp_path / "only.weights.h5"
    classifier().save_weights(weights)
    assert "No model config found" in refusal(weights)
    assert "these go with what builds their network" in refusal(weights)


def test_another_kind_of_file_is_refused_by_name(tmp_path):
    path = tmp_path / "model.net"
    path.touch()
    assert "must end in .keras or .h5" in refusal(path)
    assert "not a file" in refusal(tmp_path)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_code_stored_in_a_file_is_not_run(tmp_path, suffix):
    path = saved(classifier(layers.Lambda(lambda x: x * 2)), tmp_path, suffix)
    assert "not safe to load: Lambda 'lambda" in refusal(path)
    assert load_network(path, trust=True).outputs > 0


def test_of_several_outputs_one_is_to_be_named(tmp_path):
    a, b = keras.Input((3,)), keras.Input((3,))
    both = layers.Concatenate()([a, b])
    outputs = [layers.Dense(2, name="one")(both), layers.Dense(2, name="other")(both)]
    path = saved(keras.Model([a, b], outputs), tmp_path)
    assert refusal(path).endswith('the model has 2 outputs (one, other); say which is scored: output = "one"')
    assert [one.shape for one in load_network(path, ends=Ends("other")).inputs] == [(3,), (3,)]
    heads = keras.Model([a, b], outputs, name="heads")
    twice = saved(keras.Model([a, b], heads([a, b])), tmp_path, ".h5")
    assert "two outputs of the model are called 'heads'; put a layer" in refusal(twice, Ends("heads"))


def test_an_output_without_an_axis_of_scores_and_a_missing_shape_are_refused(tmp_path):
    images = keras.Input((4,))
    path = saved(keras.Model(images, keras.ops.sum(layers.Dense(2)(images), axis=1)), tmp_path)
    assert "output has shape (any,); it must be (images, outputs), or (images, …, outputs)" in refusal(path)
    with pytest.warns(UserWarning, match="not yet been built"):
        path = saved(keras.Sequential([layers.Flatten(), layers.Dense(2)]), tmp_path)
    assert "saved without an input shape" in refusal(path)


@pytest.mark.parametrize(
    ("shape", "outputs", "labels", "words"),
    [
        ((6, 6), 3, [0, 1, 2], []),
        ((6, 6, 1), 3, [0, 1, 2], []),
        ((6, 5), 3, [0, 1, 2], ["takes images of shape (6, 6, 1), the dataset has (6, 5)"]),
        ((36,), 3, [0, 1, 2], ["the dataset has (36,)"]),
        ((6, 6), 3, [0, 1, 3], ["3 outputs, so labels are 0 to 2; the highest is 3"]),
        ((6, 6), 1, [0, 1, 1], []),
        ((6, 6), 1, [0, 1, 2], ["single output, so labels are 0 or 1; the highest is 2"]),
        ((6, 6, 3), 3, [9, 9, 9], ["takes images", "labels are 0 to 2"]),
        ((6, 6), 36, [0, 1, 1], ["it is an autoencoder, whose outputs are no classes"]),
        ((6, 6), 36, [0, 1, 35], []),
        ((6, 6), 35, [0, 1, 1], []),
    ],
)
def test_check_fit_says_what_does_not_match(shape, outputs, labels, words):
    network = Network(classifier(outputs=outputs), "", (), (6, 6, 1), outputs, None)
    dataset = Dataset(np.zeros((3, *shape), np.uint8), np.array(labels), "")
    problems = check_fit(network, dataset)
    assert len(problems) == len(words)
    assert all(word in problem for word, problem in zip(words, problems, strict=True))


ENDS = {
    "heads": lambda x: layers.Concatenate()([layers.Dense(1, "sigmoid")(x) for _ in range(3)]),
    "stacked": lambda x: keras.ops.squeeze(keras.ops.stack([layers.Dense(3, "sigmoid")(x)], axis=1), axis=1),
    "cast": lambda x: keras.ops.cast(layers.Dense(3, "sigmoid")(x), "float32"),
    "sparse": lambda x: layers.Dense(3, "sparse_sigmoid")(x),
    "hard": lambda x: layers.Dense(3, "hard_sigmoid")(x),
    "hard operation": lambda x: keras.ops.hard_sigmoid(layers.Dense(3)(x)),
    "sparse operation": lambda x: keras.ops.sparse_sigmoid(layers.Dense(3)(x)),
    "reshaped": lambda x: keras.ops.reshape(layers.Dense(3, "sigmoid")(x), (-1, 3)),
    "expanded": lambda x: keras.ops.squeeze(keras.ops.expand_dims(layers.Dense(3, "sigmoid")(x), 1), 1),
}


def decided(build: Callable[[keras.KerasTensor], keras.KerasTensor], folder: Path, measures: list[str]) -> pd.Series:
    """What a study has of the clean network, whose decisions at 1/2 are the labels."""
    keras.utils.set_random_seed(2)
    inputs = keras.Input((6,))
    model = keras.Model(inputs, build(layers.Dense(8, "tanh")(inputs)))
    for variable in model.trainable_variables:
        variable.assign(np.random.default_rng(len(variable.shape)).normal(size=variable.shape))
    images = np.random.default_rng(3).normal(size=(80, 6)).astype(np.float32)
    truth = (np.asarray(model.predict(images, verbose=0)) > 0.5).astype(int)
    model.save(folder / "net.keras")
    np.savez(folder / "data.npz", x_test=images, y_test=truth)
    tables = {"name": "ends", "model": str(folder / "net.keras"), "dataset": str(folder / "data.npz")}
    noise = {"name": "gaussian", "perturb": [{"op": "gaussian", "scale": 0.1}]}
    study = sweep.Study.from_dict({**tables, "seeds": 1, "measures": measures, "family": [noise]})
    return sweep.run(study, folder / "run", runner="inline").trials().iloc[0]


@pytest.mark.parametrize("name", one_in(3, ENDS))
def test_a_sigmoid_is_known_behind_what_only_moves_values(name: str, tmp_path: Path):
    row = decided(ENDS[name], tmp_path, ["multilabel_accuracy", "exact_match"])
    assert (row["multilabel_accuracy"], row["exact_match"]) == (1, 1)


def test_a_single_sigmoid_is_known_likewise(tmp_path: Path):
    row = decided(lambda x: keras.ops.reshape(layers.Dense(1, "sparse_sigmoid")(x), (-1, 1)), tmp_path, ["accuracy"])
    assert row["accuracy"] == 1


@pytest.mark.parametrize(("outputs", "measure"), [(3, "multilabel_accuracy"), (1, "accuracy")])
def test_scores_that_may_be_probabilities_are_asked_for(outputs: int, measure: str, tmp_path: Path):
    halved = lambda x: 0.5 + 0.5 * layers.Dense(outputs, "tanh")(x)  # noqa: E731
    with pytest.raises(InputError, match="its scores may be probabilities or logits"):
        decided(halved, tmp_path, [measure])
    if outputs > 1:
        assert decided(halved, tmp_path, ["mse"])["mse"] >= 0
    mixed = lambda x: layers.Concatenate()([layers.Dense(1, "sigmoid")(x), layers.Dense(outputs)(x)])  # noqa: E731
    with pytest.raises(InputError, match="its scores may be probabilities or logits"):
        decided(mixed, tmp_path, ["multilabel_accuracy"])


def test_scores_beyond_0_to_1_are_logits(tmp_path: Path):
    row = decided(lambda x: layers.Add()([layers.Dense(3)(x), layers.Dense(3)(x)]), tmp_path, ["multilabel_accuracy"])
    assert 0 < row["multilabel_accuracy"] < 1, "the labels are of scores above 1/2"

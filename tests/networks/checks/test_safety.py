"""What a model file may be: ordinary ones pass and load as before, hostile and damaged ones are refused in words."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from sweep.errors import InputError
from sweep.networks import loading
from sweep.networks.backend import import_keras
from sweep.networks.checks import allowed
from sweep.networks.checks.safety import check_model_file, variables_within
from sweep.networks.loading import load_network
from tests.engine.architectures import Builder
from tests.networks.checks import hostile
from tests.networks.test_keras2 import CASES, each, keras_2_graph, mobile, old_h5, old_keras

# Keras 3.15 converts its variables to arrays in a way that NumPy 2 is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn:DeprecationWarning")

keras = import_keras()
layers, ops = keras.layers, keras.ops
SUFFIXES = [".keras", ".h5"]


def assert_passes(path: Path, model: keras.Model | None = None) -> None:
    """The file passes, and loads within the weights that it stores, with the values of `model`.

    An .h5 file that Keras writes but cannot read back, such as one of operations, only has to pass.
    """
    stored = check_model_file(path)
    if model is not None and path.suffix == ".h5":
        try:
            keras.models.load_model(path, compile=False)
        except Exception:
            return
    with variables_within(stored):
        network = load_network(path)
    if model is not None:
        for have, want in zip(network.model.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(have, want)


def saved(model: keras.Model, path: Path) -> Path:
    model.save(path)
    return path


def classifier(*inner: object, shape: tuple[int, ...] = (6, 6, 3)) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *inner, layers.Flatten(), layers.Dense(3)])


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("seed", range(12))
def test_random_networks_pass(tmp_path, seed, suffix):
    model = Builder(np.random.default_rng(seed)).model()
    assert_passes(saved(model, tmp_path / f"net{suffix}"), model)


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[3].glob("models/**/*.h5")), ids=lambda path: path.name)
def test_shipped_networks_pass(path):
    assert_passes(path)


LAYERS = [
    (layers.Conv1D(2, 3, padding="causal"), (6, 3)),
    (layers.Conv2D(6, 3, groups=3, activation=layers.LeakyReLU(0.1)), (6, 6, 3)),
    (layers.Conv3DTranspose(2, 2), (4, 4, 4, 1)),
    (layers.SeparableConv2D(4, 3, depthwise_regularizer="l2", pointwise_constraint="non_neg"), (6, 6, 2)),
    (layers.DepthwiseConv2D(3, depthwise_initializer=keras.initializers.Orthogonal(2.0)), (6, 6, 2)),
    (layers.Dense(4, kernel_initializer=keras.initializers.HeNormal(seed=keras.random.SeedGenerator(3))), (6,)),
    (layers.Dense(4, activation=keras.activations.gelu, bias_initializer=keras.initializers.Constant(0.5)), (6,)),
    (layers.EinsumDense("abc,cd->abd", output_shape=(6, 5), bias_axes="d"), (6, 4)),
    (layers.Embedding(7, 4, mask_zero=False), (5,)),
    (layers.LSTM(3, return_sequences=True, dropout=0.1, recurrent_dropout=0.1), (5, 4)),
    (layers.Bidirectional(layers.GRU(3), merge_mode="ave"), (5, 4)),
    (layers.RNN([layers.LSTMCell(3), layers.SimpleRNNCell(2)]), (5, 4)),
    (layers.ConvLSTM2D(2, 2), (3, 5, 5, 1)),
    (layers.TimeDistributed(layers.Conv2D(2, 3)), (2, 6, 6, 1)),
    (layers.BatchNormalization(axis=1, gamma_regularizer=keras.regularizers.L1L2(0.1, 0.2)), (6, 6, 3)),
    (layers.GroupNormalization(3), (6, 6, 3)),
    (layers.LayerNormalization(), (6, 6, 3)),
    (layers.UnitNormalization(), (6,)),
    (layers.SpectralNormalization(layers.Dense(4)), (6,)),
    (layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1, 2, 3]), (6, 6, 3)),
    (layers.Rescaling(1 / 255, offset=-0.5), (6, 6, 3)),
    (layers.Resizing(4, 4, interpolation="lanczos3"), (6, 6, 3)),
    (layers.CenterCrop(4, 4), (6, 6, 3)),
    (layers.RandomFlip("horizontal", seed=3), (6, 6, 3)),
    (layers.RandomRotation((-0.1, 0.1), fill_mode="reflect"), (6, 6, 3)),
    (layers.GaussianNoise(0.1), (6, 6, 3)),
    (layers.ActivityRegularization(l2=0.1), (6, 6, 3)),
    (layers.PReLU(shared_axes=[1, 2]), (6, 6, 3)),
    (layers.ReLU(max_value=6.0, negative_slope=0.1), (6, 6, 3)),
    (layers.Softmax(axis=[1, 2]), (6, 6, 3)),
    (layers.Permute((2, 1)), (6, 3)),
    (layers.Reshape((3, -1)), (6, 6, 3)),
    (layers.RepeatVector(3), (6,)),
    (layers.ZeroPadding2D(((1, 2), (0, 1))), (6, 6, 3)),
    (layers.UpSampling2D(2, interpolation="bilinear"), (6, 6, 3)),
    (layers.AveragePooling2D(2, padding="same"), (6, 6, 3)),
    (layers.GlobalMaxPooling2D(keepdims=True), (6, 6, 3)),
    (layers.Discretization(bin_boundaries=[0.1, 0.5]), (6,)),
    (layers.AlphaDropout(0.1), (6, 3)),
]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda value: type(value).__name__)
def test_layers_of_all_kinds_pass(tmp_path, layer, shape, suffix):
    model = classifier(type(layer).from_config(layer.get_config()), shape=shape)
    assert_passes(saved(model, tmp_path / f"net{suffix}"), model)


def attention() -> keras.Model:
    words = keras.Input((5, 8))
    x = layers.MultiHeadAttention(2, 4, output_shape=8)(words, words)
    x = layers.LayerNormalization()(layers.Add()([x, words]))
    x = layers.Attention(use_scale=True)([x, words])
    x = layers.GroupQueryAttention(4, 4, 2)(x, x)
    return keras.Model(words, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


def branches() -> keras.Model:
    images = keras.Input((8, 8, 3), name="images")
    shared = layers.Conv2D(3, 3, padding="same", name="shared")
    x = shared(images)
    y = ops.relu(shared(x)) + x * 2 - np.ones((8, 8, 3), "float32")
    y = layers.Concatenate()([y[:, ::2, 1:, ...], ops.transpose(y, (0, 2, 1, 3))[:, ::2, 1:, :]])
    y = ops.clip(ops.reshape(y, (-1, 4 * 7 * 6)), -np.inf, 3.0)
    return keras.Model(images, layers.Dense(2)(ops.squeeze(ops.expand_dims(y, -1), -1)))


def compiled_within() -> keras.Model:
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(4, activation="relu")], name="inner")
    rate = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    inner.compile(
        keras.optimizers.AdamW(rate, weight_decay=0.1),
        keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=["accuracy", keras.metrics.AUC(), keras.metrics.binary_accuracy],
    )
    inner.fit(np.ones((4, 6)), np.zeros((4, 4)), verbose=0)  # Keras reads no optimizer back that took no step
    images = keras.Input((6,))
    model = keras.Model(images, layers.Dense(2)(inner(images)))
    model.compile("adam", "mse", metrics=["mae"])
    return model


def trained() -> keras.Model:
    model = keras.Sequential([keras.Input((4,)), layers.Dropout(0.5), layers.Dense(2, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(np.ones((4, 4)), np.zeros(4), verbose=0)
    return model


def mixed() -> keras.Model:
    inner = layers.Dense(4, dtype="mixed_float16"), layers.Dense(3, dtype="bfloat16"), layers.Dense(2, dtype="float64")
    return keras.Sequential([keras.Input((6,)), *inner])


def nested() -> keras.Model:
    inner = keras.Sequential([keras.Input((6, 6, 1)), layers.Conv2D(2, 3, name="conv")], name="inner")
    images = keras.Input((6, 6, 1))
    middle = keras.Model(images, layers.ReLU()(inner(images)), name="middle")
    return keras.Sequential([keras.Input((6, 6, 1)), middle, layers.Flatten(), layers.Dense(2)])


def own_loss() -> keras.Model:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])

    def theirs(wanted: object, had: object) -> object:
        return ops.mean(wanted - had)

    model.compile("adam", theirs)
    return model


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("make", [attention, branches, compiled_within, trained, mixed, nested, own_loss, mobile])
def test_models_of_all_kinds_pass(tmp_path, make, suffix):
    model = make()
    assert_passes(saved(model, tmp_path / f"net{suffix}"), model)


@pytest.mark.parametrize("write", [old_h5, old_keras])
def test_files_of_keras_2_pass(tmp_path, write):
    suffix = ".h5" if write is old_h5 else ".keras"
    for number, (layer, shape, arguments) in enumerate(CASES):
        inner = type(layer).from_config(layer.get_config())
        model = keras.Sequential([keras.Input(shape), inner, layers.Flatten(), layers.Dense(2)])
        path = write(model, tmp_path / f"net{number}{suffix}", each(type(layer).__name__, **arguments))
        assert_passes(path)

    def change(config: dict) -> None:
        text = json.dumps(config).replace("dw_1", "dw/1").replace("conv1", "conv/1")
        config.update(json.loads(text.replace("keras.src.models.functional", "keras.src.engine.functional")))

    old_axis = each("BatchNormalization", axis=[3], renorm=False)
    path = write(mobile(), tmp_path / f"mobile{suffix}", keras_2_graph, each("DepthwiseConv2D", groups=1), old_axis)
    assert_passes(path)
    check_model_file(write(mobile(), tmp_path / f"names{suffix}", keras_2_graph, change))


def test_precisions_and_tuples_of_keras_2_pass(tmp_path):
    def change(config: dict) -> None:
        config["config"]["layers"][1]["config"] |= {
            "dtype": {"class_name": "Policy", "config": {"name": "float32"}},
            "noise_shape": {"class_name": "__tuple__", "items": [1, 2]},
            "batch_input_shape": {"class_name": "TensorShape", "items": [None, 6]},
        }

    model = keras.Sequential([keras.Input((6,)), layers.Dropout(0.5), layers.Dense(2)])
    check_model_file(old_h5(model, tmp_path / "net.h5", change))


def test_a_compressed_archive_and_a_link_pass(tmp_path):
    path = saved(classifier(layers.Conv2D(3, 3)), tmp_path / "net.keras")
    small = hostile.put_together(tmp_path / "small.keras", hostile.parts(path), hostile.zipfile.ZIP_DEFLATED)
    assert check_model_file(small) == check_model_file(path)
    link = tmp_path / "link.keras"
    link.symlink_to(path)
    assert_passes(link)


def test_the_lists_name_what_this_keras_has():
    missing = {"Lamb", "RandomHeight", "RandomWidth", "ThresholdedReLU"}  # of other versions
    for kind, names in (("layers", allowed.LAYERS), ("losses", allowed.LOSSES), ("metrics", allowed.METRICS)):
        unknown = {name for name in names if not hasattr(getattr(keras, kind), name)} - missing
        assert unknown <= {"GroupedQueryAttention"}
    for kind, names in (("initializers", allowed.INITIALIZERS), ("activations", allowed.ACTIVATIONS)):
        assert {name for name in names if not hasattr(getattr(keras, kind), name)} <= {"IdentityInitializer"}
    refused = {name for name in vars(keras.layers) if name[0].isupper()} - allowed.LAYERS
    assert refused >= {"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "StringLookup", "Layer"}
    for part, names in allowed.OPERATIONS.items():
        module = sys.modules[f"keras.src.ops.{part}"]
        assert {name for name in names if not hasattr(module, name)} == set(), part


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("good")
    model = classifier(layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization())
    model.compile("adam", "mse")
    return {suffix: saved(model, folder / f"good{suffix}") for suffix in SUFFIXES}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, good: dict[str, Path]) -> Iterator[list[tuple[str, Path, str]]]:
    folder = tmp_path_factory.mktemp("hostile")
    yield list(hostile.corpus(folder, good[".keras"], good[".h5"]))
    shutil.rmtree(folder)


def test_hostile_files_are_refused_with_the_reason(corpus):
    assert len(corpus) > 200
    for name, path, words in corpus:
        with pytest.raises(InputError) as caught:
            check_model_file(path)
        assert words in str(caught.value), name
        assert 1 <= len(caught.value.problems) <= 20, name
        for line in caught.value.problems:
            assert line.startswith(f"{path}: "), name
            assert line.isprintable(), name
            assert len(line) < len(str(path)) + 250, name


CHECKER = """
import os, resource, sys
from sweep.errors import InputError
from sweep.networks.checks.safety import check_model_file
good, *paths = sys.argv[1:]
for path in good.split(":"):
    check_model_file(path)
for path in paths:
    os.path.exists("/begin" + path)
    try:
        check_model_file(path)
    except InputError:
        pass
    os.path.exists("/end")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
"""


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_a_check_opens_nothing_but_the_file_itself_and_little_memory(tmp_path, corpus, good):
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-qq", "-s", "4096", "-e", "trace=%file,%network,%process", "-o", str(trace)]
    paths = [str(path) for _, path, _ in corpus]
    result = subprocess.run(
        [*command, sys.executable, "-c", CHECKER, f"{good['.keras']}:{good['.h5']}", *paths],
        capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    if "ptrace" in result.stderr:
        pytest.skip("strace may not trace here")
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) < 2048, "MiB"
    current, seen = None, set()
    for line in trace.read_text().splitlines():
        call = re.search(r"(\w+)\((.*)", line)
        if call is None:
            continue
        if begun := re.search(r'"/begin(/[^"]*)"', line):
            current = begun[1]
            seen.add(current)
        elif '"/end"' in line:
            current = None
        elif current is not None:
            named = re.findall(r'"([^"]*)"', call[2])
            looks = call[1] in (
                "getcwd",
                "stat",
                "lstat",
                "newfstatat",
                "statx",
                "access",
                "faccessat",
                "faccessat2",
                "readlink",
            )
            within = call[1] == "getcwd" or all(f"{current}/".startswith(f"{name.rstrip('/')}/") for name in named)
            device = call[1].startswith(("readlink", "stat", "lstat", "newfstatat")) and "/dev/zero" in line
            opens = call[1] in ("open", "openat") and named == [current]
            assert opens or (looks and (within or device or named == ["/dev"])), line
    assert seen == set(paths)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_cut_anywhere_is_refused_or_whole(tmp_path, good, suffix):
    content = good[suffix].read_bytes()
    lengths = {*range(0, 600, 7), *range(0, len(content), 997), *range(len(content) - 300, len(content), 3)}
    path = tmp_path / f"cut{suffix}"
    for length in sorted(lengths):
        path.write_bytes(content[:length])
        with pytest.raises(InputError) as caught:
            check_model_file(path, "it")
        assert all(line.startswith("it: not ") and line.isprintable() for line in caught.value.problems)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_with_a_flipped_bit_loads_or_is_refused(tmp_path, good, suffix):
    content = good[suffix].read_bytes()
    draws = np.random.default_rng(5)
    path = tmp_path / f"flipped{suffix}"
    lines: list[str] = []
    for position in draws.integers(0, 8 * len(content), 100):
        flipped = bytearray(content)
        flipped[position // 8] ^= 1 << position % 8
        path.write_bytes(flipped)
        try:
            with variables_within(check_model_file(path)):
                load_network(path)
        except InputError as error:
            lines += error.problems
    assert lines
    assert all(line.startswith(str(path)) and line.isprintable() for line in lines)


def test_layers_larger_than_the_file_are_not_built(tmp_path):
    wide = keras.Sequential([keras.Input((1,)), layers.Dense(2, name="a"), layers.Dense(2, name="b")])
    path = saved(wide, tmp_path / "net.keras")
    config = json.loads(hostile.config_of(path))
    for layer in config["config"]["layers"][1:]:
        layer["config"]["units"] = 100_000  # 40 GB between the two
        layer["build_config"] = None
    hostile.with_config(path, tmp_path / "wide.keras", json.dumps(config).encode())
    stored = check_model_file(tmp_path / "wide.keras")
    with pytest.raises(InputError, match="more than 67"), variables_within(stored):
        load_network(tmp_path / "wide.keras")
    with variables_within(stored):
        load_network(path)


def test_what_lies_behind_an_unread_training_configuration_does_not_matter(tmp_path):
    path = saved(trained(), tmp_path / "net.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["training_config"] = json.dumps({"optimizer_config": hostile.TFSM, "loss": hostile.TFSM})
    assert_passes(path)
    path = saved(trained(), tmp_path / "net.keras")
    config = json.loads(hostile.config_of(path)) | {"compile_config": {"optimizer": hostile.TFSM}}
    assert_passes(hostile.with_config(path, tmp_path / "other.keras", json.dumps(config).encode()))


def test_all_reasons_are_given_together(good, tmp_path):
    both = [hostile.LAYERS["tfsm"][0], hostile.LAYERS["word as activation"][0]]
    path = hostile.with_layer(good[".keras"], tmp_path / "a.keras", both)
    path = hostile.with_hdf5(path, tmp_path / "b.keras", hostile.HDF5["external link"][0])
    with pytest.raises(InputError) as caught:
        check_model_file(path)
    text = str(caught.value)
    assert all(words in text for words in ("TensorFlow program", "their_activation", "a link to another file"))


def test_a_file_exchanged_after_the_check_is_not_what_keras_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = saved(classifier(), tmp_path / "net.keras")
    expected = path.read_bytes()
    check = loading.check_model_file

    def check_then_exchange(*given: object, **named: object) -> int:
        stored = check(*given, **named)
        path.write_bytes(b"something else")
        return stored

    monkeypatch.setattr(loading, "check_model_file", check_then_exchange)
    network = load_network(path)
    assert path.read_bytes() == b"something else"
    assert network.digest == hashlib.sha256(expected).hexdigest()

"""Networks that Keras has quantized to int8 or int4, against what Keras makes of their integers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers as kl
from keras.quantizers import AbsMaxQuantizer, Int4QuantizationConfig, Int8QuantizationConfig

import sweep
from sweep.errors import InputError
from sweep.networks.ends import Ends
from sweep.networks.loading import load_network
from sweep.networks.quantized import in_floats
from sweep.preparation.inputs import prepare
from tests.oracle import draw

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:[\\s\\S]*`quantize` method:UserWarning"),
    pytest.mark.filterwarnings("ignore:[\\s\\S]*does not support masking:UserWarning"),
]
IMAGES, SCALE = 200, 0.1


def dense() -> keras.Model:
    inputs = keras.Input((6, 6, 2))
    x = kl.Dense(5, "relu")(kl.Conv2D(4, 3)(inputs))
    return keras.Model(inputs, kl.Dense(4)(kl.Dense(24, "relu")(kl.Flatten()(x))))


def einsum() -> keras.Model:
    inputs = keras.Input((12,), dtype="int32")
    x = kl.EinsumDense("abc,cde->abde", (None, 4, 5), bias_axes="de", activation="relu")(kl.Embedding(30, 16)(inputs))
    x = kl.EinsumDense("abde,def->abf", (None, 9), bias_axes="f")(x)
    return keras.Model(inputs, kl.Dense(4)(kl.GlobalAveragePooling1D()(x)))


def nested() -> keras.Model:
    inner = keras.Sequential([keras.Input((16,)), kl.Dense(16, "relu"), kl.Dense(16)])
    inputs, twice = keras.Input((16,)), kl.Dense(16, "tanh")
    return keras.Model(inputs, kl.Dense(4, "softmax")(kl.Add()([inner(twice(twice(inputs))), inputs])))


NETWORKS = {build.__name__: build for build in (dense, einsum, nested)}
MODES = {
    "int8": Int8QuantizationConfig(),
    "int8, weights only": Int8QuantizationConfig(activation_quantizer=None),
    "int8, fewer steps": Int8QuantizationConfig(activation_quantizer=AbsMaxQuantizer(value_range=(-64, 63))),
    "int4 in groups": Int4QuantizationConfig(block_size=4),
    "int4 by channel": Int4QuantizationConfig(block_size=-1),
    "int4 by channel, inputs too": Int4QuantizationConfig(block_size=None, activation_quantizer=AbsMaxQuantizer()),
}


def built(build: Callable[[], keras.Model]) -> tuple[keras.Model, np.ndarray]:
    """A network with random weights, and images or tokens for it."""
    model, rng = build(), np.random.default_rng(3)
    for variable in model.trainable_variables:
        variable.assign(rng.standard_normal(variable.shape) * 0.5)
    shape = (IMAGES, *model.input_shape[1:])
    if "int" in str(model.inputs[0].dtype):
        return model, rng.integers(0, 30, shape)
    return model, rng.standard_normal(shape).astype(np.float32)


def labelled(scores: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(4)
    return np.where(rng.random(IMAGES) < 0.9, scores.argmax(axis=1), rng.integers(0, 4, IMAGES))


def study(folder: Path, *families: dict) -> sweep.Study:
    files = {"model": str(folder / "net.keras"), "dataset": str(folder / "data.npz")}
    return sweep.Study.from_dict({"name": "quantized", **files, "seeds": 3, "family": list(families)})


def as_keras_rounds(call: Callable[..., object]) -> Callable[..., object]:
    """A layer's own call on inputs rounded to 127 steps up to the largest of each row."""

    def rounded(x: keras.KerasTensor, **how: object) -> object:
        step = (keras.ops.max(keras.ops.abs(x), axis=-1, keepdims=True) + 1e-7) / 127
        return call(keras.ops.round(x / step) * step, **how)

    return rounded


NOISE = {"name": "noise", "perturb": [{"op": "gaussian", "scale": SCALE}]}


QUICK = {("dense", "int8"), ("dense", "int4 in groups"), ("einsum", "int8"), ("nested", "int4 by channel, inputs too")}
ALL = [
    pytest.param(name, mode, marks=[] if (name, mode) in QUICK else pytest.mark.slow)
    for name in NETWORKS
    for mode in MODES
]


@pytest.mark.parametrize(("name", "mode"), ALL)
def test_the_clean_network_is_what_keras_computes_of_integers(name: str, mode: str, tmp_path: Path):
    model, images = built(NETWORKS[name])
    names = [(variable.name, tuple(variable.shape)) for variable in model.weights]
    model.quantize(config=MODES[mode])
    scores = model.predict(images, verbose=0)
    labels = labelled(scores)
    model.save(tmp_path / "net.keras")
    np.savez(tmp_path / "data.npz", x_test=images, y_test=labels)
    network = load_network(tmp_path / "net.keras")
    assert [(variable.name, tuple(variable.shape)) for variable in network.model.weights] == names
    assert (network.scaling, network.lookup != "") == ("", name == "einsum")
    off = np.abs(network.model.predict(images, verbose=0) - scores).max(axis=1)
    assert np.mean(off < 1e-4) > 0.98  # the others have a value on the border of two steps
    trials = sweep.run(study(tmp_path, NOISE), out=tmp_path / "out", runner="inline").trials()
    assert trials[trials.family == "clean"].n_correct.tolist() == [int((scores.argmax(axis=1) == labels).sum())]
    assert trials[trials.family == "noise"].n_correct.nunique() > 1


def test_noise_is_that_of_the_network_before_on_what_its_integers_stand_for(tmp_path: Path):
    model, images = built(dense)
    before = model.get_weights()
    model.quantize("int8")
    labels = labelled(model.predict(images, verbose=0))
    model.save(tmp_path / "net.keras")
    np.savez(tmp_path / "data.npz", x_test=images, y_test=labels)
    flow = {"name": "flow", "perturb": [{"op": "activation_fixed_point", "bits": 3}]}
    run = sweep.run(study(tmp_path, NOISE, flow), out=tmp_path / "out", runner="inline")
    twin, counts = dense(), {}
    inner = [layer for layer in twin.layers if isinstance(layer, kl.Dense)]
    for layer in inner:
        layer.call = as_keras_rounds(layer.call)
    kernels = [number for number, weight in enumerate(before) if weight.ndim > 1]
    assert [v.index for v in prepare(run.study).networks["net"].variables if v.kernel] == kernels
    for number in kernels[1:]:  # a convolution stays as it was
        largest = np.abs(before[number]).max(axis=0, keepdims=True) + np.float32(1e-7)
        before[number] = np.round(before[number] * (127 / largest)) / (127 / largest)
    for seed in range(3):
        weights = list(before)
        for number in kernels:
            noise = draw(0, seed, 0, number).standard_normal(weights[number].shape, dtype=np.float32)
            weights[number] = weights[number] + np.float32(SCALE) * noise
        twin.set_weights(weights)
        counts[seed] = int((twin.predict(images, verbose=0).argmax(axis=1) == labels).sum())
    trials = run.trials()
    found = trials[trials.family == "noise"]
    assert dict(zip(found.seed, found.n_correct, strict=True)) == counts
    twin.set_weights(before)
    for layer in [twin.layers[1], *inner[:-1]]:
        layer.call = (lambda call: lambda x, **how: keras.ops.round(call(x) * 8) / 8)(layer.call)
    twin.predict_function = None
    count = int((twin.predict(images, verbose=0).argmax(axis=1) == labels).sum())
    assert trials[trials.family == "flow"].n_correct.tolist() == [count]


def test_a_chip_is_a_file_for_keras_alone_and_for_a_study(tmp_path: Path):
    model, images = built(dense)
    model.quantize("int8")
    images = (images > 0).astype(np.uint8) * 255
    labels = labelled(model.predict(images / np.float32(255), verbose=0))
    model.save(tmp_path / "net.keras")
    np.savez(tmp_path / "data.npz", x_test=images, y_test=labels)
    run = sweep.run(study(tmp_path, NOISE), out=tmp_path / "out", runner="inline")
    trials = run.trials()
    row = trials[(trials.family == "noise") & (trials.seed == 1)].iloc[0]
    run.chip(row.cell, 1).save(tmp_path / "chip.keras")
    with pytest.raises(InputError, match="Keras cannot read operations"):
        run.chip(row.cell, 1).save(tmp_path / "chip.h5")
    chip = keras.models.load_model(tmp_path / "chip.keras")
    assert (chip.predict(images / np.float32(255), verbose=0).argmax(axis=1) == labels).sum() == row.n_correct
    (tmp_path / "chip.keras").replace(tmp_path / "net.keras")
    again = sweep.run(study(tmp_path, NOISE), out=tmp_path / "again", runner="inline").trials()
    assert again[again.family == "clean"].n_correct.tolist() == [row.n_correct]


def test_gradients_pass_as_keras_lets_them():
    import tensorflow as tf

    model, images = built(dense)
    model.quantize("int8")
    gradients = []
    for one in (model, in_floats(model)):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(one(images) ** 2)
        gradients.append(tape.gradient(loss, one.layers[1].kernel).numpy())
    assert np.allclose(*gradients, rtol=1e-3, atol=1e-3 * np.abs(gradients[0]).max())


def _within() -> keras.Model:
    return keras.Sequential([keras.Input((3, 4)), kl.TimeDistributed(kl.Dense(3)), kl.Flatten(), kl.Dense(4)])


def _half() -> keras.Model:
    return keras.Sequential([keras.Input((4,)), kl.Dense(4, dtype="mixed_bfloat16")])


def _low_rank() -> keras.Model:
    model = keras.Sequential([keras.Input((4,)), kl.Dense(4, name="wide")])
    model.layers[0].enable_lora(2)
    return model


def masked(*layers: kl.Layer) -> keras.Model:
    tokens = keras.Input((12,), dtype="int32")
    x = kl.Embedding(30, 8, mask_zero=True)(tokens)
    for layer in layers:
        x = layer(x)
    return keras.Model(tokens, kl.Dense(4)(x))


@pytest.mark.slow
def test_masks_reach_what_heeds_them(tmp_path: Path):
    """Where a quantized layer does not round, they go on; where one rounds behind what has taken the mask, too."""
    for build, mode in (
        (lambda: masked(kl.Dense(6), kl.LSTM(5)), "int4"),
        (lambda: masked(kl.LSTM(5), kl.Dense(6)), "int8"),
        (lambda: masked(kl.GlobalAveragePooling1D()), "int8"),
    ):
        model, tokens = built(build)
        tokens[:, 4:] = 0
        model.quantize(mode)
        model.save(tmp_path / "net.keras")
        network = load_network(tmp_path / "net.keras")
        scores = model.predict(tokens, verbose=0)
        assert np.abs(network.model.predict(tokens, verbose=0) - scores).max() < 0.02 * np.ptp(scores)


def test_what_is_shared_by_two_models_stays_one_layer():
    shared = kl.Dense(8, name="shared")
    inner = keras.Input((8,))
    model = keras.Model(inner, shared(inner), name="inside")
    inputs = keras.Input((8,))
    whole = keras.Model(inputs, kl.Dense(4)(model(kl.Activation("relu")(shared(inputs=inputs)))))
    whole.quantize("int8")
    floats = in_floats(whole)
    assert [variable.path for variable in floats.weights].count("shared/kernel") == 1
    assert len(floats.weights) == 4
    images = np.random.default_rng(1).standard_normal((50, 8)).astype(np.float32)
    scores = whole.predict(images, verbose=0)
    assert np.mean(np.abs(floats.predict(images, verbose=0) - scores).max(axis=1) < 1e-4) > 0.9


def test_several_inputs_and_outputs_keep_their_names(tmp_path: Path):
    image, meta = keras.Input((6,), name="image"), keras.Input((3,), name="meta")
    x = kl.Dense(8, "relu", name="first")(kl.Concatenate()([kl.Dense(8)(image), meta]))
    heads = {"digit": kl.Dense(4, name="a")(x), "colour": kl.Dense(3, name="b")(x)}
    model = keras.Model({"image": image, "meta": meta}, heads)
    model.quantize("int8")
    model.save(tmp_path / "net.keras")
    network = load_network(tmp_path / "net.keras", ends=Ends("colour"))
    assert [one.name for one in network.inputs] == ["image", "meta"]
    rng = np.random.default_rng(2)
    given = {"image": rng.standard_normal((40, 6)), "meta": rng.standard_normal((40, 3))}
    scores = model.predict(given, verbose=0)["colour"]
    packed = np.concatenate([given["image"], given["meta"]], axis=1).astype(np.float32)
    assert np.mean(np.abs(network.model.predict(packed, verbose=0) - scores).max(axis=1) < 1e-4) > 0.9


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_what_a_layer_is_given_becomes_float32_before_it_is_rounded(policy: str, tmp_path: Path):
    """In float16, 127 steps over a largest value of 1e-3 would be infinite, and an image of zeros no numbers."""
    layers = [kl.Dense(30, "relu", dtype=policy, use_bias=False), kl.Dense(4, dtype="float32")]
    model = keras.Sequential([keras.Input((20,)), *layers])
    layers[1].quantize("int8")
    model.save(tmp_path / "net.keras")
    images = np.random.default_rng(3).normal(0, 1e-3, (IMAGES, 20)).astype(np.float32)
    images[7] = 0
    network, scores = load_network(tmp_path / "net.keras"), model.predict(images, verbose=0)
    off = np.abs(network.model.predict(images, verbose=0) - scores).max(axis=1)
    assert np.mean(off < 1e-4 * np.ptp(scores)) > 0.98


def test_an_embedding_that_was_given_its_numbers(tmp_path: Path):
    table = np.random.default_rng(5).standard_normal((30, 8))
    tokens = keras.Input((12,), dtype="int32")
    x = kl.GlobalAveragePooling1D()(kl.Embedding(30, 8, weights=table)(tokens))
    model = keras.Model(tokens, kl.Dense(4)(x))
    model.quantize("int8")
    model.save(tmp_path / "net.keras")
    given = np.random.default_rng(6).integers(0, 30, (IMAGES, 12))
    found = load_network(tmp_path / "net.keras").model.predict(given, verbose=0)
    assert np.mean(np.abs(found - model.predict(given, verbose=0)).max(axis=1) < 1e-4) > 0.98


def _masked() -> keras.Model:
    return masked(kl.Dense(6), kl.LSTM(5))


def _masked_within() -> keras.Model:
    inner = keras.Sequential([keras.Input((12, 8)), kl.Dense(6), kl.Dense(5)])
    return masked(inner, kl.GlobalAveragePooling1D())


def _masked_from_within() -> keras.Model:
    tokens = keras.Input((12,), dtype="int32")
    inner = keras.Sequential([keras.Input((12,), dtype="int32"), kl.Embedding(30, 8, mask_zero=True)])
    return keras.Model(tokens, kl.Dense(4)(kl.LSTM(5)(kl.Dense(6)(inner(tokens)))))


def _whole_numbers() -> keras.Model:
    return keras.Sequential([keras.Input((4,), dtype="int32"), kl.Dense(4)])


WIDER = Int8QuantizationConfig(activation_quantizer=AbsMaxQuantizer(value_range=(-200, 200), output_dtype="int16"))


@pytest.mark.parametrize(
    ("build", "mode", "why"),
    [
        (_within, "int8", "is quantized to int8 within another layer"),
        (_half, "int8", "is quantized to int8 from mixed_bfloat16, and only float32"),
        (_low_rank, "int8", "layer wide (Dense) is quantized to int8, with LoRA beside it"),
        (_masked, "int8", "is quantized to int8 and may be given a mask"),
        (_masked_within, "int8", "is quantized to int8 and may be given a mask"),
        (_masked_from_within, "int8", "is quantized to int8 and may be given a mask"),
        (_whole_numbers, "int8", "is given int32, which Keras rounds without making it float32"),
        (dense, WIDER, "rounds what it is given otherwise than to int8"),
        (dense, "float8", "is quantized by Keras to float8"),
    ],
)
def test_others_are_refused_in_one_line(build: Callable[[], keras.Model], mode: object, why: str, tmp_path: Path):
    model = build()
    model.quantize(**{"mode" if isinstance(mode, str) else "config": mode})
    model.save(tmp_path / "net.keras")
    with pytest.raises(InputError) as refused:
        load_network(tmp_path / "net.keras")
    assert why in str(refused.value)
    assert "as it was before quantize()" in str(refused.value)
    assert not any("\n" in problem for problem in refused.value.problems)

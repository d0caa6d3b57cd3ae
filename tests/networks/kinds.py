"""Networks of every kind that people have, each small; and what plain Keras makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import layers as kl

from tests.networks import own_layers

Build = Callable[[], keras.Model]
KINDS: dict[str, Build] = {}
TOKENS = "tokens"


def kind(build: Build) -> Build:
    KINDS[build.__name__.replace("_", " ")] = build
    return build


def stack(*layers: Any, shape: tuple[int | None, ...] = (8, 8, 3), batch: int | None = None) -> keras.Model:
    return keras.Sequential([keras.Input(shape, batch_size=batch), *layers])


def head(*layers: Any, **how: Any) -> keras.Model:
    return stack(*layers, kl.Flatten(), kl.Dense(4), **how)


def conv(**how: Any) -> kl.Layer:
    return kl.Conv2D(4, 3, activation="relu", **how)


def tokens(*layers: Any, length: int | None = 12) -> keras.Model:
    embedding = kl.Embedding(20, 8, mask_zero=True, name=TOKENS)
    return keras.Sequential([keras.Input((length,)), embedding, *layers, kl.Dense(4)])


def policy(name: str) -> Build:
    def build() -> keras.Model:
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(name)
        try:
            return stack(kl.Flatten(), kl.Dense(8, "relu"), kl.BatchNormalization(), kl.Dense(6, "tanh"), kl.Dense(4))
        finally:
            keras.config.set_dtype_policy(before)

    return build


KINDS |= {
    "sequential": lambda: head(conv()),
    "unknown size": lambda: stack(conv(), kl.GlobalAveragePooling2D(), kl.Dense(4), shape=(None, None, 3)),
    "unknown size, two convolutions": lambda: stack(
        conv(), conv(), kl.GlobalMaxPooling2D(), kl.Dense(4), shape=(None, None, 3)
    ),
    "unknown size, resized": lambda: head(kl.Resizing(6, 6), conv(), shape=(None, None, 3)),
    "unknown length": lambda: tokens(kl.GRU(6), length=None),
    "unknown length, pooled": lambda: tokens(kl.GlobalAveragePooling1D(), length=None),
    "mask into pooling": lambda: tokens(kl.GlobalAveragePooling1D()),
    "mask into LSTM": lambda: tokens(kl.LSTM(6, return_sequences=True), kl.LSTM(5)),
    "mask into both directions": lambda: tokens(kl.Bidirectional(kl.LSTM(4))),
    "batch of 16": lambda: head(conv(), batch=16),
    "batch of 1, of tokens": lambda: stack(
        kl.Embedding(20, 8, name=TOKENS), kl.GRU(5), kl.Dense(4), shape=(12,), batch=1
    ),
    "stateful": lambda: stack(kl.Reshape((12, 16)), kl.GRU(4, stateful=True), kl.Dense(4), batch=8),
    **{name: policy(name) for name in ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16", "float64")},
    "channels first": lambda: head(conv(data_format="channels_first"), shape=(3, 8, 8)),
    "channels first at the end": lambda: stack(
        conv(), kl.Permute((3, 1, 2)), kl.GlobalAveragePooling2D(data_format="channels_first"), kl.Dense(4)
    ),
    "depthwise and separable": lambda: head(kl.DepthwiseConv2D(3, depth_multiplier=2), kl.SeparableConv2D(4, 3)),
    "grouped": lambda: head(kl.Conv2D(4, 3), conv(groups=2)),
    "transposed": lambda: head(kl.Conv2D(4, 3), kl.Conv2DTranspose(4, 3, strides=2, activation="relu")),
    "normalised": lambda: head(
        kl.Conv2D(4, 3), kl.GroupNormalization(2), kl.LayerNormalization(), kl.RMSNormalization()
    ),
    "spectral normalisation": lambda: head(kl.SpectralNormalization(conv())),
    "one axis": lambda: stack(
        kl.Conv1D(4, 3, padding="causal", dilation_rate=2), kl.GlobalMaxPooling1D(), kl.Dense(4), shape=(12, 3)
    ),
    "three axes": lambda: head(kl.Conv3D(2, 3), shape=(6, 6, 6, 1)),
    "convolutional LSTM": lambda: head(kl.ConvLSTM2D(2, 3), shape=(2, 6, 6, 1)),
    "einsum": lambda: head(kl.EinsumDense("abc,cd->abd", (6, 5)), shape=(6, 8)),
    "time distributed": lambda: head(kl.TimeDistributed(kl.Conv2D(2, 3)), shape=(2, 8, 8, 3)),
    "PReLU": lambda: head(kl.Conv2D(4, 3), kl.PReLU()),
    "no weights": lambda: stack(kl.Softmax(), shape=(4,)),
    "maps of one position": lambda: stack(kl.Conv2D(4, 8), kl.Dense(4)),
    "lambda": lambda: head(kl.Lambda(lambda x: 2 * x), conv()),
    "own layer": lambda: stack(kl.Flatten(), own_layers.Own(6), kl.Dense(4)),
    "own registered layer": lambda: stack(kl.Flatten(), own_layers.Registered(6), kl.Dense(4, own_layers.swoosh)),
    "own layer, batch of 16": lambda: stack(kl.Flatten(), own_layers.Own(6), kl.Dense(4), batch=16),
    "own layer without its arguments": lambda: stack(kl.Flatten(), own_layers.Silent(6), kl.Dense(4)),
    "own model": own_layers.build,
    "own model of one output": own_layers.build_single,
}


@kind
def mask_into_attention() -> keras.Model:
    inputs = keras.Input((12,))
    x = kl.Embedding(20, 8, mask_zero=True, name=TOKENS)(inputs)
    return keras.Model(inputs, kl.Dense(4)(kl.GlobalAveragePooling1D()(kl.MultiHeadAttention(2, 4)(x, x))))


@kind
def transformer() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    x = kl.Reshape((4, 8))(kl.Conv2D(8, 4, 4)(inputs))
    y = kl.LayerNormalization()(x)
    return keras.Model(inputs, kl.Dense(4)((x + kl.MultiHeadAttention(2, 4)(y, y))[:, 0]))


@kind
def shared_layer() -> keras.Model:
    inputs, shared = keras.Input((8,)), kl.Dense(8, "tanh")
    return keras.Model(inputs, kl.Dense(4)(shared(shared(inputs))))


@kind
def nested() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, kl.Dense(4)(stack(conv(), kl.Flatten())(inputs)))


@kind
def nested_and_shared() -> keras.Model:
    inputs, twice = keras.Input((8,)), stack(kl.Dense(8, "relu"), shape=(8,))
    return keras.Model(inputs, kl.Dense(4)(twice(twice(inputs))))


@kind
def tied_embedding() -> keras.Model:
    inputs, shared = keras.Input((12,)), kl.ReversibleEmbedding(20, 8, name=TOKENS)
    hidden = kl.Dense(8, "tanh")(kl.GlobalAveragePooling1D()(shared(inputs)))
    return keras.Model(inputs, shared(hidden, reverse=True))


@kind
def layer_scale_of_ConvNeXt() -> keras.Model:
    from keras.src.applications.convnext import LayerScale

    inputs = keras.Input((8, 8, 3))
    x = kl.Conv2D(4, 3)(inputs)
    y = LayerScale(1e-6, 4)(kl.DepthwiseConv2D(3, padding="same")(x))
    return keras.Model(inputs, kl.Dense(4)(kl.GlobalAveragePooling2D()(kl.Add()([x, y]))))


@kind
def low_rank() -> keras.Model:
    model = stack(kl.Flatten(), kl.Dense(6, "relu"), kl.Dense(4))
    model.layers[1].enable_lora(2)
    return model


@kind
def quantized_to_float8() -> keras.Model:
    model = stack(kl.Flatten(), kl.Dense(6, "relu"), kl.Dense(4))
    model.quantize("float8")
    return model


def data(model: keras.Model, rng: np.random.Generator, images: int) -> np.ndarray:
    """Images, or tokens of which some are 0, for a model's input; sizes that it leaves open are 10."""
    shape = tuple(size or 10 for size in (getattr(model, "input_shape", None) or (None, 8, 8, 3))[1:])
    if any(layer.name == TOKENS for layer in model.layers):
        return rng.integers(0, 20, (images, *shape)).astype(np.int32)
    return rng.random((images, *shape)).astype(np.float32)


def randomize(model: keras.Model, rng: np.random.Generator) -> None:
    """Moderate values for all weights that are numbers; those of one axis, variances among them, positive."""
    for variable in model.weights:
        if "int" not in str(variable.dtype):
            value = rng.normal(0, 0.5, variable.shape)
            variable.assign(value if len(variable.shape) > 1 else value**2)


def scores(model: keras.Model, images: np.ndarray) -> np.ndarray:
    size = model.inputs[0].shape[0] if getattr(model, "inputs", None) else None
    found = np.asarray(model.predict(images, batch_size=size or 32, verbose=0))
    return found.reshape(len(found), -1)  # of maps of a single position


def balance(model: keras.Model, images: np.ndarray) -> None:
    """A bias of the last layer with which its classes are about equally frequent."""
    bias, means = getattr(model.layers[-1], "bias", None), scores(model, images).mean(axis=0)
    if bias is not None and bias.shape == means.shape:
        bias.assign(np.array(bias) - means)


@contextmanager
def rounded(model: keras.Model, names: Sequence[str], bits: int) -> Iterator[None]:
    """The model with the outputs of these layers rounded to so many fractional bits, in plain Keras."""
    every = {layer.name: layer for layer in model._flatten_layers(include_self=False)}

    def rounding(call: Callable[..., Any]) -> Callable[..., Any]:
        def then_rounded(*args: Any, **kwargs: Any) -> Any:
            x = call(*args, **kwargs)
            return keras.ops.cast(keras.ops.round(keras.ops.cast(x, "float32") * 2.0**bits) / 2.0**bits, x.dtype)

        return then_rounded

    calls = {name: every[name].call for name in names}
    for name, call in calls.items():
        every[name].call = rounding(call)
    model.predict_function = None
    try:
        yield
    finally:
        for name, call in calls.items():
            every[name].call = call
        model.predict_function = None

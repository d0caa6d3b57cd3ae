"""Each kind of layer of the stacked pass: alone with its weights perturbed, and after a perturbed layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from architectures import assert_same, draw_weights, plain, randomize, stacked
from keras import layers as kl

from sweep.engine.graph import Unsupported
from sweep.engine.stacked.network import StackedNetwork
from sweep.engine.stacked.rules import RULES

IMAGE: dict[str, Callable[[], Any]] = {
    "conv": lambda: kl.Conv2D(4, 3),
    "conv, stride, same": lambda: kl.Conv2D(4, (3, 2), strides=(2, 1), padding="same", activation="relu"),
    "conv, dilation": lambda: kl.Conv2D(4, 2, dilation_rate=(2, 3), use_bias=False),
    "conv, layer as activation": lambda: kl.Conv2D(3, 2, activation=kl.LeakyReLU(0.1)),
    "conv, groups": lambda: kl.Conv2D(9, 3, groups=3, activation="softmax"),
    "depthwise": lambda: kl.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2),
    "separable": lambda: kl.SeparableConv2D(4, 3, depth_multiplier=2, activation="elu"),
    "transposed": lambda: kl.Conv2DTranspose(2, 3, strides=2),
    "dense over channels": lambda: kl.Dense(5, activation="tanh"),
    "einsum dense": lambda: kl.EinsumDense("bhwc,cd->bhwd", output_shape=(6, 7, 4), bias_axes="d"),
    "batch normalisation": lambda: kl.BatchNormalization(),
    "batch normalisation, rows": lambda: kl.BatchNormalization(axis=1),
    "layer normalisation": lambda: kl.LayerNormalization(),
    "rms normalisation": lambda: kl.RMSNormalization(),
    "group normalisation": lambda: kl.GroupNormalization(groups=3),
    "unit normalisation": lambda: kl.UnitNormalization(),
    "max pooling": lambda: kl.MaxPooling2D((2, 3), strides=(1, 2), padding="same"),
    "average pooling": lambda: kl.AveragePooling2D(2, padding="same"),
    "global max": lambda: kl.GlobalMaxPooling2D(keepdims=True),
    "global average": lambda: kl.GlobalAveragePooling2D(),
    "zero padding": lambda: kl.ZeroPadding2D(((1, 2), (3, 0))),
    "cropping": lambda: kl.Cropping2D(((1, 2), (0, 1))),
    "upsampling": lambda: kl.UpSampling2D((2, 1), interpolation="bilinear"),
    "activation": lambda: kl.Activation("gelu"),
    "activation, per image": lambda: kl.Activation("softmax"),
    "activation, any function": lambda: kl.Activation(lambda x: keras.ops.cumsum(x, axis=-1)),
    "relu": lambda: kl.ReLU(max_value=2.0, negative_slope=0.1, threshold=0.2),
    "leaky relu": lambda: kl.LeakyReLU(0.3),
    "prelu": lambda: kl.PReLU(shared_axes=[1]),
    "elu": lambda: kl.ELU(),
    "softmax": lambda: kl.Softmax(axis=2),
    "flatten": lambda: kl.Flatten(),
    "reshape": lambda: kl.Reshape((6, -1)),
    "permute": lambda: kl.Permute((3, 1, 2)),
    "dropout": lambda: kl.Dropout(0.5),
    "spatial dropout": lambda: kl.SpatialDropout2D(0.5),
    "gaussian noise": lambda: kl.GaussianNoise(1.0),
    "gaussian dropout": lambda: kl.GaussianDropout(0.5),
    "activity regularisation": lambda: kl.ActivityRegularization(l2=0.1),
    "rescaling": lambda: kl.Rescaling(0.5, offset=-1.0),
}
SEQUENCE: dict[str, Callable[[], Any]] = {
    "conv": lambda: kl.Conv1D(4, 3, strides=2, padding="same"),
    "conv, causal": lambda: kl.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="relu"),
    "conv, groups": lambda: kl.Conv1D(6, 2, groups=3),
    "depthwise": lambda: kl.DepthwiseConv1D(3, strides=2, depth_multiplier=2),
    "separable": lambda: kl.SeparableConv1D(4, 3, dilation_rate=2, activation="relu"),
    "max pooling": lambda: kl.MaxPooling1D(3, strides=2, padding="same"),
    "average pooling": lambda: kl.AveragePooling1D(2),
    "global max": lambda: kl.GlobalMaxPooling1D(),
    "global average": lambda: kl.GlobalAveragePooling1D(keepdims=True),
    "zero padding": lambda: kl.ZeroPadding1D((1, 2)),
    "cropping": lambda: kl.Cropping1D((0, 2)),
    "upsampling": lambda: kl.UpSampling1D(2),
    "dense": lambda: kl.Dense(5),
    "layer normalisation": lambda: kl.LayerNormalization(axis=(1, 2)),
    "spatial dropout": lambda: kl.SpatialDropout1D(0.5),
}
MERGES: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda x, y: kl.Add()([x, y, x]),
    "subtract": lambda x, y: kl.Subtract()([x, y]),
    "multiply": lambda x, y: kl.Multiply()([x, y]),
    "average": lambda x, y: kl.Average()([x, y]),
    "maximum": lambda x, y: kl.Maximum()([x, y]),
    "minimum": lambda x, y: kl.Minimum()([x, y]),
    "concatenate": lambda x, y: kl.Concatenate()([x, y, y]),
    "concatenate rows": lambda x, y: kl.Concatenate(axis=1)([x, y]),
    "gate": lambda x, y: kl.Multiply()([x, kl.GlobalAveragePooling2D(keepdims=True)(y)]),
    "one channel": lambda x, y: kl.Multiply()([x, kl.Conv2D(1, 1)(y)]),
    "rounding": lambda x, y: keras.ops.stop_gradient(
        keras.ops.divide(
            keras.ops.clip(keras.ops.round(9 * x), -7, 7),
            keras.ops.max(keras.ops.abs(y), axis=-1, keepdims=True) + 1,
        )
    ),
    "largest of all values": lambda x, y: x / (keras.ops.max(keras.ops.abs(y), axis=(1, 2, 3), keepdims=True) + 1),
    "operators": lambda x, y: keras.ops.relu(x - 2.0 * y) + keras.ops.maximum(x, y) / 3.0,
}


def compare(model: keras.Model, varied: list[int]) -> None:
    rng = np.random.default_rng(3)
    randomize(model, rng)
    weights = draw_weights(model, varied, 3, rng)
    x = rng.standard_normal((4, *model.input_shape[1:])).astype(np.float32)
    assert_same(stacked(StackedNetwork(model, varied), weights, x), plain(model, varied, weights, x))


def check(make: Callable[[], Any], shape: tuple[int, ...]) -> None:
    """The layer between two others: all perturbed, only itself, and only the one before it."""
    before = kl.Conv2D(3, 1) if len(shape) == 3 else kl.Conv1D(3, 1)
    model = keras.Sequential([keras.Input(shape), before, make(), kl.Flatten(), kl.Dense(3)])
    own = [i for i, v in enumerate(model.weights) if any(v is w for w in model.layers[1].weights)]
    for varied in [list(range(len(model.weights))), own, [0]]:
        if varied:
            compare(model, varied)


@pytest.mark.parametrize("name", IMAGE)
def test_image_layer(name: str) -> None:
    check(IMAGE[name], (6, 7, 2))


@pytest.mark.parametrize("name", SEQUENCE)
def test_sequence_layer(name: str) -> None:
    check(SEQUENCE[name], (9, 2))


@pytest.mark.parametrize("other", ["perturbed", "shared", "dense"])
@pytest.mark.parametrize("name", MERGES)
def test_merge(name: str, other: str) -> None:
    """Trials among the channels of one activation, and there, nowhere or among the images of the other."""
    inputs = keras.Input((5, 6, 2))
    x = kl.Conv2D(3, 3, padding="same")(inputs)
    y = kl.Dense(3)(inputs) if other == "dense" else kl.Conv2D(3, 1)(inputs)
    model = keras.Model(inputs, kl.Dense(3)(kl.Flatten()(MERGES[name](x, y))))
    compare(model, [0, 1] if other == "shared" else list(range(len(model.weights))))


@pytest.mark.parametrize("how", [{"axis": 0, "keepdims": True}, {"axis": -4, "keepdims": True}, {"axis": 1}])
def test_the_largest_among_images_is_not_covered(how: dict[str, Any]) -> None:
    inputs = keras.Input((5, 6, 2))
    x = kl.Conv2D(6, 1)(inputs)
    model = keras.Model(inputs, kl.Dense(3)(kl.Flatten()(x - keras.ops.max(x, **how))))
    with pytest.raises(Unsupported, match="Max"):
        StackedNetwork(model, [0])


def test_three_dimensional_layers() -> None:
    layers = [
        kl.Conv3D(3, 2),
        kl.MaxPooling3D(2, padding="same"),
        kl.ZeroPadding3D(1),
        kl.GlobalAveragePooling3D(),
    ]
    model = keras.Sequential([keras.Input((4, 5, 6, 2)), *layers, kl.Dense(3)])
    compare(model, [0, 2])


def test_adding_a_layer_takes_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Doubled(kl.Layer):
        def call(self, x: Any) -> Any:
            return 2 * x

    monkeypatch.setitem(RULES, Doubled, RULES[kl.ReLU])
    model = keras.Sequential([keras.Input((6, 6, 1)), kl.Conv2D(2, 3), Doubled(), kl.Flatten(), kl.Dense(2)])
    compare(model, [0, 1])

"""Random small networks for the tests of the stacked pass, and the plain evaluation to compare it with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers as kl

from sweep.engine.stacked.network import StackedNetwork

ACTIVATIONS = ["relu", "relu", "tanh", "gelu", "elu", "sigmoid", "softplus", "leaky_relu", None, "softmax"]


def randomize(model: keras.Model, rng: np.random.Generator) -> None:
    """Random values of moderate size for every weight: variances positive, biases not zero."""
    for v in model.weights:
        fan = max(1, int(np.prod(v.shape[:-1])))
        draw = rng.standard_normal(v.shape)
        if "variance" in v.path:
            value = 0.5 + np.abs(draw)
        elif "gamma" in v.path:
            value = 1 + 0.3 * draw
        else:
            value = draw * (fan**-0.5 if len(v.shape) > 1 else 0.3)
        v.assign(value.astype(np.float32))


def draw_weights(model: keras.Model, varied: Sequence[int], trials: int, rng: np.random.Generator) -> list[np.ndarray]:
    """For each varied weight, `trials` perturbed copies (T, *shape); variances stay positive."""
    out = []
    for i in varied:
        v = model.weights[i]
        noise = 0.3 * rng.standard_normal((trials, *v.shape))
        out.append((v.numpy() * np.exp(noise) if "variance" in v.path else v.numpy() + noise).astype(np.float32))
    return out


def plain(model: keras.Model, varied: Sequence[int], weights: Sequence[np.ndarray], x: np.ndarray) -> np.ndarray:
    """(T, B, outputs): one trial at a time with the network itself, whose weights are put back."""
    before = [model.weights[i].numpy() for i in varied]
    out = []
    for t in range(len(weights[0])):
        for i, w in zip(varied, weights, strict=True):
            model.weights[i].assign(w[t])
        out.append(np.asarray(model(x, training=False)))
    for i, w in zip(varied, before, strict=True):
        model.weights[i].assign(w)
    return np.stack(out)


def stacked(network: StackedNetwork, weights: Sequence[np.ndarray], x: np.ndarray) -> np.ndarray:
    """(T, B, outputs): all trials in one pass."""
    boundary = network.graph.run_prefix(keras.ops.convert_to_tensor(x))
    return np.asarray(network.forward(boundary, [keras.ops.convert_to_tensor(w) for w in weights]))


def assert_same(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Outputs within 1e-4 of the largest of their trial, and the same decisions except for ties within that."""
    assert ours.shape == theirs.shape
    assert np.isfinite(theirs).all()
    rows = ours.reshape(len(ours), -1, ours.shape[-1]), theirs.reshape(len(theirs), -1, theirs.shape[-1])
    tolerance = 1e-4 * np.abs(rows[1]).max(axis=(1, 2), keepdims=True)
    assert (np.abs(rows[0] - rows[1]) <= tolerance).all(), np.abs(rows[0] - rows[1]).max()
    chosen = np.take_along_axis(rows[1], rows[0].argmax(-1)[..., None], -1)
    assert (rows[1].max(-1, keepdims=True) - chosen <= 2 * tolerance).all()


class Builder:
    """Draws the layers of one network from a generator."""

    activations = ACTIVATIONS
    convolutions = ("conv", "conv", "conv", "groups", "depthwise", "separable")

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def pick(self, options: Sequence[Any]) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def model(self) -> keras.Model:
        """A network with an input of rank 2 (features), 3 (a sequence) or 4 (an image) and 2 to 5 outputs."""
        rank = self.pick([1, 2, 2, 2, 3, 3])  # spatial axes + 1
        dims = {1: (), 2: (self.pick([7, 10]), self.pick([6, 9])), 3: (self.pick([12, 17]),)}
        spatial = {1: (), 2: dims[2], 3: dims[3]}[rank]
        inputs = keras.Input((*spatial, self.pick([1, 2, 3]) if spatial else 6))
        if self.chance(0.3):
            return self.sequential(inputs)
        x: Any = inputs
        for _ in range(int(self.rng.integers(1, 5))):
            x = self.branch(x) if self.chance(0.4) else self.layer(x)(x)
        return keras.Model(inputs, self.head(x))

    def sequential(self, inputs: Any) -> keras.Model:
        model = keras.Sequential([inputs])
        model.add(kl.Activation("linear"))
        for _ in range(int(self.rng.integers(1, 5))):
            model.add(self.layer(model.outputs[0]))
        if len(model.outputs[0].shape) > 2:
            model.add(kl.Flatten())
        model.add(kl.Dense(int(self.rng.integers(2, 6)), activation=self.pick([None, "softmax"])))
        return model

    def head(self, x: Any) -> Any:
        if len(x.shape) == 4:
            x = self.pick([kl.Flatten(), kl.GlobalAveragePooling2D(), kl.GlobalMaxPooling2D()])(x)
        elif len(x.shape) == 3:
            x = self.pick([kl.Flatten(), kl.GlobalAveragePooling1D(), kl.GlobalMaxPooling1D()])(x)
        if self.chance(0.5):
            x = kl.Dense(5, activation=self.pick(self.activations))(x)
        return kl.Dense(int(self.rng.integers(2, 6)), activation=self.pick([None, None, "softmax"]))(x)

    def branch(self, x: Any) -> Any:
        """Two ways from x, or one layer used twice, or a nested model, brought together again."""
        kind = self.pick(["residual", "concatenate", "shared", "nested", "gate"])
        channels = x.shape[-1]
        same = self.keep_shape
        if kind == "nested":
            inner_input = keras.Input(x.shape[1:])
            inner = keras.Model(inner_input, self.layer(inner_input)(inner_input))
            y = inner(x)
            return inner(y) if y.shape == x.shape else y
        if kind == "shared":
            layer = same(x, channels)
            y = layer(x)
            return self.pick([kl.Add(), kl.Subtract(), kl.Concatenate()])([layer(y), y])
        if kind == "concatenate":
            parts = [same(x, self.pick([1, 2, 3]))(x) for _ in range(2)] + ([x] if self.chance(0.5) else [])
            return kl.Concatenate()(parts)
        if kind == "gate" and len(x.shape) == 4:
            g = kl.GlobalAveragePooling2D(keepdims=True)(x)
            return kl.Multiply()([x, kl.Conv2D(channels, 1, activation="sigmoid")(g)])
        merge = self.pick([kl.Add(), kl.Average(), kl.Maximum(), kl.Minimum(), kl.Multiply(), None])
        y = same(x, channels)(x)
        return kl.ReLU()(x + y) if merge is None else merge([x, y])

    def keep_shape(self, x: Any, channels: int) -> Any:
        activation = self.pick(self.activations)
        if len(x.shape) == 4:
            return kl.Conv2D(channels, self.pick([1, 3]), padding="same", activation=activation)
        if len(x.shape) == 3:
            return kl.Conv1D(channels, 3, padding=self.pick(["same", "causal"]), activation=activation)
        return kl.Dense(channels, activation=activation)

    def layer(self, x: Any) -> Any:
        """One layer that can follow x."""
        return {4: self.image_layer, 3: self.sequence_layer, 2: self.feature_layer}[len(x.shape)](x)

    def feature_layer(self, x: Any) -> Any:
        return self.pick(
            [
                kl.Dense(self.pick([4, 7]), activation=self.pick(self.activations), use_bias=self.chance(0.5)),
                kl.BatchNormalization(),
                kl.LayerNormalization(),
                kl.Dropout(0.5),
                kl.Activation(self.pick(self.activations)),
                kl.Reshape((-1, 1)),
                kl.PReLU(),
            ]
        )

    def sequence_layer(self, x: Any) -> Any:
        length, channels = x.shape[1], x.shape[2]
        if length < 5 or channels > 12:
            return self.pick([kl.Flatten(), kl.ReLU(), kl.Dense(3), kl.ZeroPadding1D(2)])
        return self.pick([self.conv(1, length, channels)] * 4 + self.others(channels, rank=1))

    def image_layer(self, x: Any) -> Any:
        size, channels = min(x.shape[1:3]), x.shape[3]
        if size < 4 or channels > 12:
            return self.pick([kl.Flatten(), kl.ReLU(), kl.Dense(3), kl.ZeroPadding2D(((1, 2), (0, 1)))])
        return self.pick([self.conv(2, size, channels)] * 4 + self.others(channels, rank=2))

    def conv(self, rank: int, size: int, channels: int) -> Any:
        kernel = self.pick([1, 2, 3])
        common: dict[str, Any] = {"activation": self.pick(self.activations), "use_bias": self.chance(0.6)}
        common["padding"] = self.pick(["same", "valid"])
        if self.chance(0.3):
            common["strides"] = 2
        elif self.chance(0.3) and 2 * (kernel - 1) < size:
            common["dilation_rate"] = 2
        kind = self.pick(self.convolutions)
        if kind == "depthwise":
            layer = kl.DepthwiseConv1D if rank == 1 else kl.DepthwiseConv2D
            return layer(kernel, depth_multiplier=self.pick([1, 2]), **common)
        if kind == "separable":
            layer = kl.SeparableConv1D if rank == 1 else kl.SeparableConv2D
            return layer(self.pick([2, 3]), kernel, depth_multiplier=self.pick([1, 2]), **common)
        groups = channels if kind == "groups" and channels in (2, 3) else 1
        layer = kl.Conv1D if rank == 1 else kl.Conv2D
        if rank == 1 and self.chance(0.3):
            common["padding"] = "causal"
        return layer(groups * self.pick([1, 2, 3]), kernel, groups=groups, **common)

    def others(self, channels: int, rank: int) -> list[Any]:
        one = rank == 1
        return [
            kl.BatchNormalization(scale=self.chance(0.7), center=self.chance(0.7)),
            kl.BatchNormalization(axis=1),
            kl.LayerNormalization(),
            (kl.MaxPooling1D if one else kl.MaxPooling2D)(2, strides=self.pick([1, 2]), padding="same"),
            (kl.AveragePooling1D if one else kl.AveragePooling2D)(2, padding=self.pick(["same", "valid"])),
            (kl.ZeroPadding1D if one else kl.ZeroPadding2D)(1),
            (kl.Cropping1D if one else kl.Cropping2D)(1),
            kl.UpSampling1D(2) if one else kl.UpSampling2D(2, interpolation=self.pick(["nearest", "bilinear"])),
            (kl.SpatialDropout1D if one else kl.SpatialDropout2D)(0.3),
            kl.Activation(self.pick(self.activations)),
            self.pick([kl.ReLU(max_value=1.0), kl.LeakyReLU(0.2), kl.PReLU(), kl.Softmax()]),
            self.pick([kl.GaussianNoise(0.5), kl.Rescaling(2.0, -0.5), kl.Dense(3, activation="tanh")]),
        ]


class SimpleBuilder(Builder):
    """Draws only layers that have a compiled form."""

    activations = ("relu", "relu", "relu6", "leaky_relu", None)
    convolutions = ("conv",)

    def feature_layer(self, x: Any) -> Any:
        dense = kl.Dense(self.pick([3, 9, 17]), activation=self.pick(self.activations), use_bias=self.chance(0.5))
        return self.pick([dense, dense, kl.BatchNormalization(), kl.Dropout(0.5), kl.Reshape((-1, 1)), kl.ReLU()])

    def branch(self, x: Any) -> Any:
        channels = x.shape[-1]
        y = self.keep_shape(x, channels)(x)
        kind = self.pick(["residual", "residual", "three", "concatenate", "shared", "nested"])
        if kind == "residual":
            y = kl.BatchNormalization()(y) if self.chance(0.5) else y
            y = self.pick([lambda x, y: x + y, lambda x, y: kl.Add()([y, x])])(x, y)
            return kl.ReLU()(y) if self.chance(0.5) else y
        if kind == "three":  # x is read three times, once before and once after the addition
            return kl.Concatenate()([kl.Add()([y, self.keep_shape(x, channels)(x)]), x])
        if kind == "concatenate":
            return kl.Concatenate()([y, self.keep_shape(x, 2)(x)])
        if kind == "shared":
            layer = self.keep_shape(x, channels)
            return kl.Add()([layer(layer(x)), y])
        inner_input = keras.Input(x.shape[1:])
        return keras.Model(inner_input, self.layer(inner_input)(inner_input))(y)

    def others(self, channels: int, rank: int) -> list[Any]:
        one = rank == 1
        return [
            kl.BatchNormalization(scale=self.chance(0.7), center=self.chance(0.7)),
            (kl.MaxPooling1D if one else kl.MaxPooling2D)(self.pick([2, 3])),
            (kl.MaxPooling1D if one else kl.MaxPooling2D)(3, strides=self.pick([1, 2])),
            (kl.AveragePooling1D if one else kl.AveragePooling2D)(2, strides=self.pick([1, 2])),
            (kl.ZeroPadding1D if one else kl.ZeroPadding2D)(1),
            (kl.SpatialDropout1D if one else kl.SpatialDropout2D)(0.3),
            self.pick([kl.ReLU(max_value=1.0), kl.LeakyReLU(0.2), kl.Activation("relu6")]),
        ]


class WiderBuilder(SimpleBuilder):
    """Draws also layers whose compiled form came later: of each network, most."""

    activations = ("relu6", "gelu", "silu", "tanh", "sigmoid", "hard_silu", "elu", None)
    convolutions = ("conv", "groups", "depthwise", "depthwise", "separable")

    def branch(self, x: Any) -> Any:
        kind = self.pick(["gate", "merge", "number", "old"])
        if kind == "gate" and len(x.shape) > 2:
            pool = kl.GlobalAveragePooling2D if len(x.shape) == 4 else kl.GlobalAveragePooling1D
            g = kl.Dense(x.shape[-1], activation=self.pick(["sigmoid", "hard_sigmoid"]))(pool(keepdims=True)(x))
            return kl.Multiply()([x, g] if self.chance(0.5) else [g, x])
        if kind == "merge":
            y = self.keep_shape(x, x.shape[-1])(x)
            merge = self.pick([kl.Subtract(), kl.Multiply(), kl.Maximum(), kl.Minimum(), None])
            return x * y if merge is None else merge([y, x])
        if kind == "number":
            return self.pick([lambda x: kl.ReLU(6.0)(x + 3.0) * (1 / 6), lambda x: x / 3 - 0.5, lambda x: 2 * x])(x)
        return super().branch(x)

    def others(self, channels: int, rank: int) -> list[Any]:
        one, padding = rank == 1, self.pick(["same", "valid"])
        return [
            *super().others(channels, rank),
            (kl.MaxPooling1D if one else kl.MaxPooling2D)(self.pick([2, 3]), self.pick([1, 2, 3]), padding=padding),
            (kl.AveragePooling1D if one else kl.AveragePooling2D)(3, strides=self.pick([1, 2]), padding="same"),
            kl.ELU(0.5),
            kl.Activation(self.pick(self.activations)),
        ]

"""Convolutions as GPUs take them, against the network itself; in whatever library Keras uses."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from architectures import Builder, assert_same, draw_weights, plain, randomize, stacked
from keras import layers as kl

from sweep.engine.stacked.network import StackedNetwork
from tests.few import one_in

FEW = keras.backend.backend() != "tensorflow"  # JAX compiles each operation that is called by itself


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")
@pytest.mark.parametrize("seed", range(4) if FEW else one_in(4, range(40)))
def test_random_networks(seed: int) -> None:
    rng = np.random.default_rng([20261127, seed])
    keras.backend.clear_session()
    model = Builder(rng).model()
    randomize(model, rng)
    varied = list(range(len(model.weights)))
    weights = draw_weights(model, varied, int(rng.integers(1, 4)), rng)
    x = rng.standard_normal((3, *model.input_shape[1:])).astype(np.float32)
    assert_same(stacked(StackedNetwork(model, varied, products=True), weights, x), plain(model, varied, weights, x))


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(
    ("shape", "convolution", "pooling"),
    [
        ((9, 10, 1), {"filters": 3, "kernel_size": 3}, {"pool_size": 2}),
        ((9, 10, 1), {"filters": 3, "kernel_size": (2, 3), "strides": 2}, {"pool_size": (2, 1), "strides": (1, 2)}),
        ((11, 9, 2), {"filters": 2, "kernel_size": 2, "dilation_rate": (2, 3)}, {"pool_size": 3, "strides": 2}),
        ((13, 2), {"filters": 3, "kernel_size": 3}, {"pool_size": 2}),
        ((10, 9, 7), {"filters": 4, "kernel_size": 3, "strides": (2, 1)}, {"pool_size": 2}),
    ],
)
@pytest.mark.parametrize("activation", ["relu"] if FEW else [None, "relu", "sigmoid"])
def test_a_convolution_and_the_pooling_behind_it(
    shape: tuple[int, ...], convolution: dict, pooling: dict, padding: str, activation: str | None
) -> None:
    """With few terms (window times channels) and with many, with an increasing activation and another."""
    rng = np.random.default_rng(3)
    convolve, pool = (kl.Conv1D, kl.MaxPooling1D) if len(shape) == 2 else (kl.Conv2D, kl.MaxPooling2D)
    model = keras.Sequential(
        [
            keras.Input(shape),
            convolve(**convolution, padding=padding, activation=activation),
            pool(**pooling),
            kl.Flatten(),
            kl.Dense(3),
        ]
    )
    randomize(model, rng)
    varied = list(range(len(model.weights)))
    weights = draw_weights(model, varied, 3, rng)
    x = rng.standard_normal((4, *shape)).astype(np.float32)
    assert_same(stacked(StackedNetwork(model, varied, products=True), weights, x), plain(model, varied, weights, x))


def test_only_a_pooling_that_alone_reads_a_convolution_is_taken_with_it() -> None:
    rng = np.random.default_rng(4)
    inputs = keras.Input((8, 8, 1))
    x = kl.Conv2D(3, 3, activation="relu")(inputs)
    model = keras.Model(inputs, kl.Dense(2)(kl.Concatenate()([kl.Flatten()(kl.MaxPooling2D()(x)), kl.Flatten()(x)])))
    randomize(model, rng)
    varied = list(range(len(model.weights)))
    network = StackedNetwork(model, varied, products=True)
    assert not network._pooled
    weights = draw_weights(model, varied, 2, rng)
    images = rng.standard_normal((3, 8, 8, 1)).astype(np.float32)
    assert_same(stacked(network, weights, images), plain(model, varied, weights, images))
    alone = keras.Model(inputs, kl.Dense(2)(kl.Flatten()(kl.MaxPooling2D()(x))))
    assert len(StackedNetwork(alone, list(range(4)), products=True)._pooled) == 1

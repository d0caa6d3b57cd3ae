"""What is found out about a network before anything is counted, and how often Keras has to compile it for that."""

from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as kl

from sweep.engine.proof import BATCH, IMAGES, inference_problem

traced: list[tuple[int | None, ...]] = []


class Own(keras.Layer):
    """Treats every image by itself, and writes down for which shapes it is traced."""

    def call(self, x):
        if not tf.executing_eagerly():
            traced.append(tuple(x.shape))
        return 2 * x


class Random(keras.Layer):
    def build(self, shape):
        self.seed = keras.random.SeedGenerator(1)

    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x), seed=self.seed)


class Counting(keras.Layer):
    def build(self, shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.calls.assign(self.calls + 1)
        return x + self.calls


class Mean(keras.Layer):
    def call(self, x):
        return x - keras.ops.mean(x, axis=0, keepdims=True)


class Neighbour(keras.Layer):
    def call(self, x):
        return x + keras.ops.roll(x, 1, axis=0)


class Place(keras.Layer):
    """Noise that is the same in every batch, place by place."""

    def call(self, x):
        noise = np.random.default_rng(1).normal(size=(BATCH, *x.shape[1:])).astype(np.float32)
        return x + keras.ops.convert_to_tensor(noise)[: keras.ops.shape(x)[0]]

    def compute_output_shape(self, shape):
        return shape


class Size(keras.Layer):
    def call(self, x):
        return x + keras.ops.cast(keras.ops.shape(x)[0], "float32")


def network(layer: type[keras.Layer]) -> Any:
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((6, 6, 2)), kl.Conv2D(3, 3), layer(), kl.Flatten(), kl.Dense(4)])
    return SimpleNamespace(model=model, variables=model.weights)


def images(count: int) -> np.ndarray:
    return np.random.default_rng(4).random((count, 6, 6, 2), dtype=np.float32)


@pytest.mark.parametrize("count", [IMAGES, 40, 7, 1])
def test_a_network_that_treats_every_image_by_itself_has_no_problem(count: int):
    assert inference_problem(network(Own), images(count)) is None


@pytest.mark.parametrize("count", [300, 40, 7])
@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        *((layer, "other scores when it sees the same images again") for layer in (Random, Counting)),
        *((layer, "depend on the other images in the batch") for layer in (Mean, Neighbour, Place, Size)),
    ],
)
def test_scores_that_are_not_of_their_image_alone_are_told(layer: type[keras.Layer], reason: str, count: int):
    problem = inference_problem(network(layer), images(count))
    assert problem is not None
    assert reason in problem


def test_predict_is_compiled_for_one_size_of_a_batch():
    """Seconds for each other size, where a network has hundreds of layers."""
    given = network(Own)
    traced.clear()
    inference_problem(given, images(300))
    assert traced == [(BATCH, 4, 4, 3)]

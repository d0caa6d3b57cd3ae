"""The stacked pass against the network itself, one trial at a time."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from architectures import Builder, assert_same, draw_weights, plain, randomize, stacked
from keras import layers as kl

from sweep.engine.stacked import StackedNetwork, Unsupported


def choose_varied(model: keras.Model, rng: np.random.Generator) -> list[int]:
    """All weights, all kernels, the last kernel, or any few."""
    everything = list(range(len(model.weights)))
    kernels = [i for i in everything if "kernel" in model.weights[i].path]
    some = sorted(rng.choice(everything, size=min(3, len(everything)), replace=False).tolist())
    return [everything, kernels, kernels[-1:], some][int(rng.integers(4))]


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")
@pytest.mark.parametrize("seed", range(240))
def test_random_networks(seed: int) -> None:
    rng = np.random.default_rng([20240, seed])
    keras.backend.clear_session()
    model = Builder(rng).model()
    randomize(model, rng)
    varied = choose_varied(model, rng)
    trials, images = int(rng.integers(1, 5)), int(rng.integers(1, 5))
    weights = draw_weights(model, varied, trials, rng)
    x = rng.standard_normal((images, *model.input_shape[1:])).astype(np.float32)
    ours = stacked(StackedNetwork(model, varied), weights, x)
    assert_same(ours, plain(model, varied, weights, x))

"""Trials on images of their own: the same numbers, to the last bit, as of the pass on all images."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import pytest
from architectures import SimpleBuilder, draw_weights, randomize
from keras import layers as kl

from sweep.engine.compiled.network import CompiledNetwork
from sweep.engine.compiled.operations import Array
from tests.engine.compiled.test_compiled import NETWORKS
from tests.few import one_in


def check(model: keras.Model, varied: Sequence[int], images: int, wanted: int, rng: np.random.Generator) -> None:
    """Three trials on `wanted` of the images each, some of them twice."""
    randomize(model, rng)
    weights = draw_weights(model, varied, 3, rng)
    x = rng.standard_normal((images, *model.input_shape[1:])).astype(np.float32)
    network = CompiledNetwork(model, varied)
    tensors = [np.asarray(t) for t in network.graph.run_prefix(keras.ops.convert_to_tensor(x))]
    everything = network.forward(network.blocks(tensors), weights)
    chosen = rng.integers(0, images, (3, wanted))
    rows = network.rows(([w[t] for w in weights] for t in range(3)), 3)
    for _ in range(2):  # what one call leaves behind is nothing to the next
        seen = network.see(tensors, chosen, rows)
        where = rng.random(chosen.shape) < 0.7
        expected = np.stack([everything[t, chosen[t]] for t in range(3)])
        if seen.facts is None:  # a function of TensorFlow's, whose last bit depends on the place in an array
            np.testing.assert_allclose(seen.scores(where), expected[where], rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(seen.scores(where), expected[where])
    for t in range(3):
        for number, w in zip(network.varied, weights, strict=True):
            np.testing.assert_array_equal(network.values(rows[t])[number], w[t])
    if seen.facts is not None:
        check_facts(seen.facts, seen.raw, wanted)


def check_facts(facts: Array, raw: Array, wanted: int) -> None:
    scores = raw.transpose(0, 1, 3, 2).reshape(len(raw), -1, raw.shape[2])[:, :wanted]
    ordered = np.sort(scores, axis=-1)
    expected = [ordered[..., -1], ordered[..., -2], ordered[..., 0], scores.argmax(-1), np.zeros(scores.shape[:2])]
    np.testing.assert_array_equal(facts, np.stack(expected))


@pytest.mark.parametrize("seed", one_in(4, range(40)))
def test_random_networks(seed: int) -> None:
    rng = np.random.default_rng([78, seed])
    keras.backend.clear_session()
    model = SimpleBuilder(rng).model()
    everything = list(range(len(model.weights)))
    some = sorted(rng.choice(everything, size=min(3, len(everything)), replace=False).tolist())
    varied = everything if rng.random() < 0.6 else some
    check(model, varied, int(rng.integers(1, 40)), int(rng.integers(1, 40)), rng)


@pytest.mark.parametrize("name", NETWORKS)
def test_network(name: str) -> None:
    model = NETWORKS[name]()
    check(model, range(len(model.weights)), 19, 7, np.random.default_rng(5))


SHAPES = {
    "fewer floats than lanes": ((3,), "valid"),
    "as many as lanes, zeros around": ((8, 16, 1), "same"),
    "rows with some left over, zeros around": ((5, 7, 3), "same"),
    "rows of few floats, zeros around": ((6, 2, 1), "same"),
    "many floats in a piece": ((11, 13, 3), "valid"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_images_of_any_shape_reach_the_lanes(name: str) -> None:
    shape, padding = SHAPES[name]
    layers = [kl.Conv2D(3, 3 if padding == "same" else 2, padding=padding), kl.Flatten()] if len(shape) == 3 else []
    model = keras.Sequential([keras.Input(shape), *layers, kl.Dense(4)])
    check(model, range(len(model.weights)), 50, 37, np.random.default_rng(8))


def scores_of(values: list[list[float]]) -> CompiledNetwork:
    """A network whose scores are its biases, which are these, trial by trial."""
    return CompiledNetwork(keras.Sequential([keras.Input((2,)), kl.Dense(len(values[0]))]), [0, 1])


@pytest.mark.parametrize(
    ("scores", "best", "second", "lowest", "choice"),
    [
        ([1.0, 3.0, 2.0], 3, 2, 1, 1),
        ([3.0, 3.0, 2.0], 3, 3, 2, 0),
        ([2.0, 3.0, 3.0], 3, 3, 2, 1),
        ([-1.0, -3.0], -1, -3, -3, 0),
        ([0.0, 0.0, 0.0, 0.0], 0, 0, 0, 0),
        ([1.0, 2.0, 3.0, 4.0], 4, 3, 1, 3),
        ([4.0, 3.0, 2.0, 1.0], 4, 3, 1, 0),
    ],
)
def test_facts(scores: list[float], best: float, second: float, lowest: float, choice: float) -> None:
    network = scores_of([scores])
    rows = network.rows([[np.zeros((2, len(scores)), np.float32), np.float32(scores)]], 1)
    facts = network.see([np.ones((1, 2), np.float32)], np.zeros((1, 3), np.int64), rows).facts
    assert facts is not None
    assert facts.shape == (5, 1, 3)
    np.testing.assert_array_equal(facts[:, 0, 1], [best, second, lowest, choice, 0])


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_scores_that_are_no_numbers_are_told(odd: float, place: int) -> None:
    scores = np.float32([1, 2, 3])
    scores[place] = odd
    network = scores_of([[1.0, 2.0, 3.0]])
    rows = network.rows([[np.zeros((2, 3), np.float32), scores]], 1)
    facts = network.see([np.ones((1, 2), np.float32)], np.zeros((1, 1), np.int64), rows).facts
    assert facts is not None
    assert np.isnan(facts[4]).all()

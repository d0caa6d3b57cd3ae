"""Transforms of the data flow on random networks: stacked and as machine code they do what the plain pass does."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from sweep.engine.compiled import CompiledNetwork
from sweep.engine.flow import IDENTITY, Site
from sweep.engine.graph import Graph, Unsupported
from sweep.engine.stacked import StackedNetwork
from sweep.networks.inspection import leaves_of
from tests.engine.architectures import Builder, SimpleBuilder, draw_weights, randomize

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:[\\s\\S]*softmax over axis:UserWarning"),
]
TRIALS, IMAGES = 3, 5


def draw(builder: type[Builder], seed: int) -> tuple[keras.Model, tuple[Site, ...], np.random.Generator]:
    """A random network with some of its places chosen, the images among them or not."""
    keras.backend.clear_session()
    rng = np.random.default_rng(seed)
    model = builder(rng).model()
    randomize(model, rng)
    sites = []
    for position in range(-1, len(leaves_of(model))):
        side = "input" if position >= 0 and rng.random() < 0.3 else "output"
        if rng.random() < 0.4:
            sites.append(Site(position, side))
    return model, tuple(sites) or (Site(-1),), rng


def levels(rng: np.random.Generator, trials: int) -> np.ndarray:
    """(T, 4): fine steps, so that a value on a border matters little, and bounds that bite."""
    step = 2.0 ** -rng.integers(11, 14, trials)
    low, high = -rng.uniform(0.5, 3, trials), rng.uniform(0.5, 3, trials)
    offset = np.where(rng.random(trials) < 0.5, 0, low)
    return np.stack([offset, step, np.rint((low - offset) / step), np.rint((high - offset) / step)], 1).astype(
        np.float32
    )


def compare(kind: type[StackedNetwork] | type[CompiledNetwork], builder: type[Builder], seed: int) -> None:
    model, sites, rng = draw(builder, seed)
    varied = [i for i in range(len(model.weights)) if rng.random() < 0.5]
    graph = Graph(model, range(len(model.weights)), sites)
    x = rng.standard_normal((IMAGES, *model.inputs[0].shape[1:])).astype(np.float32)
    weights = draw_weights(model, varied, TRIALS, rng)
    grids = [levels(rng, TRIALS) for _ in sites]
    expected = []
    for t in range(TRIALS):
        values = [np.asarray(w) for w in model.get_weights()]
        for i, w in zip(varied, weights, strict=True):
            values[i] = w[t]
        expected.append(np.asarray(graph.run(keras.ops.convert_to_tensor(x), [*values, *(g[t] for g in grids)])))
    network = kind(model, varied, sites)
    assert network.varied == (*varied, *range(len(model.weights), len(model.weights) + len(sites)))
    boundary = network.prefix(keras.ops.convert_to_tensor(x))
    if isinstance(network, CompiledNetwork):
        found = network.forward(network.blocks([np.asarray(b) for b in boundary]), [*weights, *grids])
    else:
        entries = [keras.ops.convert_to_tensor(w) for w in [*weights, *grids]]
        found = np.asarray(network.forward(boundary, entries))
    scale = max(1.0, float(np.abs(expected).max()))
    assert np.abs(found - np.stack(expected)).max() <= 0.02 * scale


@pytest.mark.parametrize("seed", range(40))
def test_stacked(seed: int):
    compare(StackedNetwork, Builder, seed)


@pytest.mark.parametrize("seed", range(40))
def test_machine_code(seed: int):
    try:
        compare(CompiledNetwork, SimpleBuilder, seed)
    except Unsupported as reason:
        if "activation function" not in str(reason):
            raise
        pytest.skip(str(reason))


def test_levels_too_fine_to_matter_change_nothing():
    model, sites, rng = draw(SimpleBuilder, 1)
    graph = Graph(model, range(len(model.weights)), sites)
    x = rng.standard_normal((IMAGES, *model.inputs[0].shape[1:])).astype(np.float32)
    values = [*model.get_weights(), *[IDENTITY] * len(sites)]
    found = np.asarray(graph.run(keras.ops.convert_to_tensor(x), values))
    assert np.allclose(found, np.asarray(model(x)), atol=1e-4)


def test_a_place_that_no_score_depends_on():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    with pytest.raises(Unsupported, match="not part of the way to the output"):
        Graph(model, [0], [Site(7)])

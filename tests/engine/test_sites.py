"""Transforms of the data flow on random networks: stacked and as machine code they do what the plain pass does."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest

from sweep.engine.compiled.network import CompiledNetwork
from sweep.engine.graph import Graph, Unsupported
from sweep.engine.sites import IDENTITY, Site
from sweep.engine.stacked.network import StackedNetwork
from sweep.networks.inspection import leaves_of
from tests.engine.architectures import Builder, SimpleBuilder, draw_weights, randomize
from tests.few import one_in

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
    boundary = network.graph.run_prefix(keras.ops.convert_to_tensor(x))
    if isinstance(network, CompiledNetwork):
        found = network.forward(network.blocks([np.asarray(b) for b in boundary]), [*weights, *grids])
    else:
        entries = [keras.ops.convert_to_tensor(w) for w in [*weights, *grids]]
        found = np.asarray(network.forward(boundary, entries))
    scale = max(1.0, float(np.abs(expected).max()))
    assert np.abs(found - np.stack(expected)).max() <= 0.02 * scale


@pytest.mark.parametrize("seed", one_in(4, range(32)))
def test_stacked(seed: int):
    compare(StackedNetwork, Builder, seed)


@pytest.mark.parametrize("seed", one_in(4, range(32)))
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


def tied() -> keras.Model:
    """Tokens looked up in a matrix that makes the scores, too."""
    inputs = keras.Input((6,), dtype="int32")
    both = keras.layers.ReversibleEmbedding(20, 8, tie_weights=True, name="both")
    x = keras.layers.Dense(8, name="mid")(keras.layers.GlobalAveragePooling1D()(both(inputs)))
    return keras.Model(inputs, both(x, reverse=True))


def looked_up(dtype: str) -> Callable[[], keras.Model]:
    def build() -> keras.Model:
        layers = [keras.layers.Embedding(20, 8, name="words"), keras.layers.Flatten(), keras.layers.Dense(4)]
        return keras.Sequential([keras.Input((6,), dtype=dtype), *layers])

    return build


@pytest.mark.parametrize(
    ("build", "name"),
    [(looked_up("int32"), "words"), (looked_up("float32"), "words"), (tied, "both")],
    ids=["whole", "floating", "tied"],
)
def test_indices_are_not_changed_and_the_layer_that_takes_them_is_named(build: Callable[[], keras.Model], name: str):
    with pytest.raises(Unsupported, match=rf'takes indices, not values; leave it out: layers = "!{name}"'):
        Graph(build(), [0], [Site(0, "input")])


def test_a_matrix_of_tokens_used_the_other_way_round_takes_values():
    model = tied()
    mid = [layer.name for layer in leaves_of(model)].index("mid")
    graph = Graph(model, [0], [Site(mid)])
    values = [np.asarray(w) for w in model.get_weights()]
    tokens = np.random.default_rng(1).integers(0, 20, (IMAGES, 6))
    found = np.asarray(graph.run(keras.ops.convert_to_tensor(tokens), [*values, np.float32([0, 2.0**-3, -9, 9])]))
    before = keras.Model(model.input, model.get_layer("mid").output)(tokens)
    rounded = np.clip(np.rint(np.asarray(before) * 8), -9, 9) / 8
    assert np.allclose(found, rounded @ values[0].T, atol=1e-5)


def test_a_place_of_any_size_is_named():
    inputs = keras.Input((None, None, 3))
    conv = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(conv)))
    with pytest.raises(Unsupported, match="the noise at the output of layer conv acts on activations of any size"):
        Graph(model, [0], [Site(0, "output", "noise")]).shape_at(0)


WAYS = ("plain", "stacked", "compiled")


def handed_on(way: str, model: keras.Model, x: np.ndarray, sites: tuple[Site, ...], grid: np.ndarray) -> np.ndarray:
    """The outputs (images, ...) of one trial, evaluated in one way, with the same levels at every site."""
    tensor = keras.ops.convert_to_tensor
    if way == "plain":
        graph = Graph(model, range(len(model.weights)), sites)
        return np.asarray(graph.run(tensor(x), [*model.get_weights(), *[grid] * len(sites)]))
    network = (StackedNetwork if way == "stacked" else CompiledNetwork)(model, range(len(model.weights)), sites)
    entries = [np.asarray(v)[None] for v in [*model.get_weights(), *[grid] * len(sites)]]
    boundary = network.graph.run_prefix(tensor(x))
    if isinstance(network, CompiledNetwork):
        return network.forward(network.blocks([np.asarray(b) for b in boundary]), entries)[0]
    return np.asarray(network.forward(boundary, [tensor(entry) for entry in entries]))[0]


@pytest.mark.parametrize("way", WAYS)
def test_a_way_takes_another_level_only_within_float_rounding_of_a_border(way: str):
    """A dense layer, rounded, then handed on as it is; the oracle is float64."""
    rng = np.random.default_rng(4)
    inputs, outputs, step = 64, 32, 2.0**-10
    model = keras.Sequential(
        [keras.Input((inputs,)), keras.layers.Dense(outputs, use_bias=False), keras.layers.Dense(outputs)]
    )
    kernel = rng.standard_normal((inputs, outputs)).astype(np.float32)
    model.set_weights([kernel, np.eye(outputs, dtype=np.float32), np.zeros(outputs, np.float32)])
    x = rng.standard_normal((4000, inputs)).astype(np.float32)
    found = handed_on(way, model, x, (Site(0),), np.array([0, step, -np.inf, np.inf], np.float32)) / step
    exact = x.astype(np.float64) @ kernel.astype(np.float64) / step
    error = 6 * 2.0**-24 * (np.abs(x.astype(np.float64)) @ np.abs(kernel.astype(np.float64))) / step
    near = np.abs(exact - np.floor(exact) - 0.5) < error
    other = found != np.rint(exact)
    assert near.mean() < 0.05
    assert other.any(), "else the test says nothing"
    assert not (other & ~near).any()
    assert np.abs(found - np.rint(exact)).max() <= 1


@pytest.mark.parametrize("way", WAYS)
def test_sums_that_float32_holds_exactly_are_the_same_in_every_way(way: str):
    """Images, weights and activations of few bits: every product and sum is a multiple of 2^-7 below 2^17."""
    rng = np.random.default_rng(6)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((10, 10, 3)),
            layers.Conv2D(8, 3, activation="relu", use_bias=False),
            layers.MaxPooling2D(),
            layers.Conv2D(8, 3, activation="relu", use_bias=False),
            layers.Flatten(),
            layers.Dense(5),
        ]
    )
    model.set_weights([rng.integers(-8, 9, w.shape).astype(np.float32) / 8 for w in model.get_weights()])
    x = rng.random((50, 10, 10, 3)).astype(np.float32)
    grid = np.array([0, 2.0**-4, -np.inf, np.inf], np.float32)
    sites = (Site(-1), Site(0), Site(2))

    def rounded(values: np.ndarray) -> np.ndarray:
        return np.rint(values * 16) / 16

    def convolved(values: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        windows = np.lib.stride_tricks.sliding_window_view(values, (3, 3), axis=(1, 2))
        return np.einsum("nrcihw,hwio->nrco", windows, kernel.astype(np.float64))

    first, second, last, bias = model.get_weights()
    y = rounded(np.maximum(convolved(rounded(x.astype(np.float64)), first), 0))
    y = y.reshape(50, 4, 2, 4, 2, 8).max(axis=(2, 4))
    y = rounded(np.maximum(convolved(y, second), 0)).reshape(50, -1)
    assert np.array_equal(handed_on(way, model, x, sites, grid), y @ last.astype(np.float64) + bias)

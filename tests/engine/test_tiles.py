"""Layers cut into arrays, against Keras's own layers whose kernels are 0 but for the rows of one array."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as kl

from sweep.engine.graph import Graph, Unsupported
from sweep.engine.sites import Noise, Site
from sweep.networks.inspection import layers_of
from sweep.perturb.tiles import HEAD, Sums, TileADC
from sweep.preparation.sites import Seen, placed, sites_in

Array = np.ndarray
LAYERS = {
    "dense": (kl.Dense(5, activation="relu"), (23,)),
    "dense on a sequence": (kl.Dense(5), (4, 9)),
    "conv": (kl.Conv2D(6, 3, activation="tanh"), (9, 8, 4)),
    "conv, strides, same": (kl.Conv2D(6, (3, 2), strides=2, padding="same"), (9, 8, 4)),
    "conv, strides, valid": (kl.Conv2D(6, (2, 3), strides=(1, 3), use_bias=False), (9, 8, 4)),
    "conv, dilation, same": (kl.Conv2D(6, 3, dilation_rate=2, padding="same"), (9, 8, 4)),
    "conv, groups": (kl.Conv2D(6, 3, groups=2, padding="same"), (6, 6, 4)),
    "conv 1x1": (kl.Conv2D(6, 1, strides=2), (9, 8, 11)),
    "causal": (kl.Conv1D(5, 4, dilation_rate=2, padding="causal"), (11, 3)),
    "conv 1d": (kl.Conv1D(5, 4, strides=3, padding="same"), (11, 3)),
    "conv 3d": (kl.Conv3D(3, (2, 3, 2), strides=(1, 2, 1), padding="same"), (4, 5, 4, 2)),
    "depthwise": (kl.DepthwiseConv2D(3, depth_multiplier=2, strides=2, padding="same"), (7, 8, 3)),
    "depthwise 1d": (kl.DepthwiseConv1D(5, dilation_rate=2), (12, 3)),
}
every = pytest.mark.parametrize("name", LAYERS)


def built(name: str, seed: int = 1) -> tuple[keras.Model, Any, Array]:
    """A network of one layer with random weights, the layer, and what it is handed."""
    layer, shape = LAYERS[name]
    layer = type(layer).from_config(layer.get_config() | {"name": "layer"})
    model = keras.Sequential([keras.Input(shape), layer, kl.Flatten()])
    rng = np.random.default_rng(seed)
    model.set_weights([0.4 * rng.standard_normal(w.shape) for w in model.get_weights()])
    return model, layer, rng.standard_normal((3, *shape)).astype(np.float32)


def parts(layer: Any, x: Array, rows: int, side: int = 0) -> list[Array]:
    """The sums of each array by the layer itself; with a side, of its positive or its negative weights."""
    clean = layer.get_weights()
    kernel = clean[0] if not side else np.maximum(side * clean[0], 0)
    depthwise = isinstance(layer, kl.DepthwiseConv1D | kl.DepthwiseConv2D)
    columns = math.prod(kernel.shape[-2:]) if depthwise else kernel.shape[-1]
    flat = kernel.reshape(-1, columns)
    activation, layer.activation = layer.activation, None
    found = []
    for own in np.array_split(np.arange(len(flat)), -(-len(flat) // rows)):
        masked = np.zeros_like(flat)
        masked[own] = flat[own]
        layer.set_weights([masked.reshape(kernel.shape), *(np.zeros_like(w) for w in clean[1:])])
        found.append(np.asarray(layer(x)))
    layer.activation = activation
    layer.set_weights(clean)
    return found


def finished(layer: Any, sums: Array) -> Array:
    """With bias and activation function, flat."""
    sums = sums + layer.get_weights()[1] if layer.use_bias else sums
    return np.asarray(layer.activation(sums)).reshape(len(sums), -1)


def rounded(x: Array, step: Any, top: float, lowest: float | None = None) -> Array:
    step = np.asarray(step, np.float32)
    return np.clip(np.rint(x / step), -top if lowest is None else lowest, top).astype(np.float32) * step


def run(model: keras.Model, sites: list[Site], x: Array, *values: Array) -> Array:
    graph = Graph(model, range(len(model.weights)), sites)
    return np.asarray(graph.run(keras.ops.convert_to_tensor(x), [*model.get_weights(), *values]))


def given(transform: TileADC, model: keras.Model, x: Array | None) -> list[Any]:
    """What a trial gives the sites of a transform, calibrated on x."""
    where = sites_in([transform], layers_of(model))
    graph = Graph(model, range(len(model.weights)), [site for *_, site in where])
    taps = [None] * len(where) if x is None else map(np.asarray, graph.taps(keras.ops.convert_to_tensor(x)))
    seen = {site: Seen(tap, 0, graph.arrays_at(k)) for k, ((*_, site), tap) in enumerate(zip(where, taps, strict=True))}
    entries = [one.entry(0, 3) for one in placed(where, seen)]
    return [e.take(len(x), graph.shape_at(k)) if isinstance(e, Noise) else e for k, e in enumerate(entries)]


@every
@pytest.mark.parametrize("rows", [1000, 7])
def test_what_is_digitised(name: str, rows: int) -> None:
    """Each array by itself; in so many arrays that a row of a window is cut, and in one."""
    model, layer, x = built(name)
    found = parts(layer, x, rows)
    assert (len(found) > 1) is (rows == 7 and name != "depthwise 1d")
    bound, bits = 0.7 * float(np.abs(found).max()), 5
    transform = TileADC(rows=rows, columns=3, bits=bits, range="bound", bound=bound)
    (levels,) = given(transform, model, None)
    assert levels.shape in [(3, len(found), found[0].shape[-1]), (3, len(found), 1)]
    expected = finished(layer, np.sum([rounded(y, bound / 15, 15) for y in found], axis=0, dtype=np.float32))
    got = run(model, [Site(0, "sums", "levels", rows)], x, levels)
    off = np.abs(got - expected) > 1e-4  # a sum on the border between two levels
    assert off.mean() < 0.002
    assert np.abs(got - finished(layer, np.sum(found, axis=0))).max() > 1e-2, "it does round"


@every
def test_with_many_bits_it_is_the_layer(name: str) -> None:
    model, _, x = built(name)
    (levels,) = given(TileADC(rows=5, columns=2, bits=24), model, x)
    got = run(model, [Site(0, "sums", "levels", 5)], x, levels)
    np.testing.assert_allclose(got, np.asarray(model(x)), atol=2e-5)
    assert np.array_equal(run(model, [Site(0, "sums", "levels", 5)], x), np.asarray(model(x))), (
        "without a value, Keras's"
    )


@pytest.mark.parametrize("name", ["dense", "conv, strides, same", "conv, groups", "depthwise"])
@pytest.mark.parametrize("per", ["array", "column", "layer"])
def test_ranges(name: str, per: str) -> None:
    """Of all images, places and columns that share one, by NumPy; all places are few enough to be sampled."""
    model, layer, x = built(name)
    rows, columns = 7, 2
    sums = np.stack(parts(layer, x, rows), -2)  # (images, ..., arrays, columns)
    sums = sums.reshape(-1, *sums.shape[-2:]).astype(np.float64)
    _, arrays, outputs = sums.shape
    groups = {"conv, groups": 2, "depthwise": 3}.get(name, 1)
    owner = np.repeat(np.arange(groups), outputs // groups) * 100
    pieces = np.array_split(np.arange(outputs // groups), -(-(outputs // groups) // columns))
    owner += np.tile(np.concatenate([np.full(len(piece), k) for k, piece in enumerate(pieces)]), groups)
    owner = {"array": owner, "column": np.arange(outputs), "layer": np.zeros(outputs, int)}[per]
    rows_in_all = layer.get_weights()[0].size // outputs
    counts = np.array([[len(part)] for part in np.array_split(np.arange(rows_in_all), arrays)])
    worst = np.abs(x).max() * np.abs(layer.get_weights()[0]).max() * np.tile(counts, outputs)

    def over(values: Array, reduce: Any) -> Array:
        """(arrays, columns), the same for all that share a range."""
        if per == "layer":
            return np.full((arrays, outputs), reduce(values))
        return np.array([[reduce(values[:, t, owner == owner[c]]) for c in range(outputs)] for t in range(arrays)])

    expected = {
        "max": over(np.abs(sums), np.max),
        "percentile": over(np.abs(sums), lambda v: np.percentile(v, 90)),
        "sigma": over(sums, lambda v: 2.5 * np.sqrt(np.mean(v**2))),
        "full": over(worst[None], np.max),
    }
    for how, ranges in expected.items():
        transform = TileADC(rows=rows, columns=columns, bits=4, range=how, percentile=90, sigmas=2.5, per=per)
        (levels,) = given(transform, model, x)
        np.testing.assert_allclose(np.broadcast_to(levels[0] * 7, ranges.shape), ranges, rtol=1e-5, err_msg=how)
        assert np.array_equal(np.unique(levels[1:]), [-7, 7])
        assert (expected["max"] <= expected["full"] * 1.00001).all()


def test_few_of_many_places_are_sampled() -> None:
    """At most 2^12 sums of an image, at places that are evenly spaced."""
    model = keras.Sequential([keras.Input((40, 41, 2)), kl.Conv2D(16, 1, use_bias=False)])
    x = np.random.default_rng(0).standard_normal((2, 40, 41, 2)).astype(np.float32)
    graph = Graph(model, [0], [Site(0, "sums", "levels", 1)])
    (observed,) = map(np.asarray, graph.taps(keras.ops.convert_to_tensor(x)))
    count = 2**12 // 32
    assert observed.shape == (2, HEAD + count, 2, 16)
    sums = np.stack(parts(model.layers[0], x, 1), -2).reshape(2, 40 * 41, 2, 16)
    np.testing.assert_allclose(observed[:, HEAD:], sums[:, np.arange(count) * 40 * 41 // count], rtol=1e-5)
    found = Sums.of(observed)
    np.testing.assert_allclose(found.lowest, sums.min((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(found.highest, sums.max((0, 1)), rtol=1e-5)


@pytest.mark.parametrize("name", ["dense", "conv, strides, same", "depthwise"])
@pytest.mark.parametrize("positive", [True, False])
def test_digital_pairs(name: str, positive: bool) -> None:
    """A converter for each side; of inputs that are never negative, codes have no sign."""
    model, layer, x = built(name)
    x = np.abs(x) if positive else x
    up, down = (parts(layer, x, 7, side) for side in (1, -1))
    (levels,) = given(TileADC(rows=7, bits=4, pair="digital", per="layer"), model, x)
    top = 15 if positive else 7
    step = max(np.abs(up).max(), np.abs(down).max()) / top
    lowest = 0 if positive else -7
    np.testing.assert_allclose(levels[0], np.full((2 * len(up), 1), step), rtol=1e-5)
    assert (levels[1] == lowest).all()
    assert (levels[2] == top).all()
    sums = sum(rounded(y, step, top, lowest) for y in up) - sum(rounded(y, step, top, lowest) for y in down)
    got = run(model, [Site(0, "sums", "levels", 7, digital=True)], x, levels)
    assert (np.abs(got - finished(layer, sums)) > 1e-4).mean() < 0.01


@pytest.mark.parametrize("name", ["dense", "conv, strides, same"])
def test_noise_of_each_read_before_the_converter(name: str) -> None:
    model, layer, x = built(name)
    found = parts(layer, x, 7)
    transform = TileADC(rows=7, bits=6, noise=1.5, range="bound", bound=3.0)
    levels, noise = given(transform, model, x)
    stream = np.random.Generator(np.random.Philox(np.random.SeedSequence([0, 3, 0, 2**32 + 1])))
    shape = (len(x), len(found), *found[0].shape[1:])
    xi = np.float32(1.5) * stream.standard_normal(shape, dtype=np.float32)
    assert np.array_equal(noise, xi)
    sums = sum(rounded(y + xi[:, t] * np.float32(3 / 31), 3 / 31, 31) for t, y in enumerate(found))
    sites = [Site(0, "sums", kind, 7) for kind in ("levels", "noise")]
    got = run(model, sites, x, levels, noise)
    assert (np.abs(got - finished(layer, sums)) > 1e-4).mean() < 0.01


def test_a_layer_that_is_used_twice() -> None:
    """One range for both uses, noise of its own for each."""
    inputs = keras.Input((6,))
    same = kl.Dense(6, name="same", bias_initializer="ones")
    model = keras.Model(inputs, kl.Activation("linear")(same(same(inputs))))
    x = np.random.default_rng(1).standard_normal((5, 6)).astype(np.float32)
    kernel, bias = model.get_weights()
    first = [x[:, :3] @ kernel[:3], x[:, 3:] @ kernel[3:]]
    middle = sum(first) + bias
    second = [middle[:, :3] @ kernel[:3], middle[:, 3:] @ kernel[3:]]
    levels, noise = given(TileADC(rows=3, bits=5, noise=0.5), model, x)
    ranges = [max(np.abs(first[t]).max(), np.abs(second[t]).max()) for t in range(2)]
    np.testing.assert_allclose(levels[0, :, 0] * 15, ranges, rtol=1e-5)
    assert noise.shape == (5, 2 * 2 * 6)
    xi = noise.reshape(5, 2, 2, 6)

    def through(v: Array, use: int) -> Array:
        sums = [v[:, 3 * t : 3 * t + 3] @ kernel[3 * t : 3 * t + 3] for t in range(2)]
        return sum(rounded(s + xi[:, use, t] * levels[0, t], levels[0, t], 15) for t, s in enumerate(sums)) + bias

    sites = [Site(0, "sums", kind, 3) for kind in ("levels", "noise")]
    np.testing.assert_allclose(run(model, sites, x, levels, noise), through(through(x, 0), 1), atol=1e-4)


def test_half_precision_and_masks_go_on() -> None:
    inputs = keras.Input((5,), dtype="int32")
    y = kl.Embedding(7, 4, mask_zero=True)(inputs)
    y = kl.Dense(3, name="fc", dtype="mixed_float16")(y)
    model = keras.Model(inputs, kl.GlobalAveragePooling1D(dtype="float32")(y))
    x = np.array([[1, 2, 0, 0, 0], [3, 4, 5, 6, 0]])
    (levels,) = given(TileADC(rows=2, bits=20, layers="fc"), model, x)
    got = run(model, [Site(1, "sums", "levels", 2)], x, levels)
    np.testing.assert_allclose(got, np.asarray(model(x)), atol=2e-3)


def test_gradients_pass_where_levels_do_not_clip() -> None:
    import tensorflow as tf

    model = keras.Sequential([keras.Input((4,)), kl.Dense(2, use_bias=False, activity_regularizer="l1")])
    x = np.array([[1, 2, 3, 4]], np.float32)
    kernel = np.array([[1, 0.1], [0.2, 0.3], [0.1, 0.2], [0.1, 0.9]], np.float32)
    levels = np.stack([np.full((2, 2), v, np.float32) for v in (0.5, -7, 7)])  # sums 1.4, 0.7, 0.7, 4.2: one clips
    graph = Graph(model, [0], [Site(0, "sums", "levels", 2)])
    weights = tf.Variable(kernel)
    with tf.GradientTape() as tape:
        scores, _, losses = graph.train(tf.constant(x), [tf.convert_to_tensor(weights), tf.constant(levels)])
        loss = tf.reduce_sum(scores)
    np.testing.assert_allclose(scores, [[1.5 + 0.5, 0.5 + 3.5]])
    np.testing.assert_allclose(losses, [0.01 * 6], rtol=1e-6)
    np.testing.assert_allclose(tape.gradient(loss, weights), [[1, 1], [2, 2], [3, 0], [4, 0]])


@pytest.mark.parametrize(
    ("layer", "shape", "text"),
    [
        (kl.SeparableConv2D(3, 2), (6, 6, 2), r"layer it \(SeparableConv2D\) is no single matrix, as Dense, Conv1D"),
        (kl.LSTM(3), (6, 2), r'layer it \(LSTM\) .* leave it out: layers = "!it"'),
        (kl.Conv2D(3, 2, data_format="channels_first"), (2, 6, 6), "has its channels first"),
        (kl.MaxPooling2D(), (6, 6, 2), "is no single matrix"),
    ],
)
def test_layers_that_are_no_matrix(layer: Any, shape: tuple[int, ...], text: str) -> None:
    inputs = keras.Input(shape)
    layer = type(layer).from_config(layer.get_config() | {"name": "it"})
    model = keras.Model(inputs, kl.Dense(2)(kl.Flatten()(layer(inputs))))
    with pytest.raises(Unsupported, match=text):
        Graph(model, range(len(model.weights)), [Site(0, "sums", "levels", 8)])

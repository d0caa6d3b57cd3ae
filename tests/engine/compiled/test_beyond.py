"""Layers whose compiled form came later: depthwise and grouped convolutions, gates, curves, padded pooling."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest
from architectures import WiderBuilder, draw_weights, randomize
from keras import layers as kl
from numpy.polynomial.chebyshev import Chebyshev

from sweep import assembly
from sweep.data.datasets import load_dataset
from sweep.data.measures import measure_of
from sweep.engine.backends import Compiled
from sweep.engine.compiled import functions, lowering, places, program, slots, tuning
from sweep.engine.compiled.functions import Curve
from sweep.engine.compiled.kernels import Convolution, Grouped, Pointwise
from sweep.engine.compiled.network import CompiledNetwork
from sweep.engine.compiled.program import Instruction, Place, build
from sweep.engine.compiled.seeing import Gather
from sweep.engine.evaluator import Evaluator
from sweep.engine.graph import Unsupported
from sweep.engine.sites import Site
from sweep.networks.inspection import leaves_of
from sweep.networks.loading import load_network
from tests.engine.compiled.test_compiled import NETWORKS as EARLIER
from tests.engine.compiled.test_compiled import check as forward_is_plain
from tests.engine.compiled.test_seeing import check as seen_as_forward
from tests.few import one_in

WIDTHS = (4, 8, 16)


def as_wide(monkeypatch: pytest.MonkeyPatch, lanes: int) -> None:
    for module in (assembly, lowering, program, slots, tuning):
        monkeypatch.setattr(module, "lanes", lambda: lanes)


def check(model: keras.Model, rng: np.random.Generator) -> None:
    """All images and few, some trials a pass, all variables perturbed: the scores of the network itself."""
    everything = range(len(model.weights))
    forward_is_plain(model, everything, int(rng.integers(1, 20)), int(rng.integers(1, 4)), rng)
    seen_as_forward(model, everything, int(rng.integers(1, 40)), int(rng.integers(1, 40)), rng)


@pytest.mark.parametrize("seed", one_in(3, range(24)))
def test_random_networks(seed: int) -> None:
    rng = np.random.default_rng([79, seed])
    keras.backend.clear_session()
    check(WiderBuilder(rng).model(), rng)


def chain(*layers: kl.Layer, shape: tuple[int, ...] = (11, 9, 6)) -> Callable[[], keras.Model]:
    """A network of a dense layer behind what these make of an image."""
    return lambda: keras.Sequential([keras.Input(shape), *layers, kl.GlobalAveragePooling2D(), kl.Dense(4)])


def gate(x: keras.KerasTensor, activation: Callable) -> keras.KerasTensor:
    """Squeeze and excite."""
    channels = x.shape[-1]
    y = kl.Reshape((1, 1, channels))(kl.GlobalAveragePooling2D()(x))
    return kl.Multiply()([x, activation(kl.Conv2D(channels, 1)(kl.Conv2D(3, 1, activation="silu")(y)))])


def inverted_residuals(activation: Callable, gated: Callable) -> keras.Model:
    """The blocks of MobileNetV2 and V3: expanded, depthwise, projected, with a step of two and with none."""
    x = inputs = keras.Input((13, 12, 3))
    for filters, stride in ((5, 2), (5, 1), (7, 2)):
        y = activation(kl.BatchNormalization()(kl.Conv2D(4 * x.shape[-1], 1, use_bias=False)(x)))
        y = kl.ZeroPadding2D(((0, 1), (1, 1)))(y) if stride == 2 else y
        padding = "valid" if stride == 2 else "same"
        y = kl.DepthwiseConv2D(3, stride, padding, use_bias=False)(y)
        y = gate(activation(kl.BatchNormalization()(y)), gated)
        y = kl.BatchNormalization()(kl.Conv2D(filters, 1, use_bias=False)(y))
        x = kl.Add()([x, y]) if x.shape == y.shape else y
    return keras.Model(inputs, kl.Dense(4, "softmax")(kl.GlobalAveragePooling2D()(x)))


NETWORKS = {
    "relu6, hard sigmoid of numbers": lambda: inverted_residuals(kl.ReLU(6.0), lambda x: kl.ReLU(6.0)(x + 3) * (1 / 6)),
    "hard swish": lambda: inverted_residuals(kl.Activation("hard_swish"), kl.Activation("hard_sigmoid")),
    "swish": lambda: inverted_residuals(kl.Activation("swish"), kl.Activation("sigmoid")),
    "depthwise, pooled": chain(kl.DepthwiseConv2D(3, activation="relu"), kl.MaxPooling2D()),
    "depthwise, larger than its input": chain(kl.DepthwiseConv2D((7, 5), padding="same"), shape=(3, 4, 2)),
    "depthwise of one channel": chain(kl.DepthwiseConv2D(3, depth_multiplier=3, padding="same"), shape=(8, 8, 1)),
    "depthwise with many filters": chain(kl.DepthwiseConv2D(3, depth_multiplier=6, dilation_rate=2)),
    "zeros read by two": lambda: two_readers(),
    "separable": chain(kl.SeparableConv2D(8, 3, 2, "same", activation="gelu"), kl.SeparableConv2D(5, 3)),
    "groups of two": chain(kl.Conv2D(9, 3, groups=3, padding="same"), kl.BatchNormalization(), kl.ReLU()),
    "wide groups": chain(kl.Conv2D(22, (1, 3), groups=2, strides=2), kl.MaxPooling2D(2, padding="same")),
    "pools of an odd size": chain(kl.Conv2D(3, 1), kl.AveragePooling2D((4, 3), (3, 2), padding="same")),
    "a pool wider than its input": chain(kl.Conv2D(3, 1), kl.MaxPooling2D(9, 1, padding="same"), shape=(4, 5, 2)),
}


def two_readers() -> keras.Model:
    """Zeros that a depthwise and an ordinary convolution read, and other zeros that two depthwise ones do."""
    inputs = keras.Input((7, 8, 3))
    x = kl.ZeroPadding2D(1)(kl.Conv2D(4, 1)(inputs))
    y = kl.ZeroPadding2D(((2, 2), (0, 3)))(kl.Add()([kl.DepthwiseConv2D(3)(x), kl.Conv2D(4, 3)(x)]))
    y = kl.Concatenate()([kl.DepthwiseConv2D(2, 2)(y), kl.DepthwiseConv2D(3, 2, activation="elu")(y)])
    return keras.Model(inputs, kl.Dense(3)(kl.Flatten()(y)))


@pytest.mark.parametrize("name", NETWORKS)
def test_network(name: str) -> None:
    keras.backend.clear_session()
    model = NETWORKS[name]()
    check(model, np.random.default_rng(6))
    assert CompiledNetwork(model, range(len(model.weights))).beyond


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("multiplier", [1, 2])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_every_depthwise_kernel_by_the_formula(rank: int, multiplier: int, padding: str) -> None:
    """Sums in float64, a perturbed kernel and bias: NumPy, and no Keras."""
    rng = np.random.default_rng(9)
    window, stride, shape = (3, 2)[:rank], 2, (9, 10)[:rank]
    layer = {1: kl.DepthwiseConv1D, 2: kl.DepthwiseConv2D}[rank]
    size = window[0] if rank == 1 else window
    model = keras.Sequential(
        [keras.Input((*shape, 5)), layer(size, stride, padding, depth_multiplier=multiplier), kl.Flatten(), kl.Dense(3)]
    )
    network = CompiledNetwork(model, range(4))
    assert any(isinstance(step.kernel, Grouped) for step in lowering.Lowering(network.graph).operations)
    weights = [rng.standard_normal((2, *v.shape)).astype(np.float32) for v in model.weights]
    x = rng.standard_normal((3, *shape, 5)).astype(np.float32)
    ours = network.forward(network.blocks([x]), weights)
    kernel, bias, last, offset = (w.astype(np.float64) for w in weights)
    for trial in range(2):
        y = depthwise(x, kernel[trial], stride, padding) + bias[trial]
        expected = y.reshape(3, -1) @ last[trial] + offset[trial]
        np.testing.assert_allclose(ours[trial], expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def depthwise(x: np.ndarray, kernel: np.ndarray, stride: int, padding: str) -> np.ndarray:
    """(n, *spatial, C·M) of images (n, *spatial, C) and a kernel (*window, C, M)."""
    window = kernel.shape[:-2]
    if padding == "same":
        totals = [max((-(-n // stride) - 1) * stride + w - n, 0) for n, w in zip(x.shape[1:], window, strict=False)]
        x = np.pad(x, [(0, 0), *((t // 2, t - t // 2) for t in totals), (0, 0)])
    sizes = [(n - w) // stride + 1 for n, w in zip(x.shape[1:], window, strict=False)]
    out = np.zeros((len(x), *sizes, *kernel.shape[-2:]))
    for tap in np.ndindex(*window):
        where = tuple(slice(t, t + stride * (n - 1) + 1, stride) for t, n in zip(tap, sizes, strict=True))
        out += x[(slice(None), *where)][..., None] * kernel[tap]
    return out.reshape(*out.shape[:-2], -1)


def values(curve: Curve, x: np.ndarray, lanes: int) -> np.ndarray:
    """What machine code makes of numbers, a multiple of 16 of them."""
    count = len(x) // lanes
    kernel = Pointwise(1, 1, count, False, 0, 0, 0, 0, curve)
    step = Instruction(kernel, Place("%input0", 0), Place("%scratch", 0), Place("%output", 0), 0)
    made = build([step], [Gather(1, lanes, 0, 0, lanes)], 0, None, None)
    arrays = np.zeros((2, len(x) + 32), np.float32)
    read, wrote = (a[-(a.ctypes.data // 4) % 16 :][: len(x)] for a in arrays)
    read[:] = x
    made.run(wrote.ctypes.data, wrote.ctypes.data, wrote.ctypes.data, 1, read.ctypes.data)
    return wrote.copy()


@cache
def erf(x: float) -> float:
    return math.erf(x)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


CURVES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "hard_sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "hard_silu": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "tanh": np.tanh,
    "gelu": lambda x: x / 2 * (1 + np.vectorize(erf)(x / np.sqrt(2))),
    "gelu_by_tanh": lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0))),
}


@pytest.mark.parametrize("name", CURVES)
def test_curves_by_the_formula(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within 4e-7 of float64, of the larger of 1 and x; near 0, of x. The same bits at any width."""
    near = np.linspace(-12, 12, 8192)
    x = np.concatenate([near, near / 1e4, [-1e30, -1e5, -200, -88, -87.4, 88, 200, 1e5], np.zeros(8)])
    x = x.astype(np.float32)
    found = []
    for lanes in WIDTHS:
        as_wide(monkeypatch, lanes)
        found.append(values(Curve(name), x, lanes))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    with np.errstate(over="ignore", under="ignore"):
        expected = CURVES[name](x.astype(np.float64))
    size = np.maximum(1, np.abs(x))
    if name in ("tanh", "elu", "selu"):  # which are x near 0, and so must not lose its digits
        size = np.where(np.abs(x) < 2e-3, np.abs(x), size)
    assert (np.abs(found[0] - expected) <= 4e-7 * size).all()


@pytest.mark.parametrize("name", sorted({*CURVES} - {"hard_sigmoid", "hard_silu", "hard_tanh"}))
def test_curves_keep_what_is_no_number(name: str) -> None:
    assert np.isnan(values(Curve(name), np.full(16, np.nan, np.float32), assembly.lanes())).all()


def test_coefficients_are_those_of_the_interpolation() -> None:
    end = math.log(2) / 2 * 1.001
    exp = Chebyshev.interpolate(lambda r: sum(r ** (k - 2) / math.factorial(k) for k in range(2, 20)), 5, [-end, end])
    np.testing.assert_allclose(functions._EXP, exp.convert(kind=np.polynomial.Polynomial).coef, rtol=2e-6)

    def ratio(t: np.ndarray) -> np.ndarray:
        return np.array([math.erf(z) / z for z in np.sqrt(t)])

    fit = Chebyshev.interpolate(ratio, 15, [0, functions._ERF_END])
    np.testing.assert_allclose(functions._ERF, np.polynomial.chebyshev.cheb2poly(fit.coef), rtol=1e-4, atol=1e-7)


def test_scores_do_not_depend_on_how_wide_the_processor_is(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rng = NETWORKS["swish"](), np.random.default_rng(8)
    randomize(model, rng)
    varied = range(len(model.weights))
    weights = draw_weights(model, varied, 2, rng)
    x = rng.standard_normal((37, *model.input_shape[1:])).astype(np.float32)
    raw = []
    for lanes in WIDTHS:
        as_wide(monkeypatch, lanes)
        network = CompiledNetwork(model, varied)
        raw.append(network.forward(network.blocks([x]), weights))
    np.testing.assert_array_equal(raw[0], raw[1])
    np.testing.assert_array_equal(raw[0], raw[2])


def test_every_tile_of_a_depthwise_kernel_gives_the_same_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rng = NETWORKS["relu6, hard sigmoid of numbers"](), np.random.default_rng(8)
    randomize(model, rng)
    varied = range(len(model.weights))
    weights = draw_weights(model, varied, 1, rng)
    x = rng.standard_normal((5, *model.input_shape[1:])).astype(np.float32)
    as_wide(monkeypatch, 16)
    monkeypatch.setattr(tuning, "_known", {})
    found = []
    for number in range(3):

        def tiled(kernel: Convolution, number: int = number) -> Convolution:
            return replace(kernel, measured=kernel.tiles[number % len(kernel.tiles)])

        monkeypatch.setattr(lowering, "best_known", tiled)
        network = CompiledNetwork(model, varied)
        found.append(network.forward(network.blocks([x]), weights))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize("name", ["swish", "zeros read by two", "separable", "residual", "same then flatten"])
def test_where_activations_share_memory_scores_are_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays of any geometry in one place, with the zeros around them made anew; many blocks, twice, and few images."""
    model, rng = (NETWORKS | EARLIER)[name](), np.random.default_rng(8)
    randomize(model, rng)
    varied = range(len(model.weights))
    weights = draw_weights(model, varied, 2, rng)
    x = rng.standard_normal((3 * assembly.lanes() + 1, *model.input_shape[1:])).astype(np.float32)
    network = CompiledNetwork(model, varied)
    expected = network.forward(network.blocks([x]), weights)
    monkeypatch.setattr(places, "LARGE", 0)
    smaller = CompiledNetwork(model, varied)
    assert smaller._scratch.nbytes <= network._scratch.nbytes
    for _ in range(2):
        np.testing.assert_array_equal(smaller.forward(smaller.blocks([x]), weights), expected)
    images = np.arange(len(x))[None].repeat(2, 0)
    few = [one.see([x], images, one.rows(zip(*weights, strict=True), 2)).raw for one in (network, smaller)]
    np.testing.assert_array_equal(*few)


def test_what_came_later_can_be_left_out() -> None:
    model = NETWORKS["swish"]()
    with pytest.raises(Unsupported, match="activation"):
        CompiledNetwork(model, range(len(model.weights)), more=False)
    model = NETWORKS["groups of two"]()
    with pytest.raises(Unsupported, match="compiled only where nothing but decisions is asked for"):
        CompiledNetwork(model, range(len(model.weights)), more=False)


def test_what_a_merge_makes_is_rounded_where_a_site_asks_for_it() -> None:
    """Levels of whole numbers at the output of a product: exact in float32."""
    inputs = keras.Input((3, 3, 2))
    x = kl.Conv2D(2, 1, use_bias=False)(inputs)
    model = keras.Model(inputs, kl.Flatten()(kl.Multiply()([x, kl.GlobalMaxPooling2D(keepdims=True)(x)])))
    multiply = next(k for k, layer in enumerate(leaves_of(model)) if isinstance(layer, kl.Multiply))
    network = CompiledNetwork(model, [0], [Site(multiply)])
    rng = np.random.default_rng(2)
    images = rng.integers(-3, 4, (5, 3, 3, 2)).astype(np.float32)
    kernel = rng.integers(-3, 4, (1, 1, 2, 2)).astype(np.float32)
    found = network.forward(network.blocks([images]), [kernel[None], np.float32([[0, 4, -5, 5]])])[0]
    x = images @ kernel[0, 0]
    products = x * x.max(axis=(1, 2), keepdims=True)
    np.testing.assert_array_equal(found, 4 * np.clip(np.rint(products / 4), -5, 5).reshape(5, -1))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("beyond")
    rng = np.random.default_rng(3)
    model = NETWORKS["hard swish"]()
    randomize(model, rng)
    model.save(folder / "m.keras")
    np.savez(folder / "d.npz", x_test=rng.random((90, 13, 12, 3), np.float32), y_test=rng.integers(0, 4, 90))
    return folder


def evaluator(files: Path, engine: str | None, *measures: str) -> Evaluator:
    measured = [measure_of(name) for name in measures]
    return Evaluator(load_network(files / "m.keras"), load_dataset(files / "d.npz"), engine, measures=measured)


def test_counts_are_those_of_predict(files: Path) -> None:
    """All images and few, compiled, image for image."""
    ours, rng = evaluator(files, "compiled"), np.random.default_rng(4)
    varied = tuple(v.index for v in ours.network.variables if v.kernel)
    trials = []
    for _ in range(6):
        trial = [
            w + (0.2 * rng.standard_normal(w.shape)).astype(np.float32) * (i in varied)
            for i, w in enumerate(ours.weights)
        ]
        trials.append([np.asarray(w, np.float32) for w in trial])
    images, model = ours._subject.images[:], ours.network.model
    expected = []
    for trial in trials:
        model.set_weights(trial)
        expected.append(model.predict(images, verbose=0).argmax(-1) == ours.labels)
    model.set_weights(ours.weights)
    assert ours.correct(trials, varied) == [int(right.sum()) for right in expected]
    assert isinstance(ours.backend(varied), Compiled), ours.notes
    chosen = rng.integers(0, 90, (6, 2, 8))
    found = ours.see([iter([trial]) for trial in trials], chosen, varied)
    np.testing.assert_array_equal(found.right, [right[c] for right, c in zip(expected, chosen, strict=True)])


def test_where_more_than_decisions_is_asked_for_a_network_keeps_its_way(files: Path) -> None:
    """Last digits of scores depend on the way: such columns stay what they were."""
    ours = evaluator(files, None, "loss")
    varied = tuple(v.index for v in ours.network.variables if v.kernel)
    assert not isinstance(ours.backend(varied), Compiled)

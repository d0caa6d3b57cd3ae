"""The compiled pass against the network itself, one trial at a time."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import pytest
from architectures import SimpleBuilder, assert_same, draw_weights, plain, randomize
from keras import layers as kl

from sweep import assembly
from sweep.engine.compiled import lowering, program, slots, tuning
from sweep.engine.compiled.network import CompiledNetwork
from sweep.engine.graph import Unsupported
from tests.few import one_in


def check(model: keras.Model, varied: Sequence[int], images: int, trials: int, rng: np.random.Generator) -> None:
    randomize(model, rng)
    weights = draw_weights(model, varied, trials, rng)
    x = rng.standard_normal((images, *model.input_shape[1:])).astype(np.float32)
    network = CompiledNetwork(model, varied)
    blocks = network.blocks([np.asarray(t) for t in network.graph.run_prefix(keras.ops.convert_to_tensor(x))])
    ours = network.forward(blocks, weights)
    assert_same(ours, plain(model, varied, weights, x))
    np.testing.assert_array_equal(network.forward(blocks, weights), ours)
    one = network.forward(blocks, [w[-1:] for w in weights])
    np.testing.assert_array_equal(one[0], ours[-1])


@pytest.mark.parametrize("seed", one_in(4, range(60)))
def test_random_networks(seed: int) -> None:
    rng = np.random.default_rng([77, seed])
    keras.backend.clear_session()
    model = SimpleBuilder(rng).model()
    everything = list(range(len(model.weights)))
    some = sorted(rng.choice(everything, size=min(3, len(everything)), replace=False).tolist())
    varied = everything if rng.random() < 0.6 else some
    check(model, varied, int(rng.integers(1, 20)), int(rng.integers(1, 4)), rng)


def residual_network() -> keras.Model:
    """The blocks of a ResNet: strides, 1x1 shortcuts, batch normalisation, additions, global pooling."""
    inputs = x = keras.Input((12, 12, 3))
    for filters, stride in ((5, 1), (9, 2)):
        y = kl.Conv2D(filters, 3, stride, padding="same", use_bias=False)(x)
        y = kl.ReLU()(kl.BatchNormalization()(y))
        y = kl.BatchNormalization()(kl.Conv2D(filters, 3, padding="same")(y))
        short = kl.BatchNormalization()(kl.Conv2D(filters, 1, stride, use_bias=False)(x))
        x = kl.ReLU()(kl.Add()([short, y]))
    return keras.Model(inputs, kl.Dense(4)(kl.GlobalAveragePooling2D()(x)))


NETWORKS = {
    "residual": residual_network,
    "wide dense": lambda: keras.Sequential([keras.Input((40,)), kl.Dense(37, "relu"), kl.Dense(11)]),
    "softmax layer": lambda: keras.Sequential([keras.Input((4,)), kl.Dense(3), kl.Softmax()]),
    "sigmoid": lambda: keras.Sequential([keras.Input((4,)), kl.Dense(1, "sigmoid")]),
    "same then flatten": lambda: keras.Sequential(
        [
            keras.Input((5, 5, 2)),
            kl.Conv2D(3, 3, padding="same"),
            kl.Conv2D(2, 5, padding="same"),
            kl.Flatten(),
            kl.Dense(3),
        ]
    ),
    "features to image": lambda: keras.Sequential(
        [keras.Input((16,)), kl.Dense(18), kl.Reshape((3, 3, 2)), kl.Conv2D(2, 2), kl.Flatten(), kl.Dense(3)]
    ),
    # The array of what is padded is as large as one that is free by then: its zeros are below and right only.
    "zeros below and right of a free array": lambda: keras.Sequential(
        [
            keras.Input((9, 9, 3)),
            *(kl.Conv2D(4, 3), kl.Conv2D(4, 1), kl.Conv2D(4, 2)),
            *(kl.ZeroPadding2D(((0, 1), (0, 1))), kl.Conv2D(2, 3, 2), kl.Flatten(), kl.Dense(3)),
        ]
    ),
    "image out": lambda: keras.Sequential([keras.Input((6, 6, 2)), kl.Conv2D(3, 3), kl.Reshape((-1, 3))]),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_network(name: str) -> None:
    model = NETWORKS[name]()
    check(model, range(len(model.weights)), 19, 2, np.random.default_rng(5))


def test_prefix_is_computed_once() -> None:
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            kl.Conv2D(4, 3, activation="tanh"),
            kl.Conv2D(3, 3, padding="same"),
            kl.Flatten(),
            kl.Dense(3),
        ]
    )
    check(model, [4], 9, 3, np.random.default_rng(1))
    network = CompiledNetwork(model, [2, 4])
    assert network.graph.has_prefix
    assert [layer.name for layer in model.layers[1:]] == list(
        dict.fromkeys(step.operation.name for step in network.graph.rest)
    )
    check(model, [2, 4], 9, 3, np.random.default_rng(2))


def test_unsupported_layers_are_named() -> None:
    model = keras.Sequential([keras.Input((4,)), kl.Dense(3, activation="softplus", name="bent"), kl.Dense(2)])
    with pytest.raises(Unsupported, match=r"layer bent \(Dense\) has an activation function"):
        CompiledNetwork(model, [0])
    model = keras.Sequential([keras.Input((4,)), kl.Dense(3), kl.LayerNormalization(name="norm"), kl.Dense(2)])
    with pytest.raises(Unsupported, match=r"layer norm \(LayerNormalization\)"):
        CompiledNetwork(model, [0])


def test_scores_do_not_depend_on_how_wide_the_processor_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each image has a lane of its own, and sums in one order: AVX, AVX2 and AVX-512 give the same bits."""
    model, rng = residual_network(), np.random.default_rng(8)
    randomize(model, rng)
    varied = range(len(model.weights))
    weights = draw_weights(model, varied, 2, rng)
    x = rng.standard_normal((37, 12, 12, 3)).astype(np.float32)
    found = []
    for lanes in (4, 8, 16):
        for module in (assembly, lowering, program, slots, tuning):
            monkeypatch.setattr(module, "lanes", lambda lanes=lanes: lanes)
        network = CompiledNetwork(model, varied)
        blocks = network.blocks([x])
        assert blocks.arrays[0].shape[-1] == lanes
        found.append(network.forward(blocks, weights))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])

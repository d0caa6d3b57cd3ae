"""The stacked pass against the network itself, one trial at a time."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from architectures import Builder, assert_same, draw_weights, plain, randomize, stacked
from keras import layers as kl

from sweep.engine.graph import Unsupported
from sweep.engine.stacked.network import StackedNetwork
from tests.few import one_in


def choose_varied(model: keras.Model, rng: np.random.Generator) -> list[int]:
    """All weights, all kernels, the last kernel, or any few."""
    everything = list(range(len(model.weights)))
    kernels = [i for i in everything if "kernel" in model.weights[i].path]
    some = sorted(rng.choice(everything, size=min(3, len(everything)), replace=False).tolist())
    return [everything, kernels, kernels[-1:], some][int(rng.integers(4))]


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")
@pytest.mark.parametrize("seed", one_in(4, range(160)))
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


def small(*layers: object, shape: tuple[int, ...] = (6, 6, 2)) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *layers])


def test_results_do_not_depend_on_the_company() -> None:
    """A trial's outputs are the same, to rounding, whatever trials and images share its pass."""
    rng = np.random.default_rng(8)
    model = small(kl.Conv2D(4, 3, activation="relu"), kl.MaxPooling2D(), kl.Conv2D(3, 2), kl.Flatten(), kl.Dense(3))
    weights = draw_weights(model, [0, 2, 4], 5, rng)
    x = rng.standard_normal((6, 6, 6, 2)).astype(np.float32)
    network = StackedNetwork(model, [0, 2, 4])
    together = stacked(network, weights, x)
    for t in range(5):
        alone = stacked(network, [w[t : t + 1] for w in weights], x[2:4])
        np.testing.assert_allclose(alone[0], together[t, 2:4], rtol=1e-5, atol=1e-6)


def test_the_prefix_is_what_no_perturbed_weight_reaches() -> None:
    inputs = keras.Input((6, 6, 2))
    x = kl.Conv2D(3, 3, name="first")(inputs)
    x = kl.Lambda(keras.ops.sin, name="any layer may be in the prefix")(x)
    y = kl.Conv2D(3, 1, name="second")(x)
    model = keras.Model(inputs, kl.Dense(2, name="last")(kl.Flatten(name="flat")(kl.Add(name="sum")([x, y]))))
    network = StackedNetwork(model, [2])
    assert network.graph.has_prefix
    assert [step.operation.name for step in network.graph.rest] == ["second", "sum", "flat", "last"]
    rng = np.random.default_rng(0)
    weights = draw_weights(model, [2], 3, rng)
    x = rng.standard_normal((4, 6, 6, 2)).astype(np.float32)
    boundary = network.graph.run_prefix(x)
    assert [tuple(b.shape) for b in boundary] == [(4, 4, 4, 3)]
    assert_same(stacked(network, weights, x), plain(model, [2], weights, x))


def test_no_prefix_when_the_first_layer_varies() -> None:
    assert not StackedNetwork(small(kl.Conv2D(2, 3), kl.Flatten(), kl.Dense(2)), [0]).graph.has_prefix


class Negated(kl.Dense):
    def call(self, inputs: object, training: object = None) -> object:
        return -super().call(inputs, training)


def channels_first() -> keras.Model:
    inputs = keras.Input((2, 6, 6))
    x = kl.ZeroPadding2D(1, data_format="channels_first", name="odd")(kl.Dense(6)(inputs))
    return keras.Model(inputs, kl.Dense(2)(kl.Flatten()(x)))


def training() -> keras.Model:
    inputs = keras.Input((4,))
    return keras.Model(inputs, kl.Dense(2)(kl.Dropout(0.5, name="odd")(kl.Dense(3)(inputs), training=True)))


def constant() -> keras.Model:
    inputs = keras.Input((4,))
    return keras.Model(inputs, kl.Dense(3)(inputs) + np.ones(3, np.float32))


class OwnCall(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.dense = kl.Dense(2)

    def call(self, x: object) -> object:
        return self.dense(x)


def own_call() -> keras.Model:
    model = OwnCall()
    model(np.zeros((1, 4), np.float32))
    return model


REFUSED = {
    "a subclass may do anything": (
        lambda: small(Negated(3, name="odd")),
        r"layer odd \(Negated\) is not in the list",
    ),
    "unknown layer": (lambda: small(kl.Dense(3), kl.Lambda(abs, name="odd"), shape=(4,)), r"odd \(Lambda\)"),
    "channels first": (channels_first, r"layer odd \(ZeroPadding2D\) has its channels first"),
    "half precision": (lambda: small(kl.Dense(3, dtype="mixed_float16", name="odd")), "odd .* in mixed_float16"),
    "dropout that stays on": (training, r"layer odd \(Dropout\) is called with training"),
    "constant operand": (constant, "constant arrays"),
    "activation with weights": (
        lambda: small(kl.Dense(3, activation=kl.PReLU(), name="odd")),
        "odd .* as its activation",
    ),
    "subclassed model": (own_call, "OwnCall is not a Sequential or Functional model"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unsupported(name: str) -> None:
    make, message = REFUSED[name]
    with pytest.raises(Unsupported, match=message):
        StackedNetwork(make(), [0])


def test_several_outputs_are_refused() -> None:
    inputs = keras.Input((4,))
    with pytest.raises(Unsupported, match="one input and one output"):
        StackedNetwork(keras.Model(inputs, [kl.Dense(2)(inputs), kl.Dense(3)(inputs)]), [0])


def test_nothing_varied_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least one"):
        StackedNetwork(small(kl.Dense(2), shape=(4,)), [])

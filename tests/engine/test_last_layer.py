"""A network cut before its last layer: the same decisions, and the mean over the errors of that layer's weights."""

import dataclasses

import keras
import numpy as np
import pytest

from sweep.data.datasets import Dataset
from sweep.engine.evaluator import Evaluator
from sweep.engine.last_layer import law_of, split
from sweep.networks.inspection import layers_of, threshold_of, variables_of
from sweep.networks.loading import Network
from sweep.perturb.base import Transform
from sweep.perturb.devices import PhaseChangeMemory
from sweep.perturb.faults import StuckAt
from sweep.perturb.noise import Gaussian, LogNormal, Uniform, UniformSymmetric
from sweep.perturb.perturbation import perturb, reached, reads
from sweep.perturb.quantize import FixedPoint
from tests.few import one_in

layers = keras.layers
RNG = np.random.default_rng(7)
IMAGES = RNG.random((200, 10, 10, 1)).astype(np.float32)


def network(*last: keras.Layer, before: tuple[keras.Layer, ...] = ()) -> Network:
    keras.utils.set_random_seed(3)
    first = (layers.Conv2D(4, 3, activation="relu", name="conv"), layers.Flatten())
    return wrapped(keras.Sequential([keras.Input((10, 10, 1)), *(before or first), *last]))


def wrapped(model: keras.Model) -> Network:
    return Network(
        model, "0" * 64, variables_of(model), (10, 10, 1), model.outputs[0].shape[-1], threshold_of(model),
        layers_of(model),
    )  # fmt: skip


def evaluator(net: Network, engine: str | None = None) -> Evaluator:
    scores = net.model.predict(IMAGES, verbose=0)
    labels = (scores[:, 0] > net.threshold) if net.threshold is not None else scores.argmax(1)
    return Evaluator(net, Dataset(IMAGES, labels.astype(np.int64), "1" * 64), engine)


DENSE = {
    "softmax": lambda: layers.Dense(5, activation="softmax", name="fc"),
    "logits": lambda: layers.Dense(5, use_bias=False, name="fc"),
    "one sigmoid": lambda: layers.Dense(1, activation="sigmoid", name="fc"),
    "one logit": lambda: layers.Dense(1, name="fc"),
}
ERRORS = {
    "gaussian": Gaussian(scale=0.3),
    "of each weight": Gaussian(scale=0.5, basis="weight"),
    "of each channel": Gaussian(scale=0.2, basis="channel_max"),
    "uniform": Uniform(scale=0.6),
    "both sides": UniformSymmetric(scale=0.4, basis="layer_std"),
}


@pytest.mark.parametrize("engine", [None, "plain"])
@pytest.mark.parametrize("dense", DENSE.values(), ids=DENSE)
def test_decisions_are_those_of_the_whole_network(dense, engine: str | None):
    net = network(dense())
    ours, transforms = evaluator(net, engine), (Gaussian(scale=0.2),)
    varied = reached(net.variables, transforms)
    trials = [perturb(ours.weights, net.variables, transforms, 0, seed) for seed in range(30)]
    images = RNG.integers(0, 200, (30, 2, 9))
    law = ours.law(transforms)
    assert law is not None
    cut = ours.see(map(iter, [[t] for t in trials]), images, varied, laws=[law] * 30)
    whole = ours.see(map(iter, [[t] for t in trials]), images, varied)
    assert (cut.right == whole.right).all()
    assert (cut.finite == whole.finite).all()
    assert cut.integrated.all()
    assert not whole.integrated.any()


@pytest.mark.parametrize("transform", one_in(2, ERRORS.values()), ids=ERRORS)
@pytest.mark.parametrize("dense", one_in(2, DENSE.values()), ids=DENSE)
def test_probabilities_are_means_over_the_errors(dense, transform: Transform):
    """Of one and the same first layer, over thousands of draws of the last."""
    net = network(dense())
    ours = evaluator(net)
    only = dataclasses.replace(transform, layers="fc")
    first = perturb(ours.weights, net.variables, (dataclasses.replace(transform, layers="conv"),), 0, 1)
    images = np.arange(40).reshape(1, 2, 20)
    law = ours.law((transform,))
    varied = reached(net.variables, (transform,))
    looks = ours.see([iter([first])], images, varied, laws=[law])
    assert looks.integrated.all()
    draws = 3000
    trials = (iter([perturb(first, net.variables, (only,), 0, seed)]) for seed in range(draws))
    shares = ours.see(trials, np.repeat(images, draws, 0), varied).right.mean(axis=0)
    # The law's errors are in the units of the clean weights, which the first layer's errors do not change.
    error = np.sqrt(np.maximum(looks.chances[0] * (1 - looks.chances[0]), 1e-4) / draws)
    assert np.abs((looks.chances[0] - shares) / error).max() < 4.5
    assert abs((looks.chances[0] - shares).mean()) < 4 * np.sqrt((error**2).mean() / 3)


def test_one_layer_alone_needs_no_draws():
    net = network(DENSE["softmax"]())
    ours, transform = evaluator(net), Gaussian(scale=0.4, layers="fc")
    images = np.arange(40).reshape(1, 2, 20)
    varied, law = reached(net.variables, (transform,)), ours.law((transform,))
    two = [iter([perturb(ours.weights, net.variables, (transform,), 0, seed)]) for seed in (0, 1)]
    looks = ours.see(two, np.repeat(images, 2, 0), varied, laws=[law, law])
    assert (looks.chances[0] == looks.chances[1]).all()
    assert (looks.right[0] != looks.right[1]).any()


def test_reads_have_the_law_of_a_read():
    net = network(DENSE["softmax"]())
    ours, transforms = evaluator(net), (Gaussian(scale=0.3, lifetime="read", block=50),)
    varied, law = reached(net.variables, transforms), ours.law(transforms)
    trials = [reads(ours.weights, net.variables, transforms, 0, seed) for seed in range(4)]
    images = RNG.integers(0, 200, (4, 2, 8))
    looks = ours.see(trials, images, varied, 50, [law] * 4)
    again = [reads(ours.weights, net.variables, transforms, 0, seed) for seed in range(4)]
    assert (looks.right == ours.see(again, images, varied, 50).right).all()
    assert looks.integrated.all()


UNKNOWN = {
    "another law": (LogNormal(scale=0.1),),
    "faults": (StuckAt(rate=0.1),),
    "a device": (PhaseChangeMemory(time=25.0),),
    "noise, then rounding": (Gaussian(scale=0.1), FixedPoint(bits=3)),
    "two noises": (Gaussian(scale=0.1), Gaussian(scale=0.2)),
    "another layer": (Gaussian(scale=0.1, layers="conv"),),
    "rounding": (FixedPoint(bits=3),),
}


@pytest.mark.parametrize("transforms", UNKNOWN.values(), ids=UNKNOWN)
def test_where_no_law_is_known(transforms: tuple[Transform, ...]):
    assert evaluator(network(DENSE["softmax"]())).law(transforms) is None


def test_rounding_before_the_noise_is_in_the_mean():
    net = network(DENSE["logits"]())
    transforms = (FixedPoint(bits=2), Uniform(scale=0.3, basis="layer_max"))
    law = evaluator(net).law(transforms)
    kernel = net.model.get_weights()[-1]
    rounded = np.rint(kernel * 4) / 4
    level = 0.3 * np.abs(rounded).max()
    np.testing.assert_allclose(law.mean, rounded + level / 2, rtol=1e-6)
    np.testing.assert_allclose(law.variance, level**2 / 12, rtol=1e-5)


def functional(make) -> Network:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((10, 10, 1))
    return wrapped(keras.Model(inputs, make(layers.Flatten()(layers.Conv2D(2, 3, name="conv")(inputs)))))


def tied(x):
    dense = layers.Dense(128, name="fc")
    return dense(layers.ReLU()(dense(x)))


WHOLE = {
    "no dense layer": lambda: network(layers.Reshape((8, 8, 4)), layers.GlobalAveragePooling2D()),
    "another activation": lambda: network(layers.Dense(4, activation="relu", name="fc")),
    "something behind": lambda: network(layers.Dense(4, name="fc"), layers.LayerNormalization()),
    "used twice": lambda: functional(tied),
    "nested": lambda: functional(keras.Sequential([keras.Input((128,)), layers.Dense(3, name="fc")])),
    "of the images": lambda: wrapped(keras.Sequential([keras.Input((100,)), layers.Dense(3, name="fc")])),
}


@pytest.mark.parametrize("make", WHOLE.values(), ids=WHOLE)
def test_networks_that_are_not_cut(make):
    assert split(make()) is None


def test_a_layer_without_meaning_behind_the_last_one():
    net = network(layers.Dense(4, name="fc"), layers.Dropout(0.5))
    cut = split(net)
    assert cut is not None
    assert law_of(cut, net.model.get_weights(), net.variables, (Gaussian(scale=0.1),)) is not None


def test_features_that_are_all_zero_keep_their_decision():
    net = network(DENSE["logits"]())
    ours, transform = evaluator(net), Gaussian(scale=0.3)
    dead = [np.zeros_like(w) if i == 0 else np.full_like(w, -1) if i == 1 else w for i, w in enumerate(ours.weights)]
    images = np.arange(8).reshape(1, 2, 4)
    looks = ours.see([iter([dead])], images, (0, 1, 2), laws=[ours.law((transform,))])
    assert (looks.chances == looks.right).all()

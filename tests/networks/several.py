"""Networks of several inputs and outputs, each with data for them; what plain Keras makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers as kl

from tests.networks.kinds import randomize
from tests.oracle import draw

IMAGES, SCALE = 96, 0.2


class Case(NamedTuple):
    """A network, arrays as they are stored, and as the network takes them by its inputs' names; the output scored."""

    model: keras.Model
    stored: dict[str, np.ndarray]
    taken: dict[str, np.ndarray]
    output: str | None = None


def siamese() -> Case:
    """Two images through shared layers, and how far apart they are."""
    a, b = keras.Input((8, 8, 1), name="left"), keras.Input((8, 8, 1), name="right")
    tower = keras.Sequential(
        [keras.Input((8, 8, 1)), kl.Conv2D(4, 3, activation="relu", name="conv"), kl.Flatten(), kl.Dense(6, name="fc")],
        name="tower",
    )
    apart = kl.Dense(1, activation="sigmoid", name="apart")(kl.Subtract()([tower(a), tower(b)]))
    rng = np.random.default_rng(1)
    stored = {name: rng.integers(0, 256, (IMAGES, 8, 8), dtype=np.uint8) for name in ("left", "right")}
    return Case(keras.Model([a, b], apart), stored, {n: x[..., None] / np.float32(255) for n, x in stored.items()})


def shared_layer() -> Case:
    """Two images through one convolution, used twice in the graph itself."""
    a, b = keras.Input((8, 8, 1), name="left"), keras.Input((8, 8, 1), name="right")
    conv = kl.Conv2D(4, 3, activation="relu", name="conv")
    both = kl.Concatenate()([kl.Flatten()(conv(a)), kl.Flatten()(conv(b))])
    case = siamese()
    return case._replace(model=keras.Model([a, b], kl.Dense(4, name="fc")(both)))


def with_metadata() -> Case:
    """An image, and three numbers about it."""
    image, meta = keras.Input((8, 8, 1), name="image"), keras.Input((3,), name="meta")
    x = kl.Flatten()(kl.Conv2D(4, 3, activation="relu", name="conv")(image))
    both = kl.Concatenate()([x, kl.Dense(4, "tanh", name="about")(meta)])
    rng = np.random.default_rng(2)
    stored = {
        "meta": rng.normal(size=(IMAGES, 3)).astype(np.float32),  # not in the order of the network
        "image": rng.integers(0, 256, (IMAGES, 8, 8), dtype=np.uint8),
    }
    taken = {"image": stored["image"][..., None] / np.float32(255), "meta": stored["meta"]}
    return Case(keras.Model({"image": image, "meta": meta}, kl.Dense(5, name="fc")(both)), stored, taken)


def tokens() -> Case:
    """Tokens of any length, and which of them count."""
    ids, mask = keras.Input((None,), dtype="int32", name="ids"), keras.Input((None,), dtype="bool", name="mask")
    x = kl.Dense(6, "relu", name="each")(kl.Embedding(20, 8, name="embedding")(ids))
    x = kl.GlobalAveragePooling1D()(x * keras.ops.cast(keras.ops.expand_dims(mask, -1), "float32"))
    rng = np.random.default_rng(3)
    stored = {"ids": rng.integers(0, 20, (IMAGES, 10)), "mask": rng.random((IMAGES, 10)) < 0.7}
    return Case(keras.Model([ids, mask], kl.Dense(4, name="fc")(x)), stored, stored)


def two_heads(output: str) -> Case:
    """An image, of which a digit and a side are told; one of both is scored."""
    image = keras.Input((8, 8, 1), name="image")
    x = kl.Flatten()(kl.Conv2D(4, 3, activation="relu", name="conv")(image))
    digit = kl.Dense(5, "softmax", name="digit")(kl.Dense(8, "relu", name="before_digit")(x))
    side = kl.Dense(1, name="side")(kl.Dense(7, "relu", name="before_side")(x))
    stored = {"image": siamese().stored["left"]}
    taken = {"image": stored["image"][..., None] / np.float32(255)}
    return Case(keras.Model(image, [digit, side]), stored, taken, output)


def both_ways() -> Case:
    """Two inputs and a dict of two outputs."""
    case = with_metadata()
    features = case.model.layers[-1].input
    model = keras.Model(
        case.model.inputs, {"kind": kl.Dense(5, name="fc")(features), "age": kl.Dense(3, name="years")(features)}
    )
    return case._replace(model=model, output="kind")


CASES: Mapping[str, Callable[[], Case]] = {
    "siamese": siamese,
    "shared layer": shared_layer,
    "image and metadata": with_metadata,
    "tokens and mask": tokens,
    "first of two outputs": lambda: two_heads("digit"),
    "second of two outputs": lambda: two_heads("side"),
    "two inputs, two outputs": both_ways,
}


def made(name: str) -> Case:
    """A case with moderate weights, and classes that are about equally frequent."""
    keras.utils.set_random_seed(5)
    case = CASES[name]()
    randomize(case.model, np.random.default_rng(7))
    for layer in case.model.layers:
        if isinstance(layer, kl.Dense) and layer.name in ("fc", "digit", "side", "apart", "years"):
            layer.bias.assign(np.zeros(layer.bias.shape))
            before = keras.Model(case.model.input, layer.input)
            logits = before.predict(given(case), verbose=0) @ np.array(layer.kernel)
            layer.bias.assign(-logits.mean(axis=0))
    return case


def given(case: Case) -> Any:
    """What the network takes, in the form in which it takes it."""
    return keras.tree.map_structure(lambda x: case.taken[x.name], case.model.input)


def decisions(case: Case, weights: Sequence[np.ndarray] | None = None) -> np.ndarray:
    """(n,) what the output decides, by `predict` of the whole network with its own inputs."""
    clean = case.model.get_weights()
    case.model.set_weights(weights or clean)
    try:
        found = case.model.predict(given(case), verbose=0)
    finally:
        case.model.set_weights(clean)
    if case.output is not None:
        found = found[case.output] if isinstance(found, dict) else found[["digit", "side"].index(case.output)]
    if found.shape[1] > 1:
        return found.argmax(axis=1)
    return (found[:, 0] > (0.5 if case.output is None else 0)).astype(int)


def noisy(case: Case, seed: int, without: Sequence[str] = ()) -> list[np.ndarray]:
    """The weights with Gaussian noise on all kernels, but those of some layers."""
    weights = case.model.get_weights()
    for i, variable in enumerate(case.model.weights):
        layer, leaf = variable.path.split("/")[-2:]
        if leaf in ("kernel", "embeddings") and layer not in without:
            noise = draw(0, seed, 0, i).standard_normal(weights[i].shape, dtype=np.float32)
            weights[i] = weights[i] + np.float32(SCALE) * noise
    return weights

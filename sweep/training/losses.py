"""What a training makes small, and with which optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sweep.data.positions import UNCOUNTED
from sweep.networks.backend import import_keras
from sweep.networks.inspection import makers_of
from sweep.networks.loading import Network
from sweep.training.recipes import LABELS, OPTIMIZERS, Recipe

if TYPE_CHECKING:
    import keras

AT_POSITIONS = "cross-entropy at positions"


def loss_of(recipe: Recipe, network: Network) -> Any:
    """What is made small: by its Keras name, of logits as an object; None where the last layer has none that is usual.

    A layer without an activation function gives logits where the network is a file of the user's own.
    """
    if recipe.target != LABELS:
        return "mean_squared_error"
    keras = import_keras()
    activation, many = _activation(network), (network.outputs // (network.positions or 1)) > 1
    if network.positions:
        return _at_positions(network, activation)
    if activation is keras.activations.softmax and many:
        return "categorical_crossentropy"
    if activation is keras.activations.sigmoid and not many:
        return "binary_crossentropy"
    if recipe.start is not None and activation is keras.activations.linear:
        kind = keras.losses.CategoricalCrossentropy if many else keras.losses.BinaryCrossentropy
        return kind(from_logits=True)
    return None


def _activation(network: Network) -> Any:
    """The activation function of the layer that makes the scores; None where it has none, or there are several."""
    keras = import_keras()
    makers = makers_of(network.file_model, network.output[1] if network.output else 0)
    if len(makers) != 1:
        return None
    return (
        keras.activations.softmax
        if isinstance(makers[0], keras.layers.Softmax)
        else getattr(makers[0], "activation", None)
    )


def _at_positions(network: Network, activation: Any) -> Any:
    """A function of labels (B, positions) and all scores in a row (B, outputs); None as for `loss_of`."""
    keras = import_keras()
    count, classes = network.positions, network.outputs // network.positions
    usual = keras.activations.softmax if classes > 1 else keras.activations.sigmoid
    if activation not in (usual, keras.activations.linear):
        return None
    from_logits = activation is keras.activations.linear
    several = keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits, ignore_class=UNCOUNTED)

    def loss(labels: Any, scores: Any) -> Any:
        """Mean over the positions that count."""
        ops = keras.ops
        at = ops.reshape(scores, (-1, count, classes))
        if classes > 1:
            return several(labels, at)
        counted = ops.cast(labels >= 0, at.dtype)
        each = ops.binary_crossentropy(ops.cast(labels == 1, at.dtype), at[..., 0], from_logits=from_logits)
        return ops.sum(each * counted) / ops.maximum(ops.sum(counted), 1)

    loss.__name__ = AT_POSITIONS
    return loss


def loss_name(loss: Any) -> str:
    """Of `loss_of`, in words."""
    if isinstance(loss, str):
        return loss
    return AT_POSITIONS if getattr(loss, "__name__", "") == AT_POSITIONS else f"{loss.name} of logits"


def compile_model(recipe: Recipe, network: Network, model: keras.Model | None = None) -> None:
    """With a new optimizer: the network's model, or another one that trains it."""
    kind = getattr(import_keras().optimizers, OPTIMIZERS[recipe.optimizer])
    # Named, because Keras would number it by what else this process has built, and the file would differ.
    optimizer = kind(recipe.learning_rate, name=recipe.optimizer)
    metrics = ["accuracy"] if recipe.target == LABELS and not network.positions else []
    (model or network.model).compile(optimizer=optimizer, loss=loss_of(recipe, network), metrics=metrics)

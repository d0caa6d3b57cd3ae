"""What a training makes small, and with which optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sweep.networks.backend import import_keras
from sweep.training.recipes import IMAGES, OPTIMIZERS, Recipe

if TYPE_CHECKING:
    import keras


def loss_of(recipe: Recipe, model: keras.Model) -> Any:
    """What is made small: by its Keras name, of logits as an object; None where the last layer has none that is usual.

    A layer without an activation function gives logits where the network is a file of the user's own.
    """
    if recipe.target == IMAGES:
        return "mean_squared_error"
    keras = import_keras()
    last, many = model.layers[-1], model.output_shape[-1] > 1
    activation = getattr(last, "activation", None)
    if isinstance(last, keras.layers.Softmax):
        activation = keras.activations.softmax
    if activation is keras.activations.softmax and many:
        return "categorical_crossentropy"
    if activation is keras.activations.sigmoid and not many:
        return "binary_crossentropy"
    if recipe.start is not None and activation is keras.activations.linear:
        kind = keras.losses.CategoricalCrossentropy if many else keras.losses.BinaryCrossentropy
        return kind(from_logits=True)
    return None


def loss_name(loss: Any) -> str:
    """Of `loss_of`, in words."""
    return loss if isinstance(loss, str) else f"{loss.name} of logits"


def compile_model(recipe: Recipe, model: keras.Model, of: keras.Model | None = None) -> None:
    """With a new optimizer; `of` is the network whose loss it is, if it is not the model itself."""
    kind = getattr(import_keras().optimizers, OPTIMIZERS[recipe.optimizer])
    # Named, because Keras would number it by what else this process has built, and the file would differ.
    optimizer = kind(recipe.learning_rate, name=recipe.optimizer)
    metrics = [] if recipe.target == IMAGES else ["accuracy"]
    model.compile(optimizer=optimizer, loss=loss_of(recipe, of or model), metrics=metrics)

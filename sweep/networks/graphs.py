"""Models in the form in which they are evaluated: a graph from images of any number to scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sweep.networks.backend import import_keras
from sweep.networks.ends import like

if TYPE_CHECKING:
    import keras


def as_graph(model: keras.Model) -> keras.Model:
    """The model as a graph that takes batches of any size, with the same weights; itself where that cannot be.

    A subclassed model becomes one layer of a graph, for images of the shape that it was built for, or for a tuple or
    dict of inputs. A graph for batches of one size is made anew for any, unless it keeps a state from batch to batch or
    has a subclassed model in it.
    """
    if getattr(model, "inputs", None):
        batches = {x.shape[0] for x in model.inputs} - {None}
        return _of_any_batch(model, batches.pop()) if len(batches) == 1 else model
    keras = import_keras()
    inputs = like((model.get_build_config() or {}).get("input_shape")) if model.built else None
    if inputs is None:
        return model
    return keras.Model(inputs, model(inputs), name=model.name)


def _of_any_batch(model: keras.Model, batch: int) -> keras.Model:
    keras = import_keras()
    layers = model._flatten_layers(include_self=False)
    if any(getattr(layer, "stateful", False) and isinstance(layer, keras.layers.RNN) for layer in layers):
        return model
    own = {type(layer).__name__: type(layer) for layer in model._flatten_layers()}
    try:
        with keras.saving.custom_object_scope({n: c for n, c in own.items() if not c.__module__.startswith("keras.")}):
            made = type(model).from_config(_without_batch(model.get_config(), batch))
    except Exception:  # Keras raises whatever its many parts raise, where the number stands in an operation, too
        return model
    fixed = any(output.shape[0] is not None for output in made.outputs)
    if fixed or [tuple(w.shape) for w in made.weights] != [tuple(w.shape) for w in model.weights]:
        return model
    made.set_weights(model.get_weights())
    return made


def _without_batch(config: Any, batch: int) -> Any:
    """A configuration whose inputs have no number of images."""
    if isinstance(config, dict):
        found = {key: _without_batch(value, batch) for key, value in config.items()}
        shape = found.get("batch_shape")
        if isinstance(shape, tuple | list) and shape and shape[0] == batch:
            found["batch_shape"] = (None, *shape[1:])
        return found
    if isinstance(config, list | tuple):
        return type(config)(_without_batch(item, batch) for item in config)
    return config

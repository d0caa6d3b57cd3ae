"""Networks of several inputs or outputs, as the same with one of each: all values of an image in a vector; one output.

Scores at each of many positions, such as the pixels of an image or the words of a text, become one row of scores.

The network stands in the other as a single layer, so that its layers and variables, their order and their names are
those of its file, and whatever evaluates a network of one input and one output evaluates this one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweep.data.datasets import Dataset, fits, image_shape
from sweep.data.inputs import fields_of
from sweep.networks.backend import import_keras, names_anew

if TYPE_CHECKING:
    import keras

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Ends:
    """What is said of a network's ends where it has several.

    Attributes:
        output: the name of the output that is scored; None for the only one.
        sizes: shapes of what an image has for each input, where the network takes any size; else empty.
    """

    output: str | None = None
    sizes: tuple[tuple[int, ...], ...] = ()

    def key(self, digest: str) -> str:
        """By which a network is known among all: the digest of its file, and what was said of its ends."""
        return digest if self == ONE else f"{digest} {self}"


ONE = Ends()
"""One input and one output."""


@dataclass(frozen=True)
class Input:
    """One input of a network.

    Attributes:
        name: of the input; empty where there is no other.
        shape: of what an image has for it; None where any size will do.
        dtype: such as "float32" or "int32".
        scaling: the layer with which it is rescaled, before any weight; empty for none.
        lookup: the layer that takes it for indices; empty for none.
    """

    name: str
    shape: Shape
    dtype: str = "float32"
    scaling: str = ""
    lookup: str = ""

    @property
    def whole(self) -> bool:
        """Whether it takes whole numbers only."""
        return "int" in self.dtype or self.dtype == "bool"


def outputs_of(model: keras.Model) -> list[str]:
    """Names of the outputs, in order: keys, where a model gives a dict, else the names of the layers that make them."""
    given = getattr(model, "_outputs_struct", None)
    if isinstance(given, Mapping):
        names = [str(key) for output in model.outputs for key, own in given.items() if own is output]
        if len(names) == len(model.outputs):
            return names
    return [str(output._keras_history.operation.name) for output in model.outputs]


def position_of(model: keras.Model, output: str | None) -> tuple[int, str]:
    """Where the output of this name stands among all, and what is wrong with the name, in words; else empty."""
    names = outputs_of(model)
    shown = ", ".join(names)
    if output is None:
        return 0, "" if len(names) == 1 else (
            f'the model has {len(names)} outputs ({shown}); say which is scored: output = "{names[0]}"'
        )
    if names.count(output) > 1:
        return 0, f"two outputs of the model are called {output!r}; put a layer with a name of its own behind each"
    if output not in names:
        return 0, f"output: the model has none called {output!r}; valid: {shown}"
    return names.index(output), ""


def has_positions(model: keras.Model, output: int = 0) -> bool:
    """Whether an output has scores at positions, (n, ..., scores), and not one row of them for an image."""
    return len(model.outputs[output].shape) > 2


def as_one(model: keras.Model, sizes: Sequence[Shape], output: int = 0, in_a_row: bool = False) -> keras.Model:
    """The model with one input and one output, of the same layers and variables; itself where it has no others.

    Args:
        model: with inputs and outputs of known type.
        sizes: of what an image has for each input.
        output: which one to give.
        in_a_row: whether the output becomes (n, scores), those at all positions one after the other, where their
            number is known.

    Returns:
        Of several inputs, it takes (n, values) float32, the values of all inputs one after the other.
    """
    if len(model.inputs) == len(model.outputs) == 1 and not in_a_row:
        return model
    keras = import_keras()
    with names_anew():
        if len(model.inputs) == 1:
            size = tuple(sizes[0] if sizes else model.inputs[0].shape[1:])
            packed = keras.Input(size, dtype=model.inputs[0].dtype, name="packed")
            parts = [packed]
        else:
            counts = [math.prod(size) for size in sizes]  # type: ignore[arg-type]
            packed = keras.Input((sum(counts),), dtype="float32", name="packed")
            begins = [sum(counts[:k]) for k in range(len(counts))]
            parts = [
                keras.ops.cast(keras.ops.reshape(packed[:, begin : begin + count], (-1, *size)), own.dtype)
                for begin, count, size, own in zip(begins, counts, sizes, model.inputs, strict=True)
            ]
        struct = getattr(model, "_inputs_struct", None)  # a Sequential has none
        given = parts[0] if struct is None else keras.tree.pack_sequence_as(struct, parts)
        found = keras.tree.flatten(model(given))[output]
        if in_a_row and None not in found.shape[1:]:
            flatten = keras.layers.Flatten(data_format="channels_last", name=f"{model.name}_in_a_row")
            flatten.supports_masking = True  # masks end here
            found = flatten(found)
        return keras.Model(packed, found, name=model.name)


def matched(inputs: Sequence[Input], dataset: Dataset) -> list[str]:
    """The fields of the dataset's records for each input, in order: by name, or one after the other."""
    if dataset.by_name:
        return [one.name for one in inputs]
    return list(fields_of(dataset.images))


def shapes_in(inputs: Sequence[Input], dataset: Dataset) -> list[tuple[int, ...]]:
    """What an image has for each input, prepared for it."""
    fields = fields_of(dataset.images)
    return [
        image_shape(fields[field].shape, one.shape) for one, field in zip(inputs, matched(inputs, dataset), strict=True)
    ]


def misfits(inputs: Sequence[Input], dataset: Dataset) -> list[str]:
    """Why the dataset's records cannot go into a network with these inputs, a line for each; empty when they can.

    A network of one input has no `inputs`.
    """
    fields = fields_of(dataset.images)
    taken = ", ".join(f"{one.name} {written(one.shape)}" for one in inputs)
    if not inputs:
        return [f"the network takes one input, and {len(fields)} are given: {', '.join(fields)}"] if fields else []
    if not fields:
        names = ", ".join(f'{one.name} = "…"' for one in inputs)
        return [
            f"the network takes {len(inputs)} inputs ({taken}), and the dataset has one array of images; say which "
            f"array is which, x = {{ {names} }}, or have a function return them"
        ]
    if dataset.by_name:
        there = list(fields)
        if {one.name for one in inputs} != set(there):
            return [f"the network's inputs are {taken}, and those given are called {', '.join(there)}"]
    elif len(fields) != len(inputs):
        return [f"the network takes {len(inputs)} inputs ({taken}), and {len(fields)} are given: {', '.join(fields)}"]
    return [
        f"input {one.name} takes {written(one.shape)}, and {field} has {written(fields[field].shape[1:])}"
        for one, field in zip(inputs, matched(inputs, dataset), strict=True)
        if not fits(fields[field].shape, one.shape)
    ]


def written(shape: Shape) -> str:
    """A shape as messages have it."""
    sizes = ", ".join("any" if size is None else str(size) for size in shape)
    return f"({sizes},)" if len(shape) == 1 else f"({sizes})"


def like(shape: Any, name: str | None = None) -> Any:
    """Inputs of a subclassed model that was built for a shape, or a tuple or dict of these; None for another thing."""
    keras = import_keras()
    if isinstance(shape, Mapping):
        found = {str(key): like(one, str(key)) for key, one in shape.items()}
        return None if not found or any(one is None for one in found.values()) else found
    if not isinstance(shape, tuple | list) or not shape:
        return None
    if all(n is None or type(n) is int for n in shape):
        return keras.Input(tuple(shape[1:]), name=name)
    inner = [like(one, f"input_{number}") for number, one in enumerate(shape)]
    return None if any(one is None for one in inner) else inner

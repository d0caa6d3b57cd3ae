"""The layers of a recipe: which there may be, and what goes into each: the one before it, or those that it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

MERGES = ("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract")
"""Layers that take several inputs."""
LAYERS = (
    *("Activation", "AveragePooling1D", "AveragePooling2D", "BatchNormalization", "Conv1D", "Conv2D"),
    *("Conv2DTranspose", "Dense", "DepthwiseConv2D", "Dropout", "Flatten", "GlobalAveragePooling1D"),
    *("GlobalAveragePooling2D", "GlobalMaxPooling2D", "LayerNormalization", "MaxPooling1D", "MaxPooling2D", "ReLU"),
    *("Reshape", "SeparableConv2D", "ZeroPadding2D"),
    *MERGES,
)
"""Layers that a recipe may use: those that need nothing but numbers, words and lists as arguments."""
INPUT = "images"
"""The name of the network's input."""


class Node(NamedTuple):
    """One layer in its place.

    Attributes:
        kind: of `LAYERS`.
        name: its own, or one made of its kind and position.
        arguments: of the Keras layer, its name apart.
        inputs: names of what goes into it.
    """

    kind: str
    name: str
    arguments: dict[str, Any]
    inputs: tuple[str, ...]


def nodes(layers: Sequence[Mapping[str, Any]]) -> list[Node]:
    """Each layer with its name and its inputs: those that it names, or the layer before it."""
    found: list[Node] = []
    for index, layer in enumerate(layers):
        arguments = {key: value for key, value in layer.items() if key not in ("type", "name", "inputs")}
        # Keras would number unnamed layers by what else the process has built.
        name = layer.get("name") or f"{layer['type'].lower()}_{index}"
        before = found[-1].name if found else INPUT
        found.append(Node(layer["type"], name, arguments, tuple(layer.get("inputs", (before,)))))
    return found


def is_chain(layers: Sequence[Mapping[str, Any]]) -> bool:
    """Whether each layer takes the one before it without a word: the network is then a Sequential."""
    return not any("inputs" in layer for layer in layers)


def problems(layers: Sequence[Mapping[str, Any]]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """What is wrong with names and inputs: where in the recipe, and what, in words."""
    if is_chain(layers) and not any(layer["type"] in MERGES for layer in layers):
        return
    above = [INPUT]
    wired = nodes(layers)
    used = {name for node in wired for name in node.inputs}
    for index, node in enumerate(wired):
        strange = [(i, name) for i, name in enumerate(node.inputs) if name not in above]
        for i, name in strange:
            yield ("layer", index, "inputs", i), f"{name!r} is none of the layers above: {', '.join(above)}"
        if node.kind in MERGES and len(node.inputs) < 2:
            yield ("layer", index, "inputs"), f"{node.kind} joins two or more layers; name them"
        if node.kind not in MERGES and len(node.inputs) > 1:
            yield (
                ("layer", index, "inputs"),
                f"{node.kind} takes one layer; several are joined by {', '.join(MERGES)}",
            )
        if node.name in above:
            yield ("layer", index, "name"), f"{node.name!r} is the name of something above; names must differ"
        above.append(node.name)
        if index < len(wired) - 1 and node.name not in used:
            yield ("layer", index), f"nothing takes the output of {node.name}; the last layer's alone is the network's"

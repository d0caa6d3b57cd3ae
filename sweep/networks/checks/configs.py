"""A model's configuration checked as data: it may name only what `sweep.networks.checks.allowed` lists.

Established in the source of Keras 3.15: with `compile=False` the configuration of the training of a file's outermost
model is not read (`training_config` of an .h5 file, `compile_config` of a .keras file), but the `compile_config` of
a model within it is, whatever `compile` says; so that one is checked too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import Any

from sweep.networks.checks import allowed

MAX_BYTES = 8 << 20
"""Largest configuration; that of a network of a thousand layers takes about one megabyte."""
MAX_DEPTH = 200
MAX_NODES = 1_000_000
MAX_SIZE = 2**31 - 1
"""Largest size of one axis of a shape."""
MANY = 1_000_000
"""Widths up to this pass, however little the file stores."""

_SHAPES = {
    *("batch_input_shape", "batch_shape", "build_input_shape", "input_shape", "newshape", "output_shape", "shape"),
    *("shapes_dict", "target_shape"),
}
_WIDTHS = {
    *("depth_multiplier", "filters", "head_dim", "input_dim", "key_dim", "num_heads", "num_query_heads", "output_dim"),
    *("units", "value_dim"),
}
"""Arguments that a layer cannot have larger than the number of values it stores."""
_FUNCTIONS = {"Input", "deserialize", "get", "serialize"}
"""Words that an .h5 file's reader would replace by functions of Keras; no argument of a layer is one of them."""
_NAMES = {"name", "keras_history", "inbound_nodes", "input_layers", "output_layers"}
_DTYPES = {
    *("bool", "float16", "float32", "float64", "bfloat16", "complex64", "complex128"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
}
_QUANTIZATION = re.compile(r"int4/-?\d+")
"""How a layer was quantized, with the size of its groups; no path."""
_OWN = 'if it is yours, name the Python file that defines it: custom_objects = ["my_layers.py"]'
_MARKS = {"__keras_tensor__", "__tensor__", "__numpy__", "__slice__", "__ellipsis__", "__bytes__"}
_MARKED = _MARKS | {"function", "__tuple__", "TensorShape", "__lambda__"}  # words of Keras's own, whatever is called so


def parse(text: str | bytes) -> Any:
    """The configuration as data, read by the parser that Keras uses: of a key that stands twice, the last counts.

    Raises:
        ValueError: it is not JSON, too large or too deep.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"the configuration is larger than {MAX_BYTES >> 20} MiB")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("the configuration is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"the configuration is not JSON: {error}") from None


def problems_of(config: Any, values: int, own: Collection[str] = ()) -> Iterator[str]:
    """Why a configuration is refused, each reason in one line that names the layer; nothing when it is harmless.

    Args:
        config: a model's configuration, as `parse` gives it.
        values: how many numbers the file stores, which no layer's width can exceed.
        own: names of the user's own layers and functions, which Keras takes for these names before any other.
    """
    if not isinstance(config, dict) or "class_name" not in config:
        yield "the configuration does not describe a model"
        return
    outer = {key: value for key, value in config.items() if key != "compile_config"}
    yield from _Walk(max(values, MANY), own).node(outer, "", "the model", 0)


class _Walk:
    """One walk through a configuration; it ends early when there are too many parts."""

    def __init__(self, widest: int, own: Collection[str] = ()) -> None:
        self.widest = widest
        self.own = own
        self.left = MAX_NODES
        self.training = 0  # how many compile configurations surround the current node

    def node(self, node: Any, key: str, place: str, depth: int) -> Iterator[str]:
        self.left -= 1
        if self.left < 0:
            if self.left == -1:
                yield f"{place}: the configuration has more than {MAX_NODES} parts"
        elif depth > MAX_DEPTH:
            yield f"{place}: the configuration is nested too deeply"
        elif isinstance(node, dict):
            yield from self.mapping(node, key, place, depth)
        elif isinstance(node, list):
            for item in node:
                if self.left < 0:
                    return
                if not isinstance(item, float):  # the numbers of an array
                    yield from self.node(item, key, place, depth + 1)
        elif isinstance(node, str):
            yield from self.word(node, key, place)
        elif isinstance(node, int) and not isinstance(node, bool):
            if abs(node) >= 2**64:
                yield f"{place}: {key or 'a number'} is too large"
            elif key in _WIDTHS and node > self.widest:
                yield f"{place}: {key}={node} is more than all the values that the file stores"

    def mapping(self, node: dict[str, Any], key: str, place: str, depth: int) -> Iterator[str]:
        if "class_name" in node:
            place = _place_of(node, place)
            yield from self.object(node, place)
        for inner, value in node.items():
            if inner in ("class_name", "module", "registered_name") and isinstance(value, str | None):
                continue
            if inner in _SHAPES and not _is_shape(value):
                yield f"{place}: {inner} is not a shape: {shown(value)}"
            if inner == "inbound_nodes":
                yield from self.calls(value, place)
            # All that stands below names of layers are such names and what layers are called with.
            below = key if key in _NAMES and inner not in ("args", "kwargs", "config") else inner
            self.training += inner == "compile_config"
            yield from self.node(value, below, place, depth + 1)
            self.training -= inner == "compile_config"

    def word(self, word: str, key: str, place: str) -> Iterator[str]:
        if key in _NAMES or (key == "mode" and _QUANTIZATION.fullmatch(word)):
            return
        if any(mark in word for mark in ("/", "\\", "~", "\0")):
            yield f"{place}: {key or 'an argument'} looks like a path: {shown(word)}"
        elif word in _FUNCTIONS:
            yield f"{place}: {key or 'an argument'} names a function: {shown(word)}"
        elif key.endswith("activation") and word not in allowed.ACTIVATIONS and word not in self.own:
            yield f"{place}: {key} {shown(word)} is not one of Keras's own"

    def object(self, node: dict[str, Any], place: str) -> Iterator[str]:
        name, module, config = node["class_name"], node.get("module"), node.get("config")
        if not isinstance(name, str) or not isinstance(module, str | None):
            yield f"{place}: a class is named by {shown(name)} and {shown(module)}, which are not names"
        elif (node.get("registered_name") or name) in self.own and name not in _MARKED:
            if not isinstance(config, dict):
                yield f"{place}: the configuration of a {name} is {shown(config)}"
        elif name in allowed.REASONS:
            yield f"{place} {allowed.REASONS[name]}"
        elif name == "function":
            yield from self.function(node, place)
        elif name in ("__tuple__", "TensorShape"):
            if not isinstance(node.get("items"), list | None):
                yield f"{place}: {name} without a list of items"
        elif name in _MARKS:
            if name in ("__tensor__", "__numpy__") and not (
                isinstance(config, dict) and isinstance(config.get("dtype"), str) and config["dtype"] in _DTYPES
            ):
                yield f"{place}: an array of an unknown type: {shown(config)}"
        elif not self.listed(name, module, named="module" in node):
            origin = f" of {shown(module)}" if module and not module.startswith("keras.layers") else ""
            yield f"{place}: the class {shown(name)}{origin} is not one that a network may be made of; {_OWN}"
        elif node.get("registered_name") not in (None, name):
            yield f"{place}: a class of the author's own is asked for: {shown(node['registered_name'])}; {_OWN}"
        elif not isinstance(config, dict | list):
            yield f"{place}: the configuration of a {name} is {shown(config)}"

    def listed(self, name: str, module: str | None, *, named: bool) -> bool:
        if not named:
            return name in allowed.NAMES
        pair = (module or "", name)
        return pair in allowed.PLACES or (self.training > 0 and pair in allowed.TRAINING_PLACES)

    def function(self, node: dict[str, Any], place: str) -> Iterator[str]:
        name = node.get("config")
        known = allowed.ACTIVATIONS | (allowed.MEASURES if self.training else frozenset())
        modules = ("builtins", "keras.activations", *(("keras.losses", "keras.metrics") if self.training else ()))
        if isinstance(name, str) and name in self.own:
            return
        own = isinstance(name, str) and name in known and node.get("registered_name") in (None, name, "function")
        if not own or node.get("module") not in modules:
            origin = shown(node.get("module"))
            yield f"{place}: the function {shown(name)} of {origin} is not one of Keras's own; {_OWN}"

    def calls(self, calls: Any, place: str) -> Iterator[str]:
        # Called with no tensor of the graph, a layer would compute at once, on numbers of the file's choosing.
        if not isinstance(calls, list) or not all(
            _has_tensor(call) if isinstance(call, dict) else isinstance(call, list) for call in calls
        ):
            yield f"{place}: it is called with something else than other layers' outputs"


def shown(value: Any) -> str:
    """A value from a file, fit for a one-line message: printable and short."""
    if isinstance(value, dict | list):
        return "a dictionary" if isinstance(value, dict) else f"a list of {len(value)}"
    text = ascii(value[:60] if isinstance(value, str) else value)
    return text if len(text) <= 80 else text[:77] + "..."


def _place_of(node: dict[str, Any], outer: str) -> str:
    kind, config = str(node["class_name"]), node.get("config")
    name = config.get("name") if isinstance(config, dict) else None
    if not isinstance(name, str):
        return f"{outer}, {kind}" if kind in allowed.REASONS.keys() - allowed.QUANTIZED else outer
    return f"{shown(kind)[1:-1]} {shown(name)}"


def _is_shape(value: Any, depth: int = 0) -> bool:
    if isinstance(value, list) and depth < 8:
        return len(value) < 1000 and all(_is_shape(item, depth + 1) for item in value)
    if isinstance(value, dict) and depth < 8:
        if "class_name" in value and value["class_name"] not in ("__tuple__", "TensorShape"):
            return False
        return _is_shape(value["items"] if "items" in value else list(value.values()), depth + 1)
    return value is None or (type(value) is int and -1 <= value <= MAX_SIZE)


def _has_tensor(node: Any, depth: int = 0) -> bool:
    if depth > MAX_DEPTH:
        return False
    if isinstance(node, dict):
        return node.get("class_name") == "__keras_tensor__" or any(
            _has_tensor(item, depth + 1) for item in node.values()
        )
    return isinstance(node, list) and any(_has_tensor(item, depth + 1) for item in node)

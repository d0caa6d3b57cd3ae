"""What Keras 2 left in its files and Keras 3 refuses, though it says nothing of how the network computes.

Keras 2 saved every argument of a layer, those that the layer ignores included. Keras 3 has dropped some of these
arguments and refuses a file that names them, whatever their value (keras-team/keras #19441, #20750). Here stand the
values with which such an argument changes no prediction; a file is read from a copy without them.

Established by saving each layer with tf_keras 2.21 (Keras 2) and comparing predictions under Keras 3.15.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py

from sweep.errors import InputError

ANYTHING = None
"""In place of harmless values: the layer does not use the argument, or uses it in training only."""

_Values = tuple[Any, ...] | None
_GROUPS: Mapping[str, _Values] = {"groups": (1,)}
_KERNEL = ("kernel_initializer", "kernel_regularizer", "kernel_constraint")
_SEPARABLE: Mapping[str, _Values] = {**_GROUPS, **dict.fromkeys(_KERNEL, ANYTHING)}
_TIME: Mapping[str, _Values] = {"time_major": (False,)}
_SPATIAL: Mapping[str, _Values] = {"trainable": ANYTHING, "noise_shape": ANYTHING}
_RANDOM: Mapping[str, _Values] = {"rng_type": ANYTHING}

LEFTOVERS: Mapping[str, Mapping[str, _Values]] = {
    "Attention": {"score_mode": ("dot",)},  # the default; from an .h5 file Keras 3 takes the word for its function
    "Discretization": {"trainable": ANYTHING},
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), _GROUPS),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), _GROUPS),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), _SEPARABLE),
    **dict.fromkeys(("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "GRU", "LSTM", "RNN", "SimpleRNN"), _TIME),
    **dict.fromkeys(("RandomBrightness", "RandomContrast", "RandomFlip", "RandomRotation"), _RANDOM),
    **dict.fromkeys(("RandomTranslation", "RandomZoom"), _RANDOM),
    **dict.fromkeys(("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"), _SPATIAL),
}
"""Layer class → argument → the values with which it says nothing."""

_MODELS = ("Functional", "Model")


def without_leftovers(path: Path, folder: Path) -> Path | None:
    """Writes a copy of a file of Keras 2 without leftovers; its weights are the same bytes.

    Args:
        path: a .keras, .h5 or .hdf5 file.
        folder: where the copy goes.

    Returns:
        The copy's path; None when there is nothing to clean, or no configuration that can be read. A value that
        is not harmless is left where it is, for Keras to refuse.

    Raises:
        InputError: the file is of Keras 2 and uses what Keras 3 takes, but computes otherwise.
    """
    copy = folder / f"clean{path.suffix}"
    write = _clean_zip if path.suffix.lower() == ".keras" else _clean_h5
    try:
        return copy if write(path, copy) else None
    except InputError:
        raise
    except Exception:  # a broken file breaks anywhere; Keras says what is wrong with it
        return None


def clean(config: Any) -> Any:
    """The configuration of a model of Keras 2, as JSON gives it, without leftovers.

    Raises:
        InputError: as `without_leftovers`.
    """
    if "hard_sigmoid" in _parts(config):
        raise InputError(
            "saved by Keras 2, it uses hard_sigmoid: there min(max(x/5 + 1/2, 0), 1), in Keras 3 "
            "min(max(x/6 + 1/2, 0), 1); Keras 3 would load it and compute another network"
        )
    return _renamed(_cleaned(config), _new_names(config))


def _clean_h5(path: Path, copy: Path) -> bool:
    with h5py.File(path, "r") as file:
        if _is_recent(file.attrs.get("keras_version")):
            return False
        stored = file.attrs["model_config"]
    config = json.loads(stored)
    cleaned = clean(config)
    if cleaned == config:
        return False
    shutil.copyfile(path, copy)
    text = json.dumps(cleaned)
    with h5py.File(copy, "r+") as file:
        file.attrs["model_config"] = text.encode() if isinstance(stored, bytes) else text
    return True


def _clean_zip(path: Path, copy: Path) -> bool:
    with zipfile.ZipFile(path) as source:
        if _is_recent(json.loads(source.read("metadata.json"))["keras_version"]):
            return False
        config = json.loads(source.read("config.json"))
        cleaned = clean(config)
        if cleaned == config:
            return False
        with zipfile.ZipFile(copy, "w") as target:
            for info in source.infolist():
                with source.open(info) as old, target.open(info.filename, "w", force_zip64=True) as new:
                    if info.filename == "config.json":
                        new.write(json.dumps(cleaned).encode())
                    else:
                        shutil.copyfileobj(old, new)
    return True


def _is_recent(version: str | bytes | None) -> bool:
    text = version.decode() if isinstance(version, bytes) else version or ""
    return bool(text) and not text.startswith(("1.", "2."))


def _cleaned(node: Any, nested: bool = False) -> Any:
    """Without the arguments in `LEFTOVERS`, and the few forms that Keras 3 misreads in its own."""
    if isinstance(node, list):
        return [_cleaned(item, nested) for item in node]
    if not isinstance(node, dict):
        return node
    if not isinstance(node.get("config"), dict) or "class_name" not in node:
        return {key: _cleaned(value, nested) for key, value in node.items()}
    kind = node["class_name"]
    if kind == "Policy":
        return node["config"]["name"]  # a precision, such as mixed_float16
    node = {key: _cleaned(value, nested=True) for key, value in node.items()}
    if node.get("module"):
        node = _in_new_form(node)
    known = LEFTOVERS.get(str(kind), {})
    kept = {key: value for key, value in node["config"].items() if not _says_nothing(known, key, value)}
    if kind in _MODELS and isinstance(kept["output_layers"][0], list):
        kept |= _graph(kept, nested)
    return node | {"config": kept}


def _graph(config: Mapping[str, Any], nested: bool) -> dict[str, Any]:
    """The parts of a functional model that name tensors, as [layer, call, output], the calls counted Keras 3's way."""
    inner = {
        layer["name"]: layer["class_name"]
        for layer in config["layers"]
        if layer["class_name"] in (*_MODELS, "Sequential")
    }

    def counted(tensor: Any) -> Any:
        # Keras 2 counts as a model's call 0 how it was made.
        return [tensor[0], tensor[1] - 1, *tensor[2:]] if tensor[0] in inner else tensor

    def calls(layer: Mapping[str, Any]) -> list[Any]:
        # A call of an operation that is not a layer has another form; Keras 3 refuses those anyway.
        return [
            [counted(tensor) for tensor in call] if isinstance(call, list) and isinstance(call[0], list) else call
            for call in layer["inbound_nodes"]
        ]

    layers = [layer | {"inbound_nodes": calls(layer)} for layer in config["layers"]]
    ends = {key: config[key] for key in ("input_layers", "output_layers")}
    # Here Keras 3 itself counts so, but not for a Sequential.
    ends["output_layers"] = [
        counted(end) if inner.get(end[0]) == "Sequential" else end for end in ends["output_layers"]
    ]
    if nested:  # a single input or output would be handed on in a list
        ends = {key: tensors[0] if len(tensors) == 1 else tensors for key, tensors in ends.items()}
    return {"layers": layers, **ends}


def _says_nothing(known: Mapping[str, _Values], key: str, value: Any) -> bool:
    if key not in known:
        return False
    harmless = known[key]
    # 1 == True, which would be another thing to say
    return harmless is ANYTHING or any(type(value) is type(item) and value == item for item in harmless)


def _in_new_form(node: Mapping[str, Any]) -> dict[str, Any]:
    """What Keras 3 translates itself where an object is saved without its module, as in most .h5 files."""
    kind, config = node["class_name"], dict(node["config"])
    if kind != "InputLayer":
        config.pop("batch_input_shape", None)  # an InputLayer has it too
    axis = config.get("axis")
    if isinstance(axis, list) and len(axis) == 1:
        config["axis"] = axis[0]
    functional = kind == "Functional" and node["module"].endswith("keras.src.engine.functional")
    return {**node, "config": config, "module": "keras.src.models.functional" if functional else node["module"]}


def _new_names(config: Any) -> dict[str, str]:
    """Layer names with a slash, which Keras 3 does not take, to names without; none if two would be equal."""
    layers = [node for node in _parts(config) if isinstance(node, dict) and "class_name" in node]
    configs = [node["config"] for node in layers if isinstance(node.get("config"), dict)]
    names = {str(inner["name"]) for inner in configs if "name" in inner}
    new = {name: name.replace("/", "_") for name in names if "/" in name}
    unique = len(set(new.values())) == len(new) and names.isdisjoint(new.values())
    return new if unique else {}


def _renamed(node: Any, names: Mapping[str, str]) -> Any:
    if isinstance(node, list):
        return [_renamed(item, names) for item in node]
    if isinstance(node, dict):
        return {key: _renamed(value, names) for key, value in node.items()}
    return names.get(node, node) if isinstance(node, str) else node


def _parts(node: Any) -> Iterator[Any]:
    """A configuration, and everything in it."""
    yield node
    if isinstance(node, list | dict):
        for item in node.values() if isinstance(node, dict) else node:
            yield from _parts(item)

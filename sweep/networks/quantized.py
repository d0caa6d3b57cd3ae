"""Networks that Keras's own `quantize` has made: the same computed in floats, so that their weights can be perturbed.

A quantized layer becomes the layer that it was, with the numbers that its integers stand for; where it rounds what it
is given, operations in front of it do. So variables have the names and shapes that they had before `quantize`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from sweep.networks.backend import import_keras, names_anew

if TYPE_CHECKING:
    import keras

_INSTEAD = 'give the network as it was before quantize(), and let the study round it: { op = "symmetric", bits = 8 }'
_MODES = ("int8", "int4")
_ROUNDS = "_rounds_its_input"


def quantized_of(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers that Keras's own `quantize` has changed, those inside models and other layers too."""
    layers, models = model._flatten_layers(), import_keras().Model
    return [one for one in layers if getattr(one, "quantization_mode", None) and not isinstance(one, models)]


def described(model: keras.Model) -> str:
    """The quantized layers of a model, in words; empty where it has none."""
    modes: dict[str, list[str]] = {}
    for layer in quantized_of(model):
        modes.setdefault(layer.quantization_mode, []).append(str(layer.name))
    return "; ".join(f"{', '.join(names)} (quantized to {mode} by Keras)" for mode, names in modes.items())


def refusal(model: keras.Model) -> str:
    """Why the quantized layers of a model cannot be computed in floats, in words; empty when they can."""
    standing = list(_standing(model, _masks_within(model)))
    for layer in quantized_of(model):
        masked = [masked for one, masked in standing if one is layer]
        why = _refusal(layer, bool(masked), any(masked))
        if why:
            mode = layer.quantization_mode
            return f"layer {layer.name} ({type(layer).__name__}) is quantized to {mode}{why}; {_INSTEAD}"
    return ""


def in_floats(model: keras.Model) -> keras.Model:
    """The model, which `refusal` lets pass, with its quantized layers in floats; itself where it has none.

    Layers without quantization in them are the model's own. What leaves a quantized layer differs from what Keras
    computes of integers by the rounding of floats.
    """
    with names_anew():
        return _in_floats(model, {}, {})


def _in_floats(model: keras.Model, made: dict[int, Any], quantized: dict[int, Any]) -> keras.Model:
    """As `in_floats`; `made` of each layer or model that has been met, and the layer of each that was `quantized`."""
    if not quantized_of(model):
        return model
    keras = import_keras()

    def for_layer(layer: Any) -> Any:
        if id(layer) not in made:
            if isinstance(layer, keras.Model):
                made[id(layer)] = _in_floats(layer, made, quantized)
            elif getattr(layer, "quantization_mode", None):
                made[id(layer)] = _layer_in_floats(layer)
                quantized[id(made[id(layer)])] = layer
        return made.get(id(layer), layer)

    def call(layer: Any, *given: Any, **how: Any) -> Any:
        before = quantized.get(id(layer))
        rounding = None if before is None else _rounding_of(before)
        if before is not None and rounding is not None:
            first, *others = given or [how.pop("inputs")]
            given = (_rounded(first, before.name, rounding, getattr(before, "quantization_axis", -1)), *others)
        return layer(*given, **how)

    graph = model._functional if isinstance(model, keras.Sequential) else model
    found = keras.models.clone_model(graph, clone_function=for_layer, call_function=call)
    found.name = model.name
    return found


def is_rounding(operation: Any) -> bool:
    """Whether an operation of a graph is one that `in_floats` put before a layer."""
    return _ROUNDS in operation.name


def _masks_within(model: keras.Model) -> bool:
    """Whether a model within the model may make a mask, which the outer graph does not show."""
    layers = import_keras().layers
    inner = [
        deeper for one in model.layers if isinstance(one, import_keras().Model) for deeper in one._flatten_layers()
    ]
    own = [one for one in inner if not type(one).__module__.startswith("keras.")]
    return any(getattr(one, "mask_zero", False) or isinstance(one, layers.Masking) for one in inner) or any(
        type(one).compute_mask is not layers.Layer.compute_mask for one in own
    )


def _standing(model: keras.Model, within: bool = False) -> Iterator[tuple[keras.layers.Layer, bool]]:
    """The layers of a graph, and of graphs within it, and whether each may be given a mask.

    A graph `within` what is given one shows none of its own.
    """
    keras = import_keras()
    for layer in model.layers:
        taken = [x for node in layer._inbound_nodes for x in node.input_tensors]
        masked = within or any(getattr(x, "_keras_mask", None) is not None for x in taken)
        if not isinstance(layer, keras.Model):
            yield layer, masked
        elif getattr(layer, "_nodes_by_depth", None) or isinstance(layer, keras.Sequential):
            yield from _standing(layer, masked)


def _refusal(layer: keras.layers.Layer, stands: bool, masked: bool) -> str:
    keras = import_keras()
    if layer.quantization_mode not in _MODES:
        return ", and only int8 and int4 can be computed in floats"
    if type(layer) not in (keras.layers.Dense, keras.layers.EinsumDense, keras.layers.Embedding):
        return ", and only Dense, EinsumDense and Embedding can be computed in floats"
    if not stands:
        return " within another layer"
    if layer.dtype_policy.compute_dtype != "float32":
        return f" from {_source_of(layer)}, and only float32 can be computed in floats"
    if layer.lora_enabled:
        return ", with LoRA beside it"
    quantizer = _rounding_of(layer)
    if quantizer is None:
        return ""
    if type(quantizer) is not keras.quantizers.AbsMaxQuantizer or quantizer.output_dtype != "int8":
        return ", and rounds what it is given otherwise than to int8 by AbsMaxQuantizer"
    if masked:
        return " and may be given a mask, which its rounding in floats would lose"
    taken = {str(x.dtype) for node in layer._inbound_nodes for x in node.input_tensors} - {"float32"}
    if taken and not (layer.autocast and all("float" in dtype for dtype in taken)):
        return f" and is given {', '.join(sorted(taken))}, which Keras rounds without making it float32"
    return ""


def _source_of(layer: keras.layers.Layer) -> str:
    """The policy that the layer had before: that of "int4/128_from_float32" is "float32"."""
    return str(layer.dtype_policy.name).rpartition("_from_")[2]


def _rounding_of(layer: keras.layers.Layer) -> Any:
    """The quantizer of what a layer is given; None for none."""
    return None if hasattr(layer, "embeddings_scale") else getattr(layer, "inputs_quantizer", None)


def _layer_in_floats(layer: keras.layers.Layer) -> keras.layers.Layer:
    config = {**layer.get_config(), "dtype": _source_of(layer), "quantization_config": None}
    made = type(layer).from_config(config)
    made.build((layer.get_build_config() or {}).get("input_shape"))  # none of an Embedding that was given its numbers
    bias = [] if getattr(layer, "bias", None) is None else [np.asarray(layer.bias)]
    made.set_weights([_numbers_of(layer), *bias])
    return made


def _numbers_of(layer: keras.layers.Layer) -> np.ndarray:
    """What the integers of a quantized layer stand for, in float32 and as Keras computes it.

    int8 has a scale for each channel, by which integers are divided; so has int4, or a scale and a zero point for each
    group of a channel's, where it is (integer - zero point) times scale.
    """
    what, axis = ("embeddings", 1) if hasattr(layer, "embeddings_scale") else ("kernel", 0)
    integers, scale = _array(getattr(layer, what)), _array(getattr(layer, f"{what}_scale"))
    if hasattr(layer, f"{what}_zero"):
        flat = integers if axis else integers.reshape(-1, scale.shape[-1])
        group, zero = np.asarray(layer.g_idx).astype(np.int64), _array(getattr(layer, f"{what}_zero"))
        numbers: np.ndarray = (flat - zero.take(group, axis)) * scale.take(group, axis)
    elif axis:
        numbers = integers / scale[:, np.newaxis]
    elif layer.quantization_mode == "int8" and hasattr(layer, "equation"):
        numbers = integers / _array(layer._adjust_scale_for_dequant(scale))
    else:
        numbers = integers.reshape(-1, scale.size) / scale
    return numbers.reshape(integers.shape)


def _array(values: Any) -> np.ndarray:
    return np.asarray(values).astype(np.float32)


def _rounded(x: Any, layer: str, quantizer: Any, axis: Any) -> Any:
    """What a quantizer makes of what a layer is given: as many steps as it has up to the largest value along an axis.

    Gradients pass as though nothing were rounded, which is what Keras lets them do.
    """
    ops = import_keras().ops
    low, high = quantizer.value_range

    def named(tensor: Any) -> Any:
        operation = tensor._keras_history.operation
        operation.name = f"{layer}{_ROUNDS}_{operation.name}"
        return tensor

    if str(x.dtype) != "float32":
        x = named(ops.cast(x, "float32"))
    largest = named(ops.max(named(ops.abs(x)), axis=axis, keepdims=True))
    scale = named(ops.divide(high, named(ops.add(largest, quantizer.epsilon))))
    steps = named(ops.clip(named(ops.round(named(ops.multiply(x, scale)))), low, high))
    change = named(ops.subtract(named(ops.divide(steps, scale)), x))
    return named(ops.add(x, named(ops.stop_gradient(change))))  # no digit is lost: x and the sum differ by a factor < 2

"""What a Keras model is made of, in words of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sweep.networks.backend import import_keras, names_anew
from sweep.networks.quantized import is_rounding
from sweep.networks.variables import IMAGES, Layer, Variable

if TYPE_CHECKING:
    import keras


_COPIED = ("Normalization",)  # layers that work with a copy of their variables


def variables_of(model: keras.Model) -> tuple[Variable, ...]:
    """One `Variable` per entry of `model.weights`, in that order.

    A layer used several times counts once. What a wrapper or a cell holds belongs to the layer that stands in
    the model, under the name that a user gave it. A model's own variables have layer index -1.
    """
    owners: dict[int, tuple[int, keras.layers.Layer]] = {}
    for index, top in enumerate(model.layers):
        for layer in _layers_within(top):
            for variable in layer.weights:
                first, _ = owners.get(id(variable), (index, layer))
                owners[id(variable)] = (first, layer)
    found = []
    for index, variable in enumerate(model.weights):
        layer_index, layer = owners.get(id(variable), (-1, model))
        leaf, floating = variable.path.rsplit("/", 1)[-1], "float" in str(variable.dtype)
        shape = tuple(int(size) for size in variable.shape)
        maker = _innermost(layer, variable)
        named = leaf.endswith(("kernel", "embeddings"))
        # What a layer of a user's own trains as a matrix, whatever it calls it.
        matrix = not type(maker).__module__.startswith("keras.") and variable.trainable and len(shape) > 1
        found.append(
            Variable(
                index=index,
                # Some ways of loading put the model's own name in front.
                path=str(variable.path).removeprefix(f"{model.name}/"),
                layer=str(layer.name),
                layer_index=layer_index,
                layer_type=type(layer).__name__,
                shape=shape,
                kernel=bool(named or matrix) and floating,
                channel_axes=_channel_axes(maker, leaf, len(shape)),
                readable=floating and type(maker).__name__ not in _COPIED,
            )
        )
    return tuple(found)


def leaves_of(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers that are not models themselves, in order, each once."""
    keras = import_keras()
    outer = keras.Model | keras.layers.InputLayer
    found = [layer for top in model.layers for layer in _layers_within(top) if not isinstance(layer, outer)]
    return list({id(layer): layer for layer in found}.values())


def layers_of(model: keras.Model) -> tuple[Layer, ...]:
    """The images, then one `Layer` for each of `leaves_of`."""
    inwards = [(id(layer), index) for index, top in enumerate(model.layers) for layer in _layers_within(top)]
    tops = dict(reversed(inwards))  # the first of several
    kernels = {id(v) for v, known in zip(model.weights, variables_of(model), strict=True) if known.kernel}
    leaves = leaves_of(model)
    holding = [k for k, leaf in enumerate(leaves) if any(id(w) in kernels for w in leaf.weights)]
    return (
        IMAGES,
        *(
            Layer(
                position=k,
                layer=str(leaf.name),
                layer_index=tops[id(leaf)],
                layer_type=type(leaf).__name__,
                kernel=k in holding,
                scores=k == holding[-1] if holding else False,
            )
            for k, leaf in enumerate(leaves)
        ),
    )


def of_output(model: keras.Model, output: int) -> tuple[tuple[Variable, ...], tuple[Layer, ...]]:
    """As `variables_of` and `layers_of`, for one output of a model: what others alone depend on is not perturbed.

    Variables of these are in their places, and not `readable`; layers of these are left out.
    """
    variables, layers = variables_of(model), layers_of(model)
    if len(model.outputs) == 1:
        return variables, layers
    with names_anew():
        operations = import_keras().Function(model.inputs, model.outputs[output]).operations
    needed = {-1} | {index for index, layer in enumerate(model.layers) if any(layer is one for one in operations)}
    layers = tuple(layer for layer in layers if layer.layer_index in needed)
    last = max((layer.position for layer in layers if layer.kernel), default=-1)
    return (
        tuple(v if v.layer_index in needed else replace(v, kernel=False, readable=False) for v in variables),
        tuple(replace(layer, scores=layer.kernel and layer.position == last) for layer in layers),
    )


def has_operations(model: keras.Model) -> bool:
    """Whether there are operations between its layers, such as `x + y`, which an .h5 file does not give back."""
    keras = import_keras()
    operations = [one for whole in model._flatten_layers() for one in getattr(whole, "operations", ())]
    return not all(isinstance(one, keras.layers.Layer) for one in operations)


def largest_activation(model: keras.Model) -> int:
    """Bytes, in float32, of the largest output of a layer for one image; of those whose shape is known."""
    found = [0]
    for layer in leaves_of(model):
        for node in layer._inbound_nodes:
            shapes = [tensor.shape[1:] for tensor in node.output_tensors]
            found += [4 * math.prod(shape) for shape in shapes if None not in shape]
    return max(found)


_SCALINGS = ("Rescaling", "Normalization", "Discretization")
_LOOKUPS = ("Embedding", "ReversibleEmbedding", "CategoryEncoding", "OneHot", "MultiHot")
_ARITHMETIC = ("Add", "Subtract", "Multiply", "Divide", "TrueDivide")
_UNITS = frozenset({  # functions of one array that mean something in certain units only
    "Arctan", "Ceil", "Clip", "Digitize", "Equal", "Exp", "Exp2", "Expm1", "Floor", "FloorDivide", "Gelu",
    "Greater", "GreaterEqual", "HardSigmoid", "HardTanh", "Less", "LessEqual", "Log", "Log10", "Log1p", "Log2",
    "Logaddexp", "Maximum", "Minimum", "Mod", "NotEqual", "Power", "Reciprocal", "Relu6", "Round", "Sigmoid",
    "Silu", "Softmax", "Softplus", "Softsign", "Sqrt", "Square", "Tanh", "Trunc", "Where",
})  # fmt: skip


def beginning_of(model: keras.Model, number: int = 0) -> tuple[str, str]:
    """What a model does to an input before any weight: names of a layer that scales them, of one that looks them up.

    Each with its class, such as "rescaling (Rescaling)", or empty. Arithmetic with a number, such as `x / 127.5 - 1`,
    is scaling too, and so are functions such as `log1p(x)`, and layers without weights that are not Keras's or bring
    code of their own: what these do to an image cannot be told.
    """
    scaling = lookup = ""
    for operation, inputs in _before_weights(model, [number]):
        kind = type(operation).__name__
        text = f"{operation.name} ({kind})"
        by_a_number = (kind in _ARITHMETIC or kind in _UNITS) and inputs == 1  # layers of that name take several
        own = not type(operation).__module__.startswith("keras.") or kind == "Lambda"
        if kind in _LOOKUPS:
            lookup = lookup or text
        elif kind in _SCALINGS or by_a_number or (own and not getattr(operation, "weights", ())):
            scaling = scaling or text
    return scaling, lookup


def _before_weights(model: keras.Model, numbers: Sequence[int]) -> Iterator[tuple[Any, int]]:
    """The operations that see some inputs, up to the first weights of each path, and how many inputs each has."""
    keras = import_keras()
    inner = model._functional if isinstance(model, keras.Sequential) else model
    seen = {id(inner.inputs[number]) for number in numbers}
    for depth in sorted(inner._nodes_by_depth, reverse=True):
        for node in inner._nodes_by_depth[depth]:
            tensors = node.arguments.keras_tensors
            if node.is_input or not any(id(x) in seen for x in tensors):
                continue
            operation = node.operation
            if isinstance(operation, keras.Model) and getattr(operation, "inputs", None):
                given = [k for k, x in enumerate(tensors[: len(operation.inputs)]) if id(x) in seen]
                yield from _before_weights(operation, given)
            elif not is_rounding(operation):
                yield operation, len(tensors)
            if not getattr(operation, "weights", ()):
                seen.update(map(id, node.outputs))


def threshold_of(model: keras.Model, output: int = 0) -> float | None:
    """Where an output of one score decides for class 1: 0.5 behind a sigmoid, else 0 (a logit); None for several."""
    if model.outputs[output].shape[-1] != 1:
        return None
    return 0.5 if ends_in_sigmoid(model, output) else 0.0


def _layers_within(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layer and, where it is a model, all layers below it, outer ones first."""
    keras = import_keras()
    inner = layer.layers if isinstance(layer, keras.Model) else []
    return [layer, *(deeper for below in inner for deeper in _layers_within(below))]


def _innermost(layer: keras.layers.Layer, variable: keras.Variable) -> keras.layers.Layer:
    """The layer inside wrappers, cells and attention blocks that made the variable."""
    inwards = layer._flatten_layers()  # outer layers come before what they hold
    return [layer, *(inner for inner in inwards if any(variable is weight for weight in inner.weights))][-1]


def _channel_axes(layer: keras.layers.Layer, leaf: str, rank: int) -> tuple[int, ...]:
    kind = type(layer).__name__
    if rank == 0:
        return ()
    if kind == "EinsumDense" and leaf == "kernel":
        # An axis of the kernel that the output keeps indexes channels; the others are summed over.
        operands, output = layer.equation.replace(" ", "").split("->")
        letters = operands.split(",")[1]
        return tuple(axis for axis, letter in enumerate(letters) if letter in output)
    if kind == "EinsumDense":
        return tuple(range(rank))  # of the bias
    if leaf == "depthwise_kernel" or (kind.startswith("DepthwiseConv") and leaf == "kernel"):
        return (rank - 2, rank - 1)  # input channel and multiplier make one output channel
    if kind.endswith("Transpose") and leaf == "kernel":
        return (rank - 2,)  # stored (…, outputs, inputs)
    return (rank - 1,)


SIGMOID, LOGITS, MIXED, UNKNOWN, SUBCLASSED = "sigmoid", "logits", "mixed", "unknown", "subclassed"
"""What an output of a network can be, as far as its last operations tell."""
_PASSING = frozenset({  # operations and layers that move values and do not change them
    "Cast", "Concatenate", "Copy", "Cropping1D", "Cropping2D", "Cropping3D", "Dropout", "ExpandDims", "Flatten",
    "GetItem", "Identity", "Moveaxis", "Permute", "Ravel", "RepeatVector", "Reshape", "Squeeze", "Stack", "Swapaxes",
    "Transpose", "UpSampling1D", "UpSampling2D", "UpSampling3D",
})  # fmt: skip
_SIGMOIDS = ("Sigmoid", "HardSigmoid", "SparseSigmoid")


def ends_in_sigmoid(model: keras.Model, output: int = 0) -> bool | None:
    """Whether an output is that of a sigmoid; None where it is that of a subclassed model, which cannot be told."""
    end = end_of(model, output)
    return None if end == SUBCLASSED else end == SIGMOID


def end_of(model: keras.Model, output: int = 0) -> str:
    """What an output is: behind sigmoids, of layers that give logits, of both; or what it may be is not known."""
    makers = makers_of(model, output)
    if None in makers:
        return SUBCLASSED
    found = {_kind_of(maker) for maker in makers}
    return found.pop() if len(found) == 1 else MIXED if SIGMOID in found else UNKNOWN


def makers_of(model: keras.Model, output: int = 0) -> list[Any]:
    """The operations that make the scores of an output, behind which these are only moved; None for a subclassed model.

    Several where an output is joined of parts.
    """
    keras = import_keras()
    if not getattr(model, "outputs", None):
        return [None]
    last, number, which = model.outputs[output]._keras_history
    waiting, found = [(last, number, which)], list[Any]()
    while waiting:
        last, number, which = waiting.pop()
        if isinstance(last, keras.Model):
            found += makers_of(last, which)
        elif _passes(last):
            waiting += [one._keras_history for one in last._inbound_nodes[number].input_tensors]
        else:
            found.append(last.layer if isinstance(last, keras.layers.TimeDistributed) else last)
    return found


def _passes(operation: Any) -> bool:
    if not type(operation).__module__.startswith("keras."):
        return False
    kind = type(operation).__name__
    linear = getattr(operation, "activation", None) is import_keras().activations.linear
    return kind in _PASSING or (kind == "Activation" and linear)


def _kind_of(operation: Any) -> str:
    known, activation = import_keras().activations, getattr(operation, "activation", None)
    if type(operation).__name__ in _SIGMOIDS or activation in (known.sigmoid, known.hard_sigmoid, known.sparse_sigmoid):
        return SIGMOID
    parts = (type(operation), activation)
    known_end = activation is not None and all(str(getattr(p, "__module__", "")).startswith("keras.") for p in parts)
    return LOGITS if known_end else UNKNOWN

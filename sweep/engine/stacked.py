"""Many trials of one network in one forward pass.

T perturbed copies of a network see the same images. Their activations are carried together (`layouts`), each layer
acts on all of them at once (`layers`), and what no perturbed weight has reached yet is computed once for all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from sweep.engine.layers import RULES, Call
from sweep.engine.layouts import Activation, Layout
from sweep.engine.tf_ops import Tensor

_FUNCTIONAL = type(keras.Model(inputs := keras.Input((1,)), inputs))


class Unsupported(Exception):
    """The network cannot be stacked; the message names the layer and says why."""


@dataclass(frozen=True)
class Step:
    """One use of a layer or operation, from the activations in `inputs` to those in `outputs` (numbered slots)."""

    operation: Any
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    fill: Callable[[list[Any]], tuple[tuple[Any, ...], dict[str, Any]]]


class StackedNetwork:
    """The forward pass of T perturbed copies of a network, as pure tensor code.

    The caller wraps `prefix` and `forward` in compiled functions of fixed shapes (T is read from the weights).

    Attributes:
        varied: the sorted indices into `model.weights` that trials perturb.
        layers: names of the layers that run for every trial; all others belong to the prefix.
    """

    def __init__(self, model: keras.Model, varied: Collection[int]) -> None:
        """Plans the pass.

        Args:
            model: a built Sequential or Functional model with one input and one output, models nested in it or not.
            varied: indices into `model.weights` of the variables that trials perturb, at least one.

        Raises:
            Unsupported: a layer after the first perturbed one is not in the list of `layers`, or not in this form.
        """
        if not varied:
            raise ValueError("varied must name at least one weight")
        self.varied = tuple(sorted(varied))
        self._variables = [id(model.weights[i]) for i in self.varied]
        steps, self._input, self._output = _walk(model)
        self._prefix, self._stacked = _split(steps, self._input, set(self._variables))
        for step in self._stacked:
            _check(step)
        made = {slot for step in self._stacked for slot in step.outputs}
        needed = [slot for step in self._stacked for slot in step.inputs] + [self._output]
        self._boundary = tuple(sorted(set(needed) - made))
        self.layers = tuple(dict.fromkeys(step.operation.name for step in self._stacked))

    @property
    def has_prefix(self) -> bool:
        """False if the boundary is just the images, so that there is nothing to keep."""
        return self._boundary != (self._input,)

    def prefix(self, images: Tensor) -> tuple[Tensor, ...]:
        """What all trials share.

        Args:
            images: (B, ...), as the model takes them.

        Returns:
            the boundary: tensors (B, ...) that the perturbed layers read, to be kept and sliced along images.
        """
        slots = {self._input: images}
        with keras.StatelessScope(state_mapping=[], collect_losses=False):
            for step in self._prefix:
                args, kwargs = step.fill([slots[i] for i in step.inputs])
                outputs = step.operation(*args, **kwargs)
                slots.update(zip(step.outputs, keras.tree.flatten(outputs), strict=True))
        return tuple(slots[i] for i in self._boundary)

    def forward(self, boundary: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        """The outputs of all trials.

        Args:
            boundary: what `prefix` returned, for B images.
            weights: the values (T, *shape) of the varied weights, in the order of `varied`.

        Returns:
            (T, B, outputs).
        """
        trials = int(weights[0].shape[0])
        varied: Mapping[int, Tensor] = dict(zip(self._variables, weights, strict=True))
        slots = {
            i: Activation(x, Layout.SHARED, trials) for i, x in zip(self._boundary, boundary, strict=True)
        }
        with keras.StatelessScope(state_mapping=[], collect_losses=False):
            for step in self._stacked:
                inputs = tuple(slots[i] for i in step.inputs)
                call = Call(step.operation, inputs, step.fill, varied, trials)
                slots[step.outputs[0]] = RULES[type(step.operation)](call)
        return slots[self._output].per_trial()


def _walk(model: keras.Model) -> tuple[list[Step], int, int]:
    """The steps of a model in order, models nested in it opened up; and the slots of its input and its output."""
    steps: list[Step] = []
    count = 0

    def new_slots(tensors: Sequence[Any]) -> list[int]:
        nonlocal count
        count += len(tensors)
        return list(range(count - len(tensors), count))

    def open_model(inner: Any, inputs: Sequence[int]) -> list[int]:
        if type(inner) is keras.Sequential:
            inner = inner._functional
        slots = dict(zip(map(id, inner.inputs), inputs, strict=True))
        for depth in sorted(inner._nodes_by_depth, reverse=True):
            for node in inner._nodes_by_depth[depth]:
                if node.is_input or not all(id(x) in slots for x in node.input_tensors):
                    continue
                read = [slots[id(x)] for x in node.arguments.keras_tensors]
                operation = node.operation
                if type(operation) in (keras.Sequential, _FUNCTIONAL):
                    _check_arguments(operation, node.arguments.kwargs)
                    made = open_model(operation, read)
                else:
                    made = new_slots(node.outputs)
                    steps.append(Step(operation, tuple(read), tuple(made), _filler(node)))
                slots.update(zip(map(id, node.outputs), made, strict=True))
        return [slots[id(x)] for x in inner.outputs]

    if type(model) not in (keras.Sequential, _FUNCTIONAL):
        raise Unsupported(f"{model.name}: {type(model).__name__} is not a Sequential or Functional model")
    if not model.built or (type(model) is keras.Sequential and model._functional is None):
        raise Unsupported(f"{model.name}: the model is not built for a known input shape")
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise Unsupported(f"{model.name}: a model with one input and one output is wanted")
    start = new_slots(model.inputs)
    return steps, start[0], open_model(model, start)[0]


def _filler(node: Any) -> Callable[[list[Any]], tuple[tuple[Any, ...], dict[str, Any]]]:
    """Puts values in place of the symbolic tensors with which a node of the graph was called."""
    keys = [id(x) for x in node.arguments.keras_tensors]

    def fill(values: list[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, kwargs = node.arguments.fill_in(dict(zip(keys, values, strict=True)))
        return args, kwargs

    return fill


def _split(steps: list[Step], start: int, varied: set[int]) -> tuple[list[Step], list[Step]]:
    """Steps that no varied weight reaches, and the others."""
    reached: set[int] = set()
    prefix, stacked = [], []
    for step in steps:
        own = {id(v) for v in getattr(step.operation, "weights", ())}
        if own & varied or reached.intersection(step.inputs):
            reached.update(step.outputs)
            stacked.append(step)
        else:
            prefix.append(step)
    return prefix, stacked


def _check(step: Step) -> None:
    """Raises Unsupported for a step that the rules do not cover."""
    operation = step.operation
    where = f"layer {operation.name} ({type(operation).__name__})"
    if type(operation) not in RULES:
        raise Unsupported(f"{where} is not in the list of stacked layers")
    args, kwargs = step.fill([None] * len(step.inputs))
    _check_arguments(operation, kwargs)
    if any(not isinstance(a, int | float | str | None) for a in keras.tree.flatten(args)):
        raise Unsupported(f"{where} is called with constant arrays")
    if hasattr(operation, "strides") and not isinstance(getattr(operation, "padding", ""), str):
        raise Unsupported(f"{where} has a padding other than valid, same or causal")
    if getattr(operation, "data_format", "channels_last") == "channels_first":
        raise Unsupported(f"{where} has its channels first")
    if isinstance(operation, keras.Layer):
        policy = operation.dtype_policy
        if (policy.compute_dtype, policy.variable_dtype) != ("float32", "float32"):
            raise Unsupported(f"{where} works in {policy.name}, not in float32")
        if getattr(operation, "lora_enabled", False) or getattr(operation, "quantization_mode", None):
            raise Unsupported(f"{where} is quantized or has LoRA weights")
        if getattr(getattr(operation, "activation", None), "weights", None):
            raise Unsupported(f"{where} has an activation with weights of its own")
        if operation.supports_masking and getattr(operation, "mask_value", None) is not None:
            raise Unsupported(f"{where} masks time steps")


def _check_arguments(operation: Any, kwargs: Mapping[str, Any]) -> None:
    given = sorted(name for name, value in kwargs.items() if value is not None and value is not False)
    if given:
        raise Unsupported(f"layer {operation.name} ({type(operation).__name__}) is called with {', '.join(given)}")

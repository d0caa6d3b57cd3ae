"""The steps of a network's graph, and a forward pass through them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from sweep.engine import tiles
from sweep.engine.sites import Insert

Tensor = Any
Update = Callable[[Any, list[Tensor]], Sequence[tuple[Any, Tensor]]]
"""An operation and what it is about to take → variables of it, with the values that it is to have for this."""


@dataclass(frozen=True)
class Step:
    """One use of a layer or operation, from the activations in `inputs` to those in `outputs` (numbered slots).

    Attributes:
        operation: the layer, or the operation on tensors (`x + y`).
        inputs, outputs: slots.
        fill: puts tensors, one for each input, into the arguments with which the layer was called.
        shapes: of its outputs in the plain network, without the images.
        masked: whether it is called with a mask among its arguments.
        arrays: sites at the sums of the layer, as of a matrix that is cut into arrays.
    """

    operation: Any
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    fill: Callable[[list[Any]], tuple[tuple[Any, ...], dict[str, Any]]]
    shapes: tuple[tuple[int, ...], ...]
    masked: bool = False
    arrays: tuple[Insert, ...] = ()

    def __str__(self) -> str:
        return f"layer {self.operation.name} ({type(self.operation).__name__})"


def run_steps(
    steps: Sequence[Step],
    slots: dict[int, Tensor],
    mapping: list[tuple[Any, Tensor]],
    inserted: Mapping[Insert, Tensor],
    update: Update | None = None,
) -> dict[int, Tensor]:
    """All slots after some steps, as `predict` runs them; sites without a value let everything through."""
    with keras.StatelessScope(state_mapping=mapping, collect_losses=False) as scope:

        def before(operation: Any, inputs: list[Tensor]) -> None:
            for changed in update(operation, inputs) if update else ():
                scope.add_update(changed)

        return _through(steps, slots, inserted, training=False, before=before)


def train_steps(
    steps: Sequence[Step],
    slots: dict[int, Tensor],
    mapping: list[tuple[Any, Tensor]],
    inserted: Mapping[Insert, Tensor],
) -> tuple[dict[int, Tensor], keras.StatelessScope]:
    """As `run_steps`, as `fit` runs them: gradients pass a rounding where it does not clip.

    The scope has the values that layers gave their variables, and the losses that they added.
    """
    with keras.StatelessScope(state_mapping=mapping, collect_losses=True) as scope:
        return _through(steps, slots, inserted, training=True), scope


def _through(
    steps: Sequence[Step],
    slots: dict[int, Tensor],
    inserted: Mapping[Insert, Tensor],
    training: bool,
    before: Callable[[Any, list[Tensor]], None] | None = None,
) -> dict[int, Tensor]:
    taken: dict[Insert, int] = {}
    for step in steps:
        inputs = [slots[i] for i in step.inputs]
        if isinstance(step.operation, Insert):
            value = inserted.get(step.operation)
            outputs = inputs
            if value is not None:
                value = _share(step.operation, step.shapes[0], value, taken)
                outputs = [act(step.operation, inputs[0], value, training)]
        elif any(inserted.get(site) is not None for site in step.arrays):
            given = {i: v for i in step.arrays if (v := inserted.get(i)) is not None}
            shapes = {i: (len(tiles.arrays_of(step.operation, i.site)), *step.shapes[0]) for i in given}
            outputs = [
                digitize(step, inputs[0], {i: _share(i, shapes[i], v, taken) for i, v in given.items()}, training)
            ]
        else:
            if before:
                before(step.operation, inputs)
            args, kwargs = step.fill(inputs)
            if isinstance(step.operation, keras.Layer):  # some take the default for training, and are random
                kwargs = {**kwargs, "training": training}
            outputs = keras.tree.flatten(step.operation(*args, **kwargs))
        slots.update(zip(step.outputs, outputs, strict=True))
    return slots


def _share(insert: Insert, shape: tuple[int, ...], value: Tensor, taken: dict[Insert, int]) -> Tensor:
    """What one use of a site, at this shape, gets of its value: draws of its own.

    `taken` counts those that earlier uses have had.
    """
    site = insert.site
    if not site.drawn or tuple(value.shape[1:]) == site.taken(shape):
        return value
    head = math.prod(site.taken(shape)) - math.prod(shape)
    begin = taken.get(insert, head)
    taken[insert] = end = begin + math.prod(shape)
    own = value[:, begin:end]
    return ops.concatenate([value[:, :head], own], 1) if head else ops.reshape(own, [-1, *shape])


def round_to_levels(x: Tensor, offset: Tensor, step: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """clip(rint((x - offset) / step), lowest, highest) * step + offset, ties to even."""
    return _codes(x, offset, step, lowest, highest) * step + offset


def flip_bits(x: Tensor, value: Tensor) -> Tensor:
    """As `round_to_levels`, with bits of the codes, counted from the lowest, flipped; NaN stays.

    Args:
        x: (B, ...).
        value: (B or 1, 4 + values) offset, step, lowest and highest; then the bits, as whole numbers.
    """
    offset, step, lowest, highest = (ops.reshape(value[:, k], [-1, *[1] * (len(x.shape) - 1)]) for k in range(4))
    whole = ops.cast(_codes(x, offset, step, lowest, highest) - lowest, "int32")
    bits = ops.cast(ops.reshape(value[:, 4:], [-1, *x.shape[1:]]), "int32")
    codes = ops.cast(ops.bitwise_xor(whole, bits), "float32") + lowest
    return ops.where(ops.isnan(x), x, codes * step + offset)


def _codes(x: Tensor, offset: Tensor, step: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    return ops.minimum(ops.maximum(ops.round((x - offset) / step), lowest), highest)


def straight_through(x: Tensor, y: Tensor, where: Tensor | float = 1.0) -> Tensor:
    """y, whose gradient is taken for that of x, times `where`.

    Source: Bengio et al., arXiv:1308.3432 (the straight-through estimator).
    """

    def same(_: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        return y, lambda upstream: _dense(upstream) * where

    return ops.custom_gradient(same)(x)


def _dense(gradient: Tensor) -> Tensor:
    """A gradient that TensorFlow may have in slices, as of an embedding."""
    if not hasattr(gradient, "dense_shape"):
        return gradient
    from sweep.networks.backend import import_tensorflow

    return import_tensorflow().convert_to_tensor(gradient)


def act(insert: Insert, x: Tensor, value: Tensor, training: bool = False) -> Tensor:
    """What a site makes of an activation (B, ...): in float32, whatever the network computes in; its mask goes on."""
    exact = ops.cast(x, "float32")
    if insert.site.kind == "noise":
        y = exact + value
    elif insert.site.kind == "values":
        y = ops.where(ops.isnan(value), exact, value)
    else:
        flips = insert.site.kind == "flips"
        levels = [(value[0] if flips else value)[k] for k in range(4)]
        y = flip_bits(exact, value) if flips else round_to_levels(exact, *levels)
        y = _within(exact, y, levels) if training else y
    return _with_mask(x, ops.cast(y, x.dtype))


def digitize(step: Step, x: Tensor, values: Mapping[Insert, Tensor], training: bool = False) -> Tensor:
    """What a layer makes of an activation (B, ...) whose sums are digitised, array by array: in float32 up to the bias.

    Args:
        step: of the layer.
        x: the activation.
        values: what there is for sites of `step.arrays`: levels, and noise or not.
        training: as of `act`.
    """
    layer, noise = step.operation, None
    for insert, value in values.items():
        if insert.site.kind == "noise":
            noise = value
        else:
            site, levels = insert.site, value
    total = 0.0
    for t, (sign, exact) in enumerate(tiles.sums(layer, x, site)):
        step, lowest, highest = levels[0, t], levels[1, t, 0], levels[2, t, 0]
        noisy = exact if noise is None else exact + noise[:, t] * step
        y = ops.minimum(ops.maximum(ops.round(noisy / step), lowest), highest) * step
        total = total + sign * (_within(noisy, y, (0.0, step, lowest, highest)) if training else y)
    if layer.use_bias:
        total = total + ops.cast(ops.convert_to_tensor(layer.bias), "float32")
    y = ops.cast(total, layer.compute_dtype)
    y = y if layer.activation is None else layer.activation(y)
    if training and layer.activity_regularizer is not None:  # which is in `Layer.__call__`, not in `call`
        layer.add_loss(layer.activity_regularizer(y))
    return _with_mask(x, y) if layer.supports_masking else y


def _within(x: Tensor, y: Tensor, levels: Sequence[Tensor]) -> Tensor:
    """What x was rounded to, y, with gradients where the levels do not clip."""
    offset, step, lowest, highest = levels
    codes = (x - offset) / step
    within = ops.logical_and(codes >= lowest - 0.5, codes <= highest + 0.5)
    return straight_through(x, y, ops.cast(within, "float32"))


def _with_mask(x: Tensor, y: Tensor) -> Tensor:
    """y, with the mask of what it was made of."""
    mask = getattr(x, "_keras_mask", None)
    if mask is not None:
        y._keras_mask = mask
    return y

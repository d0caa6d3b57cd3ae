"""The layers that the stacked pass knows, each with the rule that applies it to many trials at once.

To add a layer, name its class in one of the `@rule(...)` lines below: `any_layout` if it treats every channel by
itself with no weights; `as_larger_batch` if it treats every image by itself with no weights; `one_trial_at_a_time`
for everything else that treats every image by itself. That is enough for it to be right; a rule of its own makes
it fast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers as kl
from keras import ops

from sweep.engine.graph import IDENTITIES
from sweep.engine.sites import Insert
from sweep.engine.stacked import taps
from sweep.engine.stacked.layouts import Activation, Call, Layout, from_trials
from sweep.engine.steps import Step, Tensor, round_to_levels
from sweep.engine.tensors import convolve

Rule = Callable[[Call], Activation]
RULES: dict[type, Rule] = {}


def rule(*classes: type) -> Callable[[Rule], Rule]:
    """Registers a rule for exactly these classes: a subclass may override `call`, so it does not count."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(classes, function))
        return function

    return register


def _operators() -> list[type]:
    """The classes behind `x + y` and the like on symbolic tensors."""
    x = keras.Input((1,))
    made = (keras.ops.maximum(x, x), keras.ops.minimum(x, x), keras.ops.divide(x, x))
    results = (x + x, x - x, x * x, x / x, -x, *made)
    functions = (
        *(keras.ops.relu, keras.ops.sigmoid, keras.ops.tanh, keras.ops.square, keras.ops.gelu),
        *(keras.ops.abs, keras.ops.round, keras.ops.stop_gradient, lambda x: keras.ops.clip(x, 0, 1)),
    )
    return [type(y._keras_history.operation) for y in (*results, *(f(x) for f in functions))]


_LARGEST = type(keras.ops.max(keras.Input((1,)), axis=-1)._keras_history.operation)
_ELEMENTWISE = {
    keras.activations.get(name)
    for name in (
        *("celu", "elu", "exponential", "gelu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_tanh", "leaky_relu"),
        *("linear", "log_sigmoid", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "soft_shrink", "softplus"),
        *("softsign", "sparse_plus", "squareplus", "tanh", "tanh_shrink", "threshold"),
    )
}


def is_covered(step: Step) -> bool:
    """Whether there is a rule for an operation, as it was made."""
    operation, rank = step.operation, len(step.shapes[0]) + 1
    if type(operation) is _LARGEST:  # of each image, in the axes of which nothing is dropped
        axes = operation.axis if isinstance(operation.axis, tuple | list) else [operation.axis]
        return bool(operation.keepdims) and all(axis is not None and axis % rank for axis in axes)
    return type(operation) in RULES


def activate(x: Activation, function: Any) -> Activation:
    """An activation function: anywhere if it acts on single elements, else per image (softmax over channels)."""
    if function is None or function is keras.activations.linear:
        return x
    if function not in _ELEMENTWISE:
        x = x.as_images()
    return x.with_tensor(function(x.tensor))


@rule(*IDENTITIES)
def identity(call: Call) -> Activation:
    """Does nothing at inference."""
    return call.inputs[0]


@rule(
    *(kl.MaxPooling1D, kl.MaxPooling2D, kl.AveragePooling1D, kl.AveragePooling2D),
    *(kl.GlobalMaxPooling1D, kl.GlobalMaxPooling2D, kl.GlobalAveragePooling1D, kl.GlobalAveragePooling2D),
    *(kl.ZeroPadding1D, kl.ZeroPadding2D, kl.Cropping1D, kl.Cropping2D, kl.UpSampling1D, kl.UpSampling2D),
    *(kl.ReLU, kl.LeakyReLU, kl.ELU),
)
def any_layout(call: Call) -> Activation:
    """No weights, and every channel by itself: it does not matter where the trials are."""
    return call.apply([call.inputs[0]])


@rule(
    *(kl.Flatten, kl.Reshape, kl.Permute, kl.RepeatVector, kl.Softmax, kl.Rescaling, kl.UnitNormalization),
    *(kl.MaxPooling3D, kl.AveragePooling3D, kl.GlobalMaxPooling3D, kl.GlobalAveragePooling3D),
    *(kl.ZeroPadding3D, kl.Cropping3D, kl.UpSampling3D),
    _LARGEST,
)
def as_larger_batch(call: Call) -> Activation:
    """No weights, and every image by itself: the images of all trials are one larger batch."""
    return call.apply([x.as_images() for x in call.inputs])


@rule(
    *(kl.LayerNormalization, kl.RMSNormalization, kl.GroupNormalization, kl.PReLU, kl.EinsumDense),
    *(kl.Conv3D, kl.Conv1DTranspose, kl.Conv2DTranspose, kl.Conv3DTranspose),
)
def one_trial_at_a_time(call: Call) -> Activation:
    """Any layer that treats every image by itself: one larger batch, or trial by trial if its weights differ."""
    if not call.varies():
        return as_larger_batch(call)
    layer = call.operation
    inputs = [ops.unstack(x.per_trial(), call.trials) for x in call.inputs]
    variables = [*layer.trainable_variables, *layer.non_trainable_variables]
    values = [ops.unstack(call.weight(v), call.trials) for v in variables]
    split = len(layer.trainable_variables)
    outputs = []
    for trial in range(call.trials):
        weights = [v[trial] for v in values]
        args, kwargs = call.fill([x[trial] for x in inputs])
        outputs.append(layer.stateless_call(weights[:split], weights[split:], *args, **kwargs)[0])
    return Activation(ops.concatenate(outputs, 0), Layout.IMAGES, call.trials)


@rule(kl.Activation)
def activation(call: Call) -> Activation:
    """Activation: as its function."""
    return activate(call.inputs[0], call.operation.activation)


def _same_layout(inputs: tuple[Activation, ...]) -> list[Activation]:
    """Inputs of a layer that combines them, in one layout: among the channels if their channels match."""
    channels = {(len(x.shape), x.shape[-1]) for x in inputs}
    if len(channels) == 1 and any(x.layout is Layout.CHANNELS for x in inputs):
        return [x.as_channels() for x in inputs]
    return [x.as_images() for x in inputs]


@rule(kl.Add, kl.Subtract, kl.Multiply, kl.Average, kl.Maximum, kl.Minimum, *_operators())
def combine(call: Call) -> Activation:
    """Element by element."""
    return call.apply(_same_layout(call.inputs))


@rule(kl.Concatenate)
def concatenate(call: Call) -> Activation:
    """Concatenate: along the channels, those of one trial come together."""
    axis, inputs, trials = call.operation.axis, call.inputs, call.trials
    rank = len(inputs[0].shape) + 1
    if axis not in (-1, rank - 1):
        return call.apply(_same_layout(inputs))
    if not any(x.layout is Layout.CHANNELS for x in inputs):
        return as_larger_batch(call)
    channels = sum(x.shape[-1] for x in inputs)
    merged = ops.concatenate([x.split_channels() for x in inputs], -1)
    merged = ops.reshape(merged, [-1, *inputs[0].shape[:-1], trials * channels])
    return Activation(merged, Layout.CHANNELS, trials)


def _add_bias(call: Call, x: Tensor) -> Activation:
    """Bias, if the layer has one, and activation function of a convolution whose result has stacked channels."""
    layer = call.operation
    if layer.use_bias:
        x = x + ops.reshape(call.weight(layer.bias), [-1])
    return activate(Activation(x, Layout.CHANNELS, call.trials), layer.activation)


@rule(kl.Conv1D, kl.Conv2D)
def convolution(call: Call) -> Activation:
    """Conv1D, Conv2D: one convolution with T times the filters, in T groups unless its input is still shared."""
    layer, x = call.operation, call.inputs[0]
    if call.products and taps.has_few_terms(layer):
        return activate(taps.write_out(call), layer.activation)
    if call.products and call.trials > 1 and taps.covers(layer):
        return activate(taps.multiply(call), layer.activation)
    if x.layout is not Layout.SHARED or layer.groups > 1:
        x = x.as_channels()
    kernel = _stack_filters(call.weight(layer.kernel))
    return _add_bias(call, convolve(x.tensor, kernel, layer.strides, layer.padding, layer.dilation_rate))


def _stack_filters(kernels: Tensor) -> Tensor:
    """Kernels (T, ..., I, F) to one kernel (..., I, T·F), whose filters are those of trial 0, then trial 1..."""
    trials, *window, filters = kernels.shape
    return ops.reshape(ops.moveaxis(kernels, 0, -2), [*window, trials * filters])


def _convolve_depthwise(call: Call, kernels: Tensor) -> Tensor:
    """Depthwise over the channels of all trials: kernels (T, [kh,] kw, C, M), result (B, [H',] W', T·C·M)."""
    layer, x, padding = call.operation, call.inputs[0].as_channels().tensor, call.operation.padding
    trials, *window, channels, multiplier = kernels.shape
    kernel = ops.reshape(ops.moveaxis(kernels, 0, -3), [*window, trials * channels, multiplier])
    if padding == "causal":
        x, padding = ops.pad(x, [[0, 0], [layer.dilation_rate[0] * (window[0] - 1), 0], [0, 0]]), "valid"
    return ops.depthwise_conv(x, kernel, layer.strides, padding, "channels_last", layer.dilation_rate)


@rule(kl.DepthwiseConv1D, kl.DepthwiseConv2D)
def depthwise_convolution(call: Call) -> Activation:
    """DepthwiseConv1D, DepthwiseConv2D: depthwise over the channels of all trials."""
    return _add_bias(call, _convolve_depthwise(call, call.weight(call.operation.kernel)))


@rule(kl.SeparableConv1D, kl.SeparableConv2D)
def separable_convolution(call: Call) -> Activation:
    """SeparableConv1D, SeparableConv2D: depthwise, then 1x1 in T groups."""
    layer = call.operation
    x, ones = _convolve_depthwise(call, call.weight(layer.depthwise_kernel)), [1] * len(layer.strides)
    return _add_bias(call, convolve(x, _stack_filters(call.weight(layer.pointwise_kernel)), ones, "valid", ones))


@rule(kl.Dense)
def dense(call: Call) -> Activation:
    """Dense: a batched product, over the last axis whatever the rank."""
    layer, x = call.operation, call.inputs[0]
    if not call.varies():
        return as_larger_batch(call)
    *middle, features = x.shape
    rows = ops.expand_dims(x.tensor, 0) if x.layout is Layout.SHARED else x.per_trial()
    rows = ops.reshape(rows, [rows.shape[0], -1, features])
    y = ops.matmul(rows, call.weight(layer.kernel))
    if layer.use_bias:
        y = y + ops.expand_dims(call.weight(layer.bias), 1)
    y = ops.reshape(y, [call.trials, -1, *middle, layer.units])
    return activate(from_trials(y, call.trials), layer.activation)


@rule(kl.BatchNormalization)
def batch_normalization(call: Call) -> Activation:
    """BatchNormalization at inference: a scale and an offset per channel."""
    layer, x = call.operation, call.inputs[0]
    rank = len(x.shape) + 1
    if layer.axis not in (-1, rank - 1):
        return one_trial_at_a_time(call)
    scale = ops.rsqrt(call.weight(layer.moving_variance) + layer.epsilon)
    if layer.scale:
        scale = scale * call.weight(layer.gamma)
    offset = -call.weight(layer.moving_mean) * scale
    if layer.center:
        offset = offset + call.weight(layer.beta)
    x = x.as_channels()
    return x.with_tensor(x.tensor * ops.reshape(scale, [-1]) + ops.reshape(offset, [-1]))


@rule(Insert)
def site(call: Call) -> Activation:
    """A transform of the data flow: every trial has its own levels."""
    x, values, trials = call.inputs[0], call.weight(call.operation), call.trials
    numbers = [values[:, k] for k in range(4)]
    if x.layout is Layout.CHANNELS or len(x.shape) > 1:
        x = x.as_channels()
        return x.with_tensor(round_to_levels(x.tensor, *(ops.repeat(n, x.shape[-1]) for n in numbers)))
    tall = [ops.reshape(n, [trials, 1, *[1] * len(x.shape)]) for n in numbers]
    return from_trials(round_to_levels(x.per_trial(), *tall), trials)

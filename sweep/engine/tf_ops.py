"""Every TensorFlow call of the stacked engine; another Keras backend needs only another file like this one.

Shapes: T trials, B images, C channels, ``...`` any number of other axes. Tensors are float32, channels last.
A tensor of *stacked channels* has T·C channels, trial by trial; one of *stacked images* has T·B images, trial by
trial.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

from sweep.networks.backend import import_tensorflow

tf = import_tensorflow()

Tensor = Any


def images_from_channels(x: Tensor, trials: int) -> Tensor:
    """(B, ..., T·C) to (T·B, ..., C)."""
    middle, channels = x.shape[1:-1], x.shape[-1] // trials
    x = tf.reshape(x, [-1, *middle, trials, channels])
    rank = len(x.shape)
    x = tf.transpose(x, [rank - 2, *range(rank - 2), rank - 1])
    return tf.reshape(x, [-1, *middle, channels])


def channels_from_images(x: Tensor, trials: int) -> Tensor:
    """(T·B, ..., C) to (B, ..., T·C)."""
    middle, channels = x.shape[1:-1], x.shape[-1]
    x = split_trials(x, trials)
    rank = len(x.shape)
    x = tf.transpose(x, [*range(1, rank - 1), 0, rank - 1])
    return tf.reshape(x, [-1, *middle, trials * channels])


def repeat_channels(x: Tensor, trials: int) -> Tensor:
    """(B, ..., C), the same for all trials, to (B, ..., T·C): end to end."""
    return tf.tile(x, [1] * (len(x.shape) - 1) + [trials])


def repeat_images(x: Tensor, trials: int) -> Tensor:
    """(B, ...), the same for all trials, to (T·B, ...)."""
    return tf.tile(x, [trials] + [1] * (len(x.shape) - 1))


def split_trials(x: Tensor, trials: int) -> Tensor:
    """(T·B, ...) to (T, B, ...)."""
    return tf.reshape(x, [trials, -1 if x.shape[0] is None else x.shape[0] // trials, *x.shape[1:]])


def unstack(x: Tensor) -> list[Tensor]:
    """(T, ...) to T tensors (...)."""
    return list(tf.unstack(x))


def concatenate(xs: Sequence[Tensor], axis: int) -> Tensor:
    """Tensors end to end along an axis."""
    return tf.concat(xs, axis)


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """x in another shape; -1 stands for what is left."""
    return tf.reshape(x, shape)


def broadcast_trials(x: Tensor, trials: int) -> Tensor:
    """(...) to (T, ...), the same for all trials."""
    return tf.broadcast_to(x, [trials, *x.shape])


def pad_before(x: Tensor, axis: int, count: int) -> Tensor:
    """x with `count` zeros put before it along an axis."""
    return tf.pad(x, [[count if i == axis else 0, 0] for i in range(len(x.shape))])


def rsqrt(x: Tensor) -> Tensor:
    """1 / √x."""
    return tf.math.rsqrt(x)


def stack_filters(kernels: Tensor) -> Tensor:
    """Kernels (T, ..., I, F) to one kernel (..., I, T·F), whose filters are those of trial 0, then trial 1..."""
    rank = len(kernels.shape)
    trials, *window, inputs, filters = kernels.shape
    order = [*range(1, rank - 1), 0, rank - 1]
    return tf.reshape(tf.transpose(kernels, order), [*window, inputs, trials * filters])


def stack_depthwise(kernels: Tensor) -> Tensor:
    """Depthwise kernels (T, ..., C, M) to one kernel (..., T·C, M)."""
    rank = len(kernels.shape)
    trials, *window, channels, multiplier = kernels.shape
    order = [*range(1, rank - 2), 0, rank - 2, rank - 1]
    return tf.reshape(tf.transpose(kernels, order), [*window, trials * channels, multiplier])


def convolve(x: Tensor, kernel: Tensor, strides: Sequence[int], padding: str, dilations: Sequence[int]) -> Tensor:
    """Convolution over one or two axes, in as many groups as x has times the channels of the kernel.

    Args:
        x: (B, [H,] W, G·I).
        kernel: ([kh,] kw, I, G·F).
        strides, dilations: one each per axis.
        padding: "valid", "same" or (one axis) "causal".

    Returns:
        (B, [H',] W', G·F).
    """
    if len(strides) == 1:
        x, kernel, strides, padding, dilations = _as_image(x, kernel, strides, padding, dilations)
        y = tf.nn.conv2d(x, kernel, list(strides), padding.upper(), dilations=list(dilations))
        return tf.squeeze(y, 1)
    return tf.nn.conv2d(x, kernel, list(strides), padding.upper(), dilations=list(dilations))


def convolve_depthwise(
    x: Tensor, kernel: Tensor, strides: Sequence[int], padding: str, dilations: Sequence[int]
) -> Tensor:
    """Depthwise convolution: x (B, [H,] W, C), kernel ([kh,] kw, C, M), result (B, [H',] W', C·M)."""
    if len(strides) == 1:
        x, kernel, strides, padding, dilations = _as_image(x, kernel, strides, padding, dilations)
        # TensorFlow's depthwise kernel wants equal strides: none are skipped along an axis of length 1.
        y = tf.nn.depthwise_conv2d(
            x, kernel, [1, strides[1], strides[1], 1], padding.upper(), dilations=list(dilations)
        )
        return tf.squeeze(y, 1)
    return tf.nn.depthwise_conv2d(x, kernel, [1, *strides, 1], padding.upper(), dilations=list(dilations))


def _as_image(
    x: Tensor, kernel: Tensor, strides: Sequence[int], padding: str, dilations: Sequence[int]
) -> tuple[Tensor, Tensor, Sequence[int], str, Sequence[int]]:
    """A convolution over one axis as one over two, the first of length 1."""
    if padding == "causal":
        x = pad_before(x, 1, dilations[0] * (kernel.shape[0] - 1))
        padding = "valid"
    return tf.expand_dims(x, 1), tf.expand_dims(kernel, 0), [1, *strides], padding, [1, *dilations]


def round_to_levels(x: Tensor, offset: Tensor, step: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """clip(rint((x - offset) / step), lowest, highest) * step + offset, ties to even."""
    codes = tf.minimum(tf.maximum(tf.round((x - offset) / step), lowest), highest)
    return codes * step + offset


def multiply(x: Tensor, kernels: Tensor) -> Tensor:
    """Batched product: x (T or 1, N, I) by kernels (T, I, U), result (T, N, U)."""
    return tf.matmul(x, kernels)


def expand(x: Tensor, axis: int) -> Tensor:
    """x with a new axis of length 1."""
    return tf.expand_dims(x, axis)


def cast(x: Any, dtype: Any) -> Tensor:
    """A tensor in another type; the same one, with all that it carries, where it is of that type already."""
    return x if getattr(x, "dtype", None) == dtype else tf.cast(x, dtype)


def constant(x: Any) -> Tensor:
    """An array as a tensor."""
    return tf.constant(x)


def compile_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of tensors, compiled at its first call for each combination of shapes."""
    compiled: Callable[..., Any] = tf.function(function, autograph=False)
    return compiled


def compile_steps(function: Callable[..., Any]) -> Callable[..., Any]:
    """As `compile_function`, for many steps in one call: a loop in the graph, which spares a call for each.

    `function` takes a list of tensors of one step and what all steps share; the result takes tensors with an axis
    of steps before the others, and gives what `function` does, with that axis.
    """

    def run(steps: Sequence[Tensor], shared: Sequence[Tensor]) -> Tensor:
        return tf.map_fn(
            lambda step: function(step, shared), list(steps), fn_output_signature=tf.float32, parallel_iterations=1
        )

    return compile_function(run)


def stateless(model: Any) -> Callable[[Tensor, Sequence[Tensor]], Tensor]:
    """The inference pass of a Keras model as a function of images and of the values of `model.weights`."""

    def forward(images: Tensor, weights: Sequence[Tensor]) -> Tensor:
        given = {id(v): w for v, w in zip(model.weights, weights, strict=True)}
        trainable = [given.get(id(v), v.value) for v in model.trainable_variables]
        other = [given.get(id(v), v.value) for v in model.non_trainable_variables]
        outputs, _ = model.stateless_call(trainable, other, images, training=False)
        return outputs

    return forward


def configure(threads: int) -> None:
    """Give this process so many threads, and only the GPU memory that it needs.

    Without effect once TensorFlow has computed something: a notebook keeps its own setting. Advice on retracing is
    silenced: every network and every way to evaluate it is traced once, on purpose.
    """
    tf.get_logger().setLevel(logging.ERROR)
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)


def device() -> str:
    """`GPU` or `CPU`: where this process evaluates."""
    return "GPU" if tf.config.list_logical_devices("GPU") else "CPU"

"""The calls of `tensors` by TensorFlow: every one that the engine makes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

from sweep.networks.backend import import_tensorflow

tf = import_tensorflow()

Tensor = Any


def convolve(x: Tensor, kernel: Tensor, strides: Sequence[int], padding: str, dilations: Sequence[int]) -> Tensor:
    """Convolution over one or two axes, in as many groups as x has times the channels of the kernel.

    `keras.ops.conv` compiles more than one group by XLA, which takes nearly three times as long on a CPU.

    Args:
        x: (B, [H,] W, G·I).
        kernel: ([kh,] kw, I, G·F).
        strides, dilations: one each per axis.
        padding: "valid", "same" or (one axis) "causal".

    Returns:
        (B, [H',] W', G·F).
    """
    if len(strides) == 1:
        if padding == "causal":
            x, padding = tf.pad(x, [[0, 0], [dilations[0] * (kernel.shape[0] - 1), 0], [0, 0]]), "valid"
        y = convolve(tf.expand_dims(x, 1), tf.expand_dims(kernel, 0), [1, *strides], padding, [1, *dilations])
        return tf.squeeze(y, 1)
    return tf.nn.conv2d(x, kernel, list(strides), padding.upper(), dilations=list(dilations))


def compile_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of tensors, compiled at its first call for each combination of shapes."""
    compiled: Callable[..., Any] = tf.function(function, autograph=False)
    return compiled


def compile_batches(function: Callable[..., Any], images: Tensor, weights: Sequence[Any]) -> Callable[..., Any]:
    """As `compile_function`, for a function of images and a list of weights: compiled now, for any number of images.

    Args:
        function: gives a tensor.
        images: (B, ...) of which all but B holds; weights: arrays of the shapes and types to come. Others compile anew.
    """
    compiled = tf.function(function, autograph=False)
    any_batch = tf.TensorSpec((None, *images.shape[1:]), images.dtype)
    compiled.get_concrete_function(any_batch, [tf.TensorSpec(w.shape, w.dtype) for w in weights])
    run: Callable[..., Any] = compiled
    return run


def compile_gradient(function: Callable[..., Tensor]) -> Callable[..., Any]:
    """The gradient of a function with respect to its first argument, a list of tensors: one for each, compiled."""

    def gradient(values: Sequence[Tensor], *others: Tensor) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            found = function(values, *others)
        return tape.gradient(found, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    return compile_function(gradient)


def in_double() -> contextlib.AbstractContextManager[Any]:
    """Within, tensors may be float64, as they may be anywhere here."""
    return contextlib.nullcontext()


def loop(function: Callable[[list[Tensor]], Tensor], steps: Sequence[Tensor]) -> Tensor:
    """Step by step in one call, where a call for each would cost more than the step: a loop in the graph.

    Args:
        function: takes tensors of one step, without their first axis, and gives one of float32.
        steps: tensors (S, ...).

    Returns:
        (S, ...) what the function gives, within a function that is compiled.
    """
    return tf.map_fn(
        lambda step: function(list(step)), list(steps), fn_output_signature=tf.float32, parallel_iterations=1
    )


def configure(threads: int, gpus: bool = True) -> None:
    """Give this process so many threads, and only the GPU memory that it needs.

    On GPUs, products of float32 are float32: TensorFlow's default, TF32, rounds factors to 11 bits, and then far more
    than near ties would be other decisions than on a CPU. Where no `gpus` are to be used, those of the node are hidden.

    Without effect once TensorFlow has computed something: a notebook keeps its own setting. Advice on retracing is
    silenced: every network and every way to evaluate it is traced once, on purpose.
    """
    tf.get_logger().setLevel(logging.ERROR)
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
        if not gpus:
            tf.config.set_visible_devices([], "GPU")
    if sees_gpu():
        tf.config.experimental.enable_tensor_float_32_execution(False)


def threads() -> tuple[int, int]:
    """Threads within an operation and for several at a time; 0 where TensorFlow decides."""
    setting = tf.config.threading
    return int(setting.get_intra_op_parallelism_threads()), int(setting.get_inter_op_parallelism_threads())


def sees_gpu() -> bool:
    """Whether this process could evaluate on a GPU; begins to use none."""
    return bool(tf.config.get_visible_devices("GPU"))


def device() -> str:
    """`GPU` or `CPU`: where this process evaluates."""
    return "GPU" if tf.config.list_logical_devices("GPU") else "CPU"


def on_cpu() -> contextlib.AbstractContextManager[Any]:
    """Everything within is computed on the CPU."""
    context: contextlib.AbstractContextManager[Any] = tf.device("CPU:0") if sees_gpu() else contextlib.nullcontext()
    return context

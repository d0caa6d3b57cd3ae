"""The calls of `tensors` by JAX, by which networks run on GPUs without TensorFlow."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax

Tensor = Any

jax.config.update("jax_default_matmul_precision", "float32")  # type: ignore[no-untyped-call]
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # read when the first device is used


def convolve(x: Tensor, kernel: Tensor, strides: Sequence[int], padding: str, dilations: Sequence[int]) -> Tensor:
    """As `tf_ops.convolve`."""
    if padding == "causal":
        before: Any = [(dilations[0] * (kernel.shape[0] - 1), 0)]
    else:
        before = padding.upper()
    spatial = "HW"[: len(strides)]
    layout = f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"
    groups = x.shape[-1] // kernel.shape[-2]
    return lax.conv_general_dilated(
        x, kernel, strides, before, None, dilations, dimension_numbers=layout, feature_group_count=groups
    )


def compile_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """As `tf_ops.compile_function`."""
    compiled: Callable[..., Any] = jax.jit(function)
    return compiled


def compile_batches(function: Callable[..., Any], images: Tensor, weights: Sequence[Any]) -> Callable[..., Any]:  # noqa: ARG001
    """As `tf_ops.compile_batches`, but compiled at the first call for each number of images."""
    return compile_function(function)


def compile_gradient(function: Callable[..., Tensor]) -> Callable[..., Any]:
    """As `tf_ops.compile_gradient`."""
    return compile_function(jax.grad(function))


def in_double() -> contextlib.AbstractContextManager[Any]:
    """Within, tensors may be float64."""
    return jax.enable_x64(True)  # type: ignore[no-any-return]


def loop(function: Callable[[list[Tensor]], Tensor], steps: Sequence[Tensor]) -> Tensor:
    """As `tf_ops.loop`."""
    return lax.map(lambda step: function(list(step)), tuple(steps))


def configure(threads: int, gpus: bool = True) -> None:
    """Give this process so many threads, or all that there are; where no `gpus` are to be used, hide them.

    Without effect once JAX has computed something. Products of float32 are float32 on GPUs, too.
    """
    if threads == 1:
        flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()
    if not gpus:
        jax.config.update("jax_platforms", "cpu")  # type: ignore[no-untyped-call]


def threads() -> tuple[int, int]:
    """Threads within an operation and for several at a time: JAX decides."""
    return 0, 0


def sees_gpu() -> bool:
    """Whether this process could evaluate on a GPU."""
    return device() == "GPU"


def device() -> str:
    """`GPU` or `CPU`: where this process evaluates."""
    return "GPU" if jax.default_backend() == "gpu" else "CPU"


def on_cpu() -> contextlib.AbstractContextManager[Any]:
    """Everything within is computed on the CPU."""
    context: contextlib.AbstractContextManager[Any] = jax.default_device(jax.devices("cpu")[0])
    return context

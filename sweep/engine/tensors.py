"""What Keras has no operation for, or a slow one, by the library whose tensors Keras uses in this process.

All else is `keras.ops`. Another library needs a file like these two, and its name here.
"""

from __future__ import annotations

from sweep.networks.backend import library

if library() == "jax":
    from sweep.engine.jax_ops import (
        compile_batches,
        compile_function,
        compile_gradient,
        configure,
        convolve,
        device,
        in_double,
        loop,
        on_cpu,
        sees_gpu,
        threads,
    )
else:
    from sweep.engine.tf_ops import (
        compile_batches,
        compile_function,
        compile_gradient,
        configure,
        convolve,
        device,
        in_double,
        loop,
        on_cpu,
        sees_gpu,
        threads,
    )

__all__ = [
    "compile_batches",
    "compile_function",
    "compile_gradient",
    "configure",
    "convolve",
    "device",
    "in_double",
    "loop",
    "on_cpu",
    "sees_gpu",
    "threads",
]

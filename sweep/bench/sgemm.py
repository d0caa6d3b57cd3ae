"""The machine's own rate of float32 matrix products: what any evaluation is measured against."""

from __future__ import annotations

import time

import numpy as np
from threadpoolctl import threadpool_limits

SIZE = 1024  # rows and columns: large enough for the full rate, small enough for the caches


def sgemm_rate(threads: int, seconds: float) -> float:
    """Floating-point operations a second (2 a multiply-add) of NumPy's matrix product on so many threads.

    Measured for `seconds`, and at least once after a product that does not count. Apple's Accelerate chooses its
    threads by itself.
    """
    a = np.random.default_rng(0).random((SIZE, SIZE), dtype=np.float32)
    product = np.empty_like(a)
    with threadpool_limits(threads, user_api="blas"):
        np.matmul(a, a, out=product)
        start, count = time.perf_counter(), 0
        while count == 0 or time.perf_counter() - start < seconds:
            np.matmul(a, a, out=product)
            count += 1
        return 2 * SIZE**3 * count / (time.perf_counter() - start)

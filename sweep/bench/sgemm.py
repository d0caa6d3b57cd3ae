"""The machine's own rate of float32 matrix products: what any evaluation is measured against."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Self

import numpy as np

SIZE = 1024  # rows and columns: large enough for the full rate, small enough for the caches
_LIBRARIES = ("OPENBLAS", "MKL", "OMP", "BLIS")  # whichever NumPy was built with reads one of these
_SERVE = "from sweep.bench.sgemm import serve; serve()"


class Sgemm:
    """NumPy's matrix product on so many threads, in a process of its own.

    A process of its own, because the libraries read the number of threads once, when they are loaded.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        variables = {f"{library}_NUM_THREADS": str(threads) for library in _LIBRARIES}
        environment = {**os.environ, **variables, "VECLIB_MAXIMUM_THREADS": str(threads)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def rate(self, seconds: float) -> float:
        """Floating-point operations a second (2 a multiply-add), measured for so long."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        print(seconds, file=stdin, flush=True)
        return float(stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.communicate()  # the end of its input ends it


def serve() -> None:
    """Answer each line of standard input, seconds, with a rate on standard output."""
    a = np.random.default_rng(0).random((SIZE, SIZE), dtype=np.float32)
    product = np.empty_like(a)
    np.matmul(a, a, out=product)
    for line in sys.stdin:
        print(measure(a, product, float(line)), flush=True)


def measure(a: np.ndarray, product: np.ndarray, seconds: float) -> float:
    """The rate of a·a for square a, in floating-point operations a second."""
    start, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - start < seconds:
        np.matmul(a, a, out=product)
        count += 1
    return 2 * len(a) ** 3 * count / (time.perf_counter() - start)

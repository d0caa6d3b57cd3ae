"""Which tile of sums is the fastest for a convolution on this machine: measured once, and remembered.

Sums are made in the same order in every tile, so results are the same to the last bit, and a tile may change between
two trials. A network that has been evaluated for ten times as long as measuring takes has it done then, never before.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from itertools import product

import numpy as np

from sweep.assembly import lanes
from sweep.engine.compiled.kernels import Clamp, Convolution, Kernel, Tile
from sweep.engine.compiled.program import Instruction, Place, build
from sweep.engine.compiled.seeing import Gather
from sweep.engine.machine import processor
from sweep.engine.remembered import recall, remember
from sweep.version import VERSION

SHARE = 0.1
"""Of the time that was spent on evaluating: what measuring may take."""
SECONDS = 0.15  # that a tile takes, most of it to compile; 0.05 to 0.15 were seen
GAIN = 0.98  # of the time of the usual tile, that another takes at most to be chosen
_ROUNDS, _ROUND = 7, 0.002  # of measuring, all tiles in turn; seconds of each
_WIDE = 16  # floats in a register where there are thirty-two of them
_LARGEST = 2**20  # floats of an array on which is measured, about
_BLOCKS = 4  # of a call
_known: dict[Convolution, Tile] = {}  # of this process


def best_known(kernel: Convolution) -> Convolution:
    """With the tile that is remembered for this machine, if there is one."""
    if lanes() < _WIDE:
        return kernel
    sums = _sums(kernel)
    if sums not in _known:
        tiles = {_name(tile): tile for tile in kernel.tiles}
        found = recall(_facts(sums)) if len(tiles) > 1 else None
        if found not in tiles:
            return kernel
        _known[sums] = tiles[found]
    return dataclasses.replace(kernel, measured=_known[sums])


def open_questions(kernels: Iterable[Kernel]) -> list[Convolution]:
    """Convolutions, of some kernels, of which it is not known which tile is the fastest; one of each shape."""
    if lanes() < _WIDE:
        return []
    found = (k for k in kernels if isinstance(k, Convolution) and len(k.tiles) > 1 and k.measured is None)
    return list({_sums(kernel): kernel for kernel in found}.values())


def is_due(questions: Sequence[Convolution], seconds: float) -> bool:
    """Whether they may be answered after so many seconds of evaluating."""
    return bool(questions) and SECONDS * sum(len(kernel.tiles) for kernel in questions) < SHARE * seconds


def measure(kernel: Convolution, clock: Callable[[], float] = time.perf_counter) -> Tile:
    """Find the fastest tile, and remember it."""
    tiles = kernel.tiles
    runs = [_run(dataclasses.replace(kernel, measured=tile)) for tile in tiles]
    best = [float("inf")] * len(tiles)
    times = 1
    for turn, (k, run) in product(range(_ROUNDS), enumerate(runs)):
        begun = clock()
        for _ in range(times):
            run()
        spent = (clock() - begun) / times
        if turn == 0 and k == 0:
            times = max(1, int(_ROUND / max(spent, 1e-9)))
        best[k] = min(best[k], spent)
    fastest = int(np.argmin(best))
    chosen = tiles[fastest] if best[fastest] <= GAIN * best[0] else tiles[0]
    _known[_sums(kernel)] = chosen
    remember(_facts(_sums(kernel)), _name(chosen))
    return chosen


def _run(kernel: Convolution) -> Callable[[], None]:
    """The kernel on some blocks of zeros, of as many rows as fit."""
    (height, _), (down, _), (apart, _), (pool, _) = kernel.window, kernel.strides, kernel.dilation, kernel.pool
    rows = max(1, min(kernel.rows, _LARGEST // (kernel.x_row * down)) // pool) * pool
    kernel = dataclasses.replace(kernel, rows=rows)
    read = ((rows - 1) * down + (height - 1) * apart + 1) * kernel.x_row
    x, r, y = Place("%input0", 0), Place("%scratch", 0), Place("%output", 0)
    program = build([Instruction(kernel, x, r, y, 0)], [Gather(1, lanes(), 0, 0, lanes())], kernel.weights, None, None)
    sizes = kernel.weights, rows * kernel.r_row, rows // pool * kernel.y_row, read
    arrays = [np.zeros(size + 2 * lanes(), np.float32) for size in sizes]
    weights, second, output, input_ = (array.ctypes.data + -array.ctypes.data % (4 * lanes()) for array in arrays)

    def run() -> None:
        assert arrays  # which live as long as this function
        program.run(weights, second, output, _BLOCKS, input_)

    return run


def _sums(kernel: Convolution) -> Convolution:
    """What of a kernel takes its time: without what stands around its arrays, and what is done to sums in the end."""
    plain = dataclasses.replace(kernel, x_row=0, y_row=0, r_row=0, clamp=Clamp(), rounded=False)
    return dataclasses.replace(plain, measured=None)


def _facts(sums: Convolution) -> dict[str, object]:
    """What the fastest tile depends on."""
    return {
        "sums": repr(sums),
        "lanes": lanes(),
        "processor": processor(),
        "versions": [VERSION, version("llvmlite")],
    }


def _name(tile: Tile) -> str:
    return "x".join(map(str, tile))

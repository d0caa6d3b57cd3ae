"""Machine code for small networks: a few images in the lanes of each SIMD register, made by LLVM at run time.

A *block* is as many images as a SIMD register has lanes (8 with AVX2, 16 with AVX-512). An activation of a block
is an array (rows, columns, channels, lanes), so that every instruction does the same for all images of the block:
no shuffles, no remainder, no copies into matrix form, and any kernel size, stride or dilation costs only its
multiplications. A convolution keeps a tile of outputs (pixels x filters) in registers, walks over the input
channels with its taps written out, and ends with what follows in the network: bias, residual addition,
activation, max-pooling.

Each kernel is a frozen description whose `emit` writes the body of one LLVM function
``void kernel(ptr x, ptr w, ptr r, ptr y)``: input, packed weights, second input, output.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Protocol

from sweep.engine.compiled.llvm import Code

# Sums kept in registers at a time: with fewer, a fused multiply-add waits for the one before it (latency 4, two a
# cycle); with more, sixteen registers do not hold them and what they are made from. Thirty-two, of AVX-512, hold twice
# as many, which may be faster: see `tuning`.
SUMS = 8
MOST_SUMS = 16
LARGEST_BODY = 4096  # multiply-adds written out in a row


class Kernel(Protocol):
    """See above; frozen, so that two of the same description are one function."""

    @property
    def weights(self) -> int:
        """Floats of its packed weights."""

    def emit(self, code: Code) -> None:
        """One block."""


@dataclass(frozen=True)
class Clamp:
    """The activations a kernel can end with: x -> min(max(x, slope·x), top)."""

    slope: float = 1.0
    top: float | None = None

    @property
    def increases(self) -> bool:
        """Whether it never decreases, so that it can wait until after a maximum."""
        return self.slope >= 0

    def emit(self, code: Code, x: str) -> str:
        """The clamped value."""
        if self.slope != 1:
            low = "zeroinitializer" if self.slope == 0 else code.binary("fmul", x, code.constant(self.slope))
            x = code.maximum(low, x)
        return x if self.top is None else code.minimum(code.constant(self.top), x)


class Function(Protocol):
    """An activation function."""

    @property
    def increases(self) -> bool:
        """Whether it never decreases."""

    def emit(self, code: Code, x: str) -> str:
        """Its value."""


LEVELS = 4  # numbers that say how results are rounded: offset, step, lowest and highest code


def round_to_levels(code: Code, x: str, levels: Sequence[str]) -> str:
    """clip(rint((x - offset) / step), lowest, highest) · step + offset, each operation rounded by itself."""
    offset, step, lowest, highest = levels
    codes = code.rint(code.binary("fdiv", code.binary("fsub", x, offset), step))
    codes = code.minimum(highest, code.maximum(lowest, codes))
    return code.binary("fadd", code.binary("fmul", codes, step), offset)


Segment = tuple[int, int, int]
Tile = tuple[int, int, int]


def segments(count: int, tile: int) -> list[Segment]:
    """(start, repeats, size) of the pieces that cover `count`: as many of size `tile` as fit, and what is left."""
    whole, rest = divmod(count, tile)
    return [s for s in ((0, whole, tile), (whole * tile, 1, rest)) if s[1] and s[2]]


@dataclass(frozen=True)
class Convolution:
    """A convolution, a dense layer (1x1 on one pixel), and what can be done while its results are in registers.

    Attributes:
        rows, columns: of the result, before pooling, as far as pooling reads it.
        channels, filters: C and F.
        window, strides, dilation, pool: each (over rows, over columns); pool (1, 1) for none.
        x_row, y_row: floats from one row to the next of input and output.
        r_row: the same of a second input that is added, or 0 for none.
        clamp: the activation function.
        rounded: whether results are rounded to levels in the end.
        measured: the tile that was found to be the fastest; None for the usual one.
    """

    rows: int
    columns: int
    channels: int
    filters: int
    window: tuple[int, int]
    strides: tuple[int, int]
    dilation: tuple[int, int]
    pool: tuple[int, int]
    x_row: int
    y_row: int
    r_row: int
    clamp: Function
    rounded: bool = False
    measured: Tile | None = None

    groups = 1  # see `Grouped`

    @property
    def tile(self) -> Tile:
        """Rows, columns and filters whose sums are kept in registers; sums are the same in any."""
        return self.measured or self._usual(SUMS)

    @property
    def tiles(self) -> list[Tile]:
        """The usual tile, and others that may be faster where there are thirty-two registers."""
        found = [self._usual(SUMS)]
        if self.pool != (1, 1):
            rows, columns, filters = found[0]
            found += [(rows, 2 * columns, filters)] if 2 * columns <= self.columns else []
        else:
            found += [self._usual(MOST_SUMS), (1, 1, min(self.filters, MOST_SUMS))]
        return [tile for tile in dict.fromkeys(found) if self.body(tile) <= LARGEST_BODY]

    def body(self, tile: Tile) -> int:
        """Multiply-adds that are written out in a row."""
        return math.prod(self.window) * math.prod(tile)

    def _usual(self, sums: int) -> Tile:
        if self.pool != (1, 1):
            filters = 1 if self.channels == 1 else max(1, sums // (self.pool[0] * self.pool[1]))
            return (*self.pool, min(filters, self.filters))
        filters = min(self.filters, 4 if self.rows * self.columns > 1 else sums)
        if self.rows * self.columns == 1:  # equal shares: a small remainder would wait for its own sums
            filters = -(-self.filters // -(-self.filters // sums))
        columns = min(self.columns, sums // filters)
        return max(1, min(self.rows, sums // filters // columns)), columns, filters

    @property
    def weights(self) -> int:
        """Floats of its packed weights: for each group of filters (C, kh, kw, filters), the biases, the levels."""
        taps = self.channels * self.window[0] * self.window[1]
        return (taps + 1) * self.filters * self.groups + LEVELS * self.rounded

    @property
    def pitches(self) -> tuple[int, int]:
        """Channels of a pixel of the input and of the output."""
        return self.channels * self.groups, self.filters * self.groups

    def emit(self, code: Code) -> None:
        """One block: loops over tiles of rows, columns and filters."""
        rows, columns, _ = self.tile
        start = self.weights - LEVELS
        levels = [code.splat(code.at("%w", start + k)) for k in range(LEVELS)] if self.rounded else []
        for row, column in product(segments(self.rows, rows), segments(self.columns, columns)):
            self._emit_area(code, row, column, levels)

    def _emit_area(self, code: Code, rows: Segment, columns: Segment, levels: Sequence[str]) -> None:
        """All tiles of one height and one width."""
        (row, n_rows, height), (column, n_columns, width) = rows, columns
        (ph, pw), (sh, sw), taps = self.pool, self.strides, self.channels * self.window[0] * self.window[1]
        x_step, y_step = self.pitches[0] * code.lanes * sw, self.pitches[1] * code.lanes
        r_step = y_step if self.r_row else 0

        def each_row(i: str) -> None:
            x = code.at("%x", row * sh * self.x_row, i, height * sh * self.x_row)
            y = code.at("%y", row // ph * self.y_row, i, height // ph * self.y_row)
            r = code.at("%r", row * self.r_row, i, height * self.r_row)

            def each_column(j: str) -> None:
                xj = code.at(x, column * x_step, j, width * x_step)
                yj = code.at(y, column // pw * y_step, j, width // pw * y_step)
                rj = code.at(r, column * r_step, j, width * r_step)

                def each_group(k: str) -> None:
                    xk, wk = code.at(xj, 0, k, self.channels * code.lanes), code.at("%w", 0, k, self.filters * taps)
                    yk, rk = (code.at(p, 0, k, self.filters * code.lanes) for p in (yj, rj))
                    bk = code.at("%w", 0, k, self.filters)
                    for first, repeats, filters in segments(self.filters, self.tile[2]):

                        def each_share(g: str, first: int = first, filters: int = filters) -> None:
                            w = code.at(wk, first * taps, g, filters * taps)
                            bias = code.at(bk, self.pitches[1] * taps + first, g, filters)
                            yg = code.at(yk, first * code.lanes, g, filters * code.lanes)
                            rg = code.at(rk, first * code.lanes, g, filters * code.lanes)
                            self._emit_tile(code, (height, width, filters), xk, w, bias, rg, yg, levels)

                        code.loop(repeats, each_share)

                code.loop(self.groups, each_group)

            code.loop(n_columns, each_column)

        code.loop(n_rows, each_row)

    def _emit_tile(
        self, code: Code, tile: Segment, x: str, w: str, bias: str, r: str, y: str, levels: Sequence[str]
    ) -> None:
        height, width, filters = tile
        (kh, kw), (sh, sw), (dh, dw) = self.window, self.strides, self.dilation
        # For each pixel of the patch that the tile reads: which sum it enters, by which tap.
        uses: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for a, b, ky, kx in product(range(height), range(width), range(kh), range(kw)):
            uses.setdefault((a * sh + ky * dh, b * sw + kx * dw), []).append((a * width + b, ky * kw + kx))

        def each_channel(c: str, *start: str) -> list[str]:
            sums = list(start)
            xc = code.at(x, 0, c, code.lanes)
            wc = code.at(w, 0, c, kh * kw * filters)
            row, taps = -1, dict[int, str]()
            for (line, column), entries in sorted(uses.items()):
                if line != row:  # taps are read again for each row: all of them would not fit in registers
                    row, taps = line, {}
                pixel = code.load(code.at(xc, line * self.x_row + column * self.pitches[0] * code.lanes))
                for (to, tap), f in product(entries, range(filters)):
                    k = tap * filters + f
                    if k not in taps:
                        taps[k] = code.splat(code.at(wc, k))
                    sums[to * filters + f] = code.fmuladd(pixel, taps[k], sums[to * filters + f])
            return sums

        zeros = ["zeroinitializer"] * (height * width * filters)
        sums = code.loop(self.channels, each_channel, zeros)
        ph, pw = self.pool
        for f in range(filters):
            offset = code.splat(code.at(bias, f))
            for i, j in product(range(height // ph), range(width // pw)):
                pooled = [(i * ph + p) * width + j * pw + q for p, q in product(range(ph), range(pw))]
                best = sums[pooled[0] * filters + f]
                for k in pooled[1:]:
                    best = code.maximum(best, sums[k * filters + f])
                best = code.binary("fadd", best, offset)
                to = (j * self.pitches[1] + f) * code.lanes
                if self.r_row:
                    best = code.binary("fadd", best, code.load(code.at(r, i * self.r_row + to)))
                best = self.clamp.emit(code, best)
                best = round_to_levels(code, best, levels) if levels else best
                code.store(best, code.at(y, i * self.y_row + to))


@dataclass(frozen=True)
class Grouped(Convolution):
    """A convolution whose channels come in groups, each with filters of its own; depthwise with a channel a group.

    Attributes:
        channels, filters: of a group.
        groups: how many.
    """

    groups: int = 1

    @property
    def tiles(self) -> list[Tile]:
        """The usual tile, and others that may be faster where there are thirty-two registers."""
        found = super().tiles
        if self.filters == self.channels == 1 and self.pool == (1, 1):
            found += [(min(self.rows, 4), min(self.columns, 4), 1), (1, min(self.columns, SUMS), 1)]
        return [tile for tile in dict.fromkeys(found) if self.body(tile) <= LARGEST_BODY]

    def _usual(self, sums: int) -> Tile:
        if self.filters == self.channels == 1 and self.pool == (1, 1):  # in squares, which read the fewest pixels
            columns = min(self.columns, 4)
            return max(1, min(self.rows, sums // columns)), columns, 1
        return super()._usual(sums)


@dataclass(frozen=True)
class Pointwise:
    """y = clamp(x · scale + offset + r), the last two and the scale only if wanted; also copies.

    Attributes:
        rows, columns, channels: of the arrays.
        affine: True if packed weights begin with C scales and C offsets.
        x_row, y_row: floats from one row to the next of input and output; r_row of the second input, 0 for none.
        y_column: floats from one pixel of the output to the next.
        clamp: the activation function.
        rounded: whether results are rounded to levels in the end.
    """

    rows: int
    columns: int
    channels: int
    affine: bool
    x_row: int
    y_row: int
    r_row: int
    y_column: int
    clamp: Function
    rounded: bool = False

    @property
    def weights(self) -> int:
        """Floats of its packed weights."""
        return (2 * self.channels if self.affine else 0) + LEVELS * self.rounded

    def emit(self, code: Code) -> None:
        """One block."""
        lanes, start = code.lanes, self.weights - LEVELS
        levels = [code.splat(code.at("%w", start + k)) for k in range(LEVELS)] if self.rounded else []

        def each_row(i: str) -> None:
            x, y, r = (code.at(p, 0, i, s) for p, s in (("%x", self.x_row), ("%y", self.y_row), ("%r", self.r_row)))

            def each_column(j: str) -> None:
                step = self.channels * lanes
                xj, yj, rj = code.at(x, 0, j, step), code.at(y, 0, j, self.y_column), code.at(r, 0, j, step)

                def each_channel(c: str) -> None:
                    value = code.load(code.at(xj, 0, c, lanes))
                    if self.affine:
                        scale = code.splat(code.at("%w", 0, c, 1))
                        value = code.fmuladd(value, scale, code.splat(code.at("%w", self.channels, c, 1)))
                    if self.r_row:
                        value = code.binary("fadd", value, code.load(code.at(rj, 0, c, lanes)))
                    value = self.clamp.emit(code, value)
                    value = round_to_levels(code, value, levels) if levels else value
                    code.store(value, code.at(yj, 0, c, lanes))

                code.loop(self.channels, each_channel)

            code.loop(self.columns, each_column)

        code.loop(self.rows, each_row)

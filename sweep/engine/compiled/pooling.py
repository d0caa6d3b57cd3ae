"""Pooling as a kernel: windows are cut where they reach beyond the activation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from sweep.engine.compiled.llvm import Code

Run = tuple[int, int, int, int]
"""First window, how many, first row or column of the input that is read, and how many."""


@dataclass(frozen=True)
class Pool:
    """Pooling, or over everything.

    Attributes:
        kind: the largest of the window, or its mean.
        rows, columns, channels: of the result.
        window, strides: each (over rows, over columns).
        x_row, y_row: floats from one row to the next of input and output.
        size: rows and columns of the input, where windows reach beyond; None where they do not.
        before: rows and columns by which the first window does.
    """

    kind: Literal["max", "mean"]
    rows: int
    columns: int
    channels: int
    window: tuple[int, int]
    strides: tuple[int, int]
    x_row: int
    y_row: int
    size: tuple[int, int] | None = None
    before: tuple[int, int] = (0, 0)

    weights = 0  # floats of its packed weights

    def emit(self, code: Code) -> None:
        """One block."""
        for rows, columns in product(self._runs(0), self._runs(1)):
            self._emit_area(code, rows, columns)

    def _runs(self, axis: int) -> list[Run]:
        """Windows in a row of which as much lies within the input."""
        count, window, stride = (self.rows, self.columns)[axis], self.window[axis], self.strides[axis]
        if self.size is None:
            return [(0, count, 0, window)]
        found: list[Run] = []
        for k in range(count):
            begin = k * stride - self.before[axis]
            start, end = max(begin, 0), min(begin + window, self.size[axis])
            if found and begin > 0 and end - start == found[-1][3] and found[-1][2] + found[-1][1] * stride == start:
                first, repeats, began, length = found.pop()
                found.append((first, repeats + 1, began, length))
            else:
                found.append((k, 1, start, end - start))
        return found

    def _emit_area(self, code: Code, rows: Run, columns: Run) -> None:
        """All windows of one height and one width."""
        (row, n_rows, x_row, height), (column, n_columns, x_column, width) = rows, columns
        step = self.channels * code.lanes

        def at_position(x: str, y: str) -> None:
            def each_channel(c: str) -> None:
                xc = code.at(x, 0, c, code.lanes)

                def each_line(p: str, value: str) -> Sequence[str]:
                    line = code.at(xc, 0, p, self.x_row)

                    def each_pixel(q: str, value: str) -> list[str]:
                        pixel = code.load(code.at(line, 0, q, step))
                        if self.kind == "max":
                            return [code.maximum(value, pixel)]
                        return [code.binary("fadd", value, pixel)]

                    return code.loop(width, each_pixel, [value])

                start = code.load(xc) if self.kind == "max" else "zeroinitializer"
                (value,) = code.loop(height, each_line, [start])
                if self.kind == "mean":
                    value = code.binary("fmul", value, code.constant(1 / (height * width)))
                code.store(value, code.at(y, 0, c, code.lanes))

            code.loop(self.channels, each_channel)

        def each_row(i: str) -> None:
            x = code.at("%x", x_row * self.x_row, i, self.strides[0] * self.x_row)
            y = code.at("%y", row * self.y_row, i, self.y_row)

            def each_column(j: str) -> None:
                at_position(code.at(x, x_column * step, j, self.strides[1] * step), code.at(y, column * step, j, step))

            code.loop(n_columns, each_column)

        code.loop(n_rows, each_row)

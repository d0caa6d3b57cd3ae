"""Pooling as a kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sweep.engine.compiled.llvm import Code


@dataclass(frozen=True)
class Pool:
    """Pooling without padding, or over everything.

    Attributes:
        kind: the largest of the window, or its mean.
        rows, columns, channels: of the result.
        window, strides: each (over rows, over columns).
        x_row, y_row: floats from one row to the next of input and output.
    """

    kind: Literal["max", "mean"]
    rows: int
    columns: int
    channels: int
    window: tuple[int, int]
    strides: tuple[int, int]
    x_row: int
    y_row: int

    weights = 0  # floats of its packed weights

    def emit(self, code: Code) -> None:
        """One block."""
        step, (height, width) = self.channels * code.lanes, self.window

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
            x, y = code.at("%x", 0, i, self.strides[0] * self.x_row), code.at("%y", 0, i, self.y_row)
            code.loop(
                self.columns,
                lambda j: at_position(code.at(x, 0, j, self.strides[1] * step), code.at(y, 0, j, step)),
            )

        code.loop(self.rows, each_row)

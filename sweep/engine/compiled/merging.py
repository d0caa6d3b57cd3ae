"""Two activations brought together, one of them spread over the other where it is smaller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sweep.engine.compiled.kernels import Function
from sweep.engine.compiled.llvm import Code

Steps = tuple[int, int, int]
Combination = Literal["fadd", "fsub", "fmul", "fdiv", "max", "min"]


@dataclass(frozen=True)
class Merge:
    """y = clamp(x ∘ r).

    Attributes:
        operation: what ∘ is.
        rows, columns, channels: of y.
        x_steps, r_steps, y_steps: floats from one row, pixel and channel to the next; 0 where there is only one.
        clamp: the activation function.
    """

    operation: Combination
    rows: int
    columns: int
    channels: int
    x_steps: Steps
    r_steps: Steps
    y_steps: Steps
    clamp: Function

    weights = 0  # floats of its packed weights

    def emit(self, code: Code) -> None:
        """One block."""
        pointers, steps = ("%x", "%r", "%y"), list(zip(self.x_steps, self.r_steps, self.y_steps, strict=True))

        def each_row(i: str) -> None:
            row = [code.at(pointer, 0, i, step) for pointer, step in zip(pointers, steps[0], strict=True)]

            def each_column(j: str) -> None:
                pixel = [code.at(pointer, 0, j, step) for pointer, step in zip(row, steps[1], strict=True)]

                def each_channel(c: str) -> None:
                    x, r, y = (code.at(pointer, 0, c, step) for pointer, step in zip(pixel, steps[2], strict=True))
                    code.store(self.clamp.emit(code, self._together(code, code.load(x), code.load(r))), y)

                code.loop(self.channels, each_channel)

            code.loop(self.columns, each_column)

        code.loop(self.rows, each_row)

    def _together(self, code: Code, x: str, r: str) -> str:
        if self.operation == "max":
            return code.maximum(x, r)
        return code.minimum(x, r) if self.operation == "min" else code.binary(self.operation, x, r)

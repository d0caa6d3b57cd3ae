"""LLVM's assembly language, written for vectors of floats."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

Emit = Callable[..., Sequence[str] | None]


class Code:
    """LLVM's assembly language, a line at a time, for vectors of `lanes` floats."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.vector = f"<{lanes} x float>"
        self.lines: list[str] = []
        self._names = 0
        self._block = "entry"

    def name(self) -> str:
        """A new name."""
        self._names += 1
        return f"v{self._names}"

    def let(self, expression: str) -> str:
        """Names the value of an expression."""
        name = f"%{self.name()}"
        self.lines.append(f"{name} = {expression}")
        return name

    def loop(self, count: int | str, body: Emit, start: Sequence[str] = ()) -> Sequence[str]:
        """Repeats body(index, *sums) -> new sums `count` times, at least once; returns the last sums."""
        if count == 1:
            return body("0", *start) or ()
        name, before = self.name(), self._block
        index, sums = f"%{name}.i", [f"%{name}.s{k}" for k in range(len(start))]
        self.lines.append(f"br label %{name}.loop")
        self._label(f"{name}.loop")
        phis = len(self.lines)
        new = body(index, *sums) or ()
        following = self.let(f"add i64 {index}, 1")
        more = self.let(f"icmp ult i64 {following}, {count}")
        self.lines.append(f"br i1 {more}, label %{name}.loop, label %{name}.done")
        pairs = [("i64", index, "0", following)]
        pairs += [(self.vector, *names) for names in zip(sums, start, new, strict=True)]
        self.lines[phis:phis] = [
            f"{to} = phi {kind} [{first}, %{before}], [{then}, %{self._block}]" for kind, to, first, then in pairs
        ]
        self._label(f"{name}.done")
        return new

    def _label(self, label: str) -> None:
        self.lines.append(f"{label}:")
        self._block = label

    def at(self, pointer: str, offset: int, index: str = "0", step: int = 0) -> str:
        """pointer + offset + index · step, in floats."""
        if index != "0" and step:
            scaled = self.let(f"mul i64 {index}, {step}")
            pointer = self.let(f"getelementptr float, ptr {pointer}, i64 {scaled}")
        return self.let(f"getelementptr float, ptr {pointer}, i64 {offset}") if offset else pointer

    def load(self, pointer: str, aligned: bool = True) -> str:
        """A vector."""
        return self.let(f"load {self.vector}, ptr {pointer}, align {4 * self.lanes if aligned else 4}")

    def shuffle(self, a: str, b: str, lanes: Sequence[int]) -> str:
        """Of the lanes of a, and those of b behind them, these."""
        mask = f"<{self.lanes} x i32> <{', '.join(f'i32 {k}' for k in lanes)}>"
        return self.let(f"shufflevector {self.vector} {a}, {self.vector} {b}, {mask}")

    def store(self, value: str, pointer: str) -> None:
        """A vector."""
        self.lines.append(f"store {self.vector} {value}, ptr {pointer}, align {4 * self.lanes}")

    def splat(self, pointer: str) -> str:
        """One float in all lanes."""
        scalar = self.let(f"load float, ptr {pointer}")
        one = self.let(f"insertelement {self.vector} undef, float {scalar}, i32 0")
        mask = f"<{self.lanes} x i32> zeroinitializer"
        return self.let(f"shufflevector {self.vector} {one}, {self.vector} undef, {mask}")

    def constant(self, value: float) -> str:
        """A number in all lanes."""
        bits = ctypes.c_uint64.from_buffer(ctypes.c_double(ctypes.c_float(value).value)).value
        return "<" + ", ".join([f"float 0x{bits:016X}"] * self.lanes) + ">"

    def fmuladd(self, a: str, b: str, c: str) -> str:
        """a·b + c, rounded once."""
        v = self.vector
        return self.let(f"call {v} @llvm.fmuladd.v{self.lanes}f32({v} {a}, {v} {b}, {v} {c})")

    def binary(self, operation: str, a: str, b: str) -> str:
        """fadd, fmul..."""
        return self.let(f"{operation} {self.vector} {a}, {b}")

    def rint(self, x: str) -> str:
        """The nearest whole number, ties to even."""
        return self.let(f"call {self.vector} @llvm.rint.v{self.lanes}f32({self.vector} {x})")

    def power_of_two(self, n: str) -> str:
        """2^n for whole numbers n from -126 to 127: an exponent put together."""
        whole = f"<{self.lanes} x i32>"
        exponent = self.let(f"fptosi {self.vector} {self.binary('fadd', n, self.constant(127))} to {whole}")
        bits = self.let(f"shl {whole} {exponent}, <{', '.join(['i32 23'] * self.lanes)}>")
        return self.let(f"bitcast {whole} {bits} to {self.vector}")

    def maximum(self, a: str, b: str) -> str:
        """max(a, b); b if either is not a number."""
        chosen = self.let(f"fcmp ogt {self.vector} {a}, {b}")
        return self.let(f"select <{self.lanes} x i1> {chosen}, {self.vector} {a}, {self.vector} {b}")

    def minimum(self, a: str, b: str) -> str:
        """min(a, b); b if either is not a number."""
        chosen = self.let(f"fcmp olt {self.vector} {a}, {b}")
        return self.let(f"select <{self.lanes} x i1> {chosen}, {self.vector} {a}, {self.vector} {b}")

"""Machine code for small networks: a few images in the lanes of each SIMD register, made by LLVM at run time.

A *block* is as many images as a SIMD register has lanes (8 with AVX2, 16 with AVX-512). An activation of a block is
an array (rows, columns, channels, lanes), so that every instruction does the same for all images of the block:
no shuffles, no remainder, no copies into matrix form, and any kernel size, stride or dilation costs only its
multiplications. A convolution keeps a tile of outputs (pixels x filters) in registers, walks over the input
channels with its taps written out, and ends with what follows in the network: bias, residual addition,
activation, max-pooling.

Each kernel is a frozen description whose `emit` writes the body of one LLVM function
``void kernel(ptr x, ptr w, ptr r, ptr y)``: input, packed weights, second input, output.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any, Literal

try:
    import llvmlite.binding as llvm
except ImportError:  # an optional dependency: without it, networks run stacked
    llvm = None

# Sums kept in registers at a time: with fewer, a fused multiply-add waits for the one before it (latency 4, two a
# cycle); with more, sixteen registers do not hold them and what they are made from.
SUMS = 8

Emit = Callable[..., Sequence[str] | None]


@dataclass(frozen=True)
class Clamp:
    """The activations a kernel can end with: x -> min(max(x, slope·x), top)."""

    slope: float = 1.0
    top: float | None = None


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

    def loop(self, count: int, body: Emit, start: Sequence[str] = ()) -> Sequence[str]:
        """Repeats body(index, *sums) -> new sums; returns the sums after the last round."""
        if count == 1:
            return body("0", *start) or ()
        name, before = self.name(), self._block
        index, sums = f"%{name}.i", [f"%{name}.s{k}" for k in range(len(start))]
        self._open(f"{name}.loop")
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

    def _open(self, label: str) -> None:
        self.lines.append(f"br label %{label}")
        self._label(label)

    def _label(self, label: str) -> None:
        self.lines.append(f"{label}:")
        self._block = label

    def at(self, pointer: str, offset: int, index: str = "0", step: int = 0) -> str:
        """pointer + offset + index · step, in floats."""
        if index != "0":
            pointer = self.at(pointer, 0, self.let(f"mul i64 {index}, {step}"), 1) if step != 1 else pointer
            if step == 1:
                pointer = self.let(f"getelementptr float, ptr {pointer}, i64 {index}")
        return self.let(f"getelementptr float, ptr {pointer}, i64 {offset}") if offset else pointer

    def load(self, pointer: str) -> str:
        """A vector."""
        return self.let(f"load {self.vector}, ptr {pointer}, align {4 * self.lanes}")

    def store(self, value: str, pointer: str) -> None:
        """A vector."""
        self.lines.append(f"store {self.vector} {value}, ptr {pointer}, align {4 * self.lanes}")

    def spread(self, pointer: str) -> str:
        """One float in all lanes."""
        scalar = self.let(f"load float, ptr {pointer}")
        one = self.let(f"insertelement {self.vector} undef, float {scalar}, i32 0")
        mask = f"<{self.lanes} x i32> zeroinitializer"
        return self.let(f"shufflevector {self.vector} {one}, {self.vector} undef, {mask}")

    def constant(self, value: float) -> str:
        """A number in all lanes."""
        bits = ctypes.c_uint64.from_buffer(ctypes.c_double(ctypes.c_float(value).value)).value
        return "<" + ", ".join([f"float 0x{bits:016X}"] * self.lanes) + ">"

    def multiply_add(self, a: str, b: str, c: str) -> str:
        """a·b + c, rounded once."""
        v = self.vector
        return self.let(f"call {v} @llvm.fmuladd.v{self.lanes}f32({v} {a}, {v} {b}, {v} {c})")

    def binary(self, operation: str, a: str, b: str) -> str:
        """fadd, fmul..."""
        return self.let(f"{operation} {self.vector} {a}, {b}")

    def larger(self, a: str, b: str) -> str:
        """max(a, b); b if either is not a number."""
        chosen = self.let(f"fcmp ogt {self.vector} {a}, {b}")
        v = self.vector
        return self.let(f"select <{self.lanes} x i1> {chosen}, {v} {a}, {v} {b}")

    def clamp(self, x: str, clamp: Clamp) -> str:
        """An activation function."""
        if clamp.slope != 1:
            low = "zeroinitializer" if clamp.slope == 0 else self.binary("fmul", x, self.constant(clamp.slope))
            x = self.larger(low, x)
        if clamp.top is not None:
            top = self.constant(clamp.top)
            chosen = self.let(f"fcmp olt {self.vector} {top}, {x}")
            x = self.let(f"select <{self.lanes} x i1> {chosen}, {self.vector} {top}, {self.vector} {x}")
        return x


def segments(count: int, tile: int) -> list[tuple[int, int, int]]:
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
    clamp: Clamp

    @property
    def tile(self) -> tuple[int, int, int]:
        """Rows, columns and filters whose sums are kept in registers."""
        if self.pool != (1, 1):
            filters = 1 if self.channels == 1 else max(1, SUMS // (self.pool[0] * self.pool[1]))
            return (*self.pool, min(filters, self.filters))
        filters = min(self.filters, 4 if self.rows * self.columns > 1 else SUMS)
        if self.rows * self.columns == 1:  # equal shares: a small remainder would wait for its own sums
            filters = -(-self.filters // -(-self.filters // SUMS))
        columns = min(self.columns, SUMS // filters)
        return max(1, min(self.rows, SUMS // filters // columns)), columns, filters

    def weights(self, lanes: int) -> int:
        """Floats of its packed weights: for each group of filters (C, kh, kw, filters), then the biases."""
        return (self.channels * self.window[0] * self.window[1] + 1) * self.filters

    def emit(self, code: Code) -> None:
        """One block: loops over tiles of rows, columns and filters."""
        (tile_rows, tile_columns, tile_filters), (ph, pw), (sh, sw) = self.tile, self.pool, self.strides
        lanes, taps = code.lanes, self.channels * self.window[0] * self.window[1]
        r_step = self.r_row and self.filters * lanes
        pieces = (segments(self.rows, tile_rows), segments(self.columns, tile_columns))
        for (row, n_rows, height), (column, n_columns, width) in product(*pieces):

            def each_row(i: str, row=row, height=height, column=column, n_columns=n_columns, width=width):  # type: ignore[no-untyped-def]
                x = code.at("%x", row * sh * self.x_row, i, height * sh * self.x_row)
                y = code.at("%y", row // ph * self.y_row, i, height // ph * self.y_row)
                r = code.at("%r", row * self.r_row, i, height * self.r_row)

                def each_column(j: str) -> None:
                    x_step = self.channels * lanes * sw
                    xj = code.at(x, column * x_step, j, width * x_step)
                    yj = code.at(y, column // pw * self.filters * lanes, j, width // pw * self.filters * lanes)
                    rj = code.at(r, column * r_step, j, width * r_step)
                    for first, groups, filters in segments(self.filters, tile_filters):

                        def each_group(g: str, first: int = first, filters: int = filters) -> None:
                            w = code.at("%w", first * taps, g, filters * taps)
                            bias = code.at("%w", self.filters * taps + first, g, filters)
                            yg = code.at(yj, first * lanes, g, filters * lanes)
                            rg = code.at(rj, first * lanes, g, filters * lanes)
                            self._emit_tile(code, (height, width, filters), xj, w, bias, rg, yg)

                        code.loop(groups, each_group)

                code.loop(n_columns, each_column)

            code.loop(n_rows, each_row)

    def _emit_tile(
        self, code: Code, tile: tuple[int, int, int], x: str, w: str, bias: str, r: str, y: str
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
                pixel = code.load(code.at(xc, line * self.x_row + column * self.channels * code.lanes))
                for (to, tap), f in product(entries, range(filters)):
                    k = tap * filters + f
                    if k not in taps:
                        taps[k] = code.spread(code.at(wc, k))
                    sums[to * filters + f] = code.multiply_add(pixel, taps[k], sums[to * filters + f])
            return sums

        zeros = ["zeroinitializer"] * (height * width * filters)
        sums = code.loop(self.channels, each_channel, zeros)
        ph, pw = self.pool
        for f in range(filters):
            b = code.spread(code.at(bias, f))
            for i, j in product(range(height // ph), range(width // pw)):
                inside = [(i * ph + p) * width + j * pw + q for p, q in product(range(ph), range(pw))]
                best = sums[inside[0] * filters + f]
                for k in inside[1:]:
                    best = code.larger(best, sums[k * filters + f])
                best = code.binary("fadd", best, b)
                if self.r_row:
                    at = code.at(r, i * self.r_row + (j * self.filters + f) * code.lanes)
                    best = code.binary("fadd", best, code.load(at))
                at = code.at(y, i * self.y_row + (j * self.filters + f) * code.lanes)
                code.store(code.clamp(best, self.clamp), at)


@dataclass(frozen=True)
class Pointwise:
    """y = clamp(x · scale + offset + r), the last two and the scale only if wanted; also copies.

    Attributes:
        rows, columns, channels: of the arrays.
        affine: True if there are packed weights: C scales, then C offsets.
        x_row, y_row: floats from one row to the next of input and output; r_row of the second input, 0 for none.
        y_column: floats from one pixel of the output to the next.
        clamp: the activation function.
    """

    rows: int
    columns: int
    channels: int
    affine: bool
    x_row: int
    y_row: int
    r_row: int
    y_column: int
    clamp: Clamp

    def weights(self, lanes: int) -> int:
        """Floats of its packed weights."""
        return 2 * self.channels if self.affine else 0

    def emit(self, code: Code) -> None:
        """One block."""
        lanes = code.lanes

        def each_row(i: str) -> None:
            x, y, r = (
                code.at(p, 0, i, s) for p, s in (("%x", self.x_row), ("%y", self.y_row), ("%r", self.r_row))
            )

            def each_column(j: str) -> None:
                step = self.channels * lanes
                xj, yj, rj = code.at(x, 0, j, step), code.at(y, 0, j, self.y_column), code.at(r, 0, j, step)

                def each_channel(c: str) -> None:
                    value = code.load(code.at(xj, 0, c, lanes))
                    if self.affine:
                        scale = code.spread(code.at("%w", 0, c, 1))
                        value = code.multiply_add(value, scale, code.spread(code.at("%w", self.channels, c, 1)))
                    if self.r_row:
                        value = code.binary("fadd", value, code.load(code.at(rj, 0, c, lanes)))
                    code.store(code.clamp(value, self.clamp), code.at(yj, 0, c, lanes))

                code.loop(self.channels, each_channel)

            code.loop(self.columns, each_column)

        code.loop(self.rows, each_row)


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

    def weights(self, lanes: int) -> int:
        """None."""
        return 0

    def emit(self, code: Code) -> None:
        """One block."""
        step, (height, width) = self.channels * code.lanes, self.window
        positions = product(range(self.rows), range(self.columns))
        if self.rows * self.columns > 1:
            positions = product(["i"], ["j"])

        def at_position(x: str, y: str) -> None:
            def each_channel(c: str) -> None:
                xc = code.at(x, 0, c, code.lanes)

                def each_row(p: str, *value: str) -> list[str]:
                    xp = code.at(xc, 0, p, self.x_row)

                    def each_column(q: str, value: str) -> list[str]:
                        pixel = code.load(code.at(xp, 0, q, step))
                        if self.kind == "max":
                            return [code.larger(value, pixel)]
                        return [code.binary("fadd", value, pixel)]

                    return list(code.loop(width, each_column, value))

                start = code.load(xc) if self.kind == "max" else "zeroinitializer"
                (value,) = code.loop(height, each_row, [start])
                if self.kind == "mean":
                    value = code.binary("fmul", value, code.constant(1 / (height * width)))
                code.store(value, code.at(y, 0, c, code.lanes))

            code.loop(self.channels, each_channel)

        del positions

        def each_row(i: str) -> None:
            x, y = code.at("%x", 0, i, self.strides[0] * self.x_row), code.at("%y", 0, i, self.y_row)
            code.loop(
                self.columns,
                lambda j: at_position(code.at(x, 0, j, self.strides[1] * step), code.at(y, 0, j, step)),
            )

        code.loop(self.rows, each_row)


Kernel = Convolution | Pointwise | Pool


@dataclass(frozen=True)
class Place:
    """Where an array of a block begins: `start` floats into one of the pointers of the program."""

    pointer: str
    start: int
    block: int = 0  # floats from one block to the next


@dataclass(frozen=True)
class Instruction:
    """A kernel and what it works on; `weights` is the offset of its packed weights."""

    kernel: Kernel
    x: Place
    r: Place
    y: Place
    weights: int


@cache
def lanes() -> int:
    """Floats in a SIMD register of this machine."""
    features = llvm.get_host_cpu_features()
    return 16 if features.get("avx512f") else 8 if features.get("avx") else 4


def build(instructions: Sequence[Instruction], inputs: int) -> Callable[..., None]:
    """Compiles a program ``run(weights, scratch, output, blocks, input 0, ...)``, which releases Python's lock.

    All arguments but the number of blocks are addresses of float32 arrays, aligned to a SIMD register.
    """
    width, kernels, text = lanes(), dict[Kernel, str](), []
    for instruction in instructions:
        if instruction.kernel not in kernels:
            kernels[instruction.kernel] = f"kernel{len(kernels)}"
            code = Code(width)
            instruction.kernel.emit(code)
            arguments = "ptr noalias %x, ptr noalias %w, ptr noalias %r, ptr noalias %y"
            head = f"define internal void @{kernels[instruction.kernel]}({arguments}) noinline nounwind {{\nentry:\n"
            text.append(head + "\n".join(code.lines) + "\nret void\n}\n")
    text.append(_driver(instructions, kernels, inputs, width))
    v = f"<{width} x float>"
    text.append(f"declare {v} @llvm.fmuladd.v{width}f32({v}, {v}, {v})\n")
    engine = _compile("".join(text))
    kinds = [ctypes.c_void_p] * 3 + [ctypes.c_int64] + [ctypes.c_void_p] * inputs
    function = ctypes.CFUNCTYPE(None, *kinds)(engine.get_function_address("run"))

    def run(*arguments: int) -> None:
        function(*arguments)

    run.engine = engine  # type: ignore[attr-defined]  # the machine code lives as long as its engine
    return run


def _driver(
    instructions: Sequence[Instruction], kernels: dict[Kernel, str], inputs: int, width: int
) -> str:
    """The loop over blocks, which calls the kernels one after the other."""
    code = Code(width)

    def each_block(i: str) -> None:
        for step in instructions:
            x, r, y = (code.at(p.pointer, p.start, i, p.block) for p in (step.x, step.r, step.y))
            w = code.at("%weights", step.weights)
            code.lines.append(f"call void @{kernels[step.kernel]}(ptr {x}, ptr {w}, ptr {r}, ptr {y})")

    code.loop(2**62, each_block)
    body = "\n".join(code.lines).replace(str(2**62), "%blocks")
    pointers = ", ".join(f"ptr %input{k}" for k in range(inputs))
    return f"define void @run(ptr %weights, ptr %scratch, ptr %output, i64 %blocks, {pointers}) {{\nentry:\n{body}\nret void\n}}\n"


def _compile(assembly: str) -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(assembly)
    module.verify()
    features = llvm.get_host_cpu_features().flatten()
    target = llvm.Target.from_default_triple()
    machine = target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features, opt=3, jit=True
    )
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    llvm.create_pass_builder(machine, options).getModulePassManager().run(
        module, llvm.create_pass_builder(machine, options)
    )
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return engine

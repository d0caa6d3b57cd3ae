"""Kernels in order as one piece of machine code: one trial on many images, or many trials on few images each."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.assembly import compile_assembly, lanes
from sweep.engine.compiled.kernels import Kernel
from sweep.engine.compiled.llvm import Code
from sweep.engine.compiled.seeing import FACTS, Facts, Gather, Rearrange


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


@dataclass(frozen=True)
class Program:
    """The machine code of a network; both functions release Python's lock.

    All arguments but counts are addresses of arrays, float32 but for the numbers of images, and aligned to a SIMD
    register but for images that are gathered.

    Attributes:
        run: ``(weights, scratch, output, blocks, input 0, ...)``: one trial on blocks of images in the lanes.
        see: ``(weights, order, packed, scratch, output, gathered, facts, numbers, trials, blocks, input 0, ...)``: many
            trials, each on blocks of its own images, whose numbers (trials, blocks · lanes) are int32. Inputs are all
            images, one after the other. For each block the output, and `Facts` where there are any. What `Rearrange`
            reads are weights, order and packed; without it, weights are packed already.
    """

    run: Callable[..., None]
    see: Callable[..., None]


def build(
    instructions: Sequence[Instruction],
    gathers: Sequence[Gather],
    weights: int,
    rearrange: Rearrange | None,
    facts: Facts | None,
) -> Program:
    """Compiles a program.

    Args:
        instructions: in order.
        gathers: how each input is read by `see`; the arrays lie one after the other in its `gathered`.
        weights: floats of the packed weights of a trial.
        rearrange: how `see` packs weights, or None where it is given packed ones.
        facts: what is said of the scores of a block, or None.
    """
    width, kernels = lanes(), dict[Kernel, str]()
    text: list[str] = []

    def add(name: str, parameters: Sequence[str], emit: Callable[[Code], None]) -> None:
        code = Code(width)
        emit(code)
        arguments = ", ".join(f"ptr noalias %{parameter}" for parameter in parameters)
        head = f"define internal void @{name}({arguments}) noinline nounwind"
        text.extend([head, "{", "entry:", *code.lines, "ret void", "}"])

    for instruction in instructions:
        if instruction.kernel not in kernels:
            kernels[instruction.kernel] = f"kernel{len(kernels)}"
            add(kernels[instruction.kernel], "xwry", instruction.kernel.emit)
    for k, gather in enumerate(gathers):
        add(f"gather{k}", "xiy", gather.emit)
    if rearrange is not None:
        add("rearrange", "xiy", rearrange.emit)
    if facts is not None:
        add("facts", "xy", facts.emit)
    text += _run(instructions, kernels, len(gathers), width)
    text += _see(instructions, kernels, gathers, weights, rearrange, facts, width)
    v = f"<{width} x float>"
    text.append(f"declare {v} @llvm.fmuladd.v{width}f32({v}, {v}, {v})")
    text.append(f"declare {v} @llvm.rint.v{width}f32({v})")
    engine = compile_assembly("\n".join(text))
    return Program(_function(engine, "run", 3, 1, len(gathers)), _function(engine, "see", 8, 2, len(gathers)))


def _function(engine: Any, name: str, pointers: int, counts: int, inputs: int) -> Callable[..., None]:
    kinds = [ctypes.c_void_p] * pointers + [ctypes.c_int64] * counts + [ctypes.c_void_p] * inputs
    function = ctypes.CFUNCTYPE(None, *kinds)(engine.get_function_address(name))
    function.engine = engine  # type: ignore[attr-defined]  # the machine code lives as long as its engine
    return function


def _define(code: Code, name: str, pointers: Sequence[str], counts: Sequence[str], inputs: int) -> list[str]:
    arguments = [f"ptr %{p}" for p in pointers] + [f"i64 %{c}" for c in counts]
    head = f"define void @{name}({', '.join(arguments + [f'ptr %input{k}' for k in range(inputs)])})"
    return [head, "{", "entry:", *code.lines, "ret void", "}"]


def _call(code: Code, name: str, *arguments: str) -> None:
    code.lines.append(f"call void @{name}({', '.join(f'ptr {a}' for a in arguments)})")


def _run(instructions: Sequence[Instruction], kernels: dict[Kernel, str], inputs: int, width: int) -> list[str]:
    """The loop over blocks, which calls the kernels one after the other."""
    code = Code(width)

    def each_block(i: str) -> None:
        for step in instructions:
            x, r, y = (code.at(p.pointer, p.start, i, p.block) for p in (step.x, step.r, step.y))
            _call(code, kernels[step.kernel], x, code.at("%weights", step.weights), r, y)

    code.loop("%blocks", each_block)
    return _define(code, "run", ("weights", "scratch", "output"), ("blocks",), inputs)


def _see(
    instructions: Sequence[Instruction],
    kernels: dict[Kernel, str],
    gathers: Sequence[Gather],
    weights: int,
    rearrange: Rearrange | None,
    facts: Facts | None,
    width: int,
) -> list[str]:
    """The loop over trials and their blocks, which gathers the images of a block and calls the kernels on them."""
    code, starts = Code(width), [0]
    for gather in gathers:
        starts.append(starts[-1] + gather.size)

    def each_trial(t: str) -> None:
        own, before = (
            code.at("%weights", 0, t, rearrange.row if rearrange else weights),
            code.let(f"mul i64 {t}, %blocks"),
        )
        if rearrange is not None:
            _call(code, "rearrange", own, "%order", "%packed")
            own = "%packed"

        def each_block(i: str) -> None:
            number = code.let(f"add i64 {before}, {i}")

            def address(place: Place) -> str:
                if place.pointer.startswith("%input"):
                    return code.at("%gathered", starts[int(place.pointer.removeprefix("%input"))] + place.start)
                return code.at(place.pointer, place.start, number, place.block)

            wanted = code.at("%numbers", 0, number, width)
            for k in range(len(gathers)):
                _call(code, f"gather{k}", f"%input{k}", wanted, code.at("%gathered", starts[k]))
            for step in instructions:
                x, r, y = map(address, (step.x, step.r, step.y))
                _call(code, kernels[step.kernel], x, code.at(own, step.weights), r, y)
            if facts is not None:
                scores = code.at("%output", 0, number, facts.outputs * width)
                _call(code, "facts", scores, code.at("%facts", 0, number, FACTS * width))

        code.loop("%blocks", each_block)

    code.loop("%trials", each_trial)
    pointers = ("weights", "order", "packed", "scratch", "output", "gathered", "facts", "numbers")
    return _define(code, "see", pointers, ("trials", "blocks"), len(gathers))

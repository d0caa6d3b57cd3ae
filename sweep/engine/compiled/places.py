"""Where in memory the activations of a block stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sweep.engine.compiled.llvm import Code
from sweep.engine.compiled.lowering import Lowering
from sweep.engine.compiled.operations import Operation
from sweep.engine.compiled.program import Instruction, Place
from sweep.engine.compiled.slots import Slot

LARGE = 2**22
"""Floats of all activations, above which they share memory whatever their geometry: 16 MiB, about what caches hold."""


@dataclass(frozen=True)
class Border:
    """Makes the zeros around an activation, where another has stood."""

    slot: Slot

    weights = 0  # floats of its packed weights

    def emit(self, code: Code) -> None:
        """One block."""
        (rows, _, channels), (top, left, below, right), row = self.slot.shape, self.slot.pads, self.slot.row
        pixel = channels * code.lanes

        def zero(y: str, floats: int) -> None:
            if floats:
                code.loop(floats // code.lanes, lambda k: code.store("zeroinitializer", code.at(y, 0, k, code.lanes)))

        def each_row(i: str) -> None:
            zero(code.at("%y", top * row, i, row), left * pixel)
            zero(code.at("%y", (top + 1) * row - right * pixel, i, row), right * pixel)

        zero("%y", top * row)
        if left or right:
            code.loop(rows, each_row)
        zero(code.at("%y", (top + rows) * row), below * row)


class Places:
    """Gives every slot its memory.

    Arrays of one geometry share it when their lives do not overlap, and so the zeros around them. Where that takes
    much, arrays of any geometry do, which have their zeros made anew in every block.

    Attributes:
        scratch: floats of a block.
    """

    def __init__(self, lowered: Lowering, boundary: Sequence[int]) -> None:
        self._slots, self._operations = lowered.slots, lowered.operations
        self._base = {slot: slot for slot in self._slots}
        for y, x in lowered.views.items():
            self._base[y] = self._base[x]
        given = {slot: Place(f"%input{k}", 0, self._slots[slot].size) for k, slot in enumerate(boundary)}
        given[lowered.output] = Place("%output", 0, self._slots[lowered.output].size)
        # Zero padding counts on zeros inside its array that another owner would overwrite.
        self._kept = {o.y for o in self._operations if not o.fills}
        self._bordered: set[int] = set()
        self._places = self._assign(given, by_size=False)
        if self.scratch > LARGE:
            self._places = self._assign(given, by_size=True)
            self._bordered = set(self._places.keys() - given.keys() - self._kept)

    def _assign(self, given: dict[int, Place], by_size: bool) -> dict[int, Place]:
        """A place for every slot, beside those that have one; in what is free of its size or its geometry."""
        self.scratch = 0
        places, slots = dict(given), self._slots
        reads = [{self._base[s] for s in (o.x, o.r) if s is not None} for o in self._operations]
        last = {slot: index for index, slots_read in enumerate(reads) for slot in slots_read}
        free: dict[Slot, list[Place]] = {}
        gaps: list[tuple[int, int]] = []  # (first, end), in order
        for index, operation in enumerate(self._operations):
            slot = operation.y
            if slot not in places:
                of_one = free.get(slots[slot], [])
                if slot not in self._kept and by_size:
                    places[slot] = Place("%scratch", self._fit(gaps, slots[slot].size))
                else:
                    places[slot] = of_one.pop() if of_one and slot not in self._kept else self._new(slots[slot])
            for over in reads[index]:
                if last[over] == index and over not in self._kept and places[over].pointer == "%scratch":
                    free.setdefault(slots[over], []).append(places[over])
                    _give_back(gaps, places[over].start, slots[over].size)
        return places

    def _new(self, slot: Slot) -> Place:
        place = Place("%scratch", self.scratch)
        self.scratch += slot.size
        return place

    def _fit(self, gaps: list[tuple[int, int]], size: int) -> int:
        """Where so many floats begin: in the smallest gap that holds them, or at the end."""
        fitting = [(end - first, first) for first, end in gaps if end - first >= size]
        if fitting:
            length, begin = min(fitting)
            gaps.remove((begin, begin + length))
        elif gaps and gaps[-1][1] == self.scratch:
            begin, length = gaps.pop()[0], size
        else:
            begin, length = self.scratch, size
        self.scratch = max(self.scratch, begin + size)
        if length > size:
            gaps.append((begin + size, begin + length))
            gaps.sort()
        return begin

    def instructions(self, operation: Operation, weights: int) -> list[Instruction]:
        """The operation with its places, behind the zeros around what it makes where these are to be made."""
        x = self._inside(operation.x, operation.x_from)
        r = x if operation.r is None else self._inside(operation.r, operation.r_from)
        own = Instruction(operation.kernel, x, r, self._inside(operation.y, operation.y_from), weights)
        slot = self._slots[operation.y]
        if operation.y not in self._bordered or not any(slot.pads):
            return [own]
        return [Instruction(Border(slot), x, r, self._inside(operation.y, 0), weights), own]

    def _inside(self, slot: int, offset: int) -> Place:
        place = self._places[self._base[slot]]
        return Place(place.pointer, place.start + offset, place.block)


def _give_back(gaps: list[tuple[int, int]], begin: int, size: int) -> None:
    """A gap more, one with those that it touches."""
    end = begin + size
    for first, last in [gap for gap in gaps if gap[1] == begin or gap[0] == end]:
        gaps.remove((first, last))
        begin, end = min(begin, first), max(end, last)
    gaps.append((begin, end))
    gaps.sort()

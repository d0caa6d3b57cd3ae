"""Where in memory the activations of a block stand."""

from __future__ import annotations

from collections.abc import Sequence

from sweep.engine.compiled.lowering import Lowering
from sweep.engine.compiled.operations import Operation
from sweep.engine.compiled.program import Instruction, Place
from sweep.engine.compiled.slots import Slot


class Places:
    """Gives every slot its memory; arrays of one geometry share it when their lives do not overlap."""

    def __init__(self, lowered: Lowering, boundary: Sequence[int]) -> None:
        slots, operations = lowered.slots, lowered.operations
        self.scratch = 0
        self._places = {slot: Place(f"%input{k}", 0, slots[slot].size) for k, slot in enumerate(boundary)}
        self._places[lowered.output] = Place("%output", 0, slots[lowered.output].size)
        self._base = {slot: slot for slot in slots}
        for y, x in lowered.views.items():
            self._base[y] = self._base[x]
        reads = [{self._base[s] for s in (o.x, o.r) if s is not None} for o in operations]
        last = {slot: index for index, slots_read in enumerate(reads) for slot in slots_read}
        # Zero padding counts on zeros inside its array that another owner would overwrite.
        kept = {o.y for o in operations if not o.fills}
        free: dict[Slot, list[Place]] = {}
        for index, operation in enumerate(operations):
            slot = operation.y
            if slot not in self._places:
                reuse = free.get(slots[slot]) and slot not in kept
                self._places[slot] = free[slots[slot]].pop() if reuse else self._new(slots[slot])
            for over in reads[index]:
                if last[over] == index and over not in kept and self._places[over].pointer == "%scratch":
                    free.setdefault(slots[over], []).append(self._places[over])

    def _new(self, slot: Slot) -> Place:
        place = Place("%scratch", self.scratch)
        self.scratch += slot.size
        return place

    def instruction(self, operation: Operation, weights: int) -> Instruction:
        """The operation with its places."""
        x = self._inside(operation.x, operation.x_from)
        r = x if operation.r is None else self._inside(operation.r, operation.r_from)
        return Instruction(operation.kernel, x, r, self._inside(operation.y, operation.y_from), weights)

    def _inside(self, slot: int, offset: int) -> Place:
        place = self._places[self._base[slot]]
        return Place(place.pointer, place.start + offset, place.block)

"""From the values of trials to the packed weights that kernels read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sweep.engine.compiled.operations import Array, Operation
from sweep.engine.graph import Graph


class Packing:
    """What of a trial's values, and of the clean network's, stands where in the packed weights.

    Nearly all of it is the values in another order: which one is told by packing their numbers instead. The rest, where
    batch normalisation is folded into a kernel that varies, is computed for each trial.

    Attributes:
        values: how many a trial has.
        behind: what stands behind the values of each trial: 0, and what is the same for all of them.
        order: (floats,) which of these numbers each packed weight is; None where some are computed.
    """

    def __init__(self, graph: Graph, operations: Sequence[Operation]) -> None:
        self._graph = graph
        self._begins: dict[int, int] = {}
        self._shapes = {number: graph.shape_of(number) for number in graph.varied}
        self.values = 0
        for number, shape in self._shapes.items():
            self._begins[number] = self.values
            self.values += int(np.prod(shape))
        self._kept: list[npt.NDArray[Any]] = [np.zeros(1, np.float32)]  # what stands behind a trial's values: 0, ...
        self._begun: dict[int, int] = {}  # where in it the values of a variable begin
        self._computed: list[tuple[int, Operation]] = []
        parts: list[npt.NDArray[np.intp]] = [np.zeros(0, np.intp)]
        for operation in operations:
            if operation.pack is None:
                continue
            if not operation.variables.intersection(graph.varied):
                (row,) = operation.pack(lambda v: v.numpy()[None])
                parts.append(self._keep(row) + np.arange(len(row)))
            elif operation.rearranges:
                (numbers,) = operation.pack(self._numbers)
                parts.append(np.where(numbers == 0, self.values, numbers - 1).astype(np.intp))
            else:
                self._computed.append((sum(map(len, parts)), operation))
                parts.append(np.full(operation.kernel.weights, self.values))
        self._order = np.concatenate(parts)
        ends = [0, *(end for begin, o in self._computed for end in (begin, begin + o.kernel.weights)), len(self._order)]
        self._taken = [(begin, end) for begin, end in zip(ends[::2], ends[1::2], strict=True) if begin < end]
        self.behind: Array = np.concatenate(self._kept)
        self.order = None if self._computed else self._order

    def _keep(self, values: npt.NDArray[Any]) -> int:
        """Where values that are the same for all trials stand from now on."""
        begin = self.values + sum(map(len, self._kept))
        self._kept.append(np.asarray(values, np.float32))
        return begin

    def _numbers(self, variable: Any) -> npt.NDArray[np.float64]:
        """The places of a variable's values (1, *shape), from 1: in float64, which holds all of them."""
        number = self._graph.number(variable)
        if number in self._shapes:
            shape, begin = self._shapes[number], self._begins[number]
        else:
            shape = tuple(variable.shape)
            if id(variable) not in self._begun:
                self._begun[id(variable)] = self._keep(variable.numpy().ravel())
            begin = self._begun[id(variable)]
        return np.arange(begin + 1, begin + 1 + int(np.prod(shape)), dtype=np.float64).reshape(1, *shape)

    def values_of(self, row: Array) -> dict[int, Array]:
        """The values of each varied weight and site, by its number, in the row of a trial."""
        ends = {number: begin + int(np.prod(self._shapes[number])) for number, begin in self._begins.items()}
        return {n: row[begin : ends[n]].reshape(self._shapes[n]) for n, begin in self._begins.items()}

    def packed(self, rows: Array) -> Array:
        """The packed weights (T, floats) of trials.

        Args:
            rows: (T, values + behind) the values of the varied weights and sites one after the other, then `behind`.
        """
        out: Array = np.empty((len(rows), len(self._order)), np.float32)
        for begin, end in self._taken:
            out[:, begin:end] = np.take(rows, self._order[begin:end], axis=1)

        def of(variable: Any) -> Array:
            number = self._graph.number(variable)
            if number not in self._shapes:
                return np.asarray(variable.numpy())[None]
            begin, shape = self._begins[number], self._shapes[number]
            return rows[:, begin : begin + int(np.prod(shape))].reshape(-1, *shape)

        for begin, operation in self._computed:
            assert operation.pack is not None
            out[:, begin : begin + operation.kernel.weights] = operation.pack(of)
        return out

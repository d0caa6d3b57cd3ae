"""Many trials at a time, as arrays: some bytes each, where a tuple takes a hundred."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

from sweep.randomness import FIRST_SAMPLED

Trial = tuple[str, int]  # (id of the cell, seed)


class Trials(Sequence[Trial]):
    """Trials in an order, like a list of them.

    Attributes:
        cells: ids.
        which: (T,) the cell of each trial, a position in `cells`.
        seeds: (T,).
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, cells: Sequence[str], which: npt.ArrayLike, seeds: npt.ArrayLike) -> None:
        self.cells = cells
        self.which = np.asarray(which, np.int32)
        self.seeds = np.asarray(seeds, np.int64)

    @classmethod
    def of(cls, trials: Iterable[Trial]) -> Trials:
        """These trials."""
        if isinstance(trials, Trials):
            return trials
        codes: dict[str, int] = {}
        pairs = [(codes.setdefault(cell, len(codes)), seed) for cell, seed in trials]
        table = np.array(pairs, np.int64).reshape(-1, 2)
        return cls(list(codes), table[:, 0], table[:, 1])

    def __len__(self) -> int:
        return len(self.seeds)

    @overload
    def __getitem__(self, at: int) -> Trial: ...
    @overload
    def __getitem__(self, at: slice) -> Trials: ...
    def __getitem__(self, at: int | slice) -> Trial | Trials:
        if isinstance(at, slice):
            return self.take(at)
        return self.cells[self.which[at]], int(self.seeds[at])

    def __iter__(self) -> Iterator[Trial]:
        for start in range(0, len(self), _AT_A_TIME):
            part = slice(start, start + _AT_A_TIME)
            names = (self.cells[i] for i in self.which[part].tolist())
            yield from zip(names, self.seeds[part].tolist(), strict=True)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    def take(self, chosen: slice | npt.NDArray[np.bool_]) -> Trials:
        """Those in a slice, or where a mask of shape (T,) says so."""
        return Trials(self.cells, self.which[chosen], self.seeds[chosen])


_AT_A_TIME = 10_000


class Found(Mapping[Trial, float]):
    """Trials that are there, each once, and what each says of its chip's accuracy or of another measure."""

    def __init__(self, trials: Trials, values: npt.NDArray[np.float64]) -> None:
        """`values` is of shape (T,); of a trial that is given twice the later one counts."""
        order = np.lexsort((trials.seeds, trials.which))
        last = np.ones(len(order), bool)
        which, seeds = trials.which[order], trials.seeds[order]
        last[:-1] = (which[1:] != which[:-1]) | (seeds[1:] != seeds[:-1])
        self._trials = Trials(trials.cells, which[last], seeds[last])
        self._values = values[order][last]
        bounds = np.searchsorted(self._trials.which, np.arange(len(trials.cells) + 1))
        self._places = {cell: slice(*bounds[i : i + 2].tolist()) for i, cell in enumerate(trials.cells)}

    @classmethod
    def of(cls, found: Iterable[Trial]) -> Found:
        """These trials, with the values that they have as a mapping, or none."""
        if isinstance(found, Found):
            return found
        values = found.values() if isinstance(found, Mapping) else [np.nan for _ in found]
        return cls(Trials.of(found), np.array(list(values), np.float64))

    def __len__(self) -> int:
        return len(self._trials)

    def __iter__(self) -> Iterator[Trial]:
        return iter(self._trials)

    def __getitem__(self, trial: Trial) -> float:
        cell, seed = trial
        seeds, values = self.of_cell(cell)
        at = int(np.searchsorted(seeds, seed))
        if at == len(seeds) or seeds[at] != seed:
            raise KeyError(trial)
        return float(values[at])

    @property
    def cells(self) -> Iterable[str]:
        """Ids of the cells that may have any."""
        return self._places.keys()

    def of_cell(self, cell: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """The seeds of a cell, ascending, and their values; shapes (n,)."""
        at = self._places.get(cell, slice(0, 0))
        return self._trials.seeds[at], self._values[at]

    def sampled(self) -> dict[Trial, float]:
        """Those of chips that see a few images."""
        few = self._trials.seeds >= FIRST_SAMPLED
        return dict(zip(self._trials.take(few), self._values[few].tolist(), strict=True))

    def lacks(self, trials: Trials) -> npt.NDArray[np.bool_]:
        """Which of these are not there; shape (T,)."""
        codes = {cell: i for i, cell in enumerate(self._trials.cells)}
        which = np.array([codes.get(cell, -1) for cell in trials.cells], np.int64)[trials.which]
        numbers = np.unique(np.concatenate([self._trials.seeds, trials.seeds]))
        there = self._trials.which.astype(np.int64) * len(numbers) + np.searchsorted(numbers, self._trials.seeds)
        wanted = which * len(numbers) + np.searchsorted(numbers, trials.seeds)
        return np.asarray(~np.isin(wanted, there) | (which < 0))

"""Chunks that failed: which cells are given up, when all is given up, and what the user is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from sweep.execution.worker import Outcome

IN_A_ROW = 3  # failed chunks of a cell, after which its other trials are not tried
CELLS = 3  # with failures and no success anywhere, after which no other cell is tried


class Failures:
    """What went wrong in a run.

    Attributes:
        untried: trials of given-up cells that were left.
    """

    def __init__(self, cells: int) -> None:
        self._cells = cells
        self._reasons: dict[str, list[str]] = {}
        self._in_a_row: Counter[str] = Counter()
        self._trials = 0
        self._succeeded = False
        self.untried = 0

    def __bool__(self) -> bool:
        return bool(self._reasons)

    def add(self, outcome: Outcome) -> str | None:
        """Take in a failed chunk of one cell; returns the cell if its other trials are to be given up."""
        cell = outcome.chunk.trials[0][0]
        self._reasons.setdefault(str(outcome.error), []).append(cell)
        self._trials += len(outcome.chunk.trials)
        self._in_a_row[cell] += 1
        return cell if self._in_a_row[cell] >= IN_A_ROW else None

    def succeeded(self, cells: Iterable[str]) -> None:
        """Take in that trials of these cells came back."""
        self._succeeded = True
        for cell in cells:
            self._in_a_row.pop(cell, None)

    @property
    def hopeless(self) -> bool:
        """Whether nothing has succeeded, and so many failed that the rest need not be tried."""
        enough = self._in_a_row.total() >= IN_A_ROW and len(self._in_a_row) >= min(CELLS, self._cells)
        return enough and not self._succeeded

    def __str__(self) -> str:
        untried = f", and {self.untried:,} more of the same cells were not tried" if self.untried else ""
        rest = "nothing succeeded" if self.hopeless else "what else was asked for is committed"
        lines = [f"  {_some(list(dict.fromkeys(cells)))}: {reason}" for reason, cells in self._reasons.items()]
        return "\n".join([f"{self._trials:,} trials failed{untried}; {rest}. Cells and reasons:", *lines[:5]])


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

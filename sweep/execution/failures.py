"""Chunks that failed: what is tried again, which cells are given up, when all is given up, what the user is told."""

from __future__ import annotations

from collections import Counter

from sweep.errors import SweepError
from sweep.execution.plan import Chunk, Trial

IN_A_ROW = 3  # failed chunks of a cell, after which nothing more of it is tried
ALONE = 3  # tries of a trial in a chunk of its own
CELLS = 3  # with failures and no success anywhere, after which no other cell is tried


class Failures:
    """What went wrong in a run.

    Attributes:
        given_up: cells of which nothing more is to be tried.
        untried: trials of these cells that were left.
    """

    def __init__(self, cells: int) -> None:
        self._cells = cells
        self._reasons: dict[Trial, str] = {}  # of the trials that have failed and not succeeded since
        self._hosts: dict[str, dict[str, None]] = {}  # where these reasons were given
        self._in_a_row: Counter[str] = Counter()
        self._alone: Counter[Trial] = Counter()
        self._succeeded = False
        self.given_up: set[str] = set()
        self.untried = 0

    def __bool__(self) -> bool:
        return bool(self._reasons)

    def take(self, chunk: Chunk, reason: str, host: str = "") -> None:
        """Take in a chunk that failed for a reason, on a host where that is known."""
        self._reasons |= dict.fromkeys(chunk.trials, reason)
        self._hosts.setdefault(reason, {})[host] = None

    def again(self, chunk: Chunk) -> list[Chunk]:
        """Hold its failure against a chunk; returns what to try instead: its cells one by one, halves, each trial.

        So one trial, or one cell, that always fails does not take others along, and what failed by accident is done.
        """
        parts = chunk.by_cell()
        if len(parts) == 1:
            cell = chunk.trials[0][0]
            self._in_a_row[cell] += 1
            if self._in_a_row[cell] >= IN_A_ROW:
                self.given_up.add(cell)
            if len(chunk.trials) > 1:
                parts = chunk.halves()
            else:
                self._alone.update(chunk.trials)
                parts = [chunk] if self._alone[chunk.trials[0]] < ALONE else []
        return [part for part in parts if part.trials[0][0] not in self.given_up]

    def succeeded(self, trials: tuple[Trial, ...]) -> None:
        """Take in trials that came back."""
        self._succeeded = True
        for trial in trials:
            self._in_a_row.pop(trial[0], None)
            self._reasons.pop(trial, None)

    @property
    def hopeless(self) -> bool:
        """Whether nothing has succeeded, and so many failed that the rest need not be tried."""
        enough = self._in_a_row.total() >= IN_A_ROW and len(self._in_a_row) >= min(CELLS, self._cells)
        return enough and not self._succeeded

    def __str__(self) -> str:
        untried = f", and {self.untried:,} more of the same cells were not tried" if self.untried else ""
        rest = "nothing succeeded" if self.hopeless else "what else was asked for is committed"
        cells: dict[str, dict[str, None]] = {}
        for (cell, _), reason in self._reasons.items():
            cells.setdefault(reason, {})[cell] = None
        lines = [f"  {some(list(names))}: {reason}{self._where(reason)}" for reason, names in cells.items()]
        failed = f"{len(self._reasons):,} trial{'' if len(self._reasons) == 1 else 's'} failed"
        return "\n".join([f"{failed}{untried}; {rest}. Cells and reasons:", *lines[:5]])

    def _where(self, reason: str) -> str:
        hosts = [host for host in self._hosts[reason] if host]
        return f" (on {some(hosts)})" if hosts else ""


def said(error: Exception) -> str:
    """An error in a line."""
    return str(error) if isinstance(error, SweepError) else f"{type(error).__name__}: {error}"


def some(names: list[str]) -> str:
    """The first few of these names."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

"""What failed: what is tried again, which cells are given up, when all is given up, what the user is told.

And which nodes are to blame: those that fail where others succeed get no more work, and nothing is held against what
failed there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from sweep.errors import NodeError, SweepError
from sweep.execution.job import Outcome
from sweep.execution.plan import Chunk
from sweep.execution.trials import Trial

IN_A_ROW = 3  # failures of a cell, after which no more of it is tried; or of a node, after which others are asked
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
        self._hosts: dict[str, dict[str, str]] = {}  # where these reasons were given, each with a worker's log there
        self._in_a_row: Counter[str] = Counter()
        self._alone: Counter[Trial] = Counter()
        self._succeeded = False
        self.given_up: set[str] = set()
        self.untried = 0

    def __bool__(self) -> bool:
        return bool(self._reasons)

    def take(self, chunk: Chunk, reason: str, host: str = "", log: str = "") -> None:
        """Take in a chunk that failed for a reason, on a host, and with a log there, where these are known."""
        self._reasons |= dict.fromkeys(chunk.trials, reason)
        self._hosts.setdefault(reason, {})[host] = log

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
        for trial in trials if self._reasons or self._in_a_row else ():
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
        logs = {host: log for host, log in self._hosts[reason].items() if host}
        if not logs:
            return ""
        host, log = next(iter(logs.items()))
        return f" (on {some(list(logs))}{_log(log, f'log on {host}')})"


@dataclass(frozen=True)
class _Failure:
    trials: tuple[Trial, ...]
    reason: str


class Nodes:
    """What is known of the nodes that run chunks, by their ids.

    A failure is the node's fault when the same trials succeed elsewhere, the work's when a node fails on them that has
    succeeded otherwise, or every node does. Until it is known, they are tried elsewhere.

    Attributes:
        bad: nodes that get no more work, each with the reason.
    """

    def __init__(self) -> None:
        self.bad: dict[str, str] = {}
        self._hosts: dict[str, str] = {}
        self._logs: dict[str, str] = {}  # of a worker there, the first that failed since its latest success
        self._rows: dict[str, list[_Failure]] = {}  # of each node, since its latest success
        self._work: set[str] = set()  # have succeeded
        self._tried: dict[tuple[Trial, ...], set[str]] = {}  # where they failed, and who is to blame is open

    def avoided(self, alive: Collection[str]) -> frozenset[str]:
        """Nodes that are to get no work now: bad ones, and suspects as long as there is any other."""
        bad = {node for node in alive if node in self.bad}
        suspects = {node for node in alive if len(self._rows.get(node, ())) >= IN_A_ROW}
        return frozenset(bad | suspects if set(alive) - bad - suspects else bad)

    def failed_everywhere(self, alive: Collection[str]) -> bool:
        """Whether every node has failed, and none has succeeded."""
        return not self._work and all(node in self.bad or self._rows.get(node) for node in alive)

    def useless(self, alive: Collection[str]) -> bool:
        """Whether there are nodes, all of them bad."""
        return bool(alive) and all(node in self.bad for node in alive)

    def failed(self, outcome: Outcome, error: Exception, reason: str, alive: Collection[str]) -> frozenset[str] | None:
        """Take in a failed chunk; returns the nodes to try it on, or None when the work itself is to blame.

        Args:
            outcome: what failed, and where.
            error, reason: why.
            alive: the nodes that could run it.
        """
        node, chunk = outcome.node, outcome.chunk
        if not node:
            return None
        self._hosts[node] = outcome.host.get("host", "")
        self._logs.setdefault(node, outcome.host.get("log", ""))  # what is said of a node stays the same, and said once
        if isinstance(error, NodeError):
            self.bad.setdefault(node, reason)
        proven = node in self._work and len(self._rows.get(node, ())) < IN_A_ROW - 1
        self._rows.setdefault(node, []).append(_Failure(chunk.trials, reason))
        tried = self._tried.setdefault(chunk.trials, set())
        tried.add(node)
        others = frozenset(alive) - self.avoided(alive) - tried
        if node in self.bad and not self.useless(alive):
            return others or frozenset(alive) - self.bad.keys()
        if others and not proven:
            return others
        own = self._rows[node]
        self.acquit(chunk.trials)
        if proven:
            self._rows[node] = own
        return None

    def succeeded(self, node: str, host: str, trials: Collection[Trial]) -> list[str]:
        """Take in trials that came back from a node; returns the nodes that turn out to be bad."""
        if not node:
            return []
        self._hosts[node] = host
        self._work.add(node)
        self._rows.pop(node, None)
        if node not in self.bad:
            self._logs.pop(node, None)
        done = set(trials)
        found = []
        for other, row in self._rows.items():
            proof = next((failure for failure in row if not done.isdisjoint(failure.trials)), None)
            if proof and len(row) >= IN_A_ROW and other not in self.bad:
                self.bad[other] = proof.reason
                found.append(other)
        self._tried = {key: nodes for key, nodes in self._tried.items() if done.isdisjoint(key)}
        return found

    def acquit(self, trials: Collection[Trial]) -> None:
        """Hold failures of these trials against no node: it is they that fail."""
        given = set(trials)
        for node, row in self._rows.items():
            self._rows[node] = [failure for failure in row if given.isdisjoint(failure.trials)]
        self._tried = {key: nodes for key, nodes in self._tried.items() if given.isdisjoint(key)}

    def acquit_cell(self, cell: str) -> None:
        """Hold failures of chunks with this cell against no node."""
        self.acquit(
            {trial for row in self._rows.values() for failure in row for trial in failure.trials if trial[0] == cell}
        )

    def __str__(self) -> str:
        hosts: dict[str, list[str]] = {}
        for node, reason in self.bad.items():
            hosts.setdefault(reason, []).append(self._hosts[node])
        return "; ".join(
            f"worker{'s' * (len(names) > 1)} on {some(names)}: {reason}" for reason, names in hosts.items()
        )

    def said(self, node: str) -> str:
        """What the user is told of a bad node."""
        log = _log(self._logs.get(node, ""), "its log there")
        return f"worker on {self._hosts[node]}: {self.bad[node]}; no more tasks go there{log}"


def _log(path: str, words: str) -> str:
    return f"; {words}: {path}" if path else ""


def said(error: Exception) -> str:
    """An error in a line."""
    return str(error) if isinstance(error, SweepError) else f"{type(error).__name__}: {error}"


def some(names: list[str]) -> str:
    """The first few of these names."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

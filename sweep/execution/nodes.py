"""Nodes that fail where others succeed: they get no more work, and nothing is held against what failed there."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sweep.errors import NodeError
from sweep.execution.failures import some
from sweep.execution.plan import Chunk, Trial

IN_A_ROW = 3  # failures of a node without a success in between, after which others are asked


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
        self._rows: dict[str, list[_Failure]] = {}  # of each node, since its latest success
        self._work: set[str] = set()  # have succeeded
        self._tried: dict[tuple[Trial, ...], set[str]] = {}  # where they failed, and who is to blame is open

    def host(self, node: str) -> str:
        """The name of a node's machine."""
        return self._hosts.get(node, "")

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

    def failed(
        self, node: str, host: str, chunk: Chunk, error: Exception, reason: str, alive: Collection[str]
    ) -> frozenset[str] | None:
        """Take in a failed chunk; returns the nodes to try it on, or None when the work itself is to blame.

        Args:
            node, host: where it failed; an empty `node` where that is unknown.
            chunk: what failed.
            error, reason: why.
            alive: the nodes that could run it.
        """
        if not node:
            return None
        self._hosts[node] = host
        if isinstance(error, NodeError):
            self._blame(node, reason)
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
        done = set(trials)
        found = []
        for other, row in self._rows.items():
            proof = next((failure for failure in row if not done.isdisjoint(failure.trials)), None)
            if proof and len(row) >= IN_A_ROW and other not in self.bad:
                self._blame(other, proof.reason)
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
        return f"worker on {self._hosts[node]}: {self.bad[node]}; no more tasks go there"

    def _blame(self, node: str, reason: str) -> None:
        self.bad.setdefault(node, reason)

"""Whether a cluster still answers, asked in a thread of its own, because a question to a dead one does not return."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping

EVERY_SECONDS = 5.0

Resources = Mapping[str, Mapping[str, float]]  # what each living node, by its id, has of CPU, GPU, …


class Heartbeat:
    """Keeps asking a cluster for its nodes, which come and go.

    Args:
        ask: gives the nodes; raises when it cannot, or hangs.

    Attributes:
        nodes: the latest answer.
    """

    def __init__(self, ask: Callable[[], Resources]) -> None:
        self._ask = ask
        self.nodes = ask()
        self._heard = time.monotonic()
        self._stopped = threading.Event()
        threading.Thread(target=self._run, name="heartbeat", daemon=True).start()

    @property
    def silence(self) -> float:
        """Seconds since the latest answer."""
        return time.monotonic() - self._heard

    def room(self, resource: str, share: float, without: Collection[str] = (), memory: float = 0) -> dict[str, int]:
        """Tasks that each node can run at a time, when each takes this share of a resource; nodes that can run any.

        And of its memory so many bytes; 0 does not ask.
        """
        found = {node: int(has.get(resource, 0.0) / share + 1e-9) for node, has in self.nodes.items()}
        if memory:
            found = {node: min(room, int(self.nodes[node].get("memory", 0.0) / memory)) for node, room in found.items()}
        return {node: room for node, room in found.items() if room and node not in without}

    def stop(self) -> None:
        """Ask no more."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(EVERY_SECONDS):
            try:
                self.nodes = self._ask()
            except Exception:  # whatever it is, it is no answer
                continue
            self._heard = time.monotonic()

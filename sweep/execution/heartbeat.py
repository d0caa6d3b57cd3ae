"""Whether a cluster still answers, asked in a thread of its own, because a question to a dead one does not return."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

EVERY_SECONDS = 5.0

Nodes = Sequence[Mapping[str, float]]  # what each living node has, by name: CPU, GPU, …


class Heartbeat:
    """Keeps asking a cluster for its nodes, which come and go.

    Args:
        ask: gives the nodes; raises when it cannot, or hangs.

    Attributes:
        nodes: the latest answer.
    """

    def __init__(self, ask: Callable[[], Nodes]) -> None:
        self._ask = ask
        self.nodes = ask()
        self._heard = time.monotonic()
        self._stopped = threading.Event()
        threading.Thread(target=self._run, name="heartbeat", daemon=True).start()

    @property
    def silence(self) -> float:
        """Seconds since the latest answer."""
        return time.monotonic() - self._heard

    def room(self, resource: str, share: float) -> int:
        """Tasks that can run at a time, when each takes this share of a resource of one node."""
        return sum(int(node.get(resource, 0.0) / share + 1e-9) for node in self.nodes)

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

"""The nodes of a cluster that can run a task: waited for at the start, and missed when all of them are gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from sweep.errors import InputError, SweepError
from sweep.execution.ray.heartbeat import Heartbeat, Resources
from sweep.texts import size_text

LOST_SECONDS = 30.0  # without an answer of the cluster; Ray would end this process after 60, without a reason
ROOM_SECONDS = 10.0  # at the start, for a node to join that can run a task
REJOIN_SECONDS = 30.0  # later on, when there was one


@dataclass(frozen=True)
class Share:
    """What a task takes of a node.

    Attributes:
        gpus: or 0 for one CPU.
        memory: bytes; 0 for none in particular.
    """

    gpus: float = 0.0
    memory: int = 0

    def room(self, beat: Heartbeat, without: Collection[str] = ()) -> dict[str, int]:
        """Tasks that each node can run at a time; nodes that can run any."""
        return beat.room(*(("GPU", self.gpus) if self.gpus else ("CPU", 1.0)), without, self.memory)

    def missing(self, here: str) -> str:
        """That no node `here` has so much, in a line."""
        if self.gpus:
            return f"--gpus {self.gpus:g}: {here} has no such GPU; leave it out to run on CPUs"
        if self.memory:
            return f"--memory {size_text(self.memory)}: {here} has no node with a CPU and so much memory for a task"
        return f"{here} has no node with a CPU for tasks"


class Members:
    """The nodes of a cluster, or of this machine alone.

    Args:
        ask: gives what each node has; see Heartbeat.
        share: what a task takes.
        address: of the cluster; None for a Ray of this machine.

    Attributes:
        lost: whether the cluster has been found not to answer.
    """

    def __init__(self, ask: Callable[[], Resources], share: Share, address: str | None = None) -> None:
        self._beat = Heartbeat(ask)
        self._share = share
        self._address = address
        self._where = "on this machine" if address is None else f"at {address}"
        self._roomless: float | None = None  # since when no node can run a task
        self.lost = False

    def room(self, without: Collection[str] = ()) -> dict[str, int]:
        """Tasks that each node can run at a time, as of some seconds ago; nodes that can run any."""
        return self._share.room(self._beat, without)

    def await_room(self) -> None:
        """Raise InputError when no node can run a task, on a cluster after giving others the time to join."""
        end = time.monotonic() + (0.0 if self._address is None else ROOM_SECONDS)
        while not self.room():
            if time.monotonic() > end:
                here = "this machine" if self._address is None else f"the cluster {self._where}"
                raise InputError(self._share.missing(here))
            time.sleep(0.2)

    def check(self, without: Collection[str] = ()) -> None:
        """Raise SweepError when the cluster is gone, or all its nodes that could run a task are."""
        goes_on = "what is committed stays, and the same command goes on"
        if self._beat.silence > LOST_SECONDS:
            self.lost = True
            raise SweepError(f"the Ray cluster {self._where} does not answer any more; {goes_on}")
        if self.room(without):
            self._roomless = None
            return
        self._roomless = self._roomless or time.monotonic()
        if time.monotonic() - self._roomless > REJOIN_SECONDS:
            raise SweepError(f"the Ray cluster {self._where} has lost every node that could run a task; {goes_on}")

    def stop(self) -> None:
        """Ask for them no more."""
        self._beat.stop()

"""The nodes of a cluster that can run a task: waited for at the start, and missed when all of them are gone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sweep.errors import InputError, SweepError
from sweep.execution.ray.autoscaler import Bundle, ask
from sweep.execution.ray.heartbeat import Heartbeat, Resources
from sweep.texts import size_text

LOST_SECONDS = 30.0  # without an answer of the cluster; Ray would end this process after 60, without a reason
ROOM_SECONDS = 10.0  # at the start, for a node to join that can run a task
REJOIN_SECONDS = 30.0  # later on, when there was one
WAIT_SECONDS = 900.0  # at the start and later on, where nodes are to be waited for: machines are started for them
ASK_SECONDS = 5.0  # between two questions to the autoscaler
POLL_SECONDS = 0.2

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Share:
    """What a task takes of a node.

    Attributes:
        gpus: or 0 for one CPU.
        memory: bytes; 0 for none in particular.
        accelerator: the type of GPU; empty for any.
        labels: of the node, as Ray selects by them.
    """

    gpus: float = 0.0
    memory: int = 0
    accelerator: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    def room(self, beat: Heartbeat, without: Collection[str] = ()) -> dict[str, int]:
        """Tasks that each node can run at a time; nodes that can run any."""
        found = beat.room(*(("GPU", self.gpus) if self.gpus else ("CPU", 1.0)), without, self.memory)
        return {node: room for node, room in found.items() if not self._type or self._type in beat.nodes[node]}

    @property
    def options(self) -> dict[str, Any]:
        """Of a task, in Ray's words."""
        return {
            "num_cpus": 0 if self.gpus else 1,
            "num_gpus": self.gpus,
            **({"memory": self.memory} if self.memory else {}),
            **({"accelerator_type": self.accelerator} if self.accelerator else {}),
            **({"label_selector": dict(self.labels)} if self.labels else {}),
        }

    @property
    def _type(self) -> str:
        """The resource that a node with the type of GPU has, as Ray calls it."""
        return f"accelerator_type:{self.accelerator}" if self.accelerator else ""

    def bundle(self, tasks: int = 1) -> Bundle:
        """What so many tasks take of a node, in Ray's words."""
        gpus = self.gpus * tasks
        taken: dict[str, float] = (
            {"GPU": float(math.ceil(gpus - 1e-9)) if gpus > 1 else gpus} if self.gpus else {"CPU": float(tasks)}
        )
        taken |= {"memory": float(self.memory * tasks)} if self.memory else {}
        return taken | ({self._type: 0.001 * tasks} if self._type else {})

    def missing(self, here: str) -> str:
        """That no node `here` has so much, in a line."""
        having = "".join(f" with {key}={value}" for key, value in self.labels.items())
        if self.accelerator:
            return f"--device gpu:{self.accelerator}: {here} has no node{having} with {self.gpus:g} of such a GPU"
        if self.gpus:
            return f"--gpus {self.gpus:g}: {here} has no such GPU{having}; leave it out to run on CPUs"
        if self.memory:
            much = f"--memory {size_text(self.memory)}"
            return f"{much}: {here} has no node{having} with a CPU and so much memory for a task"
        return f"{here} has no node{having} with a CPU for tasks"


class Members:
    """The nodes of a cluster, or of this machine alone.

    Args:
        ask: gives what each node has; see Heartbeat.
        share: what a task takes.
        address: of the cluster; None for a Ray of this machine.
        wanted: nodes to wait for; 0 waits for none in particular.

    Attributes:
        share: as given, or another since.
        lost: whether the cluster has been found not to answer.
    """

    def __init__(self, ask: Callable[[], Resources], share: Share, address: str | None = None, wanted: int = 0) -> None:
        self._beat = Heartbeat(ask)
        self.share = share
        self._address = address
        self._where = "on this machine" if address is None else f"at {address}"
        self._wanted = wanted
        self._asked = False  # whether the autoscaler is asked for nodes
        self._roomless: float | None = None  # since when no node can run a task
        self.lost = False

    def room(self, without: Collection[str] = ()) -> dict[str, int]:
        """Tasks that each node can run at a time, as of some seconds ago; nodes that can run any."""
        return self.share.room(self._beat, without)

    def all_have(self, share: Share) -> bool:
        """Whether every node that could run anything, of which there is one, has room for such a share."""
        able = {node for node, has in self._beat.nodes.items() if has.get("CPU", 0) >= 1 or has.get("GPU", 0) > 0}
        return bool(able) and share.room(self._beat).keys() == able

    def gather(self, tell: Tell) -> None:
        """Wait for nodes that can run a task, and `tell` how many there are of those that are waited for.

        Raises:
            InputError: no node can run a task, on a cluster after giving others the time to join.
            SweepError: too few of those that are waited for came in time, or the cluster does not answer any more.
        """
        if self._wanted:
            self._await(self._wanted, tell)
            return
        end = time.monotonic() + (0.0 if self._address is None else ROOM_SECONDS)
        while not self.room():
            if time.monotonic() > end:
                if self._address is None:
                    raise InputError(self.share.missing("this machine"))
                waits = "--wait-for-nodes 1 waits for one"
                raise InputError(f"{self.share.missing(f'the cluster {self._where}')}; {waits}")
            time.sleep(POLL_SECONDS)

    def _await(self, wanted: int, tell: Tell) -> None:
        end = time.monotonic() + WAIT_SECONDS
        next_asked, doing = -math.inf, ""
        while len(room := self.room()) < wanted:
            self._check_answers("nothing was begun")
            joined = f"{len(room)} of {wanted} nodes that can run a task joined"
            if time.monotonic() > end:
                minutes = f"within {WAIT_SECONDS / 60:g} minutes"
                raise SweepError(f"the cluster {self._where}: {joined} {minutes}{doing}; --wait-for-nodes takes fewer")
            if time.monotonic() > next_asked:
                doing = f", {said}" if (said := self._ask(self._request(room.values(), wanted))) else ""
                next_asked = time.monotonic() + ASK_SECONDS
            tell(f"{joined}{doing}")
            time.sleep(POLL_SECONDS)
        if self._asked:
            self._ask([])

    def _request(self, room: Collection[int], wanted: int) -> list[Bundle]:
        """Bundles that fill nodes with room for so many tasks, and as many others, of the largest kind, as are missing.

        One that does not fill its node would be put beside others, and no node started for it.
        """
        largest = max(room, default=1)
        return [self.share.bundle(tasks) for tasks in [*room, *[largest] * (wanted - len(room))]]

    def _ask(self, bundles: list[Bundle]) -> str:
        self._asked |= bool(bundles)
        said = ask(bundles, self.share.labels)
        self._asked = bool(bundles)
        return said

    def check(self, without: Collection[str] = ()) -> None:
        """Raise SweepError when the cluster is gone, or all its nodes that could run a task are."""
        goes_on = "what is committed stays, and the same command goes on"
        self._check_answers(goes_on)
        if self.room(without):
            self._roomless = None
            return
        self._roomless = self._roomless or time.monotonic()
        if time.monotonic() - self._roomless > (WAIT_SECONDS if self._wanted else REJOIN_SECONDS):
            raise SweepError(f"the Ray cluster {self._where} has lost every node that could run a task; {goes_on}")

    def _check_answers(self, consequence: str) -> None:
        if self._beat.silence > LOST_SECONDS:
            self.lost = True
            raise SweepError(f"the Ray cluster {self._where} does not answer any more; {consequence}")

    def stop(self) -> None:
        """Ask for them no more, neither the cluster nor its autoscaler."""
        self._beat.stop()
        if self._asked and not self.lost:
            self._ask([])

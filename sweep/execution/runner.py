"""What the driver asks of whatever runs its chunks; and the runner that uses the calling process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from sweep.data.datasets import Dataset
from sweep.errors import InputError
from sweep.execution.devices import CPU, Wish, is_seen
from sweep.execution.job import Job, Outcome
from sweep.execution.plan import Chunk
from sweep.execution.worker import run_chunk, take_over
from sweep.networks.backend import LIBRARIES, library
from sweep.preparation.inputs import ModelFile

if TYPE_CHECKING:
    from sweep.networks.loading import Network


class Runner(Protocol):
    """Runs chunks, several at a time, in any order."""

    def settle(self, there: Collection[str]) -> str:
        """The kind of device that is to evaluate, CPU or GPU; `there` are those on which trials of the run were."""

    def gather(self, tell: Callable[[str], None]) -> None:
        """Wait for those that are to run them, and `tell` how far that is; raises SweepError where they do not come."""

    def start(self, job: Job, models: Mapping[str, ModelFile], datasets: Mapping[str, Dataset]) -> None:
        """Make what tasks share reachable for them; models and test sets by label."""

    def update(self, job: Job) -> None:
        """Give this to the tasks to come, in place of the job that they were started with."""

    @property
    def slots(self) -> int:
        """Chunks that can run at the same time."""

    @property
    def joined(self) -> str:
        """What the user should know of who takes part; empty where it is this machine alone."""

    @property
    def dashboard(self) -> str:
        """The address at which a browser sees the cluster; empty where there is none."""

    @property
    def pending(self) -> int:
        """Chunks submitted and not yet returned by `wait`."""

    @property
    def nodes(self) -> Collection[str]:
        """Ids of the nodes that can run chunks; none where there is but this process."""

    def avoid(self, nodes: frozenset[str]) -> None:
        """Hand no more chunks to these nodes."""

    def submit(self, chunk: Chunk, among: frozenset[str] = frozenset()) -> None:
        """Hand over a chunk, for one of these nodes if there are any."""

    def wait(self, seconds: float) -> Outcome | None:
        """The outcome of any finished chunk, or None when none finishes within `seconds`."""

    def __enter__(self) -> Self:
        """Start workers."""

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the workers, whatever they are doing."""


class InlineRunner:
    """Runs each chunk in the calling process: no Ray, one at a time, with tracebacks; for debugging."""

    slots = 1
    joined = ""
    dashboard = ""
    nodes: Collection[str] = ()

    def __init__(self, wish: Wish | None = None, networks: Iterable[Network] = ()) -> None:
        """`networks` are those that this process has loaded."""
        self._queue: deque[Chunk] = deque()
        self._wish = wish or Wish("auto")
        self._networks = tuple(networks)

    def settle(self, there: Collection[str]) -> str:
        seen = is_seen()
        device = self._wish.settled(there, seen)
        if seen is not (device != CPU):
            uses = "uses a GPU in this process; begin a new one with --device cpu" if seen else "sees no GPU here"
            raise InputError(f"--device {device.lower()}: {LIBRARIES[library()]} {uses}")
        return device

    def gather(self, tell: Callable[[str], None]) -> None:
        pass

    def start(self, job: Job, models: Mapping[str, ModelFile], datasets: Mapping[str, Dataset]) -> None:
        self._shared = (job, models, datasets)
        take_over(self._networks, job.threads, job.device != CPU)

    def update(self, job: Job) -> None:
        self._shared = (job, *self._shared[1:])

    def avoid(self, nodes: frozenset[str]) -> None:
        pass

    @property
    def pending(self) -> int:
        return len(self._queue)

    def submit(self, chunk: Chunk, among: frozenset[str] = frozenset()) -> None:  # noqa: ARG002
        self._queue.append(chunk)

    def wait(self, seconds: float) -> Outcome | None:  # noqa: ARG002
        """Run the oldest chunk to its end."""
        if not self._queue:
            return None
        job, models, datasets = self._shared
        chunk = self._queue.popleft()
        return run_chunk(job, models[chunk.model], datasets[chunk.dataset], chunk)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._queue.clear()

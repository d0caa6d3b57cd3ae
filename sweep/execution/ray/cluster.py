"""Ray: a local one that this process starts and stops, or a cluster that is there already."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import pickle
import re
import secrets
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from sweep.data.datasets import Dataset
from sweep.errors import InputError, SweepError, VersionError
from sweep.execution.devices import GPU, Wish, is_seen
from sweep.execution.job import Job, Outcome, packed
from sweep.execution.plan import Chunk
from sweep.execution.ray.authentication import is_remote, lets_anyone_in, refusal
from sweep.execution.ray.heartbeat import Resources
from sweep.execution.ray.joining import Members, Share
from sweep.execution.ray.metrics import Metrics
from sweep.execution.ray.session_dir import Scratch
from sweep.execution.ray.task import RETRIES, by_value, died, last_seen
from sweep.execution.travel import packed as packed_dataset
from sweep.execution.travel import spooled
from sweep.files import reason
from sweep.preparation.inputs import ModelFile
from sweep.signals import stopping, unchanged, whole

OBJECT_STORE_BYTES = 512 * 1024**2  # of a local Ray: model files and small datasets; large ones are files
START_ATTEMPTS = 3
CONNECT_SECONDS = 10.0  # for a cluster's address to answer
SHUTDOWN_SECONDS = 3.0  # for a cluster that does not answer any more


class RayRunner:
    """Runs chunks as Ray tasks: one process a core, or a share of a GPU each.

    Args:
        address: of a running cluster; None starts a local one, bound to loopback, without dashboard.
        workers: tasks at a time; None takes every core (or every share of a GPU).
        wish: on what tasks run, and on which nodes; a share of 0.25 lets four share one GPU.
        insecure: also use a cluster on other machines that lets anyone in without a token.
        memory: bytes that a task asks for of a cluster; 0 asks for none.
        wait_for_nodes: nodes of a cluster that can run a task, to be waited for before the first; 0 waits for none.
    """

    dashboard = ""

    def __init__(
        self,
        address: str | None = None,
        workers: int | None = None,
        wish: Wish | None = None,
        insecure: bool = False,
        memory: int = 0,
        wait_for_nodes: int = 0,
    ) -> None:
        self._address = address
        self._workers = workers
        self._wish = wish or Wish()
        self._insecure = insecure
        self._share = Share(memory=0 if address is None else memory, labels=self._wish.labels)
        self._pending: dict[Any, tuple[Chunk, bytes]] = {}  # with the mark that a task leaves while it runs
        self._avoided: frozenset[str] = frozenset()
        self._turn = 0
        self._ready: list[Any] = []  # finished, and not yet returned by `wait`
        self._scratch: Scratch | None = None
        self._wanted = wait_for_nodes
        self._members: Members | None = None
        self._metrics: Metrics | None = None  # of a cluster: nobody looks at those of a Ray of our own

    def __enter__(self) -> Self:
        self._ray = _import_ray(local=self._address is None)
        from ray.experimental import internal_kv

        self._kv = internal_kv
        self._marks = f"noisesweep/{secrets.token_hex(8)}/".encode()
        self._owner = not self._ray.is_initialized()
        try:
            if self._owner:
                self._connect()
            self._members = Members(self._resources, self._share, self._address, self._wanted)
            self._metrics = Metrics() if self._address else None
        except BaseException as error:
            self.__exit__(type(error))
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None = None, *rest: object) -> None:
        if kind is KeyboardInterrupt:
            stopping()
        if self._members:
            self._members.stop()
        if self._members and self._members.lost:
            self._abandon()
        elif self._owner:
            if self._address and self._members:
                self._forget_marks()
            with unchanged():
                self._ray.shutdown()  # ends the tasks too; cancelling them by force can abort this process (Ray 2.60)
        else:
            for reference in self._pending:
                self._ray.cancel(reference)
            self._forget_marks()
        self._pending.clear()
        self._ready.clear()
        if self._scratch:
            self._scratch.remove()

    def settle(self, there: Collection[str]) -> str:
        wish = self._wish
        with_gpu = replace(self._share, gpus=wish.share, accelerator=wish.accelerator)
        has_gpus = self._joined.all_have(with_gpu) and (self._address is not None or is_seen())
        device = wish.settled(there, has_gpus)
        if device == GPU:
            self._share = self._joined.share = with_gpu
        return device

    def gather(self, tell: Callable[[str], None]) -> None:
        self._joined.gather(tell)

    def start(self, job: Job, models: Mapping[str, ModelFile], datasets: Mapping[str, Dataset]) -> None:
        put = self._ray.put
        self.update(job)
        self._models = {label: put(model) for label, model in models.items()}
        self._datasets = {}
        for label, dataset in (spooled(datasets, self._scratch.path) if self._scratch else datasets).items():
            travelling = packed_dataset(dataset, None if self._scratch or dataset.place is None else put(dataset))
            self._datasets[label] = put(travelling or dataset)
        # max_calls=0: Ray would otherwise end a GPU worker after each task, and load the network again.
        self._task = self._ray.remote(**self._share.options, max_calls=0, max_retries=RETRIES)(by_value())

    def update(self, job: Job) -> None:
        self._job = self._ray.put(packed(replace(job, gpus=self._share.gpus)))

    @property
    def nodes(self) -> Collection[str]:
        """Ids of the nodes that can run tasks, as of some seconds ago."""
        return self._joined.room()

    @property
    def joined(self) -> str:
        """How many nodes of a cluster take part, and how many tasks they run at a time."""
        if self._address is None:
            return ""
        return f"{len(self.nodes)} node{'s' * (len(self.nodes) > 1)} with {self.slots} slot{'s' * (self.slots > 1)}"

    def avoid(self, nodes: frozenset[str]) -> None:
        self._avoided = nodes

    @property
    def slots(self) -> int:
        """Tasks that the cluster can run at a time, as of some seconds ago: nodes come and go."""
        room = sum(self._joined.room(self._avoided).values())
        return max(1, room if self._workers is None else min(room, self._workers))

    @property
    def pending(self) -> int:
        return len(self._pending)

    def submit(self, chunk: Chunk, among: frozenset[str] = frozenset()) -> None:
        """Submit a task; Ray runs it again elsewhere when its process or node dies.

        One that is to run `among` some nodes goes to one of them, or elsewhere once that has died.
        """
        self._turn += 1
        task, mark = self._task, self._marks + str(self._turn).encode()
        if among:
            target = sorted(among)[self._turn % len(among)]
            strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(target, soft=True)
            task = task.options(scheduling_strategy=strategy)
        elif self._avoided:
            others = {"ray.io/node-id": f"!in({','.join(sorted(self._avoided))})"}
            task = task.options(label_selector={**self._share.labels, **others})
        shared = [self._job, self._models[chunk.model], self._datasets[chunk.dataset]]
        reference = task.remote(mark, shared, pickle.dumps(chunk))
        self._pending[reference] = chunk, mark

    def wait(self, seconds: float) -> Outcome | None:
        """The outcome of a finished task; an error in it is reported in the outcome, not raised."""
        if not self._ready:
            self._ready = self._finished(seconds)
        if not self._ready:
            return None
        outcome = self._outcome(self._ready.pop())
        if self._metrics:
            self._metrics.took(outcome)
        return outcome

    def _outcome(self, reference: Any) -> Outcome:
        chunk, mark = self._pending.pop(reference)
        try:
            node, where, found = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            node, where = last_seen(self._kv, mark)
            found = died(error)
        if isinstance(found, Outcome):
            return replace(found, node=node)
        if self._owner and self._address is None:
            where.pop("log", None)  # removed at the end, with all that a Ray of our own has written
        return Outcome(chunk, node=node, host=where, error=found)

    def _forget_marks(self) -> None:
        with contextlib.suppress(Exception):
            self._kv._internal_kv_del(self._marks, del_by_prefix=True)

    def _finished(self, seconds: float) -> list[Any]:
        """Every task that has finished, once one has; asking takes the longer, the more are pending."""
        if not self._pending:
            return []
        self._joined.check(self._avoided)
        pending = list(self._pending)
        ready: list[Any] = self._ray.wait(pending, num_returns=1, timeout=seconds)[0]
        if ready and len(pending) > 1:
            ready = self._ray.wait(pending, num_returns=len(pending), timeout=0)[0]
        return ready

    def _connect(self) -> None:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self._address is None:
            self._start_local(quiet)
            return
        if self._address.startswith(("http://", "https://")):
            raise InputError(
                f"--address {self._address}: takes jobs only (`ray job submit`); give HOST:6379 on a node of the "
                "cluster, or ray://HOST:10001 from another machine"
            )
        if reach(self._address) and (refused := refusal(self._address)):
            raise SweepError(refused)
        if not self._insecure and is_remote(self._address) and lets_anyone_in(self._address):
            raise InputError(
                f"--address {self._address}: this cluster takes work from anyone who reaches it; start it with "
                "RAY_AUTH_MODE=token, or say --insecure-cluster"
            )
        package = str(Path(__file__).resolve().parents[2])  # workers get this very code
        try:
            with unchanged():
                there = self._ray.init(address=self._address, runtime_env={"py_modules": [package]}, **quiet)
            self.dashboard = f"http://{there.dashboard_url}" if there.dashboard_url else ""
        except (RuntimeError, ValueError, OSError, self._ray.exceptions.RayError) as error:
            if "Version mismatch" in str(error):
                raise VersionError(f"the Ray cluster at {self._address}: {_mismatch(str(error))}") from None
            if self._address.startswith("ray://"):
                advice = "ray:// needs the port of Ray's client server on the head, 10001 by default"
                raise SweepError(f"no Ray cluster answers at {self._address}: {reason(error)}; {advice}") from None
            raise SweepError(
                f"the Ray cluster at {self._address} answers, but this machine is no node of it ({reason(error)}); "
                f"give ray://{self._address.rpartition(':')[0]}:10001, or run this command as a job on the cluster"
            ) from None

    def _start_local(self, options: dict[str, Any]) -> None:
        self._scratch = Scratch()
        for attempt in range(START_ATTEMPTS):
            try:
                with whole(), unchanged(), warnings.catch_warnings():  # half started, a Ray would be left behind
                    warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)  # JAX's, of Popen
                    self._ray.init(
                        address="local",
                        num_cpus=self._workers or available_cores(),
                        include_dashboard=False,
                        object_store_memory=OBJECT_STORE_BYTES,
                        _temp_dir=self._scratch.path,
                        **options,
                    )
                return
            except Exception as error:  # Ray gives its processes 30 s, which a busy machine can exceed
                with unchanged():
                    self._ray.shutdown()
                if attempt == START_ATTEMPTS - 1:
                    raise SweepError(f"Ray did not start on this machine: {reason(error)}") from error

    def _resources(self) -> Resources:
        fits = self._wish.fits
        return {n["NodeID"]: n["Resources"] for n in self._ray.nodes() if n["Alive"] and fits(n.get("Labels") or {})}

    @property
    def _joined(self) -> Members:
        assert self._members is not None
        return self._members

    def _abandon(self) -> None:
        """Leave a cluster that does not answer: shutting Ray down may wait for ever, now and at the end."""
        thread = threading.Thread(target=self._ray.shutdown, daemon=True)
        thread.start()
        thread.join(SHUTDOWN_SECONDS)
        atexit.unregister(self._ray.shutdown)


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _mismatch(text: str) -> str:
    """Ray's message about versions, whose lines first say the cluster's, then those of this process, in one line."""
    found = [f"{name} {number}" for name, number in re.findall(r"(Ray|Python): (\S+)", text)]
    if len(found) != 4:
        return " ".join(text.split())
    return f"{' and '.join(found[:2])} there, {' and '.join(found[2:])} here; install the same everywhere"


def reach(address: str) -> bool:
    """Raise SweepError when nothing listens at `host:port`; Ray itself would try for minutes.

    Returns whether it is the head itself that listens; otherwise it is Ray's client server, or a form that Ray knows.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return False  # "auto", or a form that Ray knows
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise SweepError(f"no Ray cluster answers at {address}: {error}") from None
    return not address.startswith("ray://")


def _import_ray(local: bool) -> Any:
    # All of these are read when Ray is imported or started, and inherited by the processes that it starts.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("RAY_task_oom_retries", str(RETRIES))  # Ray itself would try for ever
    if local:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # on Linux too, this binds Ray to loopback
        os.environ.pop("RAY_ADDRESS", None)
        if "RAY_AUTH_MODE" not in os.environ:
            os.environ["RAY_AUTH_MODE"] = "token"
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    late = "ray" in sys.modules  # imported by who called this, before these were set
    with whole():
        import ray

    if late and not ray.is_initialized():
        from ray._private import ray_constants
        from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()
        ray_constants.ENABLE_RAY_CLUSTER = not local and ray_constants.ENABLE_RAY_CLUSTER
    return ray

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
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from sweep.data.datasets import Dataset
from sweep.errors import InputError, SweepError, TaskError, VersionError
from sweep.execution.devices import GPU, Wish, is_seen
from sweep.execution.job import Job, Outcome, packed
from sweep.execution.plan import Chunk
from sweep.execution.ray.authentication import is_remote, lets_anyone_in, refusal
from sweep.execution.ray.heartbeat import Resources
from sweep.execution.ray.joining import Members, Share
from sweep.execution.ray.session_dir import Scratch
from sweep.execution.travel import packed as packed_dataset
from sweep.execution.travel import spooled
from sweep.execution.worker import portable
from sweep.files import reason
from sweep.preparation.inputs import ModelFile
from sweep.signals import stopping, unchanged, whole

OBJECT_STORE_BYTES = 512 * 1024**2  # of a local Ray: model files and small datasets; large ones are files
START_ATTEMPTS = 3
CONNECT_SECONDS = 10.0  # for a cluster's address to answer
SHUTDOWN_SECONDS = 3.0  # for a cluster that does not answer any more
RETRIES = 3  # of a task whose process or node died, by Ray, before the driver takes its chunk apart


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

    def start(self, job: Job, models: Mapping[str, ModelFile], dataset: Dataset) -> None:
        put = self._ray.put
        self.update(job)
        self._models = {label: put(model) for label, model in models.items()}
        if self._scratch:
            dataset = spooled(dataset, self._scratch.path)
        travelling = packed_dataset(dataset, None if self._scratch or dataset.place is None else put(dataset))
        self._dataset = put(travelling or dataset)
        # max_calls=0: Ray would otherwise end a GPU worker after each task, and load the network again.
        self._task = self._ray.remote(**self._share.options, max_calls=0, max_retries=RETRIES)(_task())

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
        shared = [self._job, self._models[chunk.model], self._dataset]
        reference = task.remote(mark, shared, pickle.dumps(chunk))
        self._pending[reference] = chunk, mark

    def wait(self, seconds: float) -> Outcome | None:
        """The outcome of a finished task; an error in it is reported in the outcome, not raised."""
        if not self._ready:
            self._ready = self._finished(seconds)
        if not self._ready:
            return None
        reference = self._ready.pop()
        chunk, mark = self._pending.pop(reference)
        try:
            node, host, found = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            node, host = self._last_seen(mark)
            found = _died(error)
        if isinstance(found, Outcome):
            return replace(found, node=node)
        return Outcome(chunk, node=node, host={"host": host}, error=found)

    def _last_seen(self, mark: bytes) -> tuple[str, str]:
        """Node and host where a task ran whose process died; empty where it left no mark."""
        try:
            node, _, host = (self._kv._internal_kv_get(mark) or b"").decode().partition(" ")
            self._kv._internal_kv_del(mark)
        except Exception:  # whatever Ray raises: then it is not known
            return "", ""
        return node, host

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
                with whole(), unchanged():  # a Ray that has half started would be left behind
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


def _task() -> Callable[[bytes, list[Any], bytes], tuple[str, str, Any]]:
    """What Ray runs: it says where, in the result or, while it runs, under a mark, and takes nothing for granted there.

    Ray sends a function within a function by value, so it runs even where this package cannot be imported.
    """

    def task(mark: bytes, shared: list[Any], chunk: bytes) -> tuple[str, str, Any]:
        import contextlib
        import pickle
        import platform

        import ray
        from ray.experimental import internal_kv

        node, host = ray.get_runtime_context().get_node_id(), platform.node()
        with contextlib.suppress(Exception):
            internal_kv._internal_kv_put(mark, f"{node} {host}".encode(), overwrite=True)
        try:
            from sweep.execution import worker
        except Exception as error:
            from sweep.errors import NodeError

            return node, host, NodeError(f"{type(error).__name__}: {error}")
        found: Any
        try:
            found = worker.run_shared(shared, ray.get, pickle.loads(chunk))
        except Exception as error:
            found = worker.portable(error)
        with contextlib.suppress(Exception):
            internal_kv._internal_kv_del(mark)
        return node, host, found

    return task


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _died(error: Exception) -> Exception:
    """Why a task gave nothing that could be read."""
    cause = getattr(error, "cause", None)
    if cause is not None:
        return portable(cause)
    died = {
        "WorkerCrashedError": "its process died",
        "NodeDiedError": "its node died",
        "OutOfMemoryError": "Ray ended its process, because the node ran out of memory",
    }.get(type(error).__name__)
    if died:
        return TaskError(f"{died}, {1 + RETRIES} times in a row; the node's memory may be too small")
    return TaskError(f"{type(error).__name__}: {reason(error)}")


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

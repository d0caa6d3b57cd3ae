"""Ray: a local one that this process starts and stops, or a cluster that is there already."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from sweep.errors import InputError, SweepError
from sweep.execution.plan import Chunk
from sweep.execution.worker import Job, ModelFile, Outcome, run_in_time
from sweep.networks.datasets import Dataset
from sweep.perturb.plugins import plugin_modules

OBJECT_STORE_BYTES = 512 * 1024**2  # of a local Ray: model files and the dataset
START_ATTEMPTS = 3
CONNECT_SECONDS = 10.0  # for a cluster's address to answer
RECOUNT_SECONDS = 5.0  # how often to ask a cluster how large it is


class RayRunner:
    """Runs chunks as Ray tasks: one process a core, or a share of a GPU each.

    Args:
        address: of a running cluster; None starts a local one, bound to loopback, without dashboard.
        workers: tasks at a time; None takes every core (or every share of a GPU).
        gpus: GPUs a task asks for; 0 evaluates on CPUs, 0.25 lets four tasks share one GPU.
    """

    def __init__(self, address: str | None = None, workers: int | None = None, gpus: float = 0.0) -> None:
        self._address = address
        self._workers = workers
        self._gpus = gpus
        self._pending: dict[Any, Chunk] = {}
        self._scratch: str | None = None
        self._counted = (0.0, 0)

    def __enter__(self) -> Self:
        self._ray = _import_ray(local=self._address is None)
        self._owner = not self._ray.is_initialized()
        if self._owner:
            try:
                self._connect()
            except BaseException:
                self.__exit__()
                raise
        self._check_resources()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._owner:
            self._ray.shutdown()  # ends the tasks too; cancelling them by force can abort this process (Ray 2.60)
        else:
            for reference in self._pending:
                self._ray.cancel(reference)
        self._pending.clear()
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def start(self, job: Job, models: Mapping[str, ModelFile], dataset: Dataset) -> None:
        """Put model files and dataset into the object store, once."""
        for module in plugin_modules():
            self._ray.cloudpickle.register_pickle_by_value(module)
        put = self._ray.put
        self._job = put(job)
        self._models = {label: put(model) for label, model in models.items()}
        self._dataset = put(dataset)
        # max_calls=0: Ray would otherwise end a GPU worker after each task, and load the network again.
        self._task = self._ray.remote(num_cpus=0 if self._gpus else 1, num_gpus=self._gpus, max_calls=0)(run_in_time)

    @property
    def slots(self) -> int:
        """Tasks that the cluster can run at a time, as of some seconds ago: nodes come and go."""
        counted, slots = self._counted
        if time.monotonic() - counted > RECOUNT_SECONDS or not slots:
            resources = self._ray.cluster_resources()
            room = resources.get("GPU", 0) / self._gpus if self._gpus else resources.get("CPU", 0)
            slots = max(1, int(room) if self._workers is None else min(int(room), self._workers))
            self._counted = (time.monotonic(), slots)
        return slots

    @property
    def pending(self) -> int:
        """Tasks submitted and not yet returned by `wait`."""
        return len(self._pending)

    def submit(self, chunk: Chunk) -> None:
        """Submit a task; Ray runs it again elsewhere when its process or node dies."""
        reference = self._task.remote(self._job, self._models[chunk.model], self._dataset, chunk)
        self._pending[reference] = chunk

    def wait(self, seconds: float) -> Outcome | None:
        """The outcome of a finished task; an error in it is reported in the outcome, not raised."""
        if not self._pending:
            return None
        ready, _ = self._ray.wait(list(self._pending), num_returns=1, timeout=seconds)
        if not ready:
            return None
        chunk = self._pending.pop(ready[0])
        try:
            outcome: Outcome = self._ray.get(ready[0])
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause if getattr(error, "cause", None) is not None else error
            return Outcome(chunk, error=f"{type(cause).__name__}: {cause}")
        except self._ray.exceptions.RayError as error:
            return Outcome(chunk, error=f"{type(error).__name__}: {str(error).splitlines()[0]}")
        return outcome

    def _connect(self) -> None:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self._address is None:
            self._start_local(quiet)
            return
        _reach(self._address)
        package = str(Path(__file__).resolve().parent.parent)  # workers get this very code
        try:
            self._ray.init(address=self._address, runtime_env={"py_modules": [package]}, **quiet)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError) as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise SweepError(f"no Ray cluster answers at {self._address}: {reason[0]}") from None

    def _start_local(self, options: dict[str, Any]) -> None:
        # Ray's sockets live below this folder, and a socket's path may have 107 characters at most.
        self._scratch = tempfile.mkdtemp(prefix="noisesweep-", dir="/tmp" if os.name == "posix" else None)
        for attempt in range(START_ATTEMPTS):
            try:
                self._ray.init(
                    address="local",
                    num_cpus=self._workers or available_cores(),
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE_BYTES,
                    _temp_dir=self._scratch,
                    **options,
                )
                return
            except Exception as error:  # Ray gives its processes 30 s, which a busy machine can exceed
                self._ray.shutdown()
                if attempt == START_ATTEMPTS - 1:
                    reason = str(error).strip().splitlines() or [type(error).__name__]
                    raise SweepError(f"Ray did not start on this machine: {reason[0]}") from error

    def _check_resources(self) -> None:
        if self._gpus and self._ray.cluster_resources().get("GPU", 0) < self._gpus:
            here = "this machine" if self._address is None else f"the cluster at {self._address}"
            raise InputError(f"--gpus {self._gpus:g}: {here} has no such GPU; leave it out to run on CPUs")


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _reach(address: str) -> None:
    """Raise SweepError when nothing listens at `host:port`; Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return  # "auto", or a form that Ray knows
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise SweepError(f"no Ray cluster answers at {address}: {error}") from None


def _import_ray(local: bool) -> Any:
    # All of these are read when Ray is imported or started, and inherited by the processes that it starts.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if local:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # on Linux too, this binds Ray to loopback
        os.environ.pop("RAY_ADDRESS", None)
        if "RAY_AUTH_MODE" not in os.environ:
            os.environ["RAY_AUTH_MODE"] = "token"
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    import ray

    return ray

"""Nodes of a Ray cluster on this machine, which can be killed one by one."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.chaos.scene import MARK, PATIENCE, started, until

TOKEN = "0123456789abcdef" * 4
AUTHENTICATED = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}


class Node:
    """A head, or another node when `head` is given; all its processes bear its mark.

    It says that it has so many CPUs and GPUs, and its Python looks at `path` first. A head may have a `dashboard`.

    Attributes:
        address: of the cluster, on loopback.
        jobs, metrics: of its job server, and of what Prometheus reads, where there is a dashboard.
    """

    def __init__(
        self,
        stack: ExitStack,
        env: Mapping[str, str],
        head: "Node | None" = None,
        cpus: int = 1,
        gpus: int = 0,
        path: str = "",
        dashboard: bool = False,
    ) -> None:
        self.mark = uuid.uuid4().hex
        self._env, self._head = env, head
        self._before = head.nodes(env) if head else 0
        self.address = head.address if head else f"127.0.0.1:{_free_port()}"
        self._folder = stack.enter_context(_folder())
        place = ["--address", self.address] if head else ["--head", "--port", self.address.partition(":")[2]]
        quiet = ["--disable-usage-stats", "--object-store-memory=100000000"]
        if not head:
            port = _free_port()
            self.jobs = f"http://127.0.0.1:{port}"
            quiet += [f"--include-dashboard={dashboard}", f"--dashboard-port={port}", f"--temp-dir={self._folder}"]
            quiet += [f"--dashboard-agent-listen-port={_free_port()}"] * dashboard  # others have the usual one
            port = _free_port()
            self.metrics = f"http://127.0.0.1:{port}/metrics"
            quiet += [f"--metrics-export-port={port}"] * dashboard
        arguments = [
            *place,
            "--node-ip-address=127.0.0.1",
            f"--num-cpus={cpus}",
            f"--num-gpus={gpus}",
            *quiet,
            "--block",
        ]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", *arguments],
            env={**env, "PYTHONPATH": path, MARK: self.mark},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        stack.callback(self.kill)

    def wait(self) -> "Node":
        """Until it is up and has joined: of two that start at the same time, Ray may let one die."""
        until(lambda: any("raylet" in title for title in started(self.mark).values()), self._process)
        until(lambda: _listens(*self.address.split(":")), self._process)
        until(lambda: (self._head or self).nodes(self._env) > self._before, self._process)
        return self

    @property
    def ended(self) -> bool:
        """Whether it has."""
        return self._process.poll() is not None

    def nodes(self, env: Mapping[str, str]) -> int:
        """How many nodes the cluster has had."""
        code = f"import ray; ray.init({self.address!r}, log_to_driver=False); print(len(ray.nodes()))"
        done = subprocess.run(
            [sys.executable, "-c", code], env={**env}, capture_output=True, text=True, timeout=PATIENCE
        )
        return int(done.stdout or 0)

    def kill(self) -> None:
        """End every process of the node, at once."""
        for _ in range(3):  # they start others
            for pid in started(self.mark):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        self._process.wait()


def _listens(host: str, port: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _folder() -> Iterator[Path]:
    folder = tempfile.mkdtemp(prefix="chaos-", dir="/tmp")  # short: sockets lie in it
    yield Path(folder)
    shutil.rmtree(folder, ignore_errors=True)

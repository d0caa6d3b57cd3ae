"""Ray nodes in network namespaces of their own: each has its address, host name, processes, /tmp and no `sweep`."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from tests.chaos.scene import LOG, until

ROOT = Path(__file__).parents[2]
STUDY = "/mnt"  # where the head has the folder of the study
HOLD = """
set -e
hostname {name}
mount --make-rprivate /
{hide}
{bind}
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /dev/shm
echo '127.0.0.1 localhost' > /tmp/hosts
echo '{address} {name}' >> /tmp/hosts
mount --bind /tmp/hosts /etc/hosts
echo '{traps}' > /tmp/log.json
echo ready
exec sleep infinity
"""


def missing() -> str:
    """What this machine lacks; empty where it can."""
    if os.geteuid() != 0:
        return "namespaces need root"
    absent = [name for name in ("ip", "unshare", "nsenter", "mount") if shutil.which(name) is None]
    if absent:
        return f"needs {', '.join(absent)}: iproute2 and util-linux"
    tried = subprocess.run(["unshare", "--net", "--uts", "--mount", "--pid", "--fork", "true"], capture_output=True)
    return "" if tried.returncode == 0 else f"no namespaces: {tried.stderr.decode().strip()}"


class Network:
    """A bridge, in a namespace of its own, to which nodes are added; it and they go with the stack."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._bridge = f"nsw{os.getpid()}"
        self._count = 0
        self.namespace(self._bridge)
        _ip("-n", self._bridge, "link", "add", "br0", "type", "bridge")
        _ip("-n", self._bridge, "link", "set", "br0", "up")

    def namespace(self, name: str) -> None:
        """Add a namespace that goes with the stack."""
        _ip("netns", "add", name)
        self._stack.callback(_ip, "netns", "del", name)

    def node(self, **how: object) -> "Node":
        """Add a machine."""
        self._count += 1
        name, address = f"{self._bridge}-{self._count}", f"10.77.0.{10 + self._count}"
        self.namespace(name)
        _ip(
            "link",
            "add",
            "eth0",
            "netns",
            name,
            "type",
            "veth",
            "peer",
            "name",
            f"p{self._count}",
            "netns",
            self._bridge,
        )
        _ip("-n", self._bridge, "link", "set", f"p{self._count}", "master", "br0", "up")
        _ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-n", name, "link", "set", device, "up")
        return Node(self._stack, name, f"node{self._count}", address, **how)  # type: ignore[arg-type]


class Node:
    """A machine that runs Ray once `start` is called.

    Args:
        study: a folder that it sees as STUDY, with this package; without, it has neither.
        seconds: that each trial takes.

    Attributes:
        address: of the machine.
    """

    def __init__(
        self,
        stack: ExitStack,
        namespace: str,
        name: str,
        address: str,
        study: Path | None = None,
        seconds: float = 0.0,
    ) -> None:
        self._stack = stack
        self.address = address
        bind = f"mount --bind {study} {STUDY}" if study else ""
        hide = "" if study else "\n".join(f"mount -t tmpfs tmpfs {place}" for place in _package())
        script = HOLD.format(
            name=name,
            address=address,
            bind=bind,
            hide=hide,
            traps=json.dumps({"seconds": seconds}),
        )
        inside = [
            "unshare",
            "--uts",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "bash",
            "-c",
            script,
        ]
        self._holder = subprocess.Popen(
            ["ip", "netns", "exec", namespace, *inside],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        stack.callback(self.kill)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n"
        self._first = int(Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text().split()[0])

    def command(self, *words: str) -> list[str]:
        """A command, as it is run on this machine."""
        return ["nsenter", "--target", str(self._first), "--net", "--uts", "--mount", "--pid", "--wd=/tmp", *words]

    def start(self, env: Mapping[str, str], head: "Node | None" = None, cpus: int = 1, path: str = "") -> "Node":
        """Start Ray, as the head or as a node of another's; its Python looks at `path` first."""
        place = (
            ["--address", f"{head.address}:6379"] if head else ["--head", "--port=6379", "--include-dashboard=false"]
        )
        ray = [sys.executable, "-m", "ray.scripts.scripts", "start", *place, f"--node-ip-address={self.address}"]
        quiet = [f"--num-cpus={cpus}", "--disable-usage-stats", "--object-store-memory=100000000", "--block"]
        with (self._files / "ray.log").open("w") as log:
            process = subprocess.Popen(
                self.command(*ray, *quiet),
                env={**env, "PYTHONPATH": path, LOG: "/tmp/log"},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._stack.callback(process.wait)
        self._stack.callback(self.kill)
        if head is None:
            listens = f"import socket; socket.create_connection(({self.address!r}, 6379))"
            until(
                lambda: subprocess.run(self.command(sys.executable, "-c", listens), capture_output=True).returncode == 0
            )
        return self

    @property
    def _files(self) -> Path:
        """Its /tmp, as seen from here."""
        return Path("/proc", str(self._first), "root", "tmp")

    @property
    def log(self) -> list[str]:
        """The trials that were begun there."""
        path = self._files / "log"
        return path.read_text().splitlines() if path.exists() else []

    def write(self, name: str, content: str) -> None:
        """Write a file below /tmp of this machine."""
        path = self._files / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def kill(self) -> None:
        """The machine is gone, at once."""
        if self._holder.poll() is None:
            os.kill(self._first, signal.SIGKILL)  # and so all of its processes
            self._holder.communicate()


def _package() -> list[str]:
    """Folders in which this package lies: here, and where it is installed."""
    find = "import importlib.util as u; print(*(u.find_spec('sweep').submodule_search_locations or []), sep='\\n')"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    installed = subprocess.run(
        [sys.executable, "-c", find], env=environment, cwd="/", capture_output=True, text=True
    ).stdout.split()
    here = importlib.util.find_spec("sweep")
    assert here is not None
    return sorted({str(Path(place).resolve()) for place in [*installed, *(here.submodule_search_locations or ())]})


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)

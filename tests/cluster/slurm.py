"""A Slurm of three nodes on this machine: munged, slurmctld and three slurmd, on free ports of loopback."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.chaos.scene import MARK, left, started, until
from tests.conftest import ROOT

NODES = ("n1", "n2", "n3")
CPUS = 2
CONFIGURATION = """
ClusterName=noisesweep
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
SlurmdTimeout=10
SlurmctldTimeout=10
KillWait=20
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
{nodes}
PartitionName=all Nodes=ALL Default=YES State=UP
"""


def missing() -> str:
    """Why there can be no Slurm here; empty where there can."""
    if "SWEEP_CLUSTER" not in os.environ:
        return "real schedulers and stores: make test-cluster"
    if os.geteuid() != 0:
        return "starts daemons as root"
    absent = [
        name for name in ("munged", "slurmctld", "slurmd", "sbatch", "ip") if not shutil.which(name, path=_path())
    ]
    return f"not installed: {', '.join(absent)} (packages slurm-wlm, munge, iproute2)" if absent else ""


class Slurm:
    """The daemons, and the commands that talk to them; everything that they start bears a mark.

    Attributes:
        mark: of all processes, those of the jobs too.
        env: for the commands; jobs get it, too.
    """

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._folder = folder
        self.mark = os.urandom(8).hex()
        self.env = {
            **os.environ,
            MARK: self.mark,
            "PATH": _path(),
            "PYTHONPATH": str(ROOT),
            "SLURM_CONF": str(folder / "slurm.conf"),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        self._daemons: list[subprocess.Popen[bytes]] = []
        stack.callback(self._end)
        for name in ("state", *(f"spool-{node}" for node in NODES)):
            (folder / name).mkdir()
        self._munge()
        ports = _free_ports(1 + len(NODES))
        host = socket.gethostname()
        nodes = "\n".join(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={CPUS} State=UNKNOWN"
            for node, port in zip(NODES, ports[1:], strict=True)
        )
        text = CONFIGURATION.format(host=host, ports=ports, folder=folder, nodes=nodes)
        (folder / "slurm.conf").write_text(text)
        self._start("slurmctld", "-D", "-i")
        self._slurmd = {node: self._start("slurmd", "-D", "-N", node) for node in NODES}
        until(lambda: self._idle() == len(NODES))

    def _munge(self) -> None:
        """A munged of our own key, as the user that its package makes: it does not run as root."""
        key = self._folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        home = self._folder / "munge"
        home.mkdir()
        for path in (key, home):
            shutil.chown(path, "munge", "munge")
        socket_file = self._folder / "munge.socket"
        self._start(
            *("setpriv", "--reuid=munge", "--regid=munge", "--clear-groups"),
            *("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={home / 'socket'}"),
            *(f"--pid-file={home / 'pid'}", f"--seed-file={home / 'seed'}", f"--log-file={home / 'log'}"),
        )
        until((home / "socket").exists)
        socket_file.symlink_to(home / "socket")

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        daemon = subprocess.Popen(
            command, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        self._daemons.append(daemon)
        return daemon

    def _end(self) -> None:
        for _ in range(3):  # they start others
            _kill([*_keepers(found := [*started(self.mark)]), *found])
        for daemon in self._daemons:
            daemon.wait()
        left(self.mark)

    def _idle(self) -> int:
        return self.ask("sinfo", "--noheader", "--Node", "--format=%T").split().count("idle")

    def ask(self, *command: str, **more: str) -> str:
        """What a command of Slurm's prints; empty where it fails."""
        done = subprocess.run(command, env={**self.env, **more}, capture_output=True, text=True, timeout=120)
        return done.stdout.strip() if done.returncode == 0 else ""

    def submit(self, *arguments: str, env: Mapping[str, str] | None = None) -> str:
        """Give a job to sbatch; returns its id."""
        done = subprocess.run(
            ["sbatch", "--parsable", *arguments], env={**self.env, **(env or {})}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def field(self, job: str, name: str) -> str:
        """A field of `scontrol show job`."""
        found = re.search(rf"\b{name}=(\S*)", self.ask("scontrol", "show", "job", job))
        return found[1] if found else ""

    def state(self, job: str) -> str:
        return self.field(job, "JobState")

    def ended(self, job: str) -> str:
        """Wait until a job has ended, and nothing of it runs any more; returns its state."""
        until(lambda: self.state(job) not in ("PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED"))
        until(lambda: not self.processes(job))
        return self.state(job)

    def processes(self, job: str, node: str = "") -> dict[int, str]:
        """Living processes of a job, of one node of it where that is given, and their command lines."""
        found = {}
        for pid, title in started(self.mark).items():
            try:
                environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if f"SLURM_JOB_ID={job}".encode() in environ and (
                not node or f"SLURMD_NODENAME={node}".encode() in environ
            ):
                found[pid] = title
        return found

    def fail(self, node: str, job: str) -> None:
        """A node dies at once: its daemon, and what it has of a job."""
        _kill([self._slurmd[node].pid])
        for _ in range(3):
            _kill([*_keepers(found := [*self.processes(job, node)]), *found])


def _keepers(pids: list[int]) -> set[int]:
    """Those of Slurm's processes that look after the steps to which these belong; they bear no mark."""
    found = set()
    for pid in pids:
        try:
            parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            if Path(f"/proc/{parent}/cmdline").read_bytes().startswith(b"slurmstepd:"):
                found.add(parent)
        except OSError:  # it has ended
            continue
    return found


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _path() -> str:
    return f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin:/sbin"


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@contextmanager
def running() -> Iterator[Slurm]:
    """A Slurm for as long as the block lasts; skips the test where there can be none."""
    if reason := missing():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        with ExitStack() as stack:
            yield Slurm(stack, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)

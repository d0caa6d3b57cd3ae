"""A cluster of machines with addresses, processes and files of their own: the same results as in one process."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.chaos import scene
from tests.chaos.nodes import AUTHENTICATED
from tests.cluster import namespaces
from tests.cluster.namespaces import ROOT, STUDY, Network, Node

pytestmark = pytest.mark.skipif(
    "SWEEP_CLUSTER" not in os.environ, reason="real schedulers and stores: make test-cluster"
)


@pytest.fixture
def network() -> Iterator[Network]:
    if lacking := namespaces.missing():
        pytest.skip(lacking)
    with ExitStack() as stack:
        yield Network(stack)


@contextmanager
def running(head: Node, env: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`sweep run chaos.toml` on the head."""
    sweep = [sys.executable, "-m", "sweep", "run", f"{STUDY}/chaos.toml", "--out", f"{STUDY}/run", *arguments]
    process = subprocess.Popen(
        head.command(*sweep, "--address", f"{head.address}:6379"),
        env={**env, "PYTHONPATH": str(ROOT), scene.LOG: "/tmp/log"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate()


def test_a_node_dies_and_another_joins_without_files_or_package_in_common(network: Network, place: Path, monkeypatch):
    scene.write_study(60, seconds=0.1)
    env = {**scene.environment(), **AUTHENTICATED}
    head = network.node(study=place.resolve(), seconds=0.1).start(env, cpus=0)
    second, third = (network.node(seconds=0.1).start(env, head) for _ in range(2))
    absent = subprocess.run(
        second.command(sys.executable, "-c", "import sweep.version"), capture_output=True, text=True
    )
    assert "ModuleNotFoundError" in absent.stderr
    assert subprocess.run(second.command("test", "-e", f"{STUDY}/chaos.toml")).returncode == 1
    with running(head, env, "--chunk", "5", "--wait-for-nodes", "2") as process:
        scene.until(lambda: second.log and len(scene.shards()) > 2, process)
        second.kill()
        fourth = network.node(seconds=0.1).start(env, head)
        scene.until(lambda: fourth.log, process)  # it has joined in
        status, errors = scene.finish(process)
    assert status == 0, errors
    assert third.log
    scene.check("run", scene.undisturbed(monkeypatch))


def test_a_node_with_another_tensorflow_is_refused_with_both_versions(network: Network, place: Path):
    scene.write_study(5)
    env = {**scene.environment(), **AUTHENTICATED}
    head = network.node(study=place.resolve()).start(env, cpus=0)
    other = network.node()
    other.write(
        "other/tensorflow-9.9.9.dist-info/METADATA", "Metadata-Version: 2.1\nName: tensorflow\nVersion: 9.9.9\n"
    )
    other.start(env, head, path="/tmp/other")
    with running(head, env, "--wait-for-nodes", "1") as process:
        status, errors = scene.finish(process)
    assert status == 1, errors
    assert f"tensorflow {version('tensorflow')} there, 9.9.9 here; install the same everywhere" in errors, errors
    assert "worker on node2" in errors

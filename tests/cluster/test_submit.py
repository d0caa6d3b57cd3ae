"""A driver that is handed to a cluster: the job server of a real Ray takes it, with the results of a local run."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos import scene
from tests.chaos.nodes import AUTHENTICATED, Node
from tests.chaos.nodes import _listens as listens

pytestmark = [
    pytest.mark.skipif("SWEEP_CLUSTER" not in os.environ, reason="real schedulers and stores: make test-cluster"),
    pytest.mark.skipif(importlib.util.find_spec("aiohttp") is None, reason="no job server: pip install 'ray[default]'"),
]
BIN = str(Path(sys.executable).parent)


@pytest.fixture
def head(place: Path) -> Iterator[Node]:
    env = {**os.environ, **AUTHENTICATED, "PATH": f"{BIN}:{os.environ['PATH']}", scene.LOG: str(place / "log")}
    with ExitStack() as stack:
        scene.write_study(20)
        node = Node(stack, env, cpus=2, path=os.environ.get("PYTHONPATH", ""), dashboard=True).wait()
        scene.until(lambda: listens(*node.jobs.removeprefix("http://").split(":")))
        yield node


def sweep(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sweep", *arguments]
    environment = {**os.environ, **env}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=scene.PATIENCE)


def test_a_submitted_run_is_followed_cancelled_and_submitted_again(head: Node, place: Path, monkeypatch):
    out = str(place / "run")
    submit = ("submit", "chaos.toml", "--address", head.jobs, "--out", out, "--chunk", "3")
    for env in ({"RAY_AUTH_MODE": "disabled"}, {**AUTHENTICATED, "RAY_AUTH_TOKEN": "f" * 64}):
        refused = sweep(*submit, **env)
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused
        assert "did not take the job" in refused.stderr
    scene.pace(1.0)
    said = sweep(*submit, **AUTHENTICATED)
    assert said.returncode == 0, said
    assert f"sweep status {out} --watch" in said.stdout
    scene.until(lambda: scene.shards(out))
    assert "driver" in sweep("status", out).stdout
    assert sweep("cancel", out).returncode == 0
    scene.until(lambda: not list(Path(out, "running").iterdir()))
    assert "stopped; `sweep run` goes on" in sweep("status", out).stdout
    scene.pace(0.0)
    assert sweep(*submit, **AUTHENTICATED).returncode == 0
    watched = sweep("status", out, "--watch")
    assert (watched.returncode, "done, after" in watched.stdout) == (0, True), watched
    scene.check(out, scene.undisturbed(monkeypatch))

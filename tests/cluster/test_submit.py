"""A cluster with a dashboard: its job server takes a driver, with a local run's results, and it exports metrics."""

import importlib.util
import os
import re
import subprocess
import sys
import urllib.request
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


def exported(head: Node) -> dict[str, float]:
    """What the node says of this package, over all hosts, as Prometheus reads it."""
    try:
        with urllib.request.urlopen(head.metrics, timeout=10) as answer:
            text = answer.read().decode()
    except OSError:  # not yet
        return {}
    found: dict[str, float] = {}
    for name, value in re.findall(r"^ray_noisesweep_(\w+)_total\{.*\} (\S+)$", text, re.M):
        found[name] = found.get(name, 0.0) + float(value)
    return found


def test_metrics_leave_the_cluster_while_a_run_goes_on_and_failures_name_a_log(head: Node, place: Path):
    scene.write_study(40, at_0_2="raise", seconds=0.5)
    env = scene.environment(**AUTHENTICATED)
    with scene.running("--out", "run", "--chunk", "2", "--address", head.address, env=env) as process:
        scene.until(lambda: len(exported(head)) == 3, process)
        found = exported(head)
        scene.pace(0.0)
        status, errors = scene.finish(process)
        log = re.search(r": ValueError: as planted \(on \S+; log on \S+: (\S+)\)$", errors, re.M)
        assert log, errors
        assert "\nValueError: as planted\n" in Path(log[1]).read_text()
    assert status == 1
    assert 0 < found["trials"] <= 81, "and the clean network"
    assert found["trial_seconds"] >= 0.5 * (found["trials"] - 1)
    assert found["failed_tasks"] >= 1

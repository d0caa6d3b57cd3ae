"""A node dies and another joins; the head dies: the study is finished, or stops with a clear line and goes on."""

import re
import time
from contextlib import ExitStack
from pathlib import Path

import pandas as pd
import pytest

from tests.chaos import scene
from tests.chaos.nodes import AUTHENTICATED, TOKEN, Node


def at_work() -> set[int]:
    """The process that has begun a trial last, and is at it for a tenth of a second."""
    return {int(line.partition(" ")[0]) for line in Path("log").read_text().splitlines()[-1:]}


@scene.LONG
def test_a_node_that_dies_and_one_that_joins(place: Path, monkeypatch):
    scene.write_study(400, seconds=0.1)
    env = scene.environment(**AUTHENTICATED)
    with ExitStack() as stack:
        head = Node(stack, env).wait()
        second, third = (Node(stack, env, head).wait() for _ in range(2))
        run = ("--out", "run", "--chunk", "10", "--address", head.address)
        with scene.running(*run, env=env) as process:
            scene.until(lambda: len(scene.shards()) > 5, process)
            scene.pace(0.5)  # enough is left for every node, however long it takes to come up
            scene.until(lambda: at_work() & {*scene.started(second.mark)}, process)
            second.kill()
            scene.pace(0.1)
            died = len(scene.shards())
            scene.until(lambda: len(scene.shards()) > died + 3, process)
            scene.pace(0.5)
            fourth = Node(stack, env, head).wait()
            scene.until(lambda: at_work() & {*scene.started(fourth.mark)}, process)  # the new one has joined in
            scene.pace(0.0)
            status, errors = scene.finish(process)
            assert status == 0, errors
        third.kill()
    log = scene.logged()
    repeated = len(log) - len(set(log)) - 3
    print(f"{repeated} trials repeated")
    assert repeated <= 10, "the chunk of the killed node"
    scene.check("run", scene.undisturbed(monkeypatch), env[scene.MARK])
    secret = TOKEN.encode()
    assert TOKEN not in errors
    assert not [path for path in Path("run").rglob("*") if path.is_file() and secret in path.read_bytes()]


@scene.LONG
@pytest.mark.parametrize("where", ["local", "cluster"])
def test_a_head_that_dies(place: Path, monkeypatch, where: str):
    scene.write_study(400, seconds=0.1)
    env = scene.environment(**AUTHENTICATED)
    with ExitStack() as stack:
        address = []
        head = None
        if where == "cluster":
            head = Node(stack, env, cpus=2).wait()
            address = ["--address", head.address]
        with scene.running("--out", "run", "--chunk", "5", *address, env=env) as process:
            scene.until(lambda: len(scene.shards()) > 3, process)
            begun = time.monotonic()
            if head:
                head.kill()
            else:
                scene.kill(env[scene.MARK], "gcs_server|raylet/raylet")
            status, errors = scene.finish(process, 60)
            took = time.monotonic() - begun
    assert status == 1
    last = errors.strip().splitlines()[-1]
    assert re.match(r"sweep: the Ray cluster .* does not answer any more", last), errors
    kept = len(scene.shards())
    print(f"{where}: over after {took:.0f} s, {kept} shards kept")
    Path("log").unlink()
    trials = sum(len(pd.read_parquet(path)) for path in scene.shards())
    with scene.running("--out", "run", "--runner", "inline", env=env) as process:
        status, errors = scene.finish(process)
    assert status == 0, errors
    assert len(scene.logged()) - 3 == 1201 - trials, "what was committed, the clean network too, is not computed again"
    scene.check("run", scene.undisturbed(monkeypatch), env[scene.MARK])

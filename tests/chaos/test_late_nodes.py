"""Nodes that join after the command was given are waited for; a wait can be ended."""

import re
import signal
from contextlib import ExitStack
from pathlib import Path

from tests.chaos import scene
from tests.chaos.nodes import AUTHENTICATED, Node


@scene.LONG
def test_a_cluster_whose_nodes_are_yet_to_come(place: Path, monkeypatch):
    scene.write_study(20)
    env = scene.environment(**AUTHENTICATED)
    with ExitStack() as stack:
        head = Node(stack, env, cpus=0).wait()
        with scene.running("--out", "none", "--address", head.address, env=env) as process:
            status, errors = scene.finish(process)
        assert status == 2
        line = f"sweep: the cluster at {head.address} has no node with a CPU for tasks; --wait-for-nodes 1 waits for"
        assert line in errors
        waiting = ("--address", head.address, "--wait-for-nodes", "2")
        with scene.running("--out", "none", *waiting, env=env) as process:
            assert process.stderr is not None
            while "0 of 2 nodes that can run a task joined" not in process.stderr.readline():
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            status, errors = scene.finish(process)
        assert (status, errors.strip()) == (1, "sweep: stopped")
        assert not Path("none").exists()
        with scene.running("--out", "run", *waiting, env=env) as process:
            assert process.stderr is not None
            first = Node(stack, env, head, cpus=1).wait()
            while "1 of 2 nodes that can run a task joined" not in process.stderr.readline():
                assert process.poll() is None
            assert not Path("run/study.toml").exists(), "nothing is begun before both are there"
            second = Node(stack, env, head, cpus=1).wait()
            status, errors = scene.finish(process)
        assert status == 0, errors
        assert re.search("2 nodes with 2 slots joined; workers load", errors), errors
        for node in (first, second):
            node.kill()
    scene.check("run", scene.undisturbed(monkeypatch), env[scene.MARK])

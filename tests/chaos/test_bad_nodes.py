"""One of two nodes fails at once whatever it is given, so it is free for every retry: the other one does all."""

import re
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos import scene
from tests.chaos.nodes import AUTHENTICATED, Node

FAULTS = {
    "raise ModuleNotFoundError(\"No module named 'tomli_w'\")": "ModuleNotFoundError: No module named 'tomli_w'",
    "import os; os.kill(os.getpid(), 9)": "its process died, 4 times in a row; the node's memory may be too small",
    "raise OSError(28, 'No space left on device')": "OSError: [Errno 28] No space left on device",
}


def bad(fault: str) -> str:
    """A folder from which tomli_w cannot be imported."""
    Path("bad").mkdir()
    Path("bad/tomli_w.py").write_text(f"{fault}\n")
    return str(Path("bad").absolute())


def followed(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Status and standard error; trials are slow until a node is named, however long that takes a busy machine."""
    said = []
    assert process.stderr
    for line in process.stderr:
        said.append(line)
        if "no more tasks go there" in line:
            scene.pace(0.0)
    return process.wait(), "".join(said)


@scene.LONG
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("bad_head", [False, True])
def test_a_bad_node_ruins_nothing_and_is_named(place: Path, monkeypatch, fault: str, bad_head: bool):
    trials = scene.write_study(70, seconds=2.0 if "kill" in fault else 0.0)  # Ray tries four times before it tells
    env = scene.environment(**AUTHENTICATED)
    with ExitStack() as stack:
        head = Node(stack, env, path=bad(fault) if bad_head else "").wait()
        other = Node(stack, env, head, path="" if bad_head else bad(fault)).wait()
        begun = time.monotonic()
        with scene.running("--out", "run", "--chunk", "5", "--address", head.address, env=env) as process:
            status, errors = followed(process)
            assert status == 0, errors
        print(f"{trials} trials in {time.monotonic() - begun:.0f} s")
        assert not other.ended
        said = re.findall(rf": {re.escape(FAULTS[fault])}; no more tasks go there; its log there: (\S+)\n", errors)
        assert len(said) == 1, errors
        log = Path(said[0])
        assert log.is_file()
        assert "kill" in fault or f"\n{FAULTS[fault]}\n" in log.read_text(), "at full length"
    assert (
        ", 2 nodes with 2 slots joined; workers load TensorFlow and the network, and choose how to evaluate" in errors
    )
    assert "note: done without 1 of 2 nodes: worker on " in errors
    scene.check("run", scene.undisturbed(monkeypatch), env[scene.MARK])


@scene.LONG
def test_a_cluster_of_bad_nodes_ends_the_run_in_one_line(place: Path):
    scene.write_study(70)
    env = scene.environment(**AUTHENTICATED)
    with ExitStack() as stack:
        path = bad(next(iter(FAULTS)))
        head = Node(stack, env, path=path).wait()
        Node(stack, env, head, path=path).wait()
        with scene.running("--out", "run", "--address", head.address, env=env) as process:
            status, errors = scene.finish(process)
    assert status == 1
    last = errors.splitlines()[-1]
    assert last.startswith("sweep: no node can do this work: workers on "), errors
    assert last.endswith(": ModuleNotFoundError: No module named 'tomli_w'")


@scene.LONG
def test_a_gpu_that_tensorflow_does_not_see_is_refused(place: Path):
    """Ray takes the machine's word for its GPUs."""
    if Path("/dev/nvidia0").exists():
        pytest.skip("there is a GPU")
    scene.write_study(3)
    env = scene.environment(**AUTHENTICATED)
    with ExitStack() as stack:
        head = Node(stack, env, gpus=1).wait()
        with scene.running("--out", "run", "--gpus", "0.5", "--address", head.address, env=env) as process:
            status, errors = scene.finish(process)
    assert status == 1
    last = errors.splitlines()[-1]
    assert last.startswith("sweep: no node can do this work: worker on "), errors
    assert "TensorFlow sees no GPU, though 0.5 of one was given to the task; install its CUDA libraries there" in last

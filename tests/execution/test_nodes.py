"""Whose fault a failure is: the node's, when others do the same work; the work's, when nobody does."""

import random
import re
from pathlib import Path

import pytest

import sweep
from sweep.errors import NodeError, TaskError
from sweep.execution import driver, worker
from sweep.execution.failures import Nodes
from sweep.execution.job import Outcome
from sweep.execution.plan import Chunk
from sweep.execution.runner import InlineRunner
from sweep.preparation.inputs import prepare
from sweep.storage.paths import Folder
from tests.few import one_in

NOISY = "net/gaussian/scale=0.1"
ALL = 4 + 4 * 20  # trials of the study: the clean network and three cells are not random


def failed(node: str, chunk: Chunk, error: Exception | None = None) -> Outcome:
    log = f"/logs/{node}-{chunk.trials[0][1]}.err"  # another worker for other seeds
    return Outcome(chunk, node=node, host={"host": f"host-{node}", "log": log}, error=error)


class Cluster(InlineRunner):
    """Nodes that take turns as in a cluster: those that fail at once are free again first, and get most of the work.

    `trap` says what a node does with a chunk; what the driver submits goes to the nodes that it allows.
    """

    def __init__(self, names: str, trap, seed: int = 0) -> None:
        super().__init__()
        self.names, self.trap = list(names), trap
        self.asked: list[str] = []
        self._rng = random.Random(seed)
        self._shunned: frozenset[str] = frozenset()
        self._placed: list[tuple[Chunk, str]] = []

    @property
    def nodes(self):
        return self.names

    @property
    def slots(self) -> int:
        return max(1, len(self.names) - len(self._shunned))

    def avoid(self, nodes: frozenset[str]) -> None:
        self._shunned = nodes

    @property
    def pending(self) -> int:
        return len(self._placed)

    def submit(self, chunk: Chunk, among: frozenset[str] = frozenset()) -> None:
        allowed = sorted(among) or [name for name in self.names if name not in self._shunned]
        quick = [name for name in allowed if name.isupper()]  # those that fail at once
        self._placed.append((chunk, self._rng.choice(quick or allowed)))

    def wait(self, seconds: float) -> Outcome | None:
        placed = next((p for p in self._placed if p[1].isupper()), self._placed[0])
        self._placed.remove(placed)
        chunk, node = placed
        self.asked.append(node)
        error = self.trap(node, chunk)
        if error is not None:
            return failed(node, chunk, error)
        self._queue.append(chunk)
        outcome = super().wait(seconds)
        assert outcome
        return Outcome(**{**vars(outcome), "node": node, "host": {"host": f"host-{node}"}})


def run(names: str, trap, seed: int = 0) -> Cluster:
    runner = Cluster(names, trap, seed)
    driver.run(prepare(sweep.Study.from_toml("study.toml").over(20)), "run", runner, chunk_trials=4)
    return runner


def upper_fails(error: Exception):
    return lambda node, chunk: error if node.isupper() else None


NO_PANDAS = NodeError("ModuleNotFoundError: No module named 'pandas'")


@pytest.mark.parametrize("seed", one_in(3, range(3)))
@pytest.mark.parametrize("names", ["Ab", "ABc", "Abcd"])
@pytest.mark.parametrize(
    "error", [NO_PANDAS, OSError("disk"), TaskError("its process died, 4 times in a row")], ids=repr
)
def test_a_bad_node_takes_nothing_along_and_is_named(place, capsys, names: str, error: Exception, seed: int):
    runner = run(names, upper_fails(error), seed)
    assert len(sweep.open_run("run").trials()) == ALL
    said = capsys.readouterr().err
    reason = str(error) if not isinstance(error, OSError) else "OSError: disk"
    for name in filter(str.isupper, names):
        assert runner.asked.count(name) <= 3 + 2 * len(names), "what was underway, and no more"
        assert said.count(f"note: worker on host-{name}: ") == 1
        words = f"note: worker on host-{name}: {reason}; no more tasks go there; its log there: "
        assert re.search(rf"{re.escape(words)}/logs/{name}--?\d+\.err\n", said)
    bad = sum(map(str.isupper, names))
    assert f"note: done without {bad} of {len(names)} nodes: worker" in said


@pytest.mark.parametrize("names", ["A", "AB", "ABCDE"])
def test_when_all_nodes_are_bad_it_is_over_soon_with_the_reason(place, names: str):
    runner = Cluster(names, upper_fails(NO_PANDAS))
    with pytest.raises(TaskError) as caught:
        driver.run(prepare(sweep.Study.from_toml("study.toml").over(20)), "run", runner, chunk_trials=4)
    message = str(caught.value)
    assert message.startswith("no node can do this work: worker")
    assert message.endswith("No module named 'pandas'")
    assert "\n" not in message
    assert "host-A" in message
    assert len(runner.asked) <= 3 * len(names)


@pytest.mark.parametrize("names", ["A", "AB", "ABC"])
def test_when_everything_fails_everywhere_it_is_over_soon(place, names: str):
    runner = Cluster(names, upper_fails(ValueError("as planted")))
    with pytest.raises(TaskError, match="nothing succeeded") as caught:
        driver.run(prepare(sweep.Study.from_toml("study.toml").over(20)), "run", runner, chunk_trials=4)
    assert len(runner.asked) <= 30 * len(names)
    where = re.search(
        r"ValueError: as planted \(on ([^;]+); log on host-(\w): /logs/(\w)--?\d+\.err\)", str(caught.value)
    )
    assert where, str(caught.value)
    assert f"host-{where[2]}" in where[1]
    assert where[2] == where[3]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("names", ["a", "ab", "abcd", "Ab", "ABcd"])
def test_a_cell_that_fails_everywhere_is_given_up_and_no_sound_node_is(place, capsys, names: str, seed: int):
    def trap(node: str, chunk: Chunk) -> Exception | None:
        return ValueError("as planted") if node.isupper() or any(t[0] == NOISY for t in chunk.trials) else None

    with pytest.raises(TaskError) as caught:
        run(names, trap, seed)
    assert f"  {NOISY}: ValueError: as planted" in str(caught.value)
    counts = re.match(r"(\d+) trials? failed(?:, and (\d+) more of the same cells were not tried)?;", str(caught.value))
    assert counts
    assert sum(int(number or 0) for number in counts.groups()) == 20
    trials = sweep.open_run("run").trials()
    assert len(trials) == ALL - 20
    said = capsys.readouterr().err
    assert not [name for name in names if name.islower() and f"worker on host-{name}" in said]


def test_a_node_that_turns_bad_is_found_too(place, capsys):
    count = 0

    def trap(node: str, chunk: Chunk) -> Exception | None:
        nonlocal count
        count += node == "A"
        return OSError("No space left on device") if node == "A" and count > 3 else None

    run("Ab", trap)
    assert len(sweep.open_run("run").trials()) == ALL
    assert "note: worker on host-A: OSError: No space left on device; no more tasks go there" in capsys.readouterr().err


def test_a_node_is_suspected_as_long_as_there_is_another_and_cleared_by_work_that_fails_elsewhere():
    nodes, alive = Nodes(), ["a", "b"]
    chunks = [Chunk("net", ((f"cell {i}", 0),)) for i in range(4)]
    for chunk in chunks[:3]:
        assert nodes.failed(failed("a", chunk), ValueError(), "no", alive) == {"b"}
    assert nodes.avoided(alive) == {"a"}
    assert nodes.avoided(["a"]) == frozenset()
    assert nodes.succeeded("b", "host-b", chunks[3].trials) == []
    assert nodes.failed(failed("b", chunks[0]), ValueError(), "no", alive) is None, "a working node fails on it, too"
    assert nodes.avoided(alive) == frozenset()
    assert not nodes.bad


def test_a_run_folder_of_another_run_on_a_workers_machine_gets_nothing(place: Path, monkeypatch):
    """At the same path of its own disk, of the same study."""
    there = sweep.run("study.toml", "there/run", runner="inline", seeds=2)
    before = {path: path.read_bytes() for path in Path("there").rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(worker, "Folder", lambda uri: Folder(uri.replace("/here/", "/there/")))
        found = sweep.run("study.toml", "here/run", runner="inline", chunk_trials=3)
    assert {path: path.read_bytes() for path in Path("there").rglob("*") if path.is_file()} == before
    assert len(found.trials()) == len(sweep.open_run("here/run").trials()) >= len(there.trials())

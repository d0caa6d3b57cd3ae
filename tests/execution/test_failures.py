"""Chunks that fail: what is tried again, what is given up, what ends the run at once."""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import sweep
from sweep.errors import NondeterminismError, StoreError, SweepError, TaskError, VersionError
from sweep.execution import driver
from sweep.execution.failures import ALONE
from sweep.execution.job import Outcome
from sweep.execution.plan import Chunk, Trial
from sweep.execution.runner import InlineRunner
from sweep.execution.worker import portable
from sweep.preparation.inputs import prepare
from sweep.scripts import Script
from sweep.storage.paths import Folder

Trap = Callable[[Chunk], Exception | None]


class Trapped(InlineRunner):
    """Fails, as a cluster reports it, where a trap says so; counts how often it was asked for each trial."""

    def __init__(self, trap: Trap) -> None:
        super().__init__()
        self.trap = trap
        self.tries: Counter[Trial] = Counter()
        self.chunks = 0

    def wait(self, seconds: float) -> Outcome | None:
        chunk = self._queue[0]
        self.chunks += 1
        self.tries.update(chunk.trials)
        error = self.trap(chunk)
        if error is None:
            return super().wait(seconds)
        self._queue.popleft()
        return Outcome(chunk, error=error)


def run(trap: Trap, chunk_trials: int = 4) -> Trapped:
    runner = Trapped(trap)
    prepared = prepare(sweep.Study.from_toml("study.toml").over(20))
    driver.run(prepared, "run", runner, chunk_trials=chunk_trials)
    return runner


def failing(trap: Trap, kind: type[SweepError] = TaskError, chunk_trials: int = 4) -> str:
    with pytest.raises(kind) as caught:
        run(trap, chunk_trials)
    return str(caught.value)


def on(*trials: str | Trial) -> Trap:
    """Fails chunks with any of these cells or trials."""
    return lambda chunk: (
        ArithmeticError("as planted") if any(t in trials or t[0] in trials for t in chunk.trials) else None
    )


NOISY = "net/gaussian/scale=0.1"
ALL = 4 + 4 * 20  # trials of the study: the clean network and three cells are not random


@pytest.mark.parametrize("chunk_trials", [1, 4, 1000])
def test_a_cell_that_always_fails_is_given_up_before_all_its_trials_are_tried(place: Path, chunk_trials: int):
    message = failing(on(NOISY), chunk_trials=chunk_trials)
    first, cells = message.splitlines()
    counted = re.match(
        r"(\d+) trials? failed(?:, and (\d+) more of the same cells were not tried)?; what else was asked for is com",
        first,
    )
    assert counted, message
    assert sum(int(number or 0) for number in counted.groups()) == 20
    assert cells == f"  {NOISY}: ArithmeticError: as planted"
    assert len(sweep.open_run("run").trials()) == ALL - 20


@pytest.mark.parametrize("chunk_trials", [1, 7, 1000])
def test_a_trial_that_always_fails_takes_no_other_along(place: Path, chunk_trials: int):
    message = failing(on((NOISY, 13)), chunk_trials=chunk_trials)
    assert message.startswith("1 trial failed; what else was asked for is committed")
    trials = sweep.open_run("run").trials()
    assert len(trials) == ALL - 1
    assert trials[trials["cell"] == NOISY]["seed"].tolist() == [seed for seed in range(20) if seed != 13]


def test_what_fails_by_accident_is_tried_again(place: Path):
    tries: Counter[Chunk] = Counter()

    def once(chunk: Chunk) -> Exception | None:
        tries[chunk] += 1
        return TimeoutError("took longer than 60 s") if len(tries) % 3 == 0 and tries[chunk] == 1 else None

    runner = run(once)
    assert len(sweep.open_run("run").trials()) == ALL
    assert 1 < max(runner.tries.values()) <= 3 + ALONE


def test_when_everything_fails_it_is_over_soon(place: Path):
    text = Path("study.toml").read_text()
    Path("study.toml").write_text(text[: text.index('[[family]]\nname = "rounded, then')])
    runner = Trapped(lambda chunk: ArithmeticError("as planted"))
    with pytest.raises(TaskError, match="nothing succeeded"):
        driver.run(prepare(sweep.Study.from_toml("study.toml").over(20)), "run", runner, chunk_trials=1)
    assert runner.chunks <= 9


@pytest.mark.parametrize("kind", [VersionError, NondeterminismError])
def test_what_makes_the_other_results_doubtful_ends_the_run(place: Path, kind: type[SweepError]):
    chunks = []

    def later(chunk: Chunk) -> Exception | None:
        chunks.append(chunk)
        return kind("worker on elsewhere: no") if len(chunks) == 3 else None

    assert failing(later, kind) == "worker on elsewhere: no"
    assert len(chunks) == 3
    assert len(sweep.open_run("run").trials()) == 8


def test_a_store_that_tasks_cannot_reach_ends_the_run_when_the_driver_cannot_either(place: Path, monkeypatch):
    broken = False

    def update(folder: Folder, name: str, change: object) -> None:
        raise StoreError(f"{name}: cannot be written: no")

    def breaking(chunk: Chunk) -> Exception | None:
        nonlocal broken
        if NOISY in {cell for cell, _ in chunk.trials} and not broken:
            broken = True
            monkeypatch.setattr(Folder, "update", update)
        return StoreError("a shard cannot be written: no") if broken else None

    assert failing(breaking, StoreError) == "manifest.json: cannot be written: no"
    monkeypatch.undo()
    monkeypatch.chdir(place)
    run(lambda chunk: None)
    assert len(sweep.open_run("run").trials()) == ALL


def test_a_failure_in_a_file_of_the_users_own_says_where():
    script = Script.of("/somewhere/mine.py", b"def outer():\n    return inner()\n\n\ndef inner():\n    return 1 / 0\n")
    module = script.run()
    try:
        with pytest.raises(ZeroDivisionError) as caught:
            module.outer()
        assert str(portable(caught.value)) == "mine.py:6 (inner): ZeroDivisionError: division by zero"
        assert str(portable(ValueError("no"))) == "ValueError: no"
    finally:
        script.forget()

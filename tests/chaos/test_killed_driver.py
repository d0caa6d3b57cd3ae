"""The driver is killed at every system call of a commit, as strace counts them; the same command then goes on."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from sweep.execution import driver
from sweep.execution.runner import InlineRunner
from sweep.preparation.inputs import prepare
from sweep.study.study import Study
from tests.chaos import killed_commit, scene

STEP = 1 if "SWEEP_LONG" in os.environ else 20


class Counting(InlineRunner):
    """Keeps the trials that it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.trials: list[object] = []

    def submit(self, chunk: driver.Chunk) -> None:
        self.trials += chunk.trials
        super().submit(chunk)


@pytest.mark.skipif(not shutil.which("strace"), reason="there is no strace here")
def test_the_driver_dies_at_every_system_call_of_a_commit(place: Path):
    script = [sys.executable, killed_commit.__file__, "study.toml", "run", "killed", str(STEP)]
    done = subprocess.run(script, capture_output=True, text=True, timeout=1200)
    if done.returncode == 3:
        pytest.skip(f"processes cannot be traced here: {done.stdout}")
    assert done.returncode == 0, done.stderr
    calls, deaths = map(int, done.stdout.split())
    assert calls > 50
    prepared = prepare(Study.from_toml("study.toml"))
    driver.run(prepared, "undisturbed", InlineRunner())
    expected = scene.results("undisturbed")
    before = committed(Path("killed/before"))
    redone = 0
    folders = sorted(Path("killed").glob("[0-9]*"), key=lambda folder: int(folder.name))
    assert len(folders) == -(-calls // STEP)
    assert deaths >= 0.7 * len(folders), "system calls for locks between threads may differ from time to time"
    for folder in folders:
        there = committed(folder)
        assert before <= there
        runner = Counting()
        driver.run(prepared, folder, runner)
        assert not there & set(runner.trials), (folder, "what was committed is computed again")
        scene.check(folder, expected)
        redone += len(runner.trials)
    print(f"{calls} system calls, {deaths} deaths, {redone} trials computed again, none of them committed before")


def committed(run: Path) -> set[object]:
    """The trials in every shard that a reader sees, by (cell, seed)."""
    rows = pd.read_parquet(run / "trials", columns=["cell", "seed"])
    return set(rows.itertuples(index=False, name=None))


@scene.LONG
def test_a_driver_that_dies_takes_its_ray_along(place: Path, monkeypatch: pytest.MonkeyPatch):
    scene.write_study(400, seconds=0.05)
    env = scene.environment()
    with scene.running("--out", "run", "--chunk", "10", env=env) as process:
        scene.until(lambda: len(scene.shards()) > 3, process)
        titles = " ".join(scene.started(env[scene.MARK]).values())
        (scratch,) = set(re.findall(r"/tmp/noisesweep-\w+", titles))
        process.kill()
        begun = time.monotonic()
        scene.until(lambda: not scene.started(env[scene.MARK]))  # Ray's agents take a minute, to tell the dead head
        took = time.monotonic() - begun
    before = committed(Path("run"))
    Path("log").unlink()
    with scene.running("--out", "run", "--chunk", "10", env=env) as process:
        status, errors = scene.finish(process)
    assert status == 0, errors
    assert len(scene.logged()) - 3 == 1201 - len(before), "what was committed is not computed again"
    scene.check("run", scene.undisturbed(monkeypatch), env[scene.MARK])
    assert not Path(scratch).exists()
    print(f"every process was gone after {took:.0f} s")

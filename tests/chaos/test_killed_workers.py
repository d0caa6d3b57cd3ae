"""Workers are killed at random, again and again: the same results, and at most a chunk repeated for each."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.chaos import scene

RUNS = int(os.environ.get("SWEEP_KILL_RUNS", "4"))
KILLS = 20
CHUNK = 10


@scene.LONG
@pytest.mark.parametrize("seed", range(RUNS))
def test_workers_that_are_killed(place: Path, monkeypatch, seed: int):
    rng = random.Random(seed)
    trials = scene.write_study(1500, seconds=0.05)
    env = scene.environment()
    begun = time.monotonic()
    killed = 0
    with scene.running("--out", "run", "--workers", "4", "--chunk", str(CHUNK), env=env) as process:
        for _ in range(KILLS):
            before = len(scene.logged())
            scene.until(lambda n=before: len(scene.logged()) > n + CHUNK, process)
            time.sleep(rng.random())
            workers = [pid for pid, title in scene.started(env[scene.MARK]).items() if title.startswith("ray::task")]
            if workers:
                os.kill(rng.choice(workers), signal.SIGKILL)
                killed += 1
        status, errors = scene.finish(process)
    assert status == 0, errors
    assert killed > KILLS / 2
    took = time.monotonic() - begun
    log = scene.logged()
    repeated = len(log) - len(set(log)) - 3  # the driver applies the transform of each cell once, before all
    assert repeated <= KILLS * CHUNK
    scene.check("run", scene.undisturbed(monkeypatch), env[scene.MARK])
    print(f"seed {seed}: {trials} trials, {KILLS} kills, {repeated} trials repeated, {took:.0f} s")

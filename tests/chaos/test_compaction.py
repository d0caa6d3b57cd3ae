"""Shards become one file while the run goes on: with stores that fail, drivers that die, and two at a time."""

import random
from pathlib import Path

import pandas as pd
import pytest

from sweep.storage.store import Store
from tests.chaos import compacting, scene
from tests.storage.s3 import RATES, environment, standin

EAGER = (compacting.__file__,)
RUN = "s3://bucket/run"


def kept(run: str) -> int:
    """Trials that a reader sees, while files are replaced."""
    store = Store(run)
    table = store.table(("cell", "seed")) if store.load() else None
    return 0 if table is None else table.num_rows


def merged(run: str) -> bool:
    """Whether shards have become one file."""
    store = Store(run)
    return store.load() and any(name.startswith("merged-") for name in store.shards)


@pytest.mark.slow
def test_two_drivers_that_each_take_the_shards_of_both(place: Path, monkeypatch: pytest.MonkeyPatch):
    scene.write_study(40, seconds=0.01)
    env = scene.environment()
    arguments = ("--out", "run", "--runner", "inline", "--chunk")
    with (
        scene.running(*arguments, "5", env=env, sweep=EAGER) as one,
        scene.running(*arguments, "7", env=env, sweep=EAGER) as other,
    ):
        scene.until(lambda: merged("run"), one)
        outcomes = [scene.finish(process) for process in (one, other)]
    assert [status for status, _ in outcomes] == [0, 0], outcomes
    scene.check("run", scene.undisturbed(monkeypatch), env[scene.MARK])


@scene.LONG
def test_drivers_that_die_again_and_again(place: Path, monkeypatch: pytest.MonkeyPatch):
    scene.write_study(150)
    env, rng, deaths = scene.environment(), random.Random(0), 0
    for part in range(1, 6):
        with scene.running("--out", "run", "--runner", "inline", "--chunk", "3", env=env, sweep=EAGER) as process:
            least = part * 60 + rng.randrange(20)
            scene.until(lambda: process.poll() is not None or kept("run") > least)  # noqa: B023
            deaths += process.poll() is None
            process.kill()
    assert deaths >= 3
    assert merged("run")
    there, begun = kept("run"), len(scene.logged())
    with scene.running("--out", "run", "--runner", "inline", env=env, sweep=EAGER) as process:
        status, errors = scene.finish(process)
    assert status == 0, errors
    assert len(scene.logged()) - begun - 3 <= 451 - there, "what was committed is not computed again"
    scene.check("run", scene.undisturbed(monkeypatch), env[scene.MARK])


@scene.LONG
def test_a_store_that_fails_and_workers_and_a_driver_that_die(place: Path, monkeypatch: pytest.MonkeyPatch):
    scene.write_study(100, seconds=0.05)
    with standin() as server:
        for name, value in environment(server).items():
            monkeypatch.setenv(name, value)
        env = scene.environment()
        arguments = ("--out", RUN, "--chunk", "5", "--workers", "2")
        server.rates = RATES
        with scene.running(*arguments, env=env, sweep=EAGER) as process:
            scene.until(lambda: merged(RUN), process)
            scene.kill_worker(env[scene.MARK], process, random.Random(0))
            scene.until(lambda: kept(RUN) > 60, process)
            process.kill()
            scene.until(lambda: not scene.started(env[scene.MARK]))
        there, begun = kept(RUN), len(scene.logged())
        with scene.running(*arguments, env=env, sweep=EAGER) as process:
            status, errors = scene.finish(process)
        assert status == 0, errors
        assert len(scene.logged()) - begun - 3 <= 301 - there, "what was committed is not computed again"
        assert all(server.seen[kind] for kind in RATES)
        server.rates = {}
        pd.testing.assert_frame_equal(scene.results(RUN), scene.undisturbed(monkeypatch), check_exact=True)
        assert len([key for key in server.objects if "/trials/" in key]) == 1, "merged"
    assert not scene.started(env[scene.MARK])

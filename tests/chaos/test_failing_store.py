"""Workers and driver write to a store that fails all the time, and the driver dies: nothing lost, nothing left."""

import random
from pathlib import Path

import pandas as pd
import pytest

from sweep.storage.store import Store
from tests.chaos import scene
from tests.storage.s3 import BUCKET, RATES, SECRET, Standin, environment, standin

RUN = f"s3://{BUCKET}/runs/chaos"


def stored(server: Standin) -> list[str]:
    return [key.removeprefix("runs/chaos/") for key in server.objects]


@scene.LONG
def test_a_store_that_fails_and_workers_and_a_driver_that_die(place: Path, monkeypatch: pytest.MonkeyPatch):
    scene.write_study(100, seconds=0.05)
    with standin() as server:
        env = scene.environment(**environment(server))
        server.rates = RATES
        arguments = ("--out", RUN, "--chunk", "10", "--workers", "2")
        with scene.running(*arguments, env=env) as process:
            scene.until(lambda: len([key for key in stored(server) if key.startswith("trials/")]) > 3, process)
            scene.kill_worker(env[scene.MARK], process, random.Random(0))
            scene.until(lambda: len([key for key in stored(server) if key.startswith("trials/")]) > 8, process)
            process.kill()
            scene.until(lambda: not scene.started(env[scene.MARK]))
        kept = {key for key in stored(server) if key.startswith("trials/")}
        begun = len(scene.logged())
        with scene.running(*arguments, env=env) as process:
            status, errors = scene.finish(process)
        assert status == 0, errors
        assert SECRET not in errors
        print(f"{begun} trials begun and {len(kept)} shards before the driver died; faults: {dict(server.seen)}")
        assert len(scene.logged()) - begun - 3 <= 301 - 10 * len(kept), "what was committed is not computed again"
        assert all(server.seen[kind] for kind in RATES)

        server.rates = {}
        for name, value in environment(server).items():
            monkeypatch.setenv(name, value)
        pd.testing.assert_frame_equal(scene.results(RUN), scene.undisturbed(monkeypatch), check_exact=True)
        assert not Store.open(RUN).trials([]).duplicated(["cell", "seed"]).any()
        assert len([key for key in stored(server) if key.startswith("trials/")]) == 1, "merged"
        assert not [key for key in stored(server) if ".part" in key]
        assert not [key for key, content in server.objects.items() if SECRET.encode() in content]
    assert not scene.started(env[scene.MARK])

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

import sweep
from sweep.errors import Interrupted
from sweep.execution.job import Outcome
from sweep.execution.runner import InlineRunner
from sweep.storage.manifest import Clock


def times() -> tuple[datetime, datetime | None, float]:
    manifest = json.loads(Path("run/manifest.json").read_text())
    started, finished = (manifest[key] and datetime.fromisoformat(manifest[key]) for key in ("started", "finished"))
    assert started.tzinfo == UTC
    return started, finished, manifest["wall_seconds"]


def test_the_manifest_says_when_and_how_long_over_all_runs(place: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupted(runner: InlineRunner, seconds: float) -> Outcome | None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(InlineRunner, "wait", interrupted)
        with pytest.raises(Interrupted):
            sweep.run("study.toml", "run", runner="inline")
    first = times()
    assert first[1] is None, "it has not finished"
    sweep.run("study.toml", "run", runner="inline")
    second = times()
    assert second[0] == first[0]
    assert second[1] is not None
    assert second[1] >= second[0]
    assert second[2] > first[2] > 0
    sweep.run("study.toml", "run", runner="inline")
    assert times() == second, "a run without work changes nothing"


def test_a_clock_goes_on_where_an_earlier_one_stopped():
    goes_on = Clock({"wall_seconds": 100.0, "started": "2026-01-01T00:00:00+00:00"}).unfinished()
    assert 100 <= goes_on["wall_seconds"] < 110
    assert goes_on["started"] == "2026-01-01T00:00:00+00:00"

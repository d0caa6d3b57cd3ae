import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import sweep
from sweep.errors import Interrupted
from sweep.execution.job import Outcome
from sweep.execution.runner import InlineRunner
from sweep.storage.manifest import SILENT, Clock, parse, state


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
    running = Clock({"wall_seconds": 100.0, "started": "2026-01-01T00:00:00+00:00"}).running()
    assert 100 <= running["wall_seconds"] < 110
    assert running["started"] == "2026-01-01T00:00:00+00:00"


def test_a_run_says_whether_it_goes_on_and_how_fast():
    clock = Clock({"wall_seconds": 60.0})
    assert state(clock.running(), missing=True) == "running, workers start"
    assert state(clock.running(12.34, 90.0), missing=True) == "running, 12.3 trials/s, about 1.5 min left"
    assert state(clock.stopped(), missing=True) == "stopped; `sweep run` goes on"
    assert state(clock.finished(), missing=False) == "done, after 1 min"
    assert state({"shards": []}, missing=True) == "stopped; `sweep run` goes on"
    killed = clock.running(12.34, 90.0)
    killed["pace"]["heard"] = (datetime.now(UTC) - timedelta(seconds=10 * SILENT)).isoformat()
    assert state(killed, missing=True) == "not heard of for 20 min: killed, or out of reach; `sweep run` goes on"


@pytest.mark.parametrize("pace", [{}, {"heard": "soon"}, {"heard": "2026-01-01T00:00:00"}, {"heard": 3}, [1], "now"])
@pytest.mark.parametrize("more", [{}, {"rate": -1}, {"seconds_left": "1"}])
def test_a_pace_that_is_none_is_refused(pace: Any, more: dict[str, Any]):
    sound = {"format": 2, "shards": [], "pace": {"heard": "2026-01-01T00:00:00+00:00", "rate": 1.5}}
    assert parse(json.dumps(sound).encode())["pace"]["rate"] == 1.5
    with pytest.raises(ValueError, match="pace is not what it should be"):
        parse(json.dumps(sound | {"pace": pace | more if isinstance(pace, dict) else pace}).encode())
    if more:
        with pytest.raises(ValueError, match="pace is not what it should be"):
            parse(json.dumps(sound | {"pace": sound["pace"] | more}).encode())

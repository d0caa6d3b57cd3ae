"""What a run says for programs: JSON lines, nothing else."""

import io
import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest

from sweep import cli, open_run
from sweep.execution import progress as module
from sweep.execution.log import Log, event


def lines(text: str) -> list[dict[str, Any]]:
    found = [json.loads(line, parse_constant=lambda name: pytest.fail(name)) for line in text.splitlines()]
    assert all({"time", "event"} <= line.keys() for line in found)
    return found


def without_time(text: str) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key != "time"} for line in lines(text)]


def test_lines_tell_the_truth(monkeypatch: pytest.MonkeyPatch):
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    stream = io.StringIO()
    with Log(["a", "b"], done=10, total=110, stream=stream) as log:
        log.work(busy=5, slots=4)
        log.remark("careful\x1b", "WARNING")
        log.remark("careful\x1b", "WARNING")
        clock[0] = 20
        log.advance([(("a", 0), 0.5), (("a", 1), 0.75)], seconds=10)
        clock[0] = 21
        log.advance([(("b", 0), 0.5)], seconds=1)
    assert without_time(stream.getvalue()) == [
        {"event": "progress", "done": 10, "total": 110, "busy": 4, "slots": 4, "doing": "starting workers"},
        {"event": "warning", "text": "careful\x1b"},
        {"event": "cell", "cell": "a", "trials": 2, "mean": 0.625, "std": statistics.stdev([0.5, 0.75])},
        {"event": "progress", "done": 12, "total": 110, "busy": 4, "slots": 4, "rate": 0.2, "seconds_left": 490.0},
    ]
    assert "\x1b" not in stream.getvalue()


def test_what_json_cannot_say_is_left_out():
    stream = io.StringIO()
    event(stream, "cell", mean=math.inf, std=None, trials=1)
    assert without_time(stream.getvalue()) == [{"event": "cell", "trials": 1}]


def test_a_run_says_nothing_else(place: Path, capsys):
    assert cli.main(["run", "study.toml", "--out", "run", "--runner", "inline", "--log", "json"]) == 0
    found = lines(capsys.readouterr().err)
    last = [line for line in found if line["event"] == "progress"][-1]
    assert (last["done"], last["total"]) == (28, 28)
    trials = open_run("run").trials().groupby("cell").size()
    assert {line["cell"]: line["trials"] for line in found if line["event"] == "cell"} == dict(trials)


def test_also_of_mistakes(place: Path, capsys):
    Path("study.toml").write_text("name = 3")
    assert cli.main(["run", "study.toml", "--log", "json"]) == 2
    [line] = lines(capsys.readouterr().err)
    assert (line["event"], line["exit_status"]) == ("error", 2)
    assert "study.toml" in line["text"]

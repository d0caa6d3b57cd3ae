"""A run says in its folder that it goes on, is seen from elsewhere, and stops when it is asked to."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import sweep
from sweep import api, cli, watching
from sweep.errors import Interrupted, SweepError, TaskError
from sweep.execution import pulse
from sweep.execution.runner import InlineRunner
from sweep.storage import drivers
from sweep.storage.drivers import Driver, Ear
from sweep.storage.paths import Folder
from sweep.storage.schema import PROVENANCE

PATIENCE = 60.0
FOREIGN = Driver(id="0" * 16, host="elsewhere", pid=1, since="2026-01-01T00:00:00+00:00", heard="")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "EVERY_SECONDS", 0.02)
    monkeypatch.setattr(pulse, "SHARE", 1.0)
    monkeypatch.setattr(pulse, "TELL_SECONDS", 0.0)


def until(happened: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def mine(run: str = "run") -> list[Driver]:
    return [found.driver for found in Ear(Folder.at(run)).drivers() if found.driver.host != "elsewhere"]


def after_tasks(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], object]) -> None:
    """Act in the driver once so many tasks are back."""
    wait, left = InlineRunner.wait, iter(range(number))

    def watched(runner: InlineRunner, seconds: float):
        outcome = wait(runner, seconds)
        if next(left, None) == number - 1:
            act()
        return outcome

    monkeypatch.setattr(InlineRunner, "wait", watched)


def results(run: sweep.Run):
    return run.trials().drop(columns=list(PROVENANCE))


@pytest.mark.usefixtures("quick")
def test_a_run_is_seen_while_it_goes_on_and_leaves_nothing(place: Path, monkeypatch, capsys):
    seen: list[str] = []

    def look() -> None:
        until(lambda: any(node.trials == 4 for driver in mine() for node in driver.by_node))
        seen.append(str(api.status("run")))
        seen.append(next(watching.watch("run")).text)

    after_tasks(monkeypatch, 3, look)
    sweep.run("study.toml", "run", runner="inline", chunk_trials=2)
    [driver] = [line for line in seen[0].splitlines() if line.startswith("driver")]
    assert "process" in driver
    assert "1 slot" in driver
    assert "4 trials, " in seen[0], "of the machine: two tasks were taken in"
    assert "running" in seen[0]
    assert "4/28 trials; running" in seen[1]
    assert list(Path("run/running").iterdir()) == []
    assert cli.main(["status", "run", "--watch"]) == 0, "it ends at once"
    assert capsys.readouterr().out.startswith("28/28 trials; done")


@pytest.mark.usefixtures("quick")
def test_cancelled_in_the_middle_and_resumed_equals_undisturbed(place: Path, monkeypatch, capsys):
    def cancel() -> None:
        until(mine)
        assert cli.main(["cancel", "run"]) == 0
        stop = Path("run") / drivers.stop_of(mine()[0].id)
        until(lambda: stop.exists())
        before = mine()[0].heard
        until(lambda: mine()[0].heard != before)  # it says so at each look whether it is to stop

    with monkeypatch.context() as patch:
        after_tasks(patch, 3, cancel)
        with pytest.raises(
            Interrupted, match=r"stopped, as `sweep cancel` asked; 6 trials are kept in .*the same command"
        ):
            sweep.run("study.toml", "run", runner="inline", chunk_trials=2)
    assert list(Path("run/running").iterdir()) == []
    assert str(api.status("run")).count("stopped; `sweep run` goes on") == 1
    said = capsys.readouterr().out
    assert "asked process" in said
    assert "sweep status run --watch" in said
    resumed = results(sweep.run("study.toml", "run", runner="inline", chunk_trials=2))
    assert resumed.equals(results(sweep.run("study.toml", "other", runner="inline")))


@pytest.mark.usefixtures("quick")
def test_what_was_asked_of_others_stops_nobody_who_begins_later(place: Path):
    folder = Folder.at("run")
    drivers.write(folder, FOREIGN)
    assert watching.cancel("run") == [f"asked process 1 on elsewhere, which runs since {FOREIGN.since}"]
    run = sweep.run("study.toml", "run", runner="inline", chunk_trials=1)
    assert len(run.trials()) == 28
    assert {path.name for path in Path("run/running").iterdir()} == {f"{'0' * 16}.json", f"{'0' * 16}.stop"}


def test_there_must_be_someone_to_be_asked(place: Path, capsys):
    with pytest.raises(SweepError, match="nothing runs there"):
        watching.cancel("run")
    assert cli.main(["cancel", "run"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not Path("run").exists()


@contextmanager
def watched() -> Iterator[list[str]]:
    """What a watcher sees that begins before what is within, and has ended after it."""
    seen: list[str] = []

    def watch() -> None:
        seen.extend(found.line for found in watching.watch("run", every=0.01))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    until(lambda: seen)
    yield seen
    watcher.join(PATIENCE)
    assert not watcher.is_alive()


@pytest.mark.usefixtures("quick")
def test_a_run_is_watched_from_before_its_beginning_to_its_end(place: Path):
    with watched() as seen:
        sweep.run("study.toml", "run", runner="inline", chunk_trials=1)
    assert seen[0] == "no run yet"
    assert seen[-1].startswith("28/28 trials; done, after")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("end", [KeyboardInterrupt, TaskError])
def test_a_watch_ends_with_a_run_that_ends_early_and_says_all_that_is_there(place: Path, monkeypatch, end):
    def ends() -> None:
        until(lambda: any("trials; running" in line for line in seen))
        raise end("it ends")

    with monkeypatch.context() as patch, watched() as seen:
        after_tasks(patch, 9, ends)
        with pytest.raises(SweepError):
            sweep.run("study.toml", "run", runner="inline", chunk_trials=2)
    last = f"{api.status('run').done}/28 trials; stopped; `sweep run` goes on"
    assert seen[-1] == last
    assert not last.startswith("0/")
    with watched() as seen:
        sweep.run("study.toml", "run", runner="inline", chunk_trials=2)
    assert seen[0] == last, "where nobody runs it, somebody is waited for"
    assert seen[-1].startswith("28/28 trials; done")


def test_a_watch_ends_with_a_driver_that_was_killed(place: Path, monkeypatch, capsys):
    monkeypatch.setattr(drivers, "SILENT", 2.0)
    folder = Folder.at("run")
    with monkeypatch.context() as patch:
        after_tasks(patch, 1, lambda: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(Interrupted, match=r"^stopped; \d+ trials are kept in"):
            sweep.run("study.toml", "run", runner="inline", chunk_trials=2)
    drivers.write(folder, FOREIGN)
    capsys.readouterr()
    assert cli.main(["status", "run", "--watch"]) == 1
    said = capsys.readouterr()
    seen = said.out.splitlines()
    assert seen[0] == "workers start"
    assert "not heard of for" in seen[-1]
    assert said.err == "sweep: run: whoever ran it has ended, and trials are missing\n"


def test_a_store_that_refuses_signs_of_life_stops_nothing(place: Path):
    Path("run").mkdir()
    Path("run/running").write_text("in the way")
    assert len(sweep.run("study.toml", "run", runner="inline").trials()) == 28
    assert Path("run/running").read_text() == "in the way"


def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    now = [100.0]
    monkeypatch.setattr(pulse.time, "monotonic", lambda: now[0])
    yield lambda seconds: now.__setitem__(0, now[0] + seconds)


def test_throughput_is_that_of_the_recent_past_by_machine(monkeypatch: pytest.MonkeyPatch):
    passes = next(clock(monkeypatch))
    nodes = pulse._Nodes()
    nodes.took("a", 20, 10.0)  # 10 s of work
    nodes.took("b", 40, 5.0)
    assert [(node.host, node.trials, node.rate) for node in nodes] == [("b", 40, 4.0), ("a", 20, 2.0)]
    passes(25.0)
    nodes.took("a", 30, 25.0)
    assert {node.host: node.rate for node in nodes} == {"a": round(50 / 30, 3), "b": round(40 / 30, 3)}
    passes(10.0)
    assert {node.host: (node.trials, node.rate) for node in nodes} == {"a": (50, 1.0), "b": (40, 0.0)}


def test_nothing_of_it_is_in_the_manifest(place: Path):
    sweep.run("study.toml", "run", runner="inline")
    assert "pace" not in json.loads(Path("run/manifest.json").read_text())

"""What drivers say of themselves in a run folder: written, heard, and taken for a stranger's data."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sweep.storage import drivers
from sweep.storage.drivers import (
    FORGOTTEN,
    MOST_BYTES,
    MOST_DRIVERS,
    MOST_NODES,
    SHOWN,
    SILENT,
    Driver,
    Ear,
    Heard,
    Node,
    parse,
    state,
)
from sweep.storage.manifest import Clock
from sweep.storage.paths import Folder
from tests.storage.conftest import s3  # noqa: F401
from tests.storage.s3 import BUCKET, Standin

AT = "2026-01-01T00:00:00+00:00"
ID = "0123456789abcdef"
MINE = Driver(
    id=ID,
    host="node-1",
    pid=7,
    since=AT,
    heard=AT,
    state="",
    done=1200,
    total=5000,
    rate=12.34,
    seconds_left=90.0,
    nodes=2,
    slots=8,
    dashboard="http://10.0.0.5:8265",
    by_node=[Node(host="node-2", trials=1000, rate=10.0), Node(host="node-1", trials=200, rate=2.34)],
)


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def test_what_is_written_is_read():
    assert parse(MINE.content(), ID) == MINE


def test_lines_say_who_where_and_how_fast():
    assert MINE.lines() == [
        ("driver", f"node-1, process 7, since {AT}; 2 nodes, 8 slots"),
        ("dashboard", "http://10.0.0.5:8265"),
        ("node", "node-2: 1,000 trials, 10.0/s"),
        ("node", "node-1: 200 trials, 2.3/s"),
    ]
    alone = replace(MINE, nodes=0, slots=1, dashboard="", by_node=[])
    assert alone.lines() == [("driver", f"node-1, process 7, since {AT}; 1 slot")]
    many = replace(MINE, by_node=[Node(host=f"n{i}", trials=1, rate=1.0) for i in range(SHOWN + 4)])
    assert many.lines()[-1] == ("", "… and 4 more")


def test_a_run_says_whether_it_goes_on_and_how_fast():
    clock = Clock({"wall_seconds": 60.0})

    def said(missing: bool, *heard: Heard, finished: bool = False) -> str:
        return state(clock.finished() if finished else clock.unfinished(), heard, missing)

    begun = Driver(id=ID, host="a", pid=1, since=AT, heard=AT)
    assert said(True, Heard(begun, 0)) == "workers start"
    assert said(True, Heard(MINE, SILENT)) == "running, 12.3 trials/s, about 1.5 min left"
    assert said(True) == state({"shards": []}, [], missing=True) == "stopped; `sweep run` goes on"
    assert said(False, finished=True) == "done, after 1 min"
    lost = Heard(MINE, 10 * SILENT)
    assert said(True, lost) == "not heard of for 20 min: killed, or out of reach; `sweep run` goes on"
    assert said(False, lost, finished=True) == "done, after 1 min"
    assert said(True, Heard(begun, 1), lost) == "workers start"


def test_several_drivers_each_keep_a_file_and_a_killed_one_is_forgotten(tmp_path: Path):
    check_several(Folder.at(tmp_path))


def test_also_in_an_object_store(s3: Standin):  # noqa: F811
    check_several(Folder.at(f"s3://{BUCKET}/run"))


def check_several(folder: Folder) -> None:
    other = replace(MINE, id="f" * 16, host="other")
    assert not drivers.write(folder, MINE)
    assert not drivers.write(folder, other)
    heard = Ear(folder).drivers()
    assert {found.driver.id: found.lives for found in heard} == {ID: True, other.id: True}
    drivers.remove(folder, ID)
    assert [found.driver.host for found in Ear(folder).drivers()] == ["other"]
    assert drivers.ask_to_stop(folder)[0].id == other.id
    assert drivers.write(folder, other), "it is asked to stop"
    assert not drivers.write(folder, MINE), "one that begins later is not"
    folder.write(drivers.file_of(other.id), replace(other, heard=ago(FORGOTTEN + 60)).content())
    folder.write("running/mine.txt", b"")
    drivers.forget(folder)
    assert folder.names("running") == [f"{ID}.json", "mine.txt"]


def test_a_file_that_changes_is_a_sign_of_life_whatever_its_clock_says(tmp_path: Path):
    folder = Folder.at(tmp_path)

    def said(heard: str) -> None:
        folder.write(drivers.file_of(ID), replace(MINE, heard=heard).content())

    said(ago(10 * SILENT))
    ear = Ear(folder)
    assert not ear.drivers()[0].lives
    assert not ear.drivers()[0].lives
    said(ago(10 * SILENT - 5))
    assert ear.drivers()[0].lives, "its clock is late"
    said(ago(-10 * SILENT))
    assert Ear(folder).drivers()[0].silence < 10, "its clock is early"


HOSTILE: dict[str, Any] = {
    "escape": {"host": "\x1b]0;pwned\x07"},
    "line feed": {"state": "running\nstate  done"},
    "reordered": {"host": "a\u202eb"},
    "half a character": {"host": "\ud800"},
    "long": {"host": "x" * 301},
    "no text": {"host": ["a"]},
    "no host": {"host": None},
    "truth": {"pid": True},
    "below zero": {"done": -1},
    "huge": {"total": 2**70},
    "fraction": {"slots": 1.5},
    "rate": {"rate": -1.0},
    "text for a number": {"seconds_left": "1"},
    "infinite": {"rate": float("inf")},
    "no number": {"rate": float("nan")},
    "no time": {"heard": "soon"},
    "no zone": {"heard": "2026-01-01T00:00:00"},
    "script": {"dashboard": "javascript:alert(1)"},
    "link with spaces": {"dashboard": "http://a b"},
    "nodes": {"by_node": {"a": 1}},
    "node": {"by_node": [{"host": "a", "trials": 1}]},
    "node's name": {"by_node": [{"host": "\x07", "trials": 1, "rate": 1.0}]},
    "many nodes": {"by_node": [{"host": "a", "trials": 1, "rate": 1.0}] * (MOST_NODES + 1)},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_no_driver_writes_is_refused_and_passed_over(tmp_path: Path, name: str):
    content = json.dumps(json.loads(MINE.content()) | HOSTILE[name]).encode()
    with pytest.raises(ValueError, match=r"is not what it should be|is no number"):
        parse(content, ID)
    check_passed_over(tmp_path, content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"3",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b"1" * 5000,
        b'{"host": "a"}',
        b" " * MOST_BYTES + MINE.content(),
    ],
    ids=["empty", "list", "number", "half", "binary", "deep", "long number", "part", "large"],
)
def test_what_is_no_file_of_a_driver_is_passed_over(tmp_path: Path, content: bytes):
    check_passed_over(tmp_path, content)


def check_passed_over(place: Path, content: bytes) -> None:
    folder = Folder.at(place)
    folder.write(drivers.file_of("a" * 16), content)
    folder.write(drivers.file_of(ID), MINE.content())
    assert [found.driver for found in Ear(folder).drivers()] == [MINE]


def test_a_link_is_not_followed(tmp_path: Path):
    (tmp_path / "secret").write_bytes(MINE.content())
    (tmp_path / "run" / "running").mkdir(parents=True)
    (tmp_path / "run" / drivers.file_of(ID)).symlink_to(tmp_path / "secret")
    assert Ear(Folder.at(tmp_path / "run")).drivers() == []


def test_a_driver_writes_nothing_that_readers_refuse():
    odd = replace(
        MINE,
        host="a\x1b[31m" + "x" * 400,
        state="a\nb",
        by_node=[Node(host=f"n\x07{i}", trials=1, rate=0.0) for i in range(MOST_NODES + 1)],
    )
    found = parse(odd.content(), ID)
    assert (found.state, len(found.by_node), found.by_node[0].host) == ("a b", MOST_NODES, "n 0")


def test_a_driver_that_begins_meanwhile_is_not_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its file, and the request that it is to stop, come between the two looks of another that begins."""
    folder, names, looks = Folder.at(tmp_path), Folder.names, []
    drivers.write(folder, replace(MINE, id="f" * 16))

    def between(at: Folder, under: str) -> list[str]:
        looks.append(under)
        if len(looks) == 2:
            drivers.write(folder, MINE)
            drivers.ask_to_stop(folder)
        return names(at, under)

    monkeypatch.setattr(Folder, "names", between)
    drivers.forget(folder)
    assert len(looks) >= 2
    assert drivers.write(folder, MINE), "it is asked to stop"


def test_of_many_drivers_all_are_asked_to_stop_and_none_is_forgotten(tmp_path: Path):
    """As of an array of a batch system; what is shown is bounded."""
    folder, ids = Folder.at(tmp_path), [f"{number:016x}" for number in range(MOST_DRIVERS + 6)]
    for identity in ids:
        drivers.write(folder, replace(MINE, id=identity))
    drivers.forget(folder)
    assert len(Ear(folder).drivers()) == MOST_DRIVERS
    assert {driver.id for driver in drivers.ask_to_stop(folder)} == {*ids}
    assert all(drivers.write(folder, replace(MINE, id=identity)) for identity in ids)

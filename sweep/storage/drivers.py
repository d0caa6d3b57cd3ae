"""Who runs a study now: each driver keeps a file in its run folder, and looks beside it whether it is to stop.

A driver that was killed leaves its file, which then says since when nothing was heard of it. Clocks of machines differ:
who watches takes a file that changes for a sign of life, whatever time it says.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sweep.errors import StoreError
from sweep.storage.manifest import is_amount, is_whole, no_constant, now
from sweep.storage.paths import Folder
from sweep.texts import duration

RUNNING = "running"  # the folder of these files
SILENT = 120.0  # seconds after which a driver that said nothing does not run: it says something every few
FORGOTTEN = 3600.0  # seconds after which its file is removed by the next driver
MOST_BYTES = 1 << 18  # of a file
MOST_DRIVERS = 64  # of whom is shown what they say
MOST_NODES = 500  # that a file names
MOST_CHARACTERS = 300  # of a text in it
SHOWN = 16  # nodes, of one driver
_FILE = re.compile(r"([0-9a-f]{16})\.(json|stop)")
_LINK = re.compile(r"https?://[^\s]+")


@dataclass(frozen=True, kw_only=True)
class Node:
    """What a machine has done for a driver.

    Attributes:
        host: its name.
        trials: since the driver began.
        rate: trials a second over the recent past.
    """

    host: str
    trials: int
    rate: float


@dataclass(frozen=True, kw_only=True)
class Driver:
    """What a driver says of itself.

    Attributes:
        id: which it is: 16 hexadecimal digits, drawn by lot.
        host, pid: where it runs.
        since, heard: when it began, and when it said this; ISO 8601 with a time zone.
        state: what it does beside trials, such as starting workers; empty once these do their work.
        done, total: trials that are there, and that will be in the end.
        rate: trials a second over the recent past; None until it can be told.
        seconds_left: at this rate; likewise.
        nodes, slots: of a cluster, 0 without one; tasks at a time.
        dashboard: of Ray, where there is one.
        by_node: the machines of its tasks, the busiest first.
    """

    id: str
    host: str
    pid: int
    since: str
    heard: str
    state: str = "workers start"
    done: int = 0
    total: int = 0
    rate: float | None = None
    seconds_left: float | None = None
    nodes: int = 0
    slots: int = 1
    dashboard: str = ""
    by_node: Sequence[Node] = ()

    def content(self) -> bytes:
        """Its file; what exceeds the bounds of one is left out."""
        said = {name: _text(value) if isinstance(value, str) else value for name, value in vars(self).items()}
        nodes = [{**asdict(node), "host": _text(node.host)} for node in self.by_node[:MOST_NODES]]
        said |= {"by_node": nodes}
        del said["id"]
        return json.dumps(said, ensure_ascii=False).encode()

    def lines(self) -> list[tuple[str, str]]:
        """What there is to see of it, each line with its heading."""
        cluster = f"; {self.nodes} node{'s' * (self.nodes > 1)}" if self.nodes else ""
        slots = f"{cluster or ';'}{',' if cluster else ''} {self.slots} slot{'s' * (self.slots > 1)}"
        found = [("driver", f"{self.host}, process {self.pid}, since {self.since}{slots}")]
        found += [("dashboard", self.dashboard)] * bool(self.dashboard)
        found += [("node", f"{node.host}: {node.trials:,} trials, {node.rate:,.1f}/s") for node in self.by_node[:SHOWN]]
        rest = len(self.by_node) - SHOWN
        return [*found, *([("", f"… and {rest} more")] if rest > 0 else [])]

    def __str__(self) -> str:
        """How far it is, in a line."""
        said = [self.state or "running"] if self.rate is None else [f"running, {self.rate:,.1f} trials/s"]
        said += [f"about {duration(self.seconds_left, 2)} left"] if self.seconds_left is not None else []
        return ", ".join(said)


class Heard(NamedTuple):
    """A driver, and the seconds since something was heard of it."""

    driver: Driver
    silence: float

    @property
    def lives(self) -> bool:
        """Whether that is not too long ago."""
        return self.silence <= SILENT


class Ear:
    """Hears the drivers of a run folder, again and again. What is no sound file of one is passed over."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._heard: dict[str, tuple[str, float]] = {}  # what each said of the time, and since when here it says so

    def drivers(self, most: int | None = MOST_DRIVERS) -> list[Heard]:
        """Those of whom there is a file, the one that was heard last first; raises StoreError as `Folder`.

        Of so many at `most`, or of all.
        """
        files = [match for match in map(_FILE.fullmatch, self._folder.names(RUNNING)) if match and match[2] == "json"]
        drivers = [self._read(match[0], match[1]) for match in files[:most]]
        found = [Heard(driver, self._silence(driver)) for driver in drivers if driver]
        return sorted(found, key=lambda heard: heard.silence)

    def _read(self, name: str, identity: str) -> Driver | None:
        try:
            content = self._folder.read(f"{RUNNING}/{name}", MOST_BYTES)
            return None if content is None else parse(content, identity)
        except (ValueError, StoreError):
            return None

    def _silence(self, driver: Driver) -> float:
        now = time.monotonic()
        before = self._heard.get(driver.id)
        if before is None:
            self._heard[driver.id] = driver.heard, now - max(0.0, _ago(driver.heard))
        elif before[0] != driver.heard:
            self._heard[driver.id] = driver.heard, now
        return now - self._heard[driver.id][1]


def parse(content: bytes, identity: str) -> Driver:
    """What a file says, as a stranger's data; raises ValueError where it is not what a driver writes.

    Entries that this version does not know are passed over.
    """
    try:
        said = json.loads(content, parse_constant=no_constant)
    except RecursionError:
        raise ValueError("its lists are too deep in one another") from None
    if not isinstance(said, dict):
        raise ValueError("it is no table")
    known = {field.name for field in fields(Driver)} - {"id", "by_node"}
    for key in known:
        if (key in said or key in ("host", "pid", "since", "heard")) and not _is_sound(key, said.get(key)):
            raise ValueError(f"{key} is not what it should be")
    nodes = said.get("by_node", [])
    if not isinstance(nodes, list) or len(nodes) > MOST_NODES or not all(map(_is_node, nodes)):
        raise ValueError("by_node is not what it should be")
    by_node = [Node(host=node["host"], trials=node["trials"], rate=float(node["rate"])) for node in nodes]
    return Driver(id=identity, **{key: said[key] for key in known if key in said}, by_node=by_node)


def state(manifest: Mapping[str, Any], drivers: Sequence[Heard], missing: bool) -> str:
    """In words: whether a run is going on, how fast, and for how long; `missing` is whether anything is still to do."""
    if living := [heard.driver for heard in drivers if heard.lives]:
        return "; ".join(map(str, living))
    if not missing:
        return f"done, after {duration(float(manifest.get('wall_seconds', 0)))}"
    if drivers:
        silence = duration(drivers[0].silence)
        return f"not heard of for {silence}: killed, or out of reach; `sweep run` goes on"
    return "stopped; `sweep run` goes on"


def file_of(identity: str) -> str:
    """Where a driver says what it does."""
    return f"{RUNNING}/{identity}.json"


def stop_of(identity: str) -> str:
    """The file by which it is asked to stop."""
    return f"{RUNNING}/{identity}.stop"


def ask_to_stop(folder: Folder) -> list[Driver]:
    """Ask the drivers of a run folder to stop, those that may be killed, too; returns those that were asked.

    Nobody else is asked: one that begins later draws another id.
    """
    drivers = [heard.driver for heard in Ear(folder).drivers(None) if heard.silence <= FORGOTTEN]
    for driver in drivers:
        folder.write(stop_of(driver.id), b"")
    return drivers


def forget(folder: Folder) -> None:
    """Remove what drivers have left that were killed long ago."""
    left = [match for match in map(_FILE.fullmatch, folder.names(RUNNING)) if match]  # one that begins now is not there
    living = {heard.driver.id for heard in Ear(folder).drivers(None) if heard.silence <= FORGOTTEN}
    for match in left:
        if match[1] not in living:
            folder.remove(f"{RUNNING}/{match[0]}")


def remove(folder: Folder, identity: str) -> None:
    """A driver ends: nothing of it stays."""
    folder.remove(file_of(identity))
    folder.remove(stop_of(identity))


def write(folder: Folder, driver: Driver) -> bool:
    """Say what a driver does; returns whether it is asked to stop."""
    folder.write(file_of(driver.id), replace(driver, heard=now()).content())
    return folder.read(stop_of(driver.id), MOST_BYTES) is not None


def _ago(time_said: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(time_said)).total_seconds()


def _is_sound(key: str, value: Any) -> bool:
    if key in ("rate", "seconds_left"):
        return value is None or is_amount(value)
    if key in ("pid", "done", "total", "nodes", "slots"):
        return is_whole(value)
    if not _is_text(value):
        return False
    if key == "dashboard":
        return value == "" or bool(_LINK.fullmatch(value))
    return key not in ("since", "heard") or _is_time(value)


def _is_node(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _is_text(value.get("host"))
        and is_whole(value.get("trials"))
        and is_amount(value.get("rate"))
    )


def _is_text(value: Any) -> bool:
    """A text without anything that a terminal would obey, or that would reorder what it shows."""
    return isinstance(value, str) and len(value) <= MOST_CHARACTERS and value.isprintable()


def _is_time(value: str) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _text(value: str) -> str:
    return "".join(c if c.isprintable() else " " for c in value[:MOST_CHARACTERS])

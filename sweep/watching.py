"""A run from afar: seen, and asked to stop, from any machine that sees its folder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.api import status
from sweep.errors import SweepError
from sweep.reporting.tables.layout import text_table
from sweep.study.paths import MANIFEST

if TYPE_CHECKING:
    from sweep.storage.kept import Trust

WATCH_SECONDS = 2.0  # between two looks at a run


@dataclass(frozen=True)
class Seen:
    """What is seen of a run from a distance.

    Attributes:
        line: in a line.
        text: in full.
        finished: whether nothing is missing.
    """

    line: str
    text: str
    finished: bool = False


def watch(place: str | Path, trust_plugins: Trust = False, every: float = WATCH_SECONDS) -> Iterator[Seen]:
    """What `status` says, now and whenever that changes, until nothing is missing or whoever ran it has ended.

    Where nobody runs it yet, somebody is waited for. While a driver runs, only what it says of itself is read;
    otherwise the folder, when its manifest has changed. `every` is in seconds.
    """
    from sweep.storage.drivers import Ear, state
    from sweep.storage.paths import Folder

    folder = Folder.at(place)
    ear = Ear(folder)
    before: object = ""
    ran = over = False
    while not over:
        living = [heard for heard in ear.drivers() if heard.lives]
        if living:
            ran = True
            drivers = [heard.driver for heard in living]
            going_on = state({}, living, missing=True)
            done, total = (max(numbers) for numbers in zip(*((d.done, d.total) for d in drivers), strict=True))
            line = f"{done:,}/{total:,} trials; {going_on}" if total else going_on
            rows = [("trials", line), *(row for driver in drivers for row in driver.lines()), ("folder", folder.uri)]
            now: object = line
            seen = Seen(line, text_table((), rows))
        else:
            now = folder.read(MANIFEST)
            over = ran
            if now is None:
                seen = Seen("no run yet", f"{folder.uri}: no run yet")
            elif now != before:
                found = status(place, trust_plugins)
                seen = Seen(f"{found.done:,}/{found.trials:,} trials; {found.state}", str(found), found.finished)
                over |= found.finished
        if now != before or living:
            yield seen
        before = now
        time.sleep(0 if over else every)


def cancel(place: str | Path) -> list[str]:
    """Ask whoever runs a study to stop, as Ctrl-C would, within some seconds; returns who was asked, a line each.

    What is committed stays, and the same command goes on. Runs that begin later are not stopped.

    Raises SweepError where nothing runs.
    """
    from sweep.storage.drivers import ask_to_stop
    from sweep.storage.paths import Folder

    folder = Folder.at(place)
    asked = ask_to_stop(folder)
    if not asked:
        raise SweepError(f"{folder.uri}: nothing runs there")
    return [f"asked process {driver.pid} on {driver.host}, which runs since {driver.since}" for driver in asked]

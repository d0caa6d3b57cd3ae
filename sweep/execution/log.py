"""What the driver says while a study runs, for programs: one JSON object a line.

Each has `time` (ISO 8601, UTC) and `event`, and by event:

    progress   done, total: trials; rate: trials a second, seconds_left: from the first trials on; busy, slots: tasks
               that run, and that can at a time; doing: what goes on until the first trials are in
    cell       cell: its id; trials: of it that are there; mean, std: of the study's first measure over these; each time
               that it has changed since
    note, warning   text
    error      text, exit_status: the run ends
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any, Self, TextIO

from sweep.execution.progress import Progress


def event(stream: TextIO, name: str, **said: Any) -> None:
    """Write a line; what is None, or no finite number, is left out. Control characters are escaped, as JSON has it."""
    found = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": name, **said}
    known = {key: value for key, value in found.items() if value is not None and value not in (math.inf, -math.inf)}
    print(json.dumps(known), file=stream, flush=True)


class Log(Progress):
    """Progress as JSON lines, at most every few seconds, on a terminal, too."""

    def __enter__(self) -> Self:
        self._told: dict[str, int] = {}  # trials of each cell that were told of
        return self

    def _print(self, text: str, kind: str) -> None:
        event(self._stream, kind.lower(), text=text)

    def _say(self) -> None:
        done, total = self.counts
        rate, left = self.rate, self.seconds_left
        pace = {
            "rate": rate and round(rate[0], 3),
            "seconds_left": left and round(left, 1),
            "doing": self.doing or None,
        }
        busy, slots = self._slots
        for cell, running in self._cells.items():
            if running.count != self._told.get(cell, 0):
                self._told[cell] = running.count
                found = {"mean": running.mean, "std": running.std}
                event(self._stream, "cell", cell=cell, trials=running.count, **found)
        event(self._stream, "progress", done=done, total=total, busy=busy, slots=slots, **pace)

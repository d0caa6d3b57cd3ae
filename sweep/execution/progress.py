"""What the driver shows while a study runs: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sweep.execution.plan import Trial
from sweep.texts import duration, percent

PLAIN_SECONDS = 5.0  # between two plain lines
WINDOW_SECONDS = 30.0  # the rate is that of the recent past


@dataclass
class Running:
    """Count, mean and standard deviation of accuracies as they arrive (Welford, Technometrics 4:419, 1962)."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, value: float) -> None:
        """Take in one accuracy."""
        self.count += 1
        step = value - self.mean
        self.mean += step / self.count
        self.squares += step * (value - self.mean)

    def __str__(self) -> str:
        if self.count == 0:
            return "–"
        if self.count == 1:
            return percent(self.mean)
        return f"{percent(self.mean)} ± {percent(math.sqrt(self.squares / (self.count - 1)))}"


class Progress:
    """Trials done and left, rate, time left, and the running mean ± standard deviation of each cell."""

    def __init__(self, cells: Sequence[str], done: int, total: int, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._cells = {cell: Running() for cell in cells}
        models = {cell.partition("/")[0] for cell in cells}
        self._model = f"{models.pop()}/" if len(models) == 1 else ""  # needs no saying
        self._done = done
        self._total = total
        self._arrivals: deque[tuple[float, int]] = deque()
        self._note = "starting workers"
        self._said = -math.inf
        self._shown = -1
        self._remarks: set[str] = set()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        console = Console(file=self._stream)
        if console.is_terminal:
            self._live = Live(self._picture(console), console=console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.stop()

    def before(self, trials: Sequence[tuple[Trial, float]]) -> None:
        """Accuracies of trials that were there before this run."""
        for (cell, _), accuracy in trials:
            self._cells[cell].add(accuracy)

    def note(self, text: str) -> None:
        """Say what goes on until the first trials are in."""
        self._note = text
        self.refresh()

    def remark(self, text: str, kind: str = "note") -> None:
        """Say something once, above the display, however many workers say it."""
        if text not in self._remarks:
            self._remarks.add(text)
            console = self._live.console if self._live else Console(file=self._stream)
            console.print(f"{kind}: {text}", markup=False, highlight=False, soft_wrap=True)

    def advance(self, trials: Sequence[tuple[Trial, float]], seconds: float) -> None:
        """Take in finished trials and their accuracies; they took a task `seconds`."""
        if not self._arrivals:  # work began when the first task to finish began
            self._arrivals.append((time.monotonic() - seconds, self._done))
        self.before(trials)
        self._done += len(trials)
        self._arrivals.append((time.monotonic(), self._done))
        while len(self._arrivals) > 2 and self._arrivals[-1][0] - self._arrivals[0][0] > WINDOW_SECONDS:
            self._arrivals.popleft()
        self.refresh()

    def refresh(self) -> None:
        """Show the present state, on a plain stream at most every few seconds."""
        if self._live:
            self._live.update(self._picture(self._live.console))
        elif time.monotonic() - self._said >= PLAIN_SECONDS or self._done == self._total > self._shown:
            self._said = time.monotonic()
            if self._shown < self._total:
                print(self.line(), file=self._stream, flush=True)
            self._shown = self._done

    def line(self) -> str:
        """The state in one line."""
        share = 100 * self._done / self._total if self._total else 100.0
        line = f"{self._done:,}/{self._total:,} trials ({share:.0f} %)"
        if self._done == self._total:
            return line
        rate = self.rate
        if rate is None:
            return f"{line}, {self._note}"
        return f"{line}, {rate:.1f} trials/s, {duration((self._total - self._done) / rate, 2)} left"

    @property
    def rate(self) -> float | None:
        """Trials a second over the recent past; None until it can be told."""
        if len(self._arrivals) < 2:
            return None
        (first, before), (last, after) = self._arrivals[0], self._arrivals[-1]
        return (after - before) / (last - first) if last > first and after > before else None

    def _picture(self, console: Console) -> Group:
        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column("cell")
        table.add_column("trials", justify="right")
        table.add_column("accuracy, % (mean ± std so far)", justify="right")
        room = max(1, console.height - 5)
        shown = list(self._cells.items())[: room if len(self._cells) <= room else room - 1]
        for cell, running in shown:
            table.add_row(cell.removeprefix(self._model), str(running.count), str(running))
        rest = len(self._cells) - len(shown)
        if rest:
            table.add_row(f"… and {rest} more", "", "")
        below = Table.grid()
        below.add_row(ProgressBar(total=max(1, self._total), completed=self._done, width=min(60, console.width)))
        below.add_row(Text(self.line()))
        return Group(table, below)

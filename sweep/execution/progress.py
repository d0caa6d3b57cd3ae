"""What the driver shows while a study runs: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self, TextIO

import numpy as np
import numpy.typing as npt
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sweep.data.measure import Measure
from sweep.data.measures import ACCURACY
from sweep.execution.trials import Trial
from sweep.randomness import FIRST_SAMPLED
from sweep.texts import duration

PLAIN_SECONDS = 5.0  # between two plain lines
SAME_SECONDS = 60.0  # between two that say the same
WINDOW_SECONDS = 30.0  # the rate is that of the recent past


@dataclass
class Running:
    """Count, mean and standard deviation of accuracies as they arrive (Welford, Technometrics 4:419, 1962).

    Or of another measure, which `text` writes; values that are no number are passed over.
    """

    text: Callable[[float], str] = ACCURACY.text
    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, value: float) -> None:
        """Take in one value."""
        if math.isnan(value):
            return
        self.count += 1
        step = value - self.mean
        self.mean += step / self.count
        self.squares += step * (value - self.mean)

    def begin(self, values: npt.NDArray[np.float64]) -> None:
        """Take in the first values, shape (n,)."""
        known = values[~np.isnan(values)]
        if known.size:
            self.count, self.mean = known.size, float(known.mean())
            self.squares = float(((known - self.mean) ** 2).sum())

    @property
    def std(self) -> float:
        """Infinite with fewer than two values, which leave it open."""
        return math.sqrt(self.squares / (self.count - 1)) if self.count > 1 else math.inf

    @property
    def half_width(self) -> float:
        """Of the 95 % interval of the mean, of many values; infinite with fewer than two."""
        return 1.96 * self.std / math.sqrt(max(1, self.count))

    @property
    def precise(self) -> str:
        """The mean with this half-width."""
        return f"{self.text(self.mean)} ± {self.text(self.half_width)}" if self.count > 1 else "–"

    def __str__(self) -> str:
        if self.count == 0:
            return "–"
        if self.count == 1:
            return self.text(self.mean)
        return f"{self.text(self.mean)} ± {self.text(self.std)}"


class Progress:
    """Trials done and left, rate, time left, and the running mean ± standard deviation of each cell."""

    def __init__(
        self,
        cells: Sequence[str],
        done: int,
        total: int,
        stream: TextIO | None = None,
        target: float | None = None,
        light: float = 1.0,
        measure: Measure = ACCURACY,
    ) -> None:
        """Begins with `done` of `total` trials.

        `target` is the half-width, as people read it, that is asked for each mean; it is served by chips of their own,
        each of which takes about the part `light` of the time of another. What is shown of trials is a `measure`.
        """
        self._stream = stream or sys.stderr
        self._cells = {cell: Running(measure.text) for cell in cells}
        self._means = {cell: Running(measure.text) for cell in cells}
        self._target = target
        self._measure = measure
        models = {cell.partition("/")[0] for cell in cells}
        self._model = f"{models.pop()}/" if len(models) == 1 else ""  # needs no saying
        self._done = done
        self._total = total
        self._light = light
        self._few, self._few_total = 0, 0  # light ones, of those that are done and of all
        self._arrivals: deque[tuple[float, int, float]] = deque()
        self._note = "starting workers"
        self._busy = ""
        self._begun = time.monotonic()
        self._said = -math.inf
        self._shown: tuple[int, str] = (-1, "")  # trials done, and what went on
        self._remarks: set[str] = set()
        self._live: Live | None = None
        self._slots = (0, 0)  # tasks that run, and that can

    def __enter__(self) -> Self:
        console = Console(file=self._stream)
        if console.is_terminal:
            self._live = Live(self._picture(console), console=console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.stop()

    def before(self, cell: str, seeds: npt.NDArray[np.int64], values: npt.NDArray[np.float64]) -> None:
        """Trials of a cell that were there before this run, and what they say; shapes (n,)."""
        light = seeds >= FIRST_SAMPLED
        self._few += int(light.sum())
        self._cells[cell].begin(values[~light])
        self._means[cell].begin(values[light])

    def expect(self, total: int, few: int) -> None:
        """So many trials will be there in the end, as far as is known now, so many of them light."""
        self._total, self._few_total = total, few

    def finish(self) -> None:
        """Nothing is to come any more."""
        if self._total != self._done:
            self.expect(self._done, self._few)
            self._shown = (-1, "")
        self.refresh()

    @property
    def _work(self) -> float:
        """What is done, in trials that are not light."""
        return self._done - self._few + self._light * self._few

    @property
    def _work_total(self) -> float:
        return self._total - self._few_total + self._light * self._few_total

    def note(self, text: str) -> None:
        """Say what goes on until the first trials are in."""
        self._note = text
        self.refresh()

    def work(self, busy: int, slots: int) -> None:
        """Say how many of the tasks that can run at a time do."""
        self._slots = min(busy, slots), slots
        self._busy = f"{min(busy, slots)}/{slots} workers busy"
        self.refresh()

    def remark(self, text: str, kind: str = "note") -> None:
        """Say something once, above the display, however many workers say it."""
        if text not in self._remarks:
            self._remarks.add(text)
            self._print(text, kind)

    def _print(self, text: str, kind: str) -> None:
        console = self._live.console if self._live else Console(file=self._stream)
        console.print(f"{kind}: {text}", markup=False, highlight=False, soft_wrap=True)

    def advance(self, trials: Sequence[tuple[Trial, float]], seconds: float) -> None:
        """Take in finished trials and their accuracies; they took a task `seconds`."""
        if not self._arrivals:  # work began when the first task to finish began
            self._arrivals.append((time.monotonic() - seconds, self._done, self._work))
        for (cell, seed), accuracy in trials:
            is_light = seed >= FIRST_SAMPLED
            self._few += is_light
            (self._means if is_light else self._cells)[cell].add(accuracy)
        self._done += len(trials)
        self._arrivals.append((time.monotonic(), self._done, self._work))
        while len(self._arrivals) > 2 and self._arrivals[-1][0] - self._arrivals[0][0] > WINDOW_SECONDS:
            self._arrivals.popleft()
        self.refresh()

    def refresh(self) -> None:
        """Show the present state, on a plain stream at most every few seconds."""
        if self._live:
            self._live.update(self._picture(self._live.console))
        else:
            now, (done, _) = time.monotonic(), self._shown
            is_due = now - self._said >= (PLAIN_SECONDS if (self._done, self._note) != self._shown else SAME_SECONDS)
            if done < self._total and (is_due or self._done == self._total):
                self._say()
                self._said, self._shown = now, (self._done, self._note)

    def _say(self) -> None:
        """Tell a plain stream the present state."""
        print(self.line(), file=self._stream, flush=True)

    def line(self) -> str:
        """The state in one line."""
        share = 100 * self._work / self._work_total if self._total else 100.0
        of = " of the work" if self._target is not None and self._done < self._total else ""  # some see few images
        line = f"{self._done:,}/{self._total:,} trials ({share:.0f} %{of})"
        if self._target is not None and (begun := [mean for mean in self._means.values() if mean.count]):
            near = sum(self._measure.shown(mean.half_width) <= self._target for mean in begun)
            line += f", {near} of {len(begun)} means within ±{self._target:g}{self._measure.points}"
        if self._done == self._total:
            return line
        elapsed = f"{duration(time.monotonic() - self._begun, 2)} elapsed"
        rate = self.rate
        if rate is None:
            return ", ".join(part for part in (line, self._note, self._busy, elapsed) if part)
        left = f"{duration(self.seconds_left or 0.0, 2)} left"
        return ", ".join(part for part in (line, f"{rate[0]:,.1f} trials/s", self._busy, elapsed, left) if part)

    @property
    def counts(self) -> tuple[int, int]:
        """Trials that are there, and that will be in the end."""
        return self._done, self._total

    @property
    def doing(self) -> str:
        """What goes on besides trials, until the first are in."""
        return self._note if self.rate is None else ""

    @property
    def seconds_left(self) -> float | None:
        """At the rate of the recent past; None until it can be told."""
        rate = self.rate
        return None if rate is None else (self._work_total - self._work) / rate[1]

    @property
    def rate(self) -> tuple[float, float] | None:
        """Trials, and work, a second over the recent past; None until it can be told."""
        if len(self._arrivals) < 2:
            return None
        (first, before, less), (last, after, more) = self._arrivals[0], self._arrivals[-1]
        seconds = last - first
        return ((after - before) / seconds, (more - less) / seconds) if seconds > 0 and after > before else None

    def _picture(self, console: Console) -> Group:
        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column("cell")
        table.add_column("trials", justify="right")
        what = f"{self._measure.lower}, %" if self._measure.fraction else self._measure.lower
        table.add_column(f"{what} (mean ± std so far)", justify="right")
        if self._target is not None:
            table.add_column(f"chips for the mean to ±{self._target:g}", justify="right")
            table.add_column(f"mean{', %' if self._measure.fraction else ''} (± 95 %)", justify="right")
        room = max(1, console.height - 5)
        shown = list(self._cells.items())[: room if len(self._cells) <= room else room - 1]
        for cell, running in shown:
            mean = self._means[cell]
            precise = [str(mean.count or ""), mean.precise] if self._target is not None else []
            table.add_row(cell.removeprefix(self._model), str(running.count), str(running), *precise)
        rest = len(self._cells) - len(shown)
        if rest:
            table.add_row(f"… and {rest} more", "", "")
        below = Table.grid()
        below.add_row(ProgressBar(total=max(1.0, self._work_total), completed=self._work, width=min(60, console.width)))
        below.add_row(Text(self.line()))
        return Group(table, below)

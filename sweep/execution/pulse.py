"""While a run goes on: says so in its folder, every few seconds, and looks there whether it is to stop."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Self

from sweep.errors import StoreError
from sweep.execution.progress import WINDOW_SECONDS, Progress
from sweep.execution.runner import Runner
from sweep.storage import drivers
from sweep.storage.drivers import Driver, Node
from sweep.storage.manifest import now
from sweep.storage.paths import Folder

EVERY_SECONDS = 5.0  # between two signs of life
SHARE = 0.05  # of the time, at most, where a store takes long
TELL_SECONDS = 1.0  # between two looks at how far the run is
PATIENCE_SECONDS = 5.0  # at the end, for a store that does not answer
ASKED = "stopped, as `sweep cancel` asked"


class Pulse:
    """A thread that writes what the driver tells it. A store that is out of reach is the driver's to complain of.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._driver = Driver(id=secrets.token_hex(8), host=platform.node(), pid=os.getpid(), since=now(), heard=now())
        self._nodes = _Nodes()
        self._tell_next = 0.0
        self._asked = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def __enter__(self) -> Self:
        return self

    def begin(self) -> None:
        """Write from now on: the folder is begun."""
        self._thread.start()

    def __exit__(self, *exception: object) -> None:
        """Leave nothing behind, where the store answers."""
        if self._thread.ident is None:
            return
        self._ended.set()
        self._thread.join(PATIENCE_SECONDS)
        if not self._thread.is_alive():
            with contextlib.suppress(StoreError):
                drivers.remove(self._folder, self._driver.id)

    def took(self, host: str, trials: int, seconds: float) -> None:
        """A machine has done so many trials more, in a task of so many seconds."""
        self._nodes.took(host, trials, seconds)

    def tell(self, progress: Progress, runner: Runner) -> None:
        """Take in how far the run is; raises KeyboardInterrupt, as Ctrl-C does, where it is asked to stop."""
        if self._asked:
            raise KeyboardInterrupt(ASKED)
        if time.monotonic() < self._tell_next:
            return
        self._tell_next = time.monotonic() + TELL_SECONDS
        done, total = progress.counts
        rate = progress.rate
        self._driver = replace(
            self._driver,
            state=progress.doing,
            done=done,
            total=total,
            rate=rate and rate[0],
            seconds_left=progress.seconds_left,
            nodes=len(runner.nodes),
            slots=runner.slots,
            dashboard=runner.dashboard,
            by_node=list(self._nodes),
        )

    def _run(self) -> None:
        with contextlib.suppress(StoreError):
            drivers.forget(self._folder)
        pause = 0.0
        while not self._ended.wait(pause):
            begun = time.monotonic()
            with contextlib.suppress(StoreError):
                self._asked |= drivers.write(self._folder, self._driver)
            pause = max(EVERY_SECONDS, (time.monotonic() - begun) / SHARE)


class _Nodes:
    """Trials by machine, in all and over the recent past."""

    def __init__(self) -> None:
        self._trials: Counter[str] = Counter()
        self._recent: deque[tuple[float, str, int]] = deque()
        self._begun = math.inf

    def took(self, host: str, trials: int, seconds: float) -> None:
        self._begun = min(self._begun, time.monotonic() - seconds)  # work began when the first task to finish began
        self._trials[host] += trials
        self._recent.append((time.monotonic(), host, trials))

    def __iter__(self) -> Iterator[Node]:
        until = time.monotonic()
        while self._recent and until - self._recent[0][0] > WINDOW_SECONDS:
            self._recent.popleft()
        recent: Counter[str] = Counter()
        for _, host, trials in self._recent:
            recent[host] += trials
        seconds = max(1e-3, min(WINDOW_SECONDS, until - self._begun))
        for host, trials in sorted(self._trials.items(), key=lambda item: (-recent[item[0]], item[0])):
            yield Node(host=host, trials=trials, rate=round(recent[host] / seconds, 3))

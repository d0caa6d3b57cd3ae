"""Trials in, outcomes out, for whoever commits the rows and asks again and again: a search."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Self

from sweep.engine.budget import HELD_BYTES
from sweep.errors import NondeterminismError, TaskError, VersionError
from sweep.execution.devices import CPU, Wish
from sweep.execution.failures import ALONE, said
from sweep.execution.job import Job, Outcome
from sweep.execution.plan import Chunk, kind_of, sizes
from sweep.execution.runner import InlineRunner, Runner
from sweep.execution.trials import Trial
from sweep.networks.backend import library
from sweep.preparation.inputs import Prepared

PATIENCE = 20.0
"""Seconds of work in this process, after which others are asked: about what it takes until Ray and its workers work."""
AHEAD = 2  # tasks that are handed over, for each that runs
_WAIT = 1.0


class Tasks:
    """Evaluates trials in this process, and by a runner of several once that pays.

    So a short search does not wait for Ray, and a long one not for one core: it takes at most about twice as long as
    had it known.
    """

    def __init__(
        self,
        prepared: Prepared,
        several: Callable[[], Runner] | None = None,
        at_once: bool = False,
        memory: int = HELD_BYTES,
    ) -> None:
        """`several` makes the runner, None to stay here; `at_once` asks it from the beginning.

        `memory` is in bytes, what a worker may take for images.
        """
        self._prepared, self._several, self._memory = prepared, several, memory
        self._left = 0.0 if at_once else PATIENCE
        self._runner: Runner = InlineRunner(Wish("cpu"), prepared.networks.values())
        self._handed = self._begun = False
        self._sizes = sizes()
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, value, trace)

    def run(self, job: Job, model: str, trials: Sequence[Trial]) -> Iterator[Outcome]:
        """The outcomes of trials, all of one network and kind, as they come; with their rows, to be committed.

        Raises TaskError where a task fails again and again; what came before stays.
        """
        if not trials:
            return
        self._give(replace(job, folder="", device=CPU, memory=self._memory, backend=library()))
        size, cut = self._sizes[kind_of(trials[0])], 0
        again: list[Chunk] = []
        failures: Counter[Chunk] = Counter()
        while cut < len(trials) or again or self._runner.pending:
            if self._pays and not self._runner.pending:
                self._hand_over()
            while self._runner.pending < self._ahead and (again or cut < len(trials)):
                if not again:
                    some = size.next(len(trials) - cut, self._runner.slots)
                    again.append(Chunk(model, tuple(trials[cut : cut + some])))
                    cut += some
                self._runner.submit(again.pop())
            begun = time.monotonic()
            outcome = self._runner.wait(_WAIT)
            self._left -= time.monotonic() - begun
            if outcome is None:
                continue
            if outcome.error is None:
                size.measured(len(outcome.trials), outcome.seconds)
                yield outcome
            else:
                failures[outcome.chunk] += 1
                _check(outcome, outcome.error, failures[outcome.chunk])
                again.append(outcome.chunk)

    @property
    def _pays(self) -> bool:
        return self._left <= 0 and self._several is not None

    @property
    def _ahead(self) -> int:
        return AHEAD * self._runner.slots if self._handed else 1

    def _give(self, job: Job) -> None:
        self._job = job
        if self._begun:
            self._runner.update(job)
        else:
            self._runner.start(job, self._prepared.models, self._prepared.datasets)
            self._begun = True

    def _hand_over(self) -> None:
        """From here on, to the runner of several."""
        assert self._several is not None
        self._runner, self._several = self._open.enter_context(self._several()), None
        self._runner.settle(())
        self._runner.gather(lambda _: None)
        self._handed, self._begun = True, False
        self._give(self._job)


def _check(outcome: Outcome, error: Exception, times: int) -> None:
    """Raise what made a task fail, unless it may be tried again."""
    if isinstance(error, NondeterminismError | VersionError):
        raise error
    if times == ALONE:
        host = outcome.host.get("host", "")
        raise TaskError(f"a task failed {ALONE} times{host and f', at last on {host}'}: {said(error)}")

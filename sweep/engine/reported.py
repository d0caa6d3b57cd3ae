"""What is reported of a trial: right decisions, images without a score, and the values of measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sweep.data.measure import Measure, Outputs
from sweep.networks.feeding import Fed

Numbers = npt.NDArray[np.int64]
_NONE = np.zeros(0, np.int64)


class Count(NamedTuple):
    """Of one trial: images decided as labelled, and with a score that is no finite number (their decision is void).

    `correct` is None where outputs are no classes; `values` are those of the measures, in their order.
    """

    correct: int | None
    nonfinite: int
    values: tuple[float | None, ...] = ()


@dataclass
class Tally:
    """What is known of a trial so far.

    Attributes:
        keep: whether scores and decisions are kept, as measures need them.
        correct, nonfinite: images.
        scores, decisions: block by block.
    """

    keep: bool
    correct: int = 0
    nonfinite: int = 0
    scores: list[npt.NDArray[np.float32]] = field(default_factory=list)
    decisions: list[Numbers] = field(default_factory=list)

    def take(
        self,
        scores: npt.NDArray[np.float32],
        finite: npt.NDArray[np.bool_],
        decisions: Numbers = _NONE,
        labels: Numbers = _NONE,
    ) -> None:
        """Take in some images: their scores (n, outputs), whether these are finite, and what was decided, if it was."""
        self.correct += int(np.count_nonzero(decisions == labels))
        self.nonfinite += int(np.count_nonzero(~finite))
        if self.keep:
            self.scores.append(scores)
            self.decisions.append(decisions)


@dataclass(frozen=True)
class Reported:
    """What is asked for, and what scores are compared with.

    Attributes:
        measures: beside right decisions.
        labels: (n,) of all images, or (0,).
        targets: (n, ...), or None.
        kind: of scores, as in `Outputs`.
        clean: gives the decisions of the clean network; None where outputs are no classes.
        classes: at each position, as in `Outputs`.
    """

    measures: tuple[Measure, ...]
    labels: Numbers
    targets: npt.NDArray[np.float32] | Fed | None
    kind: str
    clean: Callable[[], Numbers] | None
    classes: int = 0

    @property
    def top(self) -> list[int]:
        """The k of its top-k accuracies."""
        return sorted({measure.k for measure in self.measures if measure.k})

    @cached_property
    def _clean(self) -> Numbers:
        return _NONE if self.clean is None else self.clean()

    def count(self, tally: Tally) -> Count:
        """What is reported of a trial whose images have all been taken in."""
        correct = None if self.clean is None else tally.correct
        if not self.measures:
            return Count(correct, tally.nonfinite)
        scores = np.concatenate(tally.scores)
        targets = None if self.targets is None else self.targets[:].reshape(len(scores), -1)
        decisions = np.concatenate(tally.decisions)
        outputs = Outputs(scores, self.labels, targets, decisions, self._clean, self.kind, self.classes)
        return Count(correct, tally.nonfinite, tuple(measure.value(outputs) for measure in self.measures))

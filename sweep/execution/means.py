"""The chips that serve the mean alone, as the driver sees them: what they say so far, and which are still needed."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping

import numpy as np

from sweep.execution.plan import FEW, kind_of, sampled
from sweep.execution.sampled import FEWEST, HALF
from sweep.execution.trials import Trial
from sweep.randomness import FIRST_SAMPLED
from sweep.statistics.estimates import Floats, student
from sweep.statistics.precision import expected_chips, uncontrolled
from sweep.study.study import MOST_SEEDS, Study

_FINEST = 1e-9  # half-width; finer ones take more chips than there can be
TYPICAL = 0.05  # standard deviation of the estimates of chips, before any is there


class Means:
    """What chips that serve the mean alone have said, in a run of a study."""

    def __init__(self, study: Study, found: Mapping[Trial, float]) -> None:
        """`found` are trials that are there, with what each says of its chip's accuracy; others are passed over."""
        self._study = study
        self._values: dict[str, dict[int, float]] = {cell.id: {} for cell in study.cells if cell.random}
        self.take(found.items())

    def take(self, found: Iterable[tuple[Trial, float]]) -> None:
        """Take in trials."""
        for (cell, seed), value in found:
            if kind_of((cell, seed)) == FEW and cell in self._values:
                self._values[cell][seed - FIRST_SAMPLED] = value

    def ranges(self) -> dict[str, range]:
        """The seeds that are needed, by cell, as far as it can be told from what is there."""
        return self._study.samples({cell: _begun(values) for cell, values in self._values.items()})

    def uncontrolled(self, fitted: Collection[str]) -> dict[str, tuple[int, Floats]]:
        """Cells not yet `fitted` whose next chips are to have controls: how many are there, what the first ones say."""
        if self._study.precision is None:
            return {}
        found = {}
        for cell, seeds in self.ranges().items():
            begun = _begun(self._values[cell])  # of accuracies, which are numbers
            count = uncontrolled(begun) or len(seeds)
            if cell not in fitted and count <= len(begun) and count < len(seeds):
                found[cell] = max(self._values[cell]) + 1, begun[:count]
        return found

    @property
    def wanted(self) -> int:
        """How many trials are needed, as far as it can be told."""
        return sum(map(len, self.ranges().values()))

    def forecast(self) -> int:
        """How many more trials will probably be needed beyond those."""
        if self._study.precision is None:
            return 0
        half_width, more = self._study.half_width, 0
        for cell, seeds in self.ranges().items():
            values = _begun(self._values[cell])
            if len(values) >= len(seeds):
                continue
            values, void = values[~np.isnan(values)], int(np.isnan(values).sum())
            probable = expected_chips(values, half_width) + void if len(values) > 1 else self._typical
            more += max(0, min(probable, self._study.max_seeds or MOST_SEEDS) - len(seeds))
        return more

    def said(self, sizes: Collection[int] = ()) -> list[str]:
        """In words: what is asked for, what is there, what it will probably take; of test sets of so many images."""
        study, cells = self._study, len(self._values)
        if not self.wanted:
            return []
        done, images = sum(map(len, self._values.values())), max(sizes) if len({*sizes}) == 1 else None
        seen = sorted({2 * HALF if not study.see_all and n >= FEWEST else n for n in sizes} or {2 * HALF})
        few, each = seen[0], f"{seen[0]:,}" if len(seen) == 1 else f"{seen[0]:,} to {seen[-1]:,}"
        of_images = "on all images" if study.see_all and not sizes else f"on {each} images each"
        if study.precision is None:
            return [f"{self.wanted:,} chips {of_images}: {done:,} done"]
        measure = study.measure_called(study.main)
        asked = f"each to ±{study.precision:g}{measure.points} (95 %)"
        lines = [f"{asked}, from chips of their own {of_images}"]
        total = self.wanted + self.forecast()
        if done < self.wanted and not done:
            most, one = study.max_seeds or MOST_SEEDS, self._typical
            typical = cells * min(one, most)
            if not measure.fraction:
                return [*lines, f"{self.wanted:,} chips first, which tell how many it takes"]
            bound = f"; max_seeds ends it at {most:,} a cell" if one > most else ""
            lines.append(
                f"{self.wanted:,} chips first, which tell how many it takes: about {typical:,} where one estimate "
                f"scatters by {100 * TYPICAL:.0f} points{_in_full(typical, few, images)}{bound}"
            )
        else:
            left = "" if not self.missing() else f", about {total - done:,} to do{_in_full(total - done, few, images)}"
            lines.append(f"{done:,} chips done{left}")
        return lines

    @property
    def _typical(self) -> int:
        """How many chips of a cell it takes where fractions scatter as is typical; 0 of what has no typical scatter."""
        study = self._study
        if not study.measure_called(study.main).fraction:
            return 0
        return math.ceil((student(math.inf) * TYPICAL / max(study.half_width, _FINEST)) ** 2)

    def missing(self) -> list[Trial]:
        """Trials that are needed and not there, in the order in which they will run."""
        wanted = sampled(self._study, self.ranges())
        return [(cell, seed) for cell, seed in wanted if seed - FIRST_SAMPLED not in self._values[cell]]


def _begun(values: Mapping[int, float]) -> Floats:
    """The values of the first seeds, up to the first one that is not there; nan of void trials."""
    count = next((k for k in range(len(values)) if k not in values), len(values))
    return np.array([values[k] for k in range(count)])


def _in_full(chips: int, few: int, images: int | None) -> str:
    return "" if images in (None, few) else f", as many images as {math.ceil(chips * few / images):,} chips in full"

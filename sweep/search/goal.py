"""The budget as a number for each chip: how far a candidate is above what is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sweep.randomness import CONFIRMED, SEARCHED
from sweep.search.prober import Prober
from sweep.search.space import Candidate
from sweep.statistics.estimates import Estimate, Floats
from sweep.statistics.margins import DOUBT, deviation, margin
from sweep.study.budget import Budget

CHIPS = 2_000  # fresh ones, at least
MOST_CHIPS = 20_000
EXACT = 2  # where all are equal
FINE = 20  # half-widths of the answer's interval that fit into the drop, unless that takes too many chips
ROUND = 1_000_000  # seeds of one round of confirmation


class Goal:
    """What a study's budget asks of candidates of one network.

    The margin of a chip is how far its accuracy is above the reference less the drop. The reference is the clean
    network, or a candidate: then each chip is held against itself there. The budget is kept where the mean margin, or
    the quantile that is asked for, is 0 or more.

    Attributes:
        limit: the accuracy that is asked for: that of the reference, as pilots or the search know it, less the drop.
    """

    def __init__(
        self, prober: Prober, budget: Budget, candidates: Sequence[Candidate], below: Candidate | None
    ) -> None:
        """`candidates` are some between which the limit probably lies; `below` is the reference, None for clean."""
        self._prober, self.budget, self._below = prober, budget, below
        self.limit = prober.clean() - self._drop
        prober.begin(candidates if below is None else [*candidates, below], self.limit)
        if below is not None:
            seeds = range(SEARCHED, SEARCHED + self.first)
            self.limit = self._summary(prober.values([below], seeds)[0]) - self._drop

    @property
    def first(self) -> int:
        """Chips of the search on which a candidate is looked at first."""
        if not self._prober.whole:
            return 128
        return 64 if self.budget.quantile is None else max(64, round(8 / self.budget.quantile))

    @property
    def most(self) -> int:
        """Chips of the search on which it is looked at, at most."""
        return 16 * self.first

    def searched(self, candidates: Sequence[Candidate], chips: int) -> tuple[Floats, Floats]:
        """Margins, and their standard errors, on the chips of the search; (candidates,) each."""
        found = self.margins(candidates, range(SEARCHED, SEARCHED + chips))
        centres = np.array([self._summary(row) for row in found])
        return centres, np.array([deviation(row, self.budget.quantile) for row in found])

    def fresh(self, candidate: Candidate, chips: int, number: int = 0, doubt: float = DOUBT) -> Estimate:
        """The margin on chips that took no part in the search, those of one round; as `margin`."""
        begin = CONFIRMED + number * ROUND
        found = self.margins([candidate], range(begin, begin + chips))[0]
        return margin(found, self.budget.quantile, doubt)

    def accuracy(self, candidate: Candidate, chips: int, number: int = 0, doubt: float = DOUBT) -> Estimate:
        """Its accuracy on the same chips, likewise."""
        begin = CONFIRMED + number * ROUND
        found = self._prober.values([candidate], range(begin, begin + chips))[0]
        return margin(found, self.budget.quantile, doubt)

    def chips_for(self, candidate: Candidate, chips: int, half_width: float) -> int:
        """How many fresh ones tell the margin to a half-width (95 %), by those of the search; within bounds."""
        if not candidate.cell.random and (self._below is None or not self._below.cell.random):
            return EXACT if self.budget.quantile is None else CHIPS
        if self.budget.quantile is not None:
            return CHIPS
        _, (error,) = self.searched([candidate], chips)
        return int(np.clip(np.ceil(chips * (1.96 * error / half_width) ** 2), CHIPS, MOST_CHIPS))

    def margins(self, candidates: Sequence[Candidate], seeds: range) -> Floats:
        """(candidates, seeds), fractions."""
        if self._below is None:
            return self._prober.values(candidates, seeds) - (self._prober.clean() - self._drop)
        found = self._prober.values([*candidates, self._below], seeds)
        return np.asarray(found[:-1] - found[-1] + self._drop)

    def _summary(self, values: Floats) -> float:
        quantile = self.budget.quantile
        return float(values.mean() if quantile is None else np.quantile(values, quantile))

    @property
    def _drop(self) -> float:
        return self.budget.drop / 100

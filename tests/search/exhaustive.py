"""The front of `sweep allocate` against that of all settings, each on 2,000 chips of another root seed.

    python -m tests.search.exhaustive [CHIPS] [SEARCHES]

of jobs/allocation.toml: 125 settings, a minute or two on one core, then some searches.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from pathlib import Path

import numpy as np

from sweep.search.allocate import allocate
from sweep.search.costs import costs_of
from sweep.search.search import DEPTH
from sweep.search.surrogate import front
from sweep.study.budget import Budget
from tests.search.repeated import Truth, prepared, seeded

LEVEL = 3.5  # standard errors of a difference that count: of some thirty comparisons, one in a hundred is beyond


def main(chips: int = 2000, searches: int = 5) -> None:
    one = prepared()
    budget = Budget.of(one.study)
    with tempfile.TemporaryDirectory() as folder:
        truth = Truth(one, f"{folder}/truth", chips)
        space = truth.space
        costs = costs_of(space, budget, one.networks[space.model], "")
        settings = list(itertools.product(*(range(len(own)) for own in costs)))
        truth.look(settings)
        cost = np.array([sum(own[k] for own, k in zip(costs, s, strict=True)) for s in settings])
        loss, low, high = np.array([truth.loss(s) for s in settings]).T
        error = (high - low) / 2 / 1.96
        kept = [k for k in np.argsort(cost, kind="stable") if high[k] <= budget.drop / 100]
        alike = [k for k in kept if settings[k] in space.uniform().values()]
        print(f"all {len(settings)} settings, {chips * (len(settings) + 1):,} chips with the reference")
        for words, k in (("the cheapest that keeps the budget", kept[0]), ("of all layers alike", alike[0])):
            print(f"{words}: {settings[k]}, {cost[k]:,.0f}, loses {100 * loss[k]:.3f} ± {196 * error[k]:.3f}")
        best = [k for k in front(cost, -loss).tolist() if loss[k] <= (1 + DEPTH) * budget.drop / 100]
        for root_seed in range(searches):
            found = allocate(seeded(one, root_seed), Path(folder, str(root_seed)), None, lambda _: None)
            print(f"root seed {root_seed}: {found.answer}, {found.answer.cost:,.0f}; {found.settings[2]:,} chips")
            ours = [(p.cost, p.loss.value, (p.loss.high - p.loss.low) / 2 / 1.96) for p in found.front]
            worst, beyond = 0.0, 0
            for k in best:  # at the cost of each point of the true front, what ours has
                value, own = min(((v, e) for c, v, e in ours if c <= cost[k]), default=(np.inf, 0.0))
                if not np.isfinite(value):  # cheaper than ours begins
                    continue
                gap = (value - loss[k]) / np.hypot(own, error[k])
                worst, beyond = max(worst, value - loss[k]), beyond + (gap > LEVEL)
            print(
                f"  {len(best)} points of the true front: ours is worse by {100 * worst:.2f} points at most, ", end=""
            )
            print(f"at {beyond} beyond its interval")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

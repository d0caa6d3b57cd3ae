"""How often answers of `sweep allocate` miss their budget by the truth, over searches with different root seeds.

    python -m tests.search.repeated [SEARCHES] [DROP]

repeats the search of jobs/allocation.toml, in this process, and holds each answer against 20,000 chips of another root
seed: about seven seconds a search on one core. Nothing is written but a line for each search.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from sweep.preparation.inputs import Prepared, prepare
from sweep.search.allocate import allocate
from sweep.search.allocation import Allocation
from sweep.search.goal import Goal
from sweep.search.prober import Prober
from sweep.search.space import Setting, Space, chosen_family
from sweep.statistics.estimates import Estimate
from sweep.statistics.margins import margin
from sweep.storage.paths import Folder
from sweep.study.budget import Budget
from sweep.study.study import parse_file

STUDY = "jobs/allocation.toml"
TRUTH = 20_000
ELSEWHERE = 10**6  # root seed of the truth


def prepared(drop: float | None = None, study: str = STUDY) -> Prepared:
    parsed = parse_file(study)
    if drop is not None:
        found = parsed.sound()
        parsed = parsed._replace(study=found.but(budget={**found.budget, "drop": drop}))
    return prepare(parsed)


def seeded(one: Prepared, root_seed: int) -> Prepared:
    return replace(one, study=one.study.but(root_seed=root_seed), identity={**one.identity, "root_seed": root_seed})


class Truth:
    """Losses of settings below the reference, on many chips of a root seed that no search has."""

    def __init__(self, one: Prepared, place: str, chips: int = TRUTH) -> None:
        there = seeded(one, ELSEWHERE)
        family, model = chosen_family(there, None)
        self.space, budget = Space(there, family, model), Budget.of(there.study)
        self._drop, self._chips = budget.drop / 100, chips
        prober = Prober(there, model, Folder.at(place))
        cells = [self.space.cell(s) for s in self.space.uniform().values()]
        self._goal = Goal(prober, budget, cells, self.space.cell(self.space.at(budget.below)))
        self._known: dict[Setting, Estimate] = {}

    def setting(self, found: Allocation) -> Setting:
        pairs = zip(self.space.layers, self.space.options, strict=True)
        return tuple(options.index(found.answer.options[layer]) for layer, options in pairs)

    def loss(self, setting: Setting) -> Estimate:
        self.look([setting])
        return self._known[setting]

    def look(self, settings: Iterable[Setting]) -> None:
        todo, begin = [s for s in settings if s not in self._known], 4_000_000_000
        if todo:
            cells = [self.space.cell(s) for s in todo]
            for setting, row in zip(todo, self._goal.margins(cells, range(begin, begin + self._chips)), strict=True):
                value, low, high = margin(row)
                self._known[setting] = Estimate(self._drop - value, self._drop - high, self._drop - low)


def main(searches: int = 200, drop: float | None = None) -> None:
    one = prepared(drop)
    with tempfile.TemporaryDirectory() as folder:
        truth = Truth(one, f"{folder}/truth")
        missed, inside, chips = 0, 0, []
        answers: Counter[str] = Counter()
        for root_seed in range(searches):
            found = allocate(seeded(one, root_seed), Path(folder, str(root_seed)), None, lambda _: None)
            loss, said = truth.loss(truth.setting(found)), found.answer.loss
            miss = found.kept and loss.value > found.budget.drop / 100
            missed += miss
            inside += said.low <= loss.value <= said.high
            chips.append(found.settings[2])
            answers[f"{found.answer}, {found.answer.cost:,.0f}, true loss {100 * loss.value:.3f}"] += 1
            words = "MISSED" if miss else "kept" if found.kept else "none"
            print(
                f"{root_seed}: {words}, {found.answer}, said {100 * said.value:.3f}, true {100 * loss.value:.3f}",
                flush=True,
            )
        print(f"{missed} of {searches} answers miss a budget of {found.budget.drop:g} points; ", end="")
        print(f"{inside} intervals hold the truth; {np.mean(chips):,.0f} chips a search")
        for text, count in answers.most_common():
            print(f"{count:4d} {text}")


if __name__ == "__main__":
    main(*(kind(text) for kind, text in zip((int, float), sys.argv[1:], strict=False)))

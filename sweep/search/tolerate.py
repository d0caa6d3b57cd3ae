"""`sweep tolerate`: the level of one parameter that a budget of accuracy leaves, for all layers and for each alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np

from sweep.execution.tasks import Tasks
from sweep.preparation.inputs import Prepared
from sweep.search.crossings import Heights, crossings
from sweep.search.goal import CHIPS, Goal
from sweep.search.levels import Levels
from sweep.search.prober import Prober
from sweep.search.report import write_report
from sweep.search.space import chosen_family
from sweep.search.tolerance import ALL, Level, Tolerance
from sweep.statistics.estimates import Estimate
from sweep.storage.paths import Folder
from sweep.study.budget import Budget

MOST_CHIPS = 10_000
"""Fresh ones, of each level that is tried; some ten are, for each layer."""
_ROUGH = 4  # times as many chips of the search as candidates are looked at first
_ROUGHLY = 0.02  # of the axis, where nothing better is known


def tolerate(
    prepared: Prepared,
    place: str | Path,
    family: str | None,
    tell: Callable[[str], None],
    tasks: Tasks | None = None,
    *,
    precision: float,
) -> Tolerance:
    """Find the levels, and write them into a folder; see `sweep.budgeted.tolerate`.

    `precision` is the half-width of a level's interval, as a fraction of the level, as far as chips can tell.
    """
    study = prepared.study
    budget = Budget.of(study)
    chosen, model = chosen_family(prepared, family)
    levels = Levels(prepared, chosen, model, f"{study.source}: family[{study.family.index(chosen)}]")
    below = budget.reference(study, levels.below)
    folder = Folder.at(place)
    folder.check_writable()
    prober = Prober(prepared, model, folder, budget.quantile is not None, tasks)
    goal = Goal(prober, budget, levels.swept(), below)
    found = []
    for layer in (None, *levels.layers) if len(levels.layers) > 1 else (None,):
        found.append(_level(levels, goal, layer, precision))
        one = found[-1]
        tell(f"{one.where}: {one.outside or f'{levels.name} about {one.level:.4g}'}; {prober.chips:,} chips so far")
    of = study.name, chosen.name, model, levels.name
    answer = Tolerance(*of, budget, found, prober.chips, folder.uri, prober.made)
    answer.write(folder)
    write_report(folder)
    return answer


def _level(levels: Levels, goal: Goal, layer: str | None, precision: float) -> Level:
    """The level for one layer, or for all, with its interval by fresh chips."""
    few = _ROUGH * goal.first

    def searched(place: float) -> tuple[float, float]:
        centres, errors = goal.searched([levels.at(layer, levels.level(place))], few)
        return float(centres[0]), float(errors[0])

    drop, span = goal.budget.drop / 100, levels.worst - levels.best
    (rough,) = _furthest(lambda place: searched(place)[:1], levels, drop, _ROUGHLY * span)
    chips = CHIPS if goal.budget.quantile is not None else _chips(levels, rough, few, searched, precision)
    doubt = (1 - goal.budget.confidence) / 2
    if rough is not None and rough < levels.worst and not levels.whole:
        around = [levels.place(levels.level(rough) * (1 + sign * precision)) for sign in (-1, 1)]
        reach = abs(around[1] - around[0]) / 2
    else:
        rough, reach = None, _ROUGHLY * span

    def fresh(place: float) -> Estimate:
        return goal.fresh(levels.at(layer, levels.level(place)), chips, 0, doubt)

    value, sure, most = _furthest(fresh, levels, drop, reach, rough)
    outside = ""
    if value is None:
        outside = f"before {levels.level(levels.best):g}"
    elif value == levels.worst:
        outside = f"beyond {levels.level(levels.worst):g}"
    said = [None if place is None else levels.level(place) for place in (value, sure, most)]
    if most == levels.worst:  # who knows how far
        said[2] = None
    return Level(layer or ALL, None if outside else said[0], said[1], said[2], outside, chips)


def _furthest(
    heights: Heights, levels: Levels, scale: float, reach: float, near: float | None = None
) -> list[float | None]:
    """The furthest place where each height is 0 or more; None where it is below 0 from the beginning.

    With common random numbers a height is a smooth function of the level, whatever the number of chips. Of whole levels
    by halving.
    """
    if not levels.whole:
        return crossings(heights, levels.best, levels.worst, reach, scale, near)
    places, seen = levels.between(), lru_cache(maxsize=None)(heights)
    found: list[float | None] = []
    for which in range(len(seen(places[0]))):
        first, last = -1, len(places)  # the height is 0 or more at the first, below 0 at the last
        while last - first > 1:
            middle = (first + last) // 2
            first, last = (middle, last) if seen(places[middle])[which] >= 0 else (first, middle)
        found.append(places[first] if first >= 0 else None)
    return found


def _chips(
    levels: Levels, rough: float | None, few: int, searched: Callable[[float], tuple[float, float]], precision: float
) -> int:
    """How many fresh chips tell a level as precisely as is asked for, by the slope and the spread where it lies."""
    if rough is None or rough == levels.worst or levels.whole:
        return CHIPS
    level = levels.level(rough)
    there = [levels.place(level * (1 + sign * 0.05)) for sign in (-1, 1)]
    low, high = (min(max(place, levels.best), levels.worst) for place in sorted(there))
    (above, _), (under, _), (_, error) = searched(low), searched(high), searched(rough)
    slope = (above - under) / max(abs(levels.level(high) - levels.level(low)), 1e-300)  # of a level
    if slope <= 0:
        return MOST_CHIPS
    wanted = few * (1.96 * error / (slope * precision * abs(level))) ** 2
    return int(np.clip(np.ceil(wanted), CHIPS, MOST_CHIPS))

"""`sweep tolerate`: the level of one parameter that a budget of accuracy leaves, for all layers and for each alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import optimize

from sweep.execution.tasks import Tasks
from sweep.preparation.inputs import Prepared
from sweep.search.goal import CHIPS, Goal
from sweep.search.levels import Levels
from sweep.search.prober import Prober
from sweep.search.report import write_report
from sweep.search.space import chosen_family
from sweep.search.tolerance import ALL, Level, Tolerance
from sweep.storage.paths import Folder
from sweep.study.budget import Budget

MOST_CHIPS = 10_000
"""Fresh ones, of each level that is tried; some ten are, for each layer."""
_ROUGH = 4  # times as many chips of the search as candidates are looked at first
_FINER = 20  # parts of the half-width to which a level is found
_STEPS = 60

Height = Callable[[float], float]
"""At a place of the axis, how far the budget is kept: falls, and is sought where it is 0."""


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

    ends = levels.best, levels.worst
    rough = _furthest(lambda place: searched(place)[0], levels, *ends, (levels.worst - levels.best) / 200)
    chips = CHIPS if goal.budget.quantile is not None else _chips(levels, rough, few, searched, precision)
    doubt = (1 - goal.budget.confidence) / 2
    if rough is not None and rough < levels.worst and not levels.whole:
        around = [levels.place(levels.level(rough) * (1 + sign * precision)) for sign in (-1, 1)]
        reach = abs(around[1] - around[0]) / 2
    else:
        rough, reach = None, (levels.worst - levels.best) / 200

    def fresh(which: int) -> Height:
        return lambda place: goal.fresh(levels.at(layer, levels.level(place)), chips, 0, doubt)[which]

    value, sure, most = (_furthest(fresh(which), levels, *ends, reach, rough) for which in range(3))
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
    height: Height, levels: Levels, best: float, worst: float, reach: float, near: float | None = None
) -> float | None:
    """The furthest place where a height that falls is 0 or more; None where it is below 0 from the beginning.

    By Brent's method (1973) on the axis, to a small part of the `reach`; of whole levels by halving. With common random
    numbers the height is a smooth function of the level, whatever the number of chips. `near` is a guess, with an error
    of about the reach.
    """
    if levels.whole:
        places = levels.between()
        first, last = -1, len(places)  # the height is 0 or more at the first, below 0 at the last
        while last - first > 1:
            middle = (first + last) // 2
            first, last = (middle, last) if height(places[middle]) >= 0 else (first, middle)
        return places[first] if first >= 0 else None
    low, high = best, worst
    if near is not None:
        low, high, step = max(near - 2 * reach, best), min(near + 2 * reach, worst), 4 * reach
        while low > best and height(low) < 0:
            low, high, step = max(low - step, best), low, 2 * step
        while high < worst and height(high) >= 0:
            low, high, step = high, min(high + step, worst), 2 * step
    if height(high) >= 0:
        return high
    if height(low) < 0:
        return None
    return float(optimize.brentq(height, low, high, xtol=reach / _FINER, rtol=8.9e-16, maxiter=_STEPS))


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

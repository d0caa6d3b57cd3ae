"""The answer of a search, confirmed on chips that took no part in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import special

from sweep.search.goal import FINE, Goal
from sweep.search.search import Search
from sweep.search.space import Setting, Space
from sweep.statistics.estimates import Estimate

ROUNDS = 4
SAFE = 2.0  # standard errors by which the first setting of a sequence will probably pass
BOLD = -1.3  # likewise the last


class Confirmed(NamedTuple):
    """What fresh chips say.

    Attributes:
        setting: the last that passed; where none did, the one with the largest margin.
        passed: whether it keeps the budget, with the confidence that was asked for.
        margin: of it, a fraction, with its limits.
        chips: fresh ones, of each setting.
        number: of the round, from 0.
        doubt: that the truth is beyond a limit, for each.
    """

    setting: Setting
    passed: bool
    margin: Estimate
    chips: int
    number: int
    doubt: float


def confirm(space: Space, search: Search, goal: Goal, tell: Callable[[str], None]) -> Confirmed:
    """Hold the best settings against fresh chips, from safe to cheap, until one fails: the last that passed is it.

    Fixed-sequence testing (Bauer 1991, Statistics in Medicine 10, 871-890; Angelopoulos et al., "Learn then test",
    arXiv:2110.01052): the order stands before fresh chips are seen, and each is tested at the full level, its margin's
    lower limit against 0. So the chance that any setting passes which does not keep the budget is that level. Where the
    first one fails, a safer sequence is held against chips that are fresh again, at half the level; all rounds together
    have the doubt that was asked for, 1 - confidence.
    """
    tried: dict[Setting, float] = {}
    doubt = 1 - goal.budget.confidence
    safe = SAFE
    found: Confirmed | None = None
    for number in range(ROUNDS):
        doubt /= 2
        sequence, chips = _sequence(space, search, goal, safe, doubt, tried)
        if not sequence:
            break
        tell(f"{len(sequence)} setting{'s' * (len(sequence) > 1)} in line, {chips:,} fresh chips each")
        for setting in sequence:
            margin = goal.fresh(space.cell(setting), chips, number, doubt)
            tried[setting] = margin.value
            if margin.low < 0:
                break
            found = Confirmed(setting, True, margin, chips, number, doubt)
        if found:
            return found
        safe += 1
    setting = max([*tried, search.nearest()], key=lambda s: tried.get(s, search.margin(s)[0]))
    cell, doubt = space.cell(setting), (1 - goal.budget.confidence) / 2
    chips = goal.chips_for(cell, search.chips[setting], goal.budget.drop / 100 / FINE)
    # Of the round after the last, whose chips nobody has seen.
    return Confirmed(setting, False, goal.fresh(cell, chips, ROUNDS, doubt), chips, ROUNDS, doubt)


def _sequence(
    space: Space, search: Search, goal: Goal, safe: float, doubt: float, tried: dict[Setting, float]
) -> tuple[list[Setting], int]:
    """Settings of the front, by falling cost, from one that will pass to the last that may; and how many chips each."""
    best = search.best() or search.nearest()
    chips = goal.chips_for(space.cell(best), search.chips[best], goal.budget.drop / 100 / FINE)
    needed = float(special.ndtri(1 - doubt))
    lowest = max((m for m in tried.values()), default=-np.inf)
    line: list[tuple[float, Setting]] = []
    for setting in reversed(search.front()):
        centre, error = search.margin(setting)
        fresh = error * (search.chips[setting] / chips) ** 0.5
        chance = (centre - needed * fresh) / max(float(np.hypot(error, fresh)), 1e-12)
        if chance >= BOLD and setting not in tried and centre > lowest:
            line.append((chance, setting))
    first = max((k for k, (chance, _) in enumerate(line) if chance >= safe), default=None)
    if first is None:  # none is safe: the safest
        first = max(range(len(line)), key=lambda k: line[k][0], default=0)
    return [setting for _, setting in line[first:]], chips

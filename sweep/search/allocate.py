"""`sweep allocate`: the cheapest setting of each layer that keeps a budget of accuracy, with stated confidence."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

from sweep.errors import InputError
from sweep.execution.tasks import Tasks
from sweep.preparation.inputs import Prepared
from sweep.randomness import CONFIRMED, SEARCHED
from sweep.search.allocation import READY, Allocation, Point, Share
from sweep.search.confirmation import Confirmed, confirm
from sweep.search.costs import UNITS, costs_of
from sweep.search.goal import Goal
from sweep.search.prober import Prober
from sweep.search.ready import ready_study
from sweep.search.report import write_report
from sweep.search.search import Search
from sweep.search.space import Setting, Space, chosen_family
from sweep.statistics.estimates import Estimate
from sweep.statistics.margins import margin
from sweep.storage.paths import Folder
from sweep.study.budget import Budget

FRONT_CHIPS = 512  # fresh ones, of each point of the front
OWN_COSTS = "units of your own"


def allocate(
    prepared: Prepared, place: str | Path, family: str | None, tell: Callable[[str], None], tasks: Tasks | None = None
) -> Allocation:
    """Search, confirm, and write the answer into a folder; see `sweep.budgeted.allocate`."""
    study = prepared.study
    budget = Budget.of(study)
    chosen, model = chosen_family(prepared, family)
    at = f"{study.source}: family[{study.family.index(chosen)}]"
    if not chosen.swept:
        raise InputError(f"{at}: sweeps nothing; give a list of values for what may differ by layer")
    space = Space(prepared, chosen, model)
    costs = costs_of(space, budget, prepared.networks[model], at)
    below = budget.reference(study, space.at)
    folder = Folder.at(place)
    folder.check_writable()
    prober = Prober(prepared, model, folder, budget.quantile is not None, tasks)
    uniform = space.uniform()
    goal = Goal(prober, budget, [space.cell(s) for s in uniform.values()], None if below is None else space.cell(below))
    search = Search(space, costs, goal, tell)
    search.run()
    confirmed = confirm(space, search, goal, tell)
    other = _best_uniform(space, search, goal, confirmed) if confirmed.passed else None
    name = next((name for name, setting in uniform.items() if setting == other), "")

    def point(setting: Setting, chips: int, number: int) -> Point:
        cell, drop = space.cell(setting), budget.drop / 100
        found = goal.fresh(cell, chips, number, confirmed.doubt)
        loss = Estimate(drop - found.value, drop - found.high, drop - found.low)
        options = {layer: o[k] for layer, o, k in zip(space.layers, space.options, setting, strict=True)}
        return Point(options, search.cost(setting), loss, goal.accuracy(cell, chips, number, confirmed.doubt))

    fresh = confirmed.chips, confirmed.number
    seen = search.front()
    tell(f"the front: {len(seen)} settings")
    few = min(FRONT_CHIPS, fresh[0]) if budget.quantile is None else fresh[0]
    goal.margins([space.cell(s) for s in seen], range(CONFIRMED, CONFIRMED + few))  # all at once is faster
    front = [point(s, *(fresh if s == confirmed.setting else (few, 0))) for s in seen]
    front = [p for k, p in enumerate(front) if all(p.accuracy.value > q.accuracy.value for q in front[:k])]
    found = Allocation(
        study=study.name,
        family=chosen.name,
        model=model,
        budget=budget,
        unit=UNITS[budget.cost] if isinstance(budget.cost, str) else OWN_COSTS,
        kept=confirmed.passed,
        answer=point(confirmed.setting, *fresh),
        layers=_shares(space, search, goal, confirmed),
        uniform=(name, point(other, *fresh)) if other is not None else None,
        front=front,
        chips=confirmed.chips,
        confidence=1 - 2 * confirmed.doubt,
        settings=(len(search.chips), math.prod(map(len, costs)), prober.chips),
        folder=folder.uri,
        made=prober.made,
    )
    found.write(folder)
    families: dict[str, Setting] = {"allocated": confirmed.setting}
    families |= {f"all layers alike, {name}": other} if other is not None else {}
    families |= {"reference": below} if below is not None and below not in families.values() else {}
    text = _ready(prepared, space, families, f"{folder.uri}/{READY}")
    folder.write(READY, text.encode())
    write_report(folder)
    return found


def _ready(prepared: Prepared, space: Space, families: Mapping[str, Setting], place: str) -> str:
    tables = {name: space.perturb(setting) for name, setting in families.items()}
    study = prepared.study
    return ready_study(study, tables, space.family, place, f"{study.name}-allocated").to_toml()


def _best_uniform(space: Space, search: Search, goal: Goal, confirmed: Confirmed) -> Setting | None:
    """The cheapest setting of all layers alike that keeps the budget, held against the answer's fresh chips."""
    for setting in sorted(space.uniform().values(), key=search.cost):
        centre, error = search.margin(setting)
        if centre + 5 * error < 0:  # no fresh chip could change that
            continue
        found = goal.fresh(space.cell(setting), confirmed.chips, confirmed.number, confirmed.doubt)
        if found.low >= 0:
            return setting
    return None


def _shares(space: Space, search: Search, goal: Goal, confirmed: Confirmed) -> list[Share]:
    """What each layer gets; its loss when alone is against the finest setting, each chip against itself."""
    seeds = range(SEARCHED, SEARCHED + goal.first)
    shares = []
    for k, (layer, option) in enumerate(zip(space.layers, confirmed.setting, strict=True)):
        pair = [space.cell(search.finest), space.cell(search.alone(k, option))]
        finest, alone = goal.margins(pair, seeds)
        shares.append(Share(layer, space.options[k][option], search.costs[k][option], margin(finest - alone)))
    return shares

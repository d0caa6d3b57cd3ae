"""The page of a search's folder: what allocations and tolerances in it have found, and how."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sweep.errors import StoreError
from sweep.reporting.html.searched import Searched, searched_page
from sweep.reporting.tables.layout import Table, Value
from sweep.search.allocation import ALLOCATION, READY, Allocation, Point, points
from sweep.search.space import option_text
from sweep.search.tolerance import TOLERANCE, Tolerance
from sweep.statistics.estimates import Estimate
from sweep.storage.paths import Folder
from sweep.texts import number

REPORT = "report.html"
_MARGIN = (
    "With a the accuracy of a chip, r that of the reference (the clean network, or the same chip at the "
    "reference's setting) and d the drop that is allowed, the margin of a chip is m = a − (r − d), in points. The "
    "budget is kept where the mean of m over all chips is 0 or more; with `quantile` q, where the q-quantile of m "
    "is. Of the mean over n fresh chips with standard deviation s, limits are m̄ ± t · s / √n, t of Student's law "
    "with n − 1 degrees of freedom; of a quantile they are order statistics by the binomial law (Hahn & Meeker "
    "1991, chapter 5). Fresh chips took no part in the search; all settings and levels share their chips and the "
    "images that these see, so that differences are paired."
)
_SEARCH = (
    "Each layer is looked at alone at each of its settings, and all layers alike. The logit of a setting's "
    "accuracy is predicted as that of the costliest less what each layer loses alone, what this misses being "
    "kriged over the layers' losses (Sacks et al. 1989); looked at next are settings of the largest expected "
    "improvement (Mockus 1975). The best ones stand in line, from safe to cheap, before a fresh chip is seen, and "
    "are held against these one by one, each at the full level, until one fails: fixed-sequence testing (Bauer "
    "1991; Angelopoulos et al. 2021). So the chance that a setting is answered which does not keep the budget is "
    "1 − confidence at most."
)
_LEVELS = (
    "The level is where the mean margin of fresh chips is 0; its interval ends where the lower and the upper "
    "limit of the margin are 0, the inversion of a test (Casella & Berger 2002, section 9.2.1). Each of the three "
    "is a smooth function of the level, interpolated between those that were looked at by monotone cubics (Fritsch & "
    "Carlson 1980); of whole levels by halving. Levels are in the unit of the parameter that the catalogue says."
)


def write_report(folder: Folder) -> str | None:
    """Write the page of a search's folder there; returns where, None where no search has found anything.

    Raises StoreError where what is there is damaged.
    """
    allocation = _read(folder, ALLOCATION, Allocation.from_dict)
    tolerance = _read(folder, TOLERANCE, Tolerance.from_dict)
    found: list[Searched] = []
    if allocation is not None:
        ready = folder.read(READY)
        found.append(_allocated(allocation, (ready or b"").decode(errors="replace")))
    if tolerance is not None:
        found.append(_tolerated(tolerance))
    if not found:
        return None
    names = [one.study for one in (allocation, tolerance) if one is not None]
    folder.write(REPORT, searched_page(", ".join(dict.fromkeys(names)), found).encode())
    return f"{folder.uri}/{REPORT}"


def report_of(place: str | Path) -> str | None:
    """As `write_report`, of a folder that may be any."""
    return write_report(Folder.at(place))


def _read(folder: Folder, name: str, read: Callable[[Any], Any]) -> Any:
    content = folder.read(name)
    if content is None:
        return None
    try:
        return read(json.loads(content))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise StoreError(f"{folder.uri}/{name}: is damaged; the command that made it makes it again") from None


def _allocated(found: Allocation, ready: str) -> Searched:
    confidence = f"{100 * found.confidence:.4g} %"
    rows = [
        [Value(s.layer), Value(option_text(s.option)), Value(f"{s.cost:,.0f}", s.cost), *_points(s.alone)]
        for s in found.layers
    ]
    rows.append(
        [Value("all"), Value(""), Value(f"{found.answer.cost:,.0f}", found.answer.cost), *_points(found.answer.loss)]
    )
    header = ("layer", "setting", f"cost ({found.unit})", "loss, points", "from", "to")
    layers = Table("What each layer gets, and its loss when alone", header, rows)
    shown = [
        ("the answer", found.answer),
        *([] if found.uniform is None else [(f"all {found.uniform[0]}", found.uniform[1])]),
    ]
    front = [_row(_name(p, shown), p) for p in found.front]
    of_front = ("setting", "", f"cost ({found.unit})", "accuracy, %", "from", "to", "loss, points", "from", "to")
    tables = [layers, Table("The front: nothing that was looked at beats these", of_front, front)]
    saved = {} if found.saved is None else {"saved against all layers alike": f"{100 * found.saved:.1f} %"}
    return Searched(
        key="allocation",
        title="Allocation",
        subject="The cheapest setting of each layer that keeps a budget of accuracy.",
        headline={
            "network": found.model,
            "budget": str(found.budget),
            "allocation": "keeps the budget" if found.kept else "NOTHING that was found keeps the budget",
            "loss": points(found.answer.loss, found.confidence),
            "cost": f"{found.answer.cost:,.0f} {found.unit}",
            **saved,
        },
        words=(
            f"Family {found.family}. {found.words()} Loss: below the reference, in points of accuracy; alone, below "
            "the network with all layers at their costliest setting, of the mean over chips of the search, with 95 % "
            "limits. In the row of all layers, and in the front, limits are of fresh chips, with a confidence of "
            f"{confidence}."
        ),
        tables=tables,
        picture=found.picture(),
        methods=[_MARGIN, _SEARCH],
        facts=found.made,
        study=ready,
    )


def _tolerated(found: Tolerance) -> Searched:
    rows = [
        [
            Value(one.where),
            Value(one.outside) if one.level is None else Value(number(one.level, 4), one.level),
            *(Value("") if end is None else Value(number(end, 4), end) for end in (one.sure, one.most)),
            Value(f"{one.chips:,}", float(one.chips)),
        ]
        for one in found.levels
    ]
    sure = f"{100 * found.budget.confidence:.4g} %"
    header = ("where", found.parameter, f"from ({sure})", f"to ({sure})", "fresh chips")
    return Searched(
        key="tolerance",
        title="Tolerance",
        subject=f"How far {found.parameter} may go within a budget of accuracy.",
        headline={"network": found.model, "budget": str(found.budget), "tolerance": found.verdict()},
        words=f"Family {found.family}. {found.words()}",
        tables=[Table("The level that the budget leaves, for all layers and for each alone", header, rows)],
        picture=found.picture(),
        methods=[_MARGIN, _LEVELS],
        facts=found.made,
    )


def _row(name: str, point: Point) -> list[Value]:
    accuracy = [Value(f"{100 * v:.2f}", 100 * v) for v in point.accuracy]
    return [Value(str(point)), Value(name), Value(f"{point.cost:,.0f}", point.cost), *accuracy, *_points(point.loss)]


def _name(point: Point, shown: Sequence[tuple[str, Point]]) -> str:
    return ", ".join(name for name, one in shown if one.options == point.options)


def _points(loss: Estimate) -> list[Value]:
    return [Value(f"{100 * v:.2f}", 100 * v) for v in loss]

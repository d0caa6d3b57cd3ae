"""The questions that a study's families answer together: how far, how many bits, which law, what was published."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd

from sweep.data.measure import Measure
from sweep.data.measures import ACCURACY
from sweep.perturb.base import KERNELS, Transform
from sweep.reporting.chips import FEW, VALUE, mean_rows, of_measure, whole_chips
from sweep.reporting.labels import parameter_labels
from sweep.reporting.published import compare_families, fits, percentiles
from sweep.reporting.tables.frames import Answer
from sweep.statistics.inversion import check_claims, equivalent_levels, thresholds
from sweep.statistics.monotone import Curve, curve_of
from sweep.study.family import DATASET, Family
from sweep.study.study import Study
from sweep.texts import percent

DROPS = (0.01, 0.02, 0.05)
"""Of accuracy, and of what else is a fraction."""
SHARES = (0.1, 0.2, 0.5)
"""Of the clean network's value, of a measure without bounds."""


class _Swept(NamedTuple):
    """A family that sweeps one number, of one network on one test set, whose label is empty where it is the only one.

    Attributes:
        curve: of what the means come from.
        chips: of the accuracies of chips that saw all images, at the levels that have any; None where fewer than two
            have.
    """

    model: str
    dataset: str
    family: Family
    parameter: str
    curve: Curve
    chips: Curve | None


def answers(study: Study, trials: pd.DataFrame, measure: Measure = ACCURACY) -> list[Answer]:
    """What can be said of a study beyond one cell at a time.

    Args:
        study: the study, as run.
        trials: its trials, as `Run.trials` returns them.
        measure: what they are looked at for; what is published is accuracy.

    Returns:
        thresholds, noise-equivalent bits, published values against ours and the law they fit, each where the study has
        the families for it. Accuracies in the tables are fractions.
    """
    trials = of_measure(trials, measure)
    found = [*_thresholds(study, trials, measure), *_equivalence(study, trials, measure)]
    if measure.name == ACCURACY.name:
        found += _published(study, trials)
    return [answer for answer in found if not answer.table.empty]


def fixed_cells(study: Study) -> list[str]:
    """Ids of the cells without randomness."""
    return [cell.id for cell in study.cells if not cell.random]


def _thresholds(study: Study, trials: pd.DataFrame, measure: Measure) -> Iterator[Answer]:
    parts, labels = [], parameter_labels(study)
    for swept in _curves(study, trials, measure):
        _, _, family, parameter, curve, chips = swept
        clean, label = _clean(study, trials, swept, measure), labels[family.name, parameter]
        lowest = {"linear": -math.inf, "square": 0.0, "log": math.ulp(0.0)}[label.spacing]
        if clean is None or curve.levels.min() < lowest or not (measure.fraction or clean):
            continue
        sign = 1 if measure.higher else -1
        drops = DROPS if measure.fraction else [share * abs(clean) for share in SHARES]
        for statistic, of, quantile in (("mean", curve, None), ("5 % quantile", chips, 0.05)):
            if of is None or (quantile is not None and of.exact.all()):  # no chips that differ
                continue
            found = thresholds(of, sign * clean, drops, quantile, label.worse == "low", label.spacing)
            found = [row._replace(limit=sign * row.limit) for row in found]
            names = {**_place(swept), "family": family.name, "parameter": parameter, "of": statistic}
            parts.append(_named(pd.DataFrame(found), **names))
    if not parts:
        return
    yield Answer(
        "thresholds",
        "How far it goes",
        pd.concat(parts, ignore_index=True),
        f"The largest level (of bits, the smallest) that keeps the {measure.average}, or that of all but 5 % of "
        f"the chips, within a drop of the clean {measure.lower}, with its 95 % interval; swept: the last level that "
        "was run and keeps it."
        + ("" if measure.higher else " Less is better: a drop is a rise here.")
        + ("" if measure.fraction else " Drops are 10, 20 and 50 % of the clean network's value."),
        ("drop", "limit") if measure.fraction else (),
    )


def _equivalence(study: Study, trials: pd.DataFrame, measure: Measure) -> Iterator[Answer]:
    curves = list(_curves(study, trials, measure))
    noise = [(c, std) for c in curves if (std := _std_per_level(study, c.family, c.parameter)) is not None]
    rounding = [c for c in curves if _is_rounding(study, c.family, c.parameter)]
    several = len({r.family.name for r in rounding}) > 1
    levels, claims = [], []
    for (n, std), r in itertools.product(noise, rounding):
        if _place(n) != _place(r):
            continue
        found = equivalent_levels(n.curve, r.curve, std)
        names = {**_place(n), "noise": n.family.name} | ({"rounding": r.family.name} if several else {})
        table = pd.DataFrame(found._asdict())
        if measure.name != ACCURACY.name:
            table = table.rename(columns={"accuracy": measure.name})
            table[measure.name] *= 1 if measure.higher else -1
        levels.append(_named(table, **names))
        bits = r.parameter
        said = {p[bits]: p["noise"] for p in r.family.published if "noise" in p and p[bits] in r.curve.levels}
        if said and measure.name == ACCURACY.name:
            levels[-1]["claimed"] = levels[-1]["bits"].map(said)
            checked = pd.DataFrame(check_claims(n.curve, r.curve, said)._asdict()).astype({"holds": "boolean"})
            claims.append(_named(checked, **names))
    if levels:
        yield Answer(
            "equivalent-bits",
            "Bits and the noise that costs as much",
            pd.concat(levels, ignore_index=True),
            f"For each bit-width the noise level with the same {measure.average}, with a bootstrap interval; "
            "theory: the level whose standard deviation is that of rounding, 2^-bits / √12"
            + ("; claimed: the level that is said to cost as much." if claims else "."),
            (measure.name,) if measure.fraction else (),
        )
    if claims:
        yield Answer(
            "claims",
            "Is that the noise that is said to cost as much?",
            pd.concat(claims, ignore_index=True),
            "claimed: the level that is said to cost as much as so many bits; level: the one that does; difference: "
            "mean accuracy with so many bits less that at the claimed level, in points; holds: the claimed level lies "
            "within the interval.",
            ("difference",),
        )


def _place(swept: _Swept) -> dict[str, str]:
    return {"model": swept.model, **({DATASET: swept.dataset} if swept.dataset else {})}


def _named(table: pd.DataFrame, **names: str) -> pd.DataFrame:
    """A table with further columns before its own."""
    return table.assign(**names)[[*names, *table.columns]]


def _published(study: Study, trials: pd.DataFrame) -> Iterator[Answer]:
    published, fixed = study.published, fixed_cells(study)
    if not published:
        return
    yield Answer(
        "published",
        "Published values among our chips",
        percentiles(trials, list(study.columns), published, fixed),
        "Accuracies in %; percentile: where the published accuracy stands among our single chips of that cell, with a "
        "95 % interval. Cells without randomness have none.",
        ("mean", "published", "difference", "percentile"),
    )
    yield Answer(
        "fit",
        "Could the published tables be draws of ours?",
        fits(trials, published, fixed),
        "p-values that the whole table was drawn from our distributions: a new draw for each level (independent), or "
        "one draw scaled (common).",
    )
    noise = {family for (family, _), label in parameter_labels(study).items() if label.spacing == "square"}
    names = [family.name for family in study.family if family.published and family.name in noise]
    for pair in itertools.combinations(names, 2):
        try:
            table = compare_families(trials, list(study.columns), pair, published, fixed)
        except ValueError:  # no level in common
            continue
        yield Answer(
            re.sub(r"[^\w-]+", "-", f"law-{pair[0]}-{pair[1]}"),
            f"Which law do they fit: {pair[0]} or {pair[1]}?",
            table,
            f"{_verdict(table, pair)} probability: of {pair[0]} at even odds; log_ratio: of the likelihoods, above 0 "
            f"for {pair[0]}, with its standard error. The common row counts only where one scaled draw is not refused "
            "above.",
        )


def _verdict(table: pd.DataFrame, pair: tuple[str, str]) -> str:
    """In words: which law, of new draws for each level, and whether that is sure."""
    row = table[table["draws"] == "independent"].iloc[0]
    first = row["probability"] >= 0.5
    names = ("probability", "probability_low", "probability_high")
    chance, *limits = (row[name] if first else 1 - row[name] for name in names)
    low, high = sorted(limits)
    sure = "" if low > 0.5 else "; that is not sure"
    return (
        f"With a new draw for each level, {pair[0] if first else pair[1]} fits better: {percent(chance, 0)} % at even "
        f"odds, 95 % interval {percent(low, 0)} to {percent(high, 0)} %{sure}."
    )


def _curves(study: Study, trials: pd.DataFrame, measure: Measure) -> Iterator[_Swept]:
    """Of families that sweep one number."""
    fixed = fixed_cells(study)
    means, counted = mean_rows(trials, measure), whole_chips(trials)
    sign = 1 if measure.higher else -1  # curves fall

    def curve(rows: pd.DataFrame, parameter: str) -> Curve | None:
        if rows[parameter].nunique() < 2:
            return None
        values = sign * (rows[VALUE] if VALUE in rows else rows[measure.name])
        bounded = measure.fraction and measure.higher
        few = rows.get(FEW, False)
        return curve_of(rows[parameter], rows["seed"], values, rows["cell"].isin(fixed), few, bounded)

    for model, dataset, family in itertools.product(study.models, study.datasets, study.family):
        swept = list(family.swept)
        if family.sensitivity or len(swept) != 1 or study.columns[swept[0]] not in (int, float):
            continue
        own = [t[(t["model"] == model) & (t["family"] == family.name)] for t in (means, counted)]
        own = [t[t[DATASET] == dataset] for t in own] if dataset else own
        of_means, of_chips = (curve(rows, swept[0]) for rows in own)
        if of_means is not None:
            yield _Swept(model, dataset, family, swept[0], of_means, of_chips)


def _clean(study: Study, trials: pd.DataFrame, swept: _Swept, measure: Measure) -> float | None:
    """The value without perturbation: the clean network's, or in an older run that at scale or rate 0 or 32 bits."""
    for cell in study.cells:
        place = cell.model, cell.dataset
        if place == (swept.model, swept.dataset) and all(t.is_identity for t in cell.transforms):
            found = trials.loc[trials["cell"] == cell.id, measure.name]
            if len(found):
                return float(found.iloc[0])
    return None


def _alone(study: Study, family: Family, parameter: str) -> list[tuple[float, Transform]]:
    """(level, transform) of each cell of a family that is one transform on all layers; else none."""
    usual = {"layers": "*", "variables": KERNELS}
    if len(family.perturb) > 1 or any(family.perturb[0].get(key, one) != one for key, one in usual.items()):
        return []
    cells = (cell for cell in study.cells if cell.family == family.name)
    return [(float(str(cell.values[parameter])), cell.transforms[0]) for cell in cells]


def _std_per_level(study: Study, family: Family, parameter: str) -> float | None:
    """The standard deviation per level of a family that is additive noise alone and sweeps its level; else None."""
    if parameter_labels(study)[family.name, parameter].spacing != "square":
        return None
    std, *others = {t.std_per_level for _, t in _alone(study, family, parameter)} or {None}
    return None if others or std is None or not 0 < std < math.inf else std


def _is_rounding(study: Study, family: Family, parameter: str) -> bool:
    """Whether a family is rounding alone, to as many fractional bits as it sweeps."""
    steps = [(level, t.rounding_step or 0.0) for level, t in _alone(study, family, parameter)]
    return bool(steps) and all(0 < step < math.inf and math.log2(step) == -level for level, step in steps)

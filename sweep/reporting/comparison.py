"""Cells against cells: families, levels, bit-widths, networks, runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sweep.data.measure import Measure
from sweep.data.measures import ACCURACY
from sweep.errors import InputError
from sweep.reporting.chips import is_whole, of_measure, precise_values
from sweep.statistics.differences import Difference, difference

Selection = str | Mapping[str, Any]
"""Cells of a run: a family's name, a cell's id, or values by column, such as {"family": "gaussian", "scale": 0.1}."""

_WHOLE, _PRECISE = "_whole", "_precise"  # whether a trial saw all images, and what it says of the mean if not


def compare(
    first: pd.DataFrame,
    second: pd.DataFrame,
    selections: tuple[Selection, Selection],
    parameters: Sequence[str],
    deterministic: Collection[str] = (),
    shared: bool = True,
    measure: Measure = ACCURACY,
) -> pd.DataFrame:
    """How much accuracy the first cells have above the second ones, chip by chip where chips are the same.

    Cells are compared where they agree in model, family and swept parameters, those that a selection names apart.

    Args:
        first, second: trials of one run, or of two, as in `chips.is_whole`: `model`, `family`, `cell`, those in
            `parameters`, `seed`, `accuracy` (a fraction). Of cells whose means come from chips that saw a few images,
            their estimates are compared, unless the other cell has counts of the same chips alone.
        selections: which of the first trials, and which of the second.
        parameters: columns of the swept parameters.
        deterministic: ids of the cells without randomness.
        shared: whether the same seed is the same chip in both.
        measure: what is compared instead of accuracy.

    Returns:
        One row per pair of cells, in the first's order: the columns that they agree in (where they are not all
        alike), `first`, `second` (means, as in a summary), `difference`, `difference_low`, `difference_high` (95 %,
        of `sweep.statistics.differences.difference`), `pairs`. Accuracies are fractions.

    Raises:
        InputError: a selection that names no cells, or cells that cannot be paired.
    """
    first, second = (of_measure(t, measure) for t in (first, second))
    first, second = (t.assign(**{_WHOLE: is_whole(t), _PRECISE: precise_values(t)}) for t in (first, second))
    both = list(zip((first, second), map(_by_column, selections, (first, second)), strict=True))
    named = {column for _, wanted in both for column in wanted}
    keys = [] if "cell" in named else [k for k in ("model", "family", *parameters) if k not in named]
    ours, theirs = (_cells(trials, wanted, keys) for trials, wanted in both)
    rows = []
    for key in [key for key in ours if key in theirs]:
        pair = ours[key], theirs[key]
        means = [_values(cell, _has_estimates(cell), measure)[0].mean() for cell in pair]
        rows.append((*key, *means, *_difference(pair, deterministic, shared, measure)))
    if not rows:
        raise InputError(f"compare: no two cells agree in {', '.join(keys)}; name what differs in both selections")
    table = pd.DataFrame(
        rows, columns=[*keys, "first", "second", "difference", "difference_low", "difference_high", "pairs"]
    )
    alike = [key for key in keys if table[key].nunique(dropna=False) < 2]
    return table.drop(columns=alike)


def _difference(
    pair: tuple[pd.DataFrame, pd.DataFrame], deterministic: Collection[str], shared: bool, measure: Measure
) -> Difference:
    """First less second: by estimates where either has them, unless one has but counts of chips that both have."""
    fixed = [cell["cell"].iloc[0] in deterministic for cell in pair]
    estimates = [_has_estimates(cell) for cell in pair]
    if shared and not any(fixed) and estimates[0] != estimates[1]:
        counted = [cell.loc[cell[_WHOLE], "seed"] for cell in pair]
        if counted[0].isin(counted[1]).sum() > 1:
            estimates = [False, False]
    (a, chips), (b, others) = (_values(cell, few, measure) for cell, few in zip(pair, estimates, strict=True))
    first, second = (value[0] if exact else value for value, exact in zip((a, b), fixed, strict=True))
    bounded, widest = measure.fraction and not any(estimates), 1.0 if measure.fraction else np.inf
    return difference(first, second, (chips, others) if shared else None, bounded, widest)


def _has_estimates(cell: pd.DataFrame) -> bool:
    return bool(cell[_PRECISE].notna().any())


def _values(cell: pd.DataFrame, few: bool, measure: Measure) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Estimates of the chips that have one, else values of those that saw all images; and their seeds."""
    chosen = cell[cell[_PRECISE].notna() if few else cell[_WHOLE]]
    return chosen[_PRECISE if few else measure.name].to_numpy(dtype=np.float64), chosen["seed"].to_numpy()


def _by_column(selection: Selection, trials: pd.DataFrame) -> Mapping[str, Any]:
    """Values by column; a name is that of a family where these trials have one, else a cell's."""
    if not isinstance(selection, str):
        return selection
    return {"family" if (trials["family"] == selection).any() else "cell": selection}


def _cells(trials: pd.DataFrame, selection: Mapping[str, Any], keys: Sequence[str]) -> dict[Any, pd.DataFrame]:
    """(values of `keys`, None where missing) → the trials of the cell."""
    chosen, names = trials, [str(name) for name in trials if name not in (_WHOLE, _PRECISE)]
    for column, value in selection.items():
        if column not in names:
            raise InputError(f"compare: no column {column!r}; there are {', '.join(names)}")
        kept = chosen[chosen[column] == value]
        if kept.empty:
            shown = "family" if column == "cell" else column
            there = ", ".join(str(v) for v in chosen[shown].dropna().unique())
            raise InputError(f"compare: no {column} {value!r}; {shown}: {there}")
        chosen = kept
    found: dict[Any, pd.DataFrame] = {}
    for cell, group in chosen.groupby("cell", sort=False):
        row = group.iloc[0]
        key = tuple(None if pd.isna(row[k]) else row[k] for k in keys)
        if key in found:
            raise InputError(
                f"compare: {selection!r} takes both {found[key]['cell'].iloc[0]} and {cell}; name more columns"
            )
        found[key] = group
    return found

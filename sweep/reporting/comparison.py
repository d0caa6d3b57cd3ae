"""Cells against cells: families, levels, bit-widths, networks, runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from sweep.errors import InputError
from sweep.statistics.differences import difference

Selection = str | Mapping[str, Any]
"""Cells of a run: a family's name, a cell's id, or values by column, such as {"family": "gaussian", "scale": 0.1}."""


def compare(
    first: pd.DataFrame,
    second: pd.DataFrame,
    selections: tuple[Selection, Selection],
    parameters: Sequence[str],
    deterministic: Collection[str] = (),
    shared: bool = True,
) -> pd.DataFrame:
    """How much accuracy the first cells have above the second ones, chip by chip where chips are the same.

    Cells are compared where they agree in model, family and swept parameters, those that a selection names apart.

    Args:
        first, second: trials of one run, or of two: `model`, `family`, `cell`, those in `parameters`, `seed`,
            `accuracy` (a fraction).
        selections: which of the first trials, and which of the second.
        parameters: columns of the swept parameters.
        deterministic: ids of the cells without randomness.
        shared: whether the same seed is the same chip in both.

    Returns:
        One row per pair of cells, in the first's order: the columns that they agree in (where they are not all
        alike), `first`, `second` (means over all their chips), `difference`, `difference_low`, `difference_high` (95 %,
        of `sweep.statistics.differences.difference`), `pairs`. Accuracies are fractions.

    Raises:
        InputError: a selection that names no cells, or cells that cannot be paired.
    """
    both = list(zip((first, second), map(_by_column, selections, (first, second)), strict=True))
    named = {column for _, wanted in both for column in wanted}
    keys = [] if "cell" in named else [k for k in ("model", "family", *parameters) if k not in named]
    ours, theirs = (_cells(trials, wanted, keys) for trials, wanted in both)
    rows = []
    for key in [key for key in ours if key in theirs]:
        pair = ours[key], theirs[key]
        means = [cell["accuracy"].mean() for cell in pair]
        a, b = (c["accuracy"].iloc[0] if c["cell"].iloc[0] in deterministic else c["accuracy"] for c in pair)
        seeds = (pair[0]["seed"], pair[1]["seed"]) if shared else None
        rows.append((*key, *means, *difference(a, b, seeds)))
    if not rows:
        raise InputError(f"compare: no two cells agree in {', '.join(keys)}; name what differs in both selections")
    table = pd.DataFrame(
        rows, columns=[*keys, "first", "second", "difference", "difference_low", "difference_high", "pairs"]
    )
    alike = [key for key in keys if table[key].nunique(dropna=False) < 2]
    return table.drop(columns=alike)


def _by_column(selection: Selection, trials: pd.DataFrame) -> Mapping[str, Any]:
    """Values by column; a name is that of a family where these trials have one, else a cell's."""
    if not isinstance(selection, str):
        return selection
    return {"family" if (trials["family"] == selection).any() else "cell": selection}


def _cells(trials: pd.DataFrame, selection: Mapping[str, Any], keys: Sequence[str]) -> dict[Any, pd.DataFrame]:
    """(values of `keys`, None where missing) → the trials of the cell."""
    chosen = trials
    for column, value in selection.items():
        if column not in trials:
            raise InputError(f"compare: no column {column!r}; there are {', '.join(trials.columns)}")
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

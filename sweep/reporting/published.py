"""What a study publishes beside our chips, as tables: percentiles, fits, the law that it fits better."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from sweep.reporting.chips import VALUE, mean_rows, whole_chips
from sweep.reporting.summary import KEYS
from sweep.statistics.likelihood_ratio import Comparison, compare
from sweep.statistics.published import Fit, fit, percentile


def percentiles(
    trials: pd.DataFrame,
    parameters: Sequence[str],
    published: Mapping[str, float],
    deterministic: Collection[str] = (),
) -> pd.DataFrame:
    """Every published value beside our chips.

    Args:
        trials: one row per trial, as in `chips.is_whole`: `model`, `family`, `cell`, those in `parameters`, `accuracy`
            (a fraction).
        parameters: columns of the swept parameters.
        published: cell ids → accuracy, a fraction; cells without trials are passed over.
        deterministic: ids of the cells without randomness: nothing varies there, so they have no percentile.

    Returns:
        One row per published cell, in order of first appearance: `model`, `family`, `cell`, the parameters, `trials`
        (chips that saw all images), `mean` (as in a summary), `published`, `difference` (published less mean),
        `percentile`, `percentile_low`, `percentile_high` (among the trials). All are fractions; nan where there is no
        percentile.
    """
    keys = list(KEYS)
    whole, means = whole_chips(trials), mean_rows(trials).groupby("cell", sort=False)[VALUE].mean()
    ours = trials[trials["cell"].isin(list(published))]
    table = ours.loc[~ours.duplicated(keys), [*keys, *parameters]].reset_index(drop=True)
    rows = []
    for cell in table["cell"]:
        accuracy = whole.loc[whole["cell"] == cell, "accuracy"].to_numpy(dtype=np.float64)
        ranked = accuracy.size and cell not in deterministic
        place = percentile(accuracy, published[cell]) if ranked else (np.nan,) * 3
        mean = means[cell]
        rows.append((len(accuracy), mean, published[cell], published[cell] - mean, *place))
    names = ["trials", "mean", "published", "difference", "percentile", "percentile_low", "percentile_high"]
    table[names] = pd.DataFrame(rows, columns=names)
    return table


def fits(trials: pd.DataFrame, published: Mapping[str, float], deterministic: Collection[str] = ()) -> pd.DataFrame:
    """The test of `fit` for every published table: one row per model and family.

    Args:
        trials, published, deterministic: as in `percentiles`; also the column `seed`. Chips are the seeds that all
            published cells of the family have, and with which they saw all images.

    Returns:
        `model`, `family`, then the fields of `Fit`. Families without two chips at some published level are left out.
    """
    rows = []
    for (model, family), group in whole_chips(trials).groupby(["model", "family"], sort=False):
        chips = table_of(group, published, deterministic)
        if chips.shape[1] and len(chips) > 1:
            values = [published[cell] for cell in chips.columns]
            rows.append((model, family, *fit(chips.to_numpy(), values)))
    return pd.DataFrame(rows, columns=["model", "family", *Fit._fields])


def compare_families(
    trials: pd.DataFrame,
    parameters: Sequence[str],
    families: tuple[str, str],
    published: Mapping[str, float],
    deterministic: Collection[str] = (),
) -> pd.DataFrame:
    """Which of two families of a study its published table fits better, as `compare` says.

    Args:
        trials, parameters, published: as in `percentiles`; also the column `seed`. Values published for both families
            at the same values of the parameters are compared.
        families: the first and the second law.
        deterministic: ids of the cells without randomness; they do not tell the laws apart.

    Returns:
        Two rows per model, one for each way the table may have been drawn: `model`, `draws` ("independent" or
        "common"), then the fields of `Comparison`.

    Raises:
        ValueError: the families have no published value in common.
    """
    rows = []
    for model, group in whole_chips(trials).groupby("model", sort=False):
        tables = []
        for family in families:
            ours = group[group["family"] == family]
            values = ours.drop_duplicates("cell").set_index("cell")[list(parameters)]
            table = table_of(ours, published, deterministic)
            levels = [(*map(str, values.loc[cell]), published[cell]) for cell in table.columns]
            tables.append(table.set_axis(pd.Index(levels, tupleize_cols=False), axis="columns"))
        shared = [level for level in tables[0].columns if level in set(tables[1].columns)]
        if not shared:
            raise ValueError(f"published: no value that {families[0]} and {families[1]} both have at the same level")
        first, second = (table[shared].to_numpy() for table in tables)
        for common in (False, True):
            result = compare(first, second, [level[-1] for level in shared], common)
            rows.append((model, "common" if common else "independent", *result))
    return pd.DataFrame(rows, columns=["model", "draws", *Comparison._fields])


def table_of(trials: pd.DataFrame, cells: Collection[str], deterministic: Collection[str] = ()) -> pd.DataFrame:
    """Accuracies of the random cells among `cells`, by seed (rows, those that all have) and cell (columns)."""
    wanted = trials["cell"].isin(list(cells)) & ~trials["cell"].isin(list(deterministic))
    wide = trials[wanted].pivot(index="seed", columns="cell", values="accuracy").astype(np.float64)
    return wide[list(dict.fromkeys(trials.loc[wanted, "cell"]))].dropna()

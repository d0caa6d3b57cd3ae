"""From trials to one row per cell."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from sweep.data.measure import Measure
from sweep.data.measures import ACCURACY
from sweep.errors import StoreError
from sweep.reporting.chips import ESTIMATE, HALVES, is_whole, of_measure, precise_values, whole_chips
from sweep.statistics import estimates
from sweep.statistics.estimates import ROUNDING
from sweep.statistics.precision import precise_mean, spread
from sweep.statistics.variance_components import Components, decompose
from sweep.study.family import CLEAN, DATASET, subject

KEYS = ("model", "family", "cell")
"""The columns that name a cell; they open every summary, before the swept parameters."""

STATISTICS = (
    "mean",
    "std",
    "mean_low",
    "mean_high",
    "std_low",
    "std_high",
    "new_low",
    "new_high",
    "min",
    "q05",
    "median",
    "q95",
    "max",
)
"""The statistics of a cell's accuracy, all of them fractions, in the order of a summary's columns."""

LAST_DIGITS = 1e-7
"""Of a value that is made of scores: by as much it differs from one way to evaluate to another."""
FEWEST_TO_CHECK = 20
"""Chips that saw all images, from which on their mean is compared with that of the others."""
SURPRISE = 4.5
"""Standard errors, of a normal law, from which on two means of the same are taken to differ: once in 150,000 cells."""


def summarise(
    trials: pd.DataFrame,
    parameters: Sequence[str],
    deterministic: Collection[str] = (),
    published: Mapping[str, float] | None = None,
    chance: Mapping[str, float] | None = None,
    clean: Collection[str] | None = None,
    measure: Measure = ACCURACY,
) -> pd.DataFrame:
    """Summarise the accuracy of each cell over its chips, or another measure.

    Args:
        trials: one row per trial, with the columns `model`, `family`, `cell`, those named in `parameters`,
            `n_images` and `accuracy` (a fraction), and where chips saw a few images `estimate`, `half_difference` and
            `control`; others are not read. Cells may differ in their number of trials.
        parameters: names of the columns of swept parameters.
        deterministic: ids of the cells without randomness. Their one trial is exact for this test set: standard
            deviation 0, intervals of no width; on new images they have Wilson's interval.
        chance: accuracy (a fraction) by chance, where it is known, by model, or of several test sets by model and set
            (`sweep.study.family.subject`).
        clean: ids of the cells of unperturbed networks; None for those of the family `clean` without randomness.
        published: accuracy (a fraction) that someone else reported for a cell, by cell id; ids of cells that
            have no trials yet are passed over.
        measure: what is summarised. Of another than accuracy only trials of all images that have a value are read, and
            `sampled`, `chance` and `disagrees` are not there; one that is no fraction has intervals on its own scale
            (see `sweep.statistics.estimates`), one that is no mean over images has no `new_low` and `new_high`.

    Returns:
        One row per cell, in the order of first appearance in `trials`: `model`, `family`, `cell`, the
        parameters (dtypes kept), `trials` (chips that saw all images), `sampled` (those that saw a few; where the run
        has any), `n_images` (of one trial that saw all, of the run's where the cell has none; missing where these
        differ in it), `mean`, `std` (ddof = 1), `mean_low`, `mean_high`, `std_low`, `std_high` (95 %, on this test
        set), `new_low`, `new_high` (of the mean, at least 95 % on another test set of this size; see
        `estimates.on_new_images`), `min`, `q05`, `median`, `q95`, `max`, `nonfinite` (trials in which an image had a
        score that is no finite number, so that its decision means nothing; where the trials say it), `loss` (the clean
        network's accuracy less the mean, or how much higher the mean is of what is better when low; missing for the
        clean network; where one was evaluated), `chance` (of
        clean networks, where it is known), `disagrees` (the mean less that of the chips that saw all images, where
        both cannot be right; where a cell has any) and `published` (missing where there is none) when it is given.
        Accuracies are fractions. A cell with randomness and one trial has nan for `std` and for all intervals.

        Where chips saw a few images, the mean comes from these alone, as `precision.precise_mean` says, and may lie
        outside [0, 1] where they are few; the standard deviation from those that saw all where these are two or more,
        else as `precision.spread` says; the quantiles from those that saw all.

    Raises:
        StoreError: trials of a cell without randomness differ in accuracy.
        ValueError: an accuracy is not a fraction.
    """
    keys = list(KEYS)
    void = (trials["n_nonfinite"] > 0).groupby(trials["cell"]).sum() if "n_nonfinite" in trials else None
    trials = of_measure(trials, measure)
    summary = trials.loc[~trials.duplicated(keys), [*keys, *parameters]].reset_index(drop=True)
    whole, precise = is_whole(trials), precise_values(trials)
    accuracies, sizes = trials[measure.name].to_numpy(dtype=np.float64), trials["n_images"].to_numpy()
    sets = trials[DATASET].to_numpy() if DATASET in parameters else np.zeros(len(trials), np.int8)
    of_sets = {name: _only(sizes[whole & (sets == name)]) for name in np.unique(sets)}
    counts: list[tuple[int, int]] = []
    images: list[int | None] = []
    rows: list[tuple[float, ...]] = []
    disagrees: list[float] = []
    for cell, at in zip(summary["cell"], _places(trials), strict=True):
        seen, values = at[whole[at]], precise[at]
        accuracy = accuracies[seen]
        counts.append((len(seen), len(at) - len(seen)))
        images.append(_only(sizes[seen]) if len(seen) else of_sets[sets[at[0]]])
        disagrees.append(np.nan)
        if cell in deterministic:
            rows.append(_exact(str(cell), accuracy, images[-1], measure))
        elif np.isnan(values).all():
            rows.append(_estimated(accuracy, images[-1], measure))
        else:
            values = values[~np.isnan(values)]
            rows.append(_sampled(values, accuracy, trials.iloc[at[~whole[at]]], images[-1]))
            disagrees[-1] = _disagreement(values, accuracies[seen[np.isnan(precise[seen])]], images[-1])
    summary[["trials", "sampled"]] = np.array(counts, dtype=np.int64).reshape(-1, 2)
    if whole.all():
        del summary["sampled"]
    summary["n_images"] = pd.array(images, dtype="Int32")
    summary[list(STATISTICS)] = np.array(rows, dtype=np.float64).reshape(-1, len(STATISTICS))
    if void is not None:
        summary["nonfinite"] = summary["cell"].map(void).astype(np.int64)
    of_clean = summary["family"].eq(CLEAN) & summary["cell"].isin(list(deterministic if clean is None else clean))
    if of_clean.any():
        subjects = subjects_of(summary, parameters)
        unperturbed = summary["mean"][of_clean].set_axis(subjects[of_clean])
        without = subjects.map(unperturbed[~unperturbed.index.duplicated()])
        lost = without - summary["mean"]
        if not measure.exact:
            lost = lost.where(lost.abs() > LAST_DIGITS * without.abs(), 0.0)
        summary["loss"] = (lost if measure.higher else -lost).where(~of_clean)
        if measure.name == ACCURACY.name:
            summary["chance"] = subjects.map(dict(chance or {})).astype(np.float64).where(of_clean)
    if not np.isnan(disagrees).all():
        summary["disagrees"] = np.array(disagrees)
    if published is not None:
        given = [published.get(cell) for cell in summary["cell"]]
        summary["published"] = pd.array(given, dtype="Float64")
    return summary


def with_void(summary: pd.DataFrame, trials: pd.DataFrame, parameters: Sequence[str], measure: Measure) -> pd.DataFrame:
    """A summary, as people see it, with the cells of which no trial has a value to summarise, such as void ones.

    Such a cell has 0 `trials`, its `nonfinite`, and no figures; it stands where it first appears in `trials`.
    """
    if "n_nonfinite" not in trials:
        return summary
    void = (trials["n_nonfinite"] > 0).groupby(trials["cell"])
    known = trials[measure.name].notna().groupby(trials["cell"]).any()
    without, names = known.index[~known], [*KEYS, *parameters]
    cells = trials.loc[~trials.duplicated("cell"), names]
    cells = cells[cells["cell"].isin(summary["cell"]) | cells["cell"].isin(without)].reset_index(drop=True)
    if len(cells) == len(summary):
        return summary
    figures = summary.set_index("cell").drop(columns=[name for name in names if name != "cell"])
    found = pd.concat([cells, figures.reindex(cells["cell"]).reset_index(drop=True)], axis=1)[list(summary)]
    found["trials"] = found["trials"].fillna(0).astype(np.int64)
    found["nonfinite"] = found["cell"].map(void.sum()).astype(np.int64)
    return found


def subjects_of(cells: pd.DataFrame, parameters: Collection[str]) -> pd.Series:
    """What each row is of: its model, with the test set where a study has several (`sweep.study.family.subject`)."""
    if DATASET not in parameters:
        return cells["model"]
    return cells["model"].combine(cells[DATASET], subject)


def components(
    trials: pd.DataFrame,
    parameters: Sequence[str],
    deterministic: Collection[str] = (),
    measure: Measure = ACCURACY,
) -> pd.DataFrame:
    """The components of each perturbation's spread over all models of a study.

    Args:
        trials: one row per trial, with the columns `model`, `family`, `cell`, those named in `parameters`, `seed` and
            `accuracy` (a fraction); those of chips that saw a few images alone are passed over, as their estimates have
            a variance that is no component of the spread.
        parameters: names of the columns of swept parameters.
        deterministic: ids of the cells without randomness. Only trainings differ there.
        measure: of which they are.

    Returns:
        One row per family and swept values, in the order of first appearance: `family`, the parameters (dtypes
        kept), `networks`, `chips`, `left_out`, then the fields of `Components`, `truncated` as words parted by
        commas. Chips are the seeds that all networks have; `left_out` counts the trials of the others. Without
        such a seed all figures are nan.

    Raises:
        ValueError: an accuracy is not a fraction, or a network has two trials of one seed.
    """
    trials, keys = of_measure(whole_chips(trials), measure), ["family", *parameters]
    table = trials.loc[~trials.duplicated(keys), keys].reset_index(drop=True)
    sizes: list[tuple[int, int, int]] = []
    rows: list[Components] = []
    # sort=False keeps the order of first appearance, which is the order of the rows above.
    for _, group in trials.groupby(keys, sort=False, dropna=False):
        crossed = group.pivot(index="model", columns="seed", values=measure.name).dropna(axis="columns")
        accuracy = crossed.to_numpy(dtype=np.float64)
        sizes.append((*accuracy.shape, len(group) - accuracy.size))
        rows.append(decompose(accuracy, set(group["cell"]) <= set(deterministic), measure.fraction))
    table[["networks", "chips", "left_out"]] = np.array(sizes, dtype=np.int64).reshape(-1, 3)
    for name in Components._fields:
        values = [getattr(row, name) for row in rows]
        table[name] = [", ".join(value) for value in values] if name == "truncated" else np.array(values, dtype=float)
    return table


def _estimated(values: NDArray[np.float64], images: int | None, measure: Measure) -> tuple[float, ...]:
    """The statistics of a cell with randomness, in the order of `STATISTICS`."""
    mean, mean_low, mean_high = estimates.mean(values, measure.fraction)
    std, std_low, std_high = estimates.standard_deviation(values, measure.fraction)
    quantiles = estimates.quantiles(values, (0, 0.05, 0.5, 0.95, 1), measure.fraction).tolist()
    return (mean, std, mean_low, mean_high, std_low, std_high, *_new_images(values, images, measure), *quantiles)


def _exact(cell: str, accuracy: NDArray[np.float64], images: int | None, measure: Measure) -> tuple[float, ...]:
    """The statistics of a cell without randomness, in the order of `STATISTICS`."""
    value = float(accuracy[0])
    if (accuracy != value).any():
        raise StoreError(
            f"cell {cell}: it has no randomness, yet its {accuracy.size} trials range from "
            f"{accuracy.min():.6f} to {accuracy.max():.6f}; they come from different networks, data or code: "
            "run the study afresh"
        )
    new = _new_images(accuracy, images, measure, exact=True)
    return (value, 0.0, value, value, 0.0, 0.0, *new, value, value, value, value, value)


def _sampled(
    values: NDArray[np.float64], accuracy: NDArray[np.float64], few: pd.DataFrame, images: int | None
) -> tuple[float, ...]:
    """The statistics of a cell whose mean comes from `values`, in the order of `STATISTICS`.

    Args:
        values: of `precise_values`; shape (n,).
        accuracy: of the chips that saw all images; shape (whole,), maybe (0,).
        few: the trials that saw a few.
        images: of the test set, where that is known.
    """
    mean, mean_low, mean_high = precise_mean(values)
    if accuracy.size > 1:
        std, std_low, std_high = estimates.standard_deviation(accuracy)
    else:
        halves = few[[ESTIMATE, HALVES]].dropna().to_numpy(dtype=np.float64)
        std, std_low, std_high = spread(*halves.T) if len(halves) else (np.nan, np.nan, np.nan)
    quantiles = estimates.quantiles(accuracy, (0, 0.05, 0.5, 0.95, 1)).tolist() if accuracy.size else [np.nan] * 5
    new = _precise_on_new_images(values, accuracy, images)
    return (mean, std, mean_low, mean_high, std_low, std_high, *new, *quantiles)


def _precise_on_new_images(
    values: NDArray[np.float64], accuracy: NDArray[np.float64], images: int | None
) -> tuple[float, float]:
    """The limits of a mean from chips that saw a few images, on another test set of this size.

    As `estimates.on_new_images`: what the images leave is added to the variance of the mean on this test set, which
    here is that of `values`. The former is bounded by the pairs of chips that saw all images, about the better mean;
    where there are none, by mean · (1 - mean)/(N - 1), as if every image were decided alike by all chips (Fréchet 1951,
    no pair known).
    """
    mean, low, high = precise_mean(values)
    if images is None or images < 2 or values.size < 2:
        return np.nan, np.nan
    inside = min(max(mean, 0.0), 1.0)
    of_images = inside * (1 - inside) / (images - 1)
    if accuracy.size:
        centre = float(accuracy.mean())
        of_pairs = centre * (1 - centre) / (images - 1) - estimates.image_variance(accuracy, images)
        of_images = max(of_images - of_pairs, 0.0)
    of_chips = float(values.var(ddof=1)) / values.size
    total = of_chips + of_images
    if total < ROUNDING**2:
        return low, high
    freedom = (values.size - 1) * (total / of_chips) ** 2 if of_chips > 0 else np.inf
    reach = estimates.student(freedom) * np.sqrt(total)
    if 0 < mean < 1:
        new_low, new_high = estimates.logit_interval(mean, reach / (mean * (1 - mean)))
    else:  # has no logit
        new_low, new_high = max(inside - reach, 0.0), min(inside + reach, 1.0)
    return min(new_low, low), max(new_high, high)


def _disagreement(values: NDArray[np.float64], accuracy: NDArray[np.float64], images: int | None) -> float:
    """The mean of `values` less that of chips that saw all images, where both cannot be right; else nan.

    Both are means over chips drawn alike, from seeds that the other does not have: Welch's t. Of so few chips its law
    has long tails, so that the limit is the point that a normal law has at `SURPRISE`. Chips that are all equal may
    differ by an image.
    """
    if accuracy.size < FEWEST_TO_CHECK or values.size < 2:
        return np.nan
    apart = float(values.mean() - accuracy.mean())
    variances = np.array([values.var(ddof=1), max(accuracy.var(ddof=1), 1 / (images or np.inf) ** 2)])
    squares, freedoms = variances / (values.size, accuracy.size), np.array([values.size - 1, accuracy.size - 1])
    total = float(squares.sum())
    if total == 0:
        return apart if abs(apart) > ROUNDING else np.nan
    freedom = total**2 / float(np.sum(squares**2 / freedoms))
    reach = -float(special.stdtrit(freedom, float(special.ndtr(-SURPRISE)))) * np.sqrt(total)
    return apart if abs(apart) > reach else np.nan


def _places(trials: pd.DataFrame) -> list[NDArray[np.intp]]:
    """Where the trials of each cell stand, in the order of first appearance."""
    codes = trials.groupby(list(KEYS), sort=False).ngroup().to_numpy()
    counts = np.bincount(codes)
    return np.split(np.argsort(codes, kind="stable"), np.cumsum(counts)[:-1])[: len(counts)]


def _only(sizes: NDArray[np.int64]) -> int | None:
    """The number that they all are, if there is one."""
    return int(sizes[0]) if len(sizes) and (sizes == sizes[0]).all() else None


def _new_images(
    accuracy: NDArray[np.float64], images: int | None, measure: Measure, exact: bool = False
) -> tuple[float, float]:
    """The limits of the mean on another test set of as many images; nan where trials differ in their number.

    And of measures that are no means of fractions: their variance over images is not bounded by their values.
    """
    if images is None or images < 2 or not (measure.per_image and measure.fraction):
        return np.nan, np.nan
    found = estimates.on_new_images(accuracy, images, exact)
    return found.low, found.high

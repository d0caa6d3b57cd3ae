"""From trials to one row per cell."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sweep.errors import StoreError
from sweep.statistics import estimates
from sweep.statistics.variance_components import Components, decompose
from sweep.study.family import CLEAN

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


def summarise(
    trials: pd.DataFrame,
    parameters: Sequence[str],
    deterministic: Collection[str] = (),
    published: Mapping[str, float] | None = None,
    chance: Mapping[str, float] | None = None,
    clean: Collection[str] | None = None,
) -> pd.DataFrame:
    """Summarise the accuracy of each cell over its chips.

    Args:
        trials: one row per trial, with the columns `model`, `family`, `cell`, those named in `parameters`,
            `n_images` and `accuracy` (a fraction); others are not read. Cells may differ in their number of
            trials.
        parameters: names of the columns of swept parameters.
        deterministic: ids of the cells without randomness. Their one trial is exact for this test set: standard
            deviation 0, intervals of no width; on new images they have Wilson's interval.
        chance: accuracy (a fraction) by chance, by model, where it is known.
        clean: ids of the cells of unperturbed networks; None for those of the family `clean` without randomness.
        published: accuracy (a fraction) that someone else reported for a cell, by cell id; ids of cells that
            have no trials yet are passed over.

    Returns:
        One row per cell, in the order of first appearance in `trials`: `model`, `family`, `cell`, the
        parameters (dtypes kept), `trials`, `n_images` (of one trial; missing where a cell's trials differ in
        it), `mean`, `std` (ddof = 1), `mean_low`, `mean_high`, `std_low`, `std_high` (95 %, on this test set),
        `new_low`, `new_high` (of the mean, at least 95 % on another test set of this size; see
        `estimates.on_new_images`), `min`, `q05`, `median`, `q95`, `max`, `nonfinite` (trials in which an image had a
        score that is no finite number, so that its decision means nothing; where the trials say it), `loss` (the clean
        network's accuracy less the mean; missing for the clean network; where one was evaluated), `chance` (of
        clean networks, where it is known), and `published` (missing where there is none) when it is given. Accuracies
        are fractions. A cell with randomness and one trial has nan for `std` and for all intervals.

    Raises:
        StoreError: trials of a cell without randomness differ in accuracy.
        ValueError: an accuracy is not a fraction.
    """
    keys = list(KEYS)
    summary = trials.loc[~trials.duplicated(keys), [*keys, *parameters]].reset_index(drop=True)
    counts: list[int] = []
    images: list[int | None] = []
    rows: list[tuple[float, ...]] = []
    # sort=False keeps the order of first appearance, which is the order of the rows above.
    for (_, _, cell), group in trials.groupby(keys, sort=False):
        accuracy = group["accuracy"].to_numpy(dtype=np.float64)
        sizes = group["n_images"].unique()
        counts.append(len(group))
        images.append(int(sizes[0]) if len(sizes) == 1 else None)
        rows.append(
            _exact(str(cell), accuracy, images[-1]) if cell in deterministic else _estimated(accuracy, images[-1])
        )
    summary["trials"] = np.array(counts, dtype=np.int64)
    summary["n_images"] = pd.array(images, dtype="Int32")
    summary[list(STATISTICS)] = np.array(rows, dtype=np.float64).reshape(-1, len(STATISTICS))
    if "n_nonfinite" in trials:
        void = (trials["n_nonfinite"] > 0).groupby([trials[key] for key in keys], sort=False).sum()
        summary["nonfinite"] = void.to_numpy(dtype=np.int64)
    of_clean = summary["family"].eq(CLEAN) & summary["cell"].isin(list(deterministic if clean is None else clean))
    if of_clean.any():
        unperturbed = summary[of_clean].drop_duplicates("model").set_index("model")["mean"]
        summary["loss"] = (summary["model"].map(unperturbed) - summary["mean"]).where(~of_clean)
        summary["chance"] = summary["model"].map(dict(chance or {})).astype(np.float64).where(of_clean)
    if published is not None:
        values = [published.get(cell) for cell in summary["cell"]]
        summary["published"] = pd.array(values, dtype="Float64")
    return summary


def components(trials: pd.DataFrame, parameters: Sequence[str], deterministic: Collection[str] = ()) -> pd.DataFrame:
    """The components of each perturbation's spread over all models of a study.

    Args:
        trials: one row per trial, with the columns `model`, `family`, `cell`, those named in `parameters`, `seed` and
            `accuracy` (a fraction); others are not read.
        parameters: names of the columns of swept parameters.
        deterministic: ids of the cells without randomness. Only trainings differ there.

    Returns:
        One row per family and swept values, in the order of first appearance: `family`, the parameters (dtypes
        kept), `networks`, `chips`, `left_out`, then the fields of `Components`, `truncated` as words parted by
        commas. Chips are the seeds that all networks have; `left_out` counts the trials of the others. Without
        such a seed all figures are nan.

    Raises:
        ValueError: an accuracy is not a fraction, or a network has two trials of one seed.
    """
    keys = ["family", *parameters]
    table = trials.loc[~trials.duplicated(keys), keys].reset_index(drop=True)
    sizes: list[tuple[int, int, int]] = []
    rows: list[Components] = []
    # sort=False keeps the order of first appearance, which is the order of the rows above.
    for _, group in trials.groupby(keys, sort=False, dropna=False):
        crossed = group.pivot(index="model", columns="seed", values="accuracy").dropna(axis="columns")
        accuracy = crossed.to_numpy(dtype=np.float64)
        sizes.append((*accuracy.shape, len(group) - accuracy.size))
        rows.append(decompose(accuracy, exact=set(group["cell"]) <= set(deterministic)))
    table[["networks", "chips", "left_out"]] = np.array(sizes, dtype=np.int64).reshape(-1, 3)
    for name in Components._fields:
        values = [getattr(row, name) for row in rows]
        table[name] = [", ".join(value) for value in values] if name == "truncated" else np.array(values, dtype=float)
    return table


def _estimated(accuracy: NDArray[np.float64], images: int | None) -> tuple[float, ...]:
    """The statistics of a cell with randomness, in the order of `STATISTICS`."""
    mean, mean_low, mean_high = estimates.mean(accuracy)
    std, std_low, std_high = estimates.standard_deviation(accuracy)
    quantiles = estimates.quantiles(accuracy, (0, 0.05, 0.5, 0.95, 1))
    return (mean, std, mean_low, mean_high, std_low, std_high, *_new_images(accuracy, images), *quantiles.tolist())


def _exact(cell: str, accuracy: NDArray[np.float64], images: int | None) -> tuple[float, ...]:
    """The statistics of a cell without randomness, in the order of `STATISTICS`."""
    value = float(accuracy[0])
    if (accuracy != value).any():
        raise StoreError(
            f"cell {cell}: it has no randomness, yet its {accuracy.size} trials range from "
            f"{accuracy.min():.6f} to {accuracy.max():.6f}; they come from different networks, data or code: "
            "run the study afresh"
        )
    new = _new_images(accuracy, images, exact=True)
    return (value, 0.0, value, value, 0.0, 0.0, *new, value, value, value, value, value)


def _new_images(accuracy: NDArray[np.float64], images: int | None, exact: bool = False) -> tuple[float, float]:
    """The limits of the mean on another test set of as many images; nan where trials differ in their number."""
    if images is None or images < 2:
        return np.nan, np.nan
    found = estimates.on_new_images(accuracy, images, exact)
    return found.low, found.high

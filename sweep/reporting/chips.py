"""Which trials say what: chips that saw all images, and chips that saw a few and serve the mean alone.

The `accuracy` of a chip that saw a few images is their share that it got right, and these were chosen because they are
hard: no figure is made of it. What it says of all images is its `estimate`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sweep.data.measure import Measure
from sweep.data.measures import ACCURACY

ESTIMATE, HALVES, CONTROL = "estimate", "half_difference", "control"
VALUE, FEW = "_value", "_few"  # columns that no swept parameter has
_SAME = 1e-9  # an estimate is rounded to twelve digits


def is_whole(trials: pd.DataFrame) -> NDArray[np.bool_]:
    """Whether each trial saw all images, so that its `accuracy` is that of its chip; shape (trials,).

    A chip without `estimate` did. One with it did where it saw as many images as those, and all of its cell that did
    estimate what they counted: where the test set is too small for samples, or the study asks for all images.

    Args:
        trials: all of a run, or of whole cells and one that has trials without `estimate`; runs of before there were
            samples have no such column.
    """
    if ESTIMATE not in trials:
        return np.ones(len(trials), dtype=np.bool_)
    estimate, images = _numbers(trials, ESTIMATE), trials["n_images"].to_numpy()
    plain = np.isnan(estimate)
    all_seen = ~plain & np.isin(images, np.unique(images[plain]))
    if all_seen.any():
        counted = np.abs(estimate - trials["accuracy"].to_numpy(dtype=np.float64)) < _SAME
        other = trials["cell"].to_numpy()[all_seen & ~counted]
        all_seen &= ~trials["cell"].isin(other).to_numpy()
    return np.asarray(plain | all_seen)


def whole_chips(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials that saw all images."""
    whole = is_whole(trials)
    return trials if whole.all() else trials[whole]


def precise_values(trials: pd.DataFrame) -> NDArray[np.float64]:
    """What each trial says of the mean over chips without being a count of all images; nan where it does not.

    The estimate less the control, a variate of mean 0: unbiased, maybe outside [0, 1].

    Args:
        trials: as in `is_whole`.

    Returns:
        Shape (trials,).
    """
    if ESTIMATE not in trials:
        return np.full(len(trials), np.nan)
    estimate, control = _numbers(trials, ESTIMATE), _numbers(trials, CONTROL)
    return np.where(is_whole(trials) & np.isnan(control), np.nan, estimate - np.nan_to_num(control))


def of_measure(trials: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """The trials that say what a measure is of their chip; of accuracy those that serve the mean alone as well.

    Others have none where an image had a score that is no finite number.
    """
    if measure.name == ACCURACY.name:
        known = trials[measure.name].notna()
        return trials if known.all() else trials[known]
    whole = whole_chips(trials)
    return whole[whole[measure.name].notna()].drop(columns=[ESTIMATE, HALVES, CONTROL], errors="ignore")


def has_controls(trials: pd.DataFrame) -> bool:
    """Whether a control is subtracted from any estimate."""
    return CONTROL in trials and bool(trials[CONTROL].notna().any())


def mean_rows(trials: pd.DataFrame, measure: Measure = ACCURACY) -> pd.DataFrame:
    """The trials from which the means of cells come: where a cell has such that saw a few images, these alone.

    Args:
        trials: as in `is_whole`.
        measure: of which the means are.

    Returns:
        With the columns `VALUE`, whose mean over a cell's trials is the mean over its chips, and `FEW`, whether it is
        an estimate rather than a count.
    """
    values = precise_values(trials)
    few = ~np.isnan(values)
    found = trials.copy()
    found[VALUE], found[FEW] = np.where(few, values, trials[measure.name]), few
    of_estimates = trials["cell"].isin(trials["cell"].to_numpy()[few]).to_numpy()
    return found[few | ~of_estimates]


def _numbers(trials: pd.DataFrame, name: str) -> NDArray[np.float64]:
    if name not in trials:
        return np.full(len(trials), np.nan)
    column: pd.Series[Any] = trials[name]
    return column.to_numpy(dtype=np.float64, na_value=np.nan)

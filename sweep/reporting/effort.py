"""What precise means took, and what chips that see all images would have taken for the same intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sweep.data.measure import Measure
from sweep.randomness import FIRST_SAMPLED
from sweep.reporting.chips import is_whole, precise_values
from sweep.reporting.summary import KEYS, subjects_of
from sweep.statistics.estimates import ROUNDING, student
from sweep.study.study import MOST_SEEDS, MOST_VOID, Study
from sweep.texts import duration, number

_FEWEST = 2  # chips that have an interval


def effort(trials: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame | None:
    """What the mean of each cell with sampled chips took, and what chips that see all images would have.

    With s the standard deviation between chips, a 95 % interval of half-width h asks for (t · s/h)² chips, t of the
    sampled ones. One such chip takes the median time of the cell's trials, where it has none of those of all random
    cells of its network (on its test set, where there are several), or else of the run.

    Args:
        trials: of a run, as in `chips.is_whole`; of `seconds`, those that are there.
        summary: of these trials.

    Returns:
        None where no chip saw a few images; else one row per cell that has such: `model`, `family`, `cell`,
        `sampled` (chips), `images` (that one of them saw; a mean), `half_width` (of the mean's interval, a
        fraction), `seconds` (of these chips, in workers), `whole` (chips that see all images, for this interval),
        `whole_seconds` and `times` (as much as `seconds`; in images where the time is not known). Missing where it
        cannot be told. Pilot chips, which are in no result, are not counted.
    """
    if "sampled" not in summary:
        return None
    whole = is_whole(trials)
    times = trials["seconds"] if "seconds" in trials else pd.Series(np.nan, trials.index)
    full, random = trials[["cell"]][whole].assign(seconds=times[whole]), summary["trials"].gt(1)
    full = full[full["cell"].isin(summary.loc[random | summary["sampled"].gt(0), "cell"])]
    subjects = subjects_of(summary, set(summary.columns)).set_axis(summary["cell"])
    of_cell = full.groupby("cell")["seconds"].median()
    of_subject = full.groupby(full["cell"].map(subjects))["seconds"].median()
    few = trials[["cell", "n_images"]][~whole].assign(seconds=times[~whole], value=precise_values(trials)[~whole])
    rows, of_cells = [], {row["cell"]: row for row in summary.to_dict("records")}
    for cell, group in few.groupby("cell", sort=False):
        row = of_cells[cell]
        chips, seen = len(group), float(group["n_images"].sum())
        values = group["value"].to_numpy()
        reach = student(chips - 1) * values.std(ddof=1) / np.sqrt(chips) if chips > 1 else np.nan
        reach = 0.0 if chips > 1 and np.ptp(values) < ROUNDING else reach
        wanted = (student(chips - 1) * row["std"] / reach) ** 2 if reach > 0 else np.nan
        wanted = max(np.ceil(wanted), _FEWEST) if np.isfinite(wanted) else np.nan
        seconds = float(group["seconds"].sum(min_count=chips))
        typical = (of_cell.get(cell), of_subject.get(subjects[cell]), full["seconds"].median())
        whole_seconds = wanted * next((each for each in typical if each is not None and each > 0), np.nan)
        times_as_much = whole_seconds / seconds if seconds > 0 else np.nan
        if np.isnan(times_as_much) and not pd.isna(row["n_images"]):
            times_as_much = wanted * float(row["n_images"]) / seen
        rows.append((cell, chips, seen / chips, reach, seconds, wanted, whole_seconds, times_as_much))
    names = ["cell", "sampled", "images", "half_width", "seconds", "whole", "whole_seconds", "times"]
    found = pd.DataFrame(rows, columns=names).astype({"whole": "Float64"})
    return summary[list(KEYS)].merge(found, on="cell")


def remarks(trials: pd.DataFrame, summary: pd.DataFrame, study: Study, measure: Measure) -> list[str]:
    """What is said of the precision that a study asks for; trials and summary as in `effort`, of a measure."""
    found = effort(trials, summary)
    if found is not None:
        return [in_words(found), *_missed(found["half_width"], found["sampled"], study, measure)]
    if study.precision is None or measure.name != study.main:
        return []
    cells, few = summary[summary["trials"] > 1], trials[trials["seed"] >= FIRST_SAMPLED]
    if cells.empty or few.empty:
        return []
    reach = [student(n - 1) * std / np.sqrt(n) for n, std in zip(cells["trials"], cells["std"], strict=True)]
    chips = cells["cell"].map(few.groupby("cell").size()).fillna(0)
    known = cells["cell"].map(few.groupby("cell")[measure.name].count()).fillna(0)
    half_width = pd.Series(reach, cells.index)
    ended = (chips < (study.max_seeds or MOST_SEEDS)) & (chips >= MOST_VOID * known)
    wide = sum((half_width > study.half_width) & ended)
    lost = _short(wide, len(cells), study, measure, "half of their chips have no value")
    return [*_missed(half_width, chips, study, measure), *lost]


def _missed(half_width: pd.Series[float], chips: pd.Series[int], study: Study, measure: Measure) -> list[str]:
    """Means that are not as precise as asked for, though all chips that may be are there."""
    most = study.max_seeds or MOST_SEEDS
    short = sum((half_width > study.half_width) & (chips >= most))
    return _short(short, len(chips), study, measure, f"`max_seeds` ends them at {most:,} chips a cell")


def _short(short: int, of: int, study: Study, measure: Measure, why: str) -> list[str]:
    if not short:
        return []
    to = f"±{number(study.precision or 0, 3)}{measure.points}"
    return [f"{short} of {of} means {'is' if short == 1 else 'are'} not within {to}: {why}."]


def in_words(found: pd.DataFrame) -> str:
    """One sentence on all cells together, of what `effort` returns."""
    cells, chips = len(found), int(found["sampled"].sum())
    images = (found["sampled"] * found["images"]).sum() / chips
    widest = found["half_width"].max()
    to = "" if np.isnan(widest) else f" to ±{number(100 * widest, 3)} points" + (" or better" if cells > 1 else "")
    took = found["seconds"].sum(min_count=cells)
    text = (
        f"The means: {cells:,} {'cell' if cells == 1 else 'cells'}{to}, {chips:,} chips on {number(images, 3)} images "
        f"each{'' if np.isnan(took) else f', {duration(took, 2)}'}"
    )
    known = found[found["whole_seconds"].notna()]
    if len(known):
        of = "" if len(known) == cells else f" of {len(known)} of the cells"
        return f"{text}; whole chips would have taken about {duration(known['whole_seconds'].sum(), 2)}{of}."
    known = found[found["times"].notna()]
    if not len(known):
        return f"{text}."
    seen = known["sampled"] * known["images"]
    ratio = float((known["times"] * seen).sum() / seen.sum())
    return f"{text}; whole chips would have seen about {_about(ratio)} times as many images."


def _about(value: float) -> str:
    """A number in two digits."""
    return number(value, 2) if value < 100 else f"{float(f'{value:.2g}'):,.0f}"

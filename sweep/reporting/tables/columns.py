"""The columns that tables of cells show: what stands in each, and what that is in words.

A column is one line of `COLUMNS`: every table that shows it, in whatever format, says below it what it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from sweep.data.decisions import chance_warning, is_near_chance
from sweep.data.measure import Measure
from sweep.data.measures import ACCURACY
from sweep.reporting.tables.layout import Value
from sweep.study.family import DATASET, subject
from sweep.texts import percent


def _spread(cells: pd.DataFrame) -> bool:
    return bool((cells["trials"] > 1).any())


def has_sampled(cells: pd.DataFrame) -> bool:
    """Whether the means of any of these cells come from chips that saw a few images."""
    return "sampled" in cells and bool(cells["sampled"].any())


def _known(key: str) -> Callable[[pd.DataFrame], bool]:
    return lambda cells: key in cells and bool(cells[key].notna().any())


def has_void(cells: pd.DataFrame) -> bool:
    """Whether any trial of these cells is void: an image had a score that is no finite number."""
    return "nonfinite" in cells and bool(cells["nonfinite"].any())


@dataclass(frozen=True)
class Column:
    """A column of a table of cells.

    Attributes:
        heading: above it.
        keys: the columns of a summary that it shows: one, or the two ends of an interval.
        words: what it is; the sentence below the table is "Heading: words.".
        shown: whether tables with these rows of a summary have it.
        brief: whether narrow tables (text, Markdown, LaTeX) have it too.
        count: whole numbers; all others are values of a measure.
    """

    heading: str
    keys: tuple[str, ...]
    words: str
    shown: Callable[[pd.DataFrame], bool] = lambda _: True
    brief: bool = True
    count: bool = False

    def value(self, cell: dict[Any, Any], measure: Measure = ACCURACY) -> Value:
        """What stands in it for one row of a measure's summary; an interval is sorted by its lower end."""
        values = [cell[key] for key in self.keys]
        if any(pd.isna(value) for value in values):
            return Value("")
        if self.count:
            return Value(f"{int(values[0])}", float(values[0]))
        return Value(" – ".join(measure.text(value) for value in values), float(measure.shown(values[0])))

    def sentence(self) -> str:
        """What it is."""
        return f"{self.heading[:1].upper()}{self.heading[1:]}: {self.words}."


_QUANTILE = "the accuracy that this share of the chips stays below, of type 7 (Hyndman & Fan 1996)"

COLUMNS = (
    Column("trials", ("trials",), "chips, each one draw of all that is random", count=True),
    Column(
        "sampled",
        ("sampled",),
        "chips beside these, each of which saw a few of the images; where there are any, the mean and its intervals "
        "come from them alone, all else but ± std from the trials",
        shown=has_sampled,
        count=True,
    ),
    Column("mean", ("mean",), "over chips"),
    Column("loss", ("loss",), "of mean accuracy against the clean network, in points", shown=_known("loss")),
    Column("± std", ("std",), "standard deviation between chips"),
    Column("95 % interval", ("mean_low", "mean_high"), "of the mean, for other chips on these images"),
    Column(
        "new images",
        ("new_low", "new_high"),
        "at least 95 % for the mean, for other chips on another test set of this size",
    ),
    Column(
        "interval of std",
        ("std_low", "std_high"),
        "95 % for the standard deviation, for other chips on these images",
        shown=lambda cells: _spread(cells) or has_sampled(cells),
        brief=False,
    ),
    Column(
        "chance",
        ("chance",),
        "the accuracy of a lot, or of always the most frequent label",
        shown=_known("chance"),
        brief=False,
    ),
    Column("published", ("published",), "as the study gives it", shown=_known("published")),
    Column("min", ("min",), "of the worst chip", shown=_spread, brief=False),
    Column("5 %", ("q05",), _QUANTILE, shown=_spread, brief=False),
    Column("median", ("median",), "half of the chips stay below", shown=_spread, brief=False),
    Column("95 %", ("q95",), _QUANTILE, shown=_spread, brief=False),
    Column("max", ("max",), "of the best chip", shown=_spread, brief=False),
    Column(
        "void",
        ("nonfinite",),
        "trials in which an image had a score that is no finite number, as weights or sums overflowed; the decision on "
        "such an image means nothing, and counts as right or wrong as it falls",
        shown=has_void,
        count=True,
    ),
)


def columns_of(cells: pd.DataFrame, brief: bool, measure: Measure = ACCURACY) -> list[Column]:
    """The columns of a table with these rows of a measure's summary, in order."""
    found = [column for column in COLUMNS if (column.brief or not brief) and column.shown(cells)]
    if measure.name == ACCURACY.name:
        return found
    new = measure.fraction and measure.per_image
    worse = f"how much worse the mean is than the clean network's{', in points' if measure.fraction else ''}"
    words = {column.keys: column.words.replace("accuracy", "value") for column in found} | {("loss",): worse}
    headings: dict[tuple[str, ...], str] = {("loss",): "worse by"}
    return [
        replace(column, heading=headings.get(column.keys, column.heading), words=words[column.keys])
        for column in found
        if new or column.keys != ("new_low", "new_high")
    ]


def near_chance(cells: pd.DataFrame) -> Iterator[str]:
    """A warning for each clean network whose accuracy is hardly above that by chance."""
    if not _known("chance")(cells):
        return
    for cell in cells[cells["chance"].notna() & cells["n_images"].notna()].to_dict("records"):
        if is_near_chance(cell["mean"], cell["n_images"], cell["chance"]):
            of = subject(cell["model"], str(cell.get(DATASET, "")))
            yield f"WARNING: {chance_warning(of, cell['mean'], cell['chance'])}"


def notes(
    cells: pd.DataFrame, columns: Sequence[Column], swept: Sequence[str] = (), measure: Measure = ACCURACY
) -> Iterator[str]:
    """What the numbers of a table are, a sentence at a time: its columns, and what needs saying of its cells."""
    sizes = cells["n_images"].dropna().unique().tolist() if "n_images" in cells else []
    images = f"{sizes[0]:,} test images" if len(sizes) == 1 else "the test images"
    unit, better = " in %" if measure.fraction else "", "" if measure.higher else "; less is better"
    yield f"{measure.label}{unit} on {images}{better}."
    yield from near_chance(cells)
    yield from disagreements(cells)
    if swept:
        yield "Left of the trials: what the study sweeps."
    yield from (column.sentence() for column in columns)
    if not measure.exact and has_void(cells):
        yield "Void trials that have no value here are left out."
    sampled = cells["sampled"] if "sampled" in cells else pd.Series(0, cells.index)
    alone = sampled == 0
    if (alone & (cells["std"] == 0) & (cells["trials"] == 1)).any():
        yield "One trial with standard deviation 0: no randomness, exact for these images."
    if ((cells["std"] == 0) & (cells["trials"] > 1)).any():
        yield "Several trials with standard deviation 0: all equal; that does not show that no chip differs."
    if (alone & cells["std"].isna() & (cells["trials"] > 0)).any():
        yield "One trial without standard deviation: a single chip does not show the spread."
    if (~alone & (cells["trials"] < 2)).any():
        yield (
            "Without two trials, ± std comes from the two samples of images that each sampled chip saw; 0 where these "
            "explain all that is seen."
        )


def disagreements(cells: pd.DataFrame) -> Iterator[str]:
    """A warning for each cell whose mean from samples cannot be that of the chips that saw all images."""
    if not _known("disagrees")(cells):
        return
    for cell in cells[cells["disagrees"].notna()].to_dict("records"):
        yield (
            f"WARNING: {cell['cell']}: the mean from samples and that of whole chips differ by "
            f"{percent(cell['disagrees'])} points, more than chance allows: please report."
        )

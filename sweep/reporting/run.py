"""A run folder as a reader sees it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from sweep.data.measure import Measure
from sweep.data.measures import ACCURACY, column
from sweep.errors import GrownError, InputError
from sweep.reporting.chips import whole_chips
from sweep.reporting.comparison import Selection, compare
from sweep.reporting.effort import remarks
from sweep.reporting.export import export, summary_files
from sweep.reporting.findings import answers, fixed_cells
from sweep.reporting.labels import parameter_labels
from sweep.reporting.summary import KEYS, STATISTICS, components, summarise, with_void
from sweep.reporting.tables.columns import has_sampled
from sweep.reporting.tables.frames import Answer, as_table
from sweep.reporting.tables.layout import FOR_PROGRAMS, layout
from sweep.reporting.tables.summary_tables import render
from sweep.storage.kept import Trust, read_study
from sweep.storage.paths import Folder
from sweep.storage.store import REPORT, Store

if TYPE_CHECKING:  # matplotlib is not for everyone who imports this
    from sweep.reporting.figures.pictures import Picture
    from sweep.reporting.figures.plot import Plot
    from sweep.reporting.inspection import Chip

_LOOKS = 3  # at a run that others grow meanwhile


class Run:
    """The results of one study: trials, summary, tables, figures. Nothing of the folder is executed.

    Attributes:
        study: the study, as run.
        store: its folder.
    """

    _read: tuple[set[str], pd.DataFrame] | None = None  # of which shards, by their content
    _summarised: tuple[set[str], pd.DataFrame] | None = None  # likewise

    def __init__(self, store: Store, trust_plugins: Trust = False) -> None:
        self.store = store
        self.study = read_study(store, trust_plugins)
        self._measure = self.study.measure_called(self.study.main)
        store.expect(self.study)

    def of(self, measure: str) -> Run:
        """The same run, with summary, tables, figures and answers of another of its measures, by its column.

        Raises InputError when it has none of that name.
        """
        valid = [column(name) for name in self.study.measures]
        if measure not in valid:
            raise InputError(f"{self.store.folder.uri}: no measure {measure!r}; there are {', '.join(valid)}")
        found = copy.copy(self)
        found.__dict__.pop("_answers", None)
        found._measure = self.study.measure_called(measure)
        found._summarised = None
        return found

    @property
    def others(self) -> list[Run]:
        """The same run, of each of the study's other measures."""
        return [self.of(column(name)) for name in self.study.measures if column(name) != self._measure.name]

    def trials(self) -> pd.DataFrame:
        """One row per trial, by cell in the study's order, then by seed.

        `accuracy` is a fraction; swept parameters stand in columns of their own, missing where a family does not
        sweep them; `seconds`, `host`, `device` and `engine` say how the row came about.

        Chips that saw a few images, `n_images` of them, have an `estimate` of their accuracy on all images. Their
        `accuracy` is biased, since these images were chosen because they are hard: take `chips()` for accuracies.
        """
        if self._read is None or self._read[0] != self._shards:  # a million take a second, at each of fifteen uses
            found = self.store.trials([cell.id for cell in self.study.cells])
            self._read = self._shards, found  # reading may find others listed
        return self._read[1].copy(deep=False)  # pandas copies what is changed

    @property
    def _shards(self) -> set[str]:
        return {shard.sha256 for shard in self.store.shards.values()}

    def chips(self) -> pd.DataFrame:
        """The trials that saw all images: one row per chip and cell, as `trials`, without those that saw a few."""
        return whole_chips(self.trials())

    def summary(self) -> pd.DataFrame:
        """One row per cell: count, mean and standard deviation with 95 % intervals, quantiles, void trials.

        Accuracies are fractions, over chips (seeds), on this test set, but for `new_low` and `new_high`: at least 95 %
        for the mean on another test set of this size. Cells without randomness have one trial, a standard deviation of
        0 and, on this test set, intervals of no width. Where chips saw a few images, `sampled` of them, means come from
        these, and quantiles from the others; see `sweep.reporting.summary.summarise`.
        """
        trials, measure = self.trials(), self._measure
        if trials.empty:
            raise InputError(f"{self.store.folder.uri}: holds no trials yet; `sweep run` makes them")
        read = self._shards
        if self._summarised is None or self._summarised[0] != read:  # thousands of cells take seconds
            study, chance = self.study, self.store.manifest.get("chance")
            published = study.published or None if measure.name == ACCURACY.name else None
            found = summarise(trials, self.parameters, self._fixed, published, chance, study.clean, measure)
            self._summarised = read, found
        return self._summarised[1].copy()

    @property
    def measure(self) -> Measure:
        """What summary, tables, figures and answers are of: the first of the study's `measures`, unless `of` chose."""
        return self._measure

    def measures(self) -> pd.DataFrame:
        """The summaries of all measures of the study, one below the other, with the measure's name before them.

        Of each cell its keys and swept parameters, `measure`, `trials`, the statistics, and `worse_by`, how much worse
        the mean is than the clean network's; see `summary`.
        """
        runs = (self, *self.others)
        parts = [run.summary().assign(measure=run.measure.name).rename(columns={"loss": "worse_by"}) for run in runs]
        names = [*KEYS, *self.parameters, "measure", "trials", "n_images", *STATISTICS, "worse_by"]
        return pd.concat([part[[name for name in names if name in part]] for part in parts], ignore_index=True)

    def components(self) -> pd.DataFrame | None:
        """For a study of several networks: how much of the spread lies between them, and how much between chips.

        One row per family and swept values; see `sweep.reporting.summary.components`. None for one network.
        """
        if len(self.study.models) < 2:
            return None
        return components(self.trials(), self.parameters, self._fixed, self.measure)

    def answers(self) -> list[Answer]:
        """What the cells say together: trainings against chips, thresholds, equivalent bits, published values."""
        return self._answers

    @cached_property
    def _answers(self) -> list[Answer]:
        found = answers(self.study, self.trials(), self.measure)
        parts = self.components()
        if parts is not None:
            points = ", in points" if self.measure.fraction else ""
            note = (
                "Over all networks: mean with 95 % interval, then standard deviations between trainings, between chips,"
                f" and of how one chip suits one network{points}."
                + (" Of chips that saw all images." if has_sampled(self.summary()) else "")
            )
            shares = ("mean", "std_trainings", "std_chips", "std_interaction") if self.measure.fraction else ()
            found.insert(0, Answer("components", "Trainings and chips", parts, note, shares))
        return found

    def compare(self, first: Selection, second: Selection, other: Run | None = None) -> pd.DataFrame:
        """How much more accurate the first cells are than the second, with 95 % intervals; fractions.

        `run.compare("gaussian", "uniform")` compares two families level by level, `run.compare({"bits": 4}, {"bits":
        3})` two bit-widths, `run.compare({"model": "a"}, {"model": "b"})` two networks. Chips are compared with
        themselves where both have them, which makes intervals narrow.

        Args:
            first, second: a family's name, a cell's id, or values by column.
            other: the run from which the second come; None for this one.

        Returns:
            One row per pair; see `sweep.reporting.comparison.compare`.

        Raises:
            InputError: a selection that names no cells, or cells that cannot be paired.
        """
        theirs = other or self
        parameters = [name for name in self.parameters if name in theirs.parameters]
        fixed = {*self._fixed, *theirs._fixed}
        shared = self.study.root_seed == theirs.study.root_seed
        return compare(self.trials(), theirs.trials(), (first, second), parameters, fixed, shared, self.measure)

    def chip(self, cell: str, seed: int = 0, *, trust_model: bool = False, trust_plugins: Trust = False) -> Chip:
        """One chip: its weights, as a Keras file too, and what it decides about each image; evaluated now.

        Args:
            cell: its id, as in the column `cell`.
            seed: of its draws, whether the run has it or not.
            trust_model: load model files unchecked.
            trust_plugins: run the code that the folder brings, or who is asked.

        Raises InputError where there is no such cell, or the study's files are not those of the run any more.
        """
        from sweep.reporting.inspection import chip

        return chip(self.store, cell, seed, trust_model, trust_plugins)

    @property
    def plot(self) -> Plot:
        """Pictures for notebooks: `curve()`, `distribution()`, `layers()`, `heat_map()` and `equivalence()`."""
        from sweep.reporting.figures.plot import Plot

        labels = parameter_labels(self.study)
        equivalent = next((answer.table for answer in self.answers() if answer.name == "equivalent-bits"), None)
        return Plot(self.trials(), self.summary(), self.parameters, labels, equivalent, self.measure)

    def report(self) -> str:
        """Everything as one HTML page that needs no network: tables, figures, methods, provenance."""
        from sweep.reporting.html.page import report

        return report(self, self.answers())

    def write_report(self) -> str:
        """Write report.html into the run folder; returns where."""
        self.store.folder.write(REPORT, self.report().encode())
        return f"{self.store.folder.uri}/{REPORT}"

    @property
    def parameters(self) -> Sequence[str]:
        """Columns of the swept parameters."""
        return list(self.study.columns)

    def table(self, format: str = "text", answers: bool = False, most: int | None = None) -> str:
        """The summary as text, markdown, csv, latex or json; with `answers`, those tables too, for people.

        Of more than `most` cells, a table for people has the first so many, and says how many more there are.
        """
        summary, title = self.summary(), self.study.name
        if format in FOR_PROGRAMS:
            return render(summary, self.parameters, format)
        apart, remarks = None if answers else self.components(), self._remarks()
        listed = with_void(summary, self.trials(), self.parameters, self.measure)
        shown = render(listed, self.parameters, format, title, apart, remarks, self.measure, most)
        return "\n\n".join(
            [shown, *(layout([as_table(answer)], "", format) for answer in (self.answers() if answers else ()))]
        )

    def _repr_html_(self) -> str:
        """What a notebook shows: the table of all cells."""
        from sweep.reporting.html.fragment import fragment

        return fragment(self)

    def write_summary(self) -> None:
        """Write summary.parquet, summary.csv, summary.md and the figures into the run folder."""
        from sweep.reporting.figures.pictures import save_figures

        for name, content in summary_files(self, ("parquet", "csv", "markdown")):
            self.store.folder.write(name, content)
        save_figures(self._pictures(), lambda name, content: self.store.folder.write(f"figures/{name}", content))

    def export(self, place: str | Path) -> list[str]:
        """Write everything but the trials into a folder: tables as CSV, Markdown, LaTeX, JSON and Parquet, figures.

        Args:
            place: a folder, a local path or a URI; files of the same names are replaced.

        Returns:
            The names of the files.
        """
        return export(self, self._pictures(), Folder.at(place))

    def log_to_mlflow(self, experiment: str | None = None) -> str:
        """Log to MLflow, with the extra `mlflow`; see `sweep.reporting.mlflow.log_to_mlflow`. Returns its run's id."""
        from sweep.reporting.mlflow import log_to_mlflow

        return log_to_mlflow(self, experiment)

    def _remarks(self) -> list[str]:
        """What is said below tables of all cells."""
        return remarks(self.trials(), self.summary(), self.study, self.measure)

    def _pictures(self) -> list[Picture]:
        from sweep.reporting.figures.pictures import answer_pictures, pictures

        labels = parameter_labels(self.study)
        found = pictures(self.trials(), self.summary(), self.parameters, labels, self.measure)
        for other in self.others:
            found += pictures(other.trials(), other.summary(), self.parameters, labels, other.measure, brief=True)
        return found + answer_pictures(self.answers(), self.measure)

    @property
    def _fixed(self) -> list[str]:
        return fixed_cells(self.study)


def open_run(place: str | Path, trust_plugins: Trust = False) -> Run:
    """The results in a run folder, a local path or a URI; raises InputError when there are none.

    Nothing of the folder is executed, unless `trust_plugins` says so for one that noisesweep 0.1.0 left with plugins,
    and without the words on them that readers need.
    """
    for _ in range(_LOOKS):
        try:
            return Run(Store.open(place), trust_plugins)
        except GrownError:  # between two of its files
            pass
    return Run(Store.open(place), trust_plugins)

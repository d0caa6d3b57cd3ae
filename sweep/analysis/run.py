"""A run folder as a reader sees it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from sweep.analysis.answers import Answer, answers
from sweep.analysis.components import components
from sweep.analysis.summary import summarise
from sweep.analysis.tables import render
from sweep.errors import InputError, StoreError
from sweep.storage.store import REPORT, STUDY, Store
from sweep.study import Study


class Run:
    """The results of one study: trials, summary, tables, figures.

    Attributes:
        study: the study, as run.
        store: its folder.
    """

    def __init__(self, store: Store) -> None:
        content = store.folder.read(STUDY)
        if content is None:
            raise StoreError(f"{store.folder.uri}: has no {STUDY}")
        self.store = store
        self.study = Study.from_text(content.decode(), source=f"{store.folder.uri}/{STUDY}")

    def trials(self) -> pd.DataFrame:
        """One row per trial, by cell in the study's order, then by seed.

        `accuracy` is a fraction; swept parameters stand in columns of their own, missing where a family does not
        sweep them; `seconds`, `host`, `device` and `engine` say how the row came about.
        """
        return self.store.trials([cell.id for cell in self.study.cells])

    def summary(self) -> pd.DataFrame:
        """One row per cell: count, mean and standard deviation with 95 % intervals, and quantiles.

        All are fractions, over chips (seeds), on this test set. Cells without randomness have one trial, a
        standard deviation of 0 and intervals of no width.
        """
        trials = self.trials()
        if trials.empty:
            raise InputError(f"{self.store.folder.uri}: holds no trials yet; `sweep run` makes them")
        fixed = [cell.id for cell in self.study.cells if not cell.random]
        return summarise(trials, self.parameters, fixed, self.study.published or None)

    def components(self) -> pd.DataFrame | None:
        """For a study of several networks: how much of the spread lies between them, and how much between chips.

        One row per family and swept values; see `sweep.analysis.components.components`. None for one network.
        """
        if len(self.study.models) < 2:
            return None
        fixed = [cell.id for cell in self.study.cells if not cell.random]
        return components(self.trials(), self.parameters, fixed)

    def answers(self) -> list[Answer]:
        """What the families say together: thresholds, noise-equivalent bits, published values against ours."""
        return answers(self.study, self.trials())

    def report(self) -> str:
        """Everything as one HTML page that needs no network: tables, figures, methods, provenance."""
        from sweep.analysis.report import report

        return report(self, self.answers())

    def write_report(self) -> str:
        """Write report.html into the run folder; returns where."""
        self.store.folder.write(REPORT, self.report().encode())
        return f"{self.store.folder.uri}/{REPORT}"

    @property
    def parameters(self) -> Sequence[str]:
        """Columns of the swept parameters."""
        return list(self.study.columns)

    def table(self, format: str = "text") -> str:
        """The summary as text, markdown, csv, latex or json."""
        return render(self.summary(), self.parameters, format, self.study.name, self.components())

    def write_summary(self) -> None:
        """Write summary.parquet, summary.csv, summary.md and the figures into the run folder."""
        from sweep.analysis.figures import parameter_labels, save_figures

        summary = self.summary()
        buffer = io.BytesIO()
        summary.to_parquet(buffer, index=False)
        write = self.store.folder.write
        write("summary.parquet", buffer.getvalue())
        write("summary.csv", _lines(render(summary, self.parameters, "csv")))
        write("summary.md", _lines(render(summary, self.parameters, "markdown", self.study.name, self.components())))
        labels = parameter_labels(self.study)
        save_figures(
            self.trials(), summary, self.parameters, lambda name, content: write(f"figures/{name}", content), labels
        )


def _lines(text: str) -> bytes:
    return f"{text}\n".encode()


def open_run(place: str | Path) -> Run:
    """The results in a run folder, a local path or a `pyarrow.fs` URI; raises InputError when there are none."""
    return Run(Store.open(place))

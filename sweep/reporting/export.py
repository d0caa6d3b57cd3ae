"""A run's tables and figures as files, for papers and for other programs."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pandas as pd

from sweep.data.measure import Measure
from sweep.reporting.tables.frames import Answer, as_table, for_programs
from sweep.reporting.tables.layout import FOR_PROGRAMS, layout, markdown
from sweep.storage.paths import Folder
from sweep.storage.store import Store
from sweep.study.study import Study

if TYPE_CHECKING:
    from sweep.reporting.figures.pictures import Picture

PAGE = "README.md"
SUFFIXES = {"csv": "csv", "json": "json", "parquet": "parquet", "markdown": "md", "latex": "tex"}


class Results(Protocol):
    """A run as `sweep.reporting.run.Run` gives it, which imports the exports.

    Attributes:
        study: the study, as run.
        store: its folder.
    """

    study: Study
    store: Store

    @property
    def parameters(self) -> Sequence[str]:
        """Columns of the swept parameters."""

    def trials(self) -> pd.DataFrame:
        """One row per trial."""

    @property
    def measure(self) -> Measure:
        """What summary, figures and further tables are of."""

    @property
    def others(self) -> Sequence[Results]:
        """The same run, of each of the study's other measures."""

    def measures(self) -> pd.DataFrame:
        """The summaries of all measures."""

    def summary(self) -> pd.DataFrame:
        """One row per cell."""

    def table(self, format: str, answers: bool = False) -> str:
        """The summary in a format, with the further tables or without."""

    def answers(self) -> list[Answer]:
        """Further tables."""

    def export(self, place: str | Path) -> list[str]:
        """Write tables and figures into a folder."""

    def report(self) -> str:
        """The page."""


def export(run: Results, chosen: Sequence[Picture], folder: Folder) -> list[str]:
    """Write tables in every format, and pictures as SVG and PNG; returns the names of the files.

    Raises InputError when the folder cannot be written to.
    """
    from sweep.reporting.figures.pictures import save_figures

    folder.check_writable()
    names = []
    for name, content in [*summary_files(run, tuple(SUFFIXES)), *_answer_files(run), (PAGE, _page(run, chosen))]:
        folder.write(name, content)
        names.append(name)
    return names + save_figures(chosen, folder.write)


def summary_files(run: Results, formats: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the summary's files; of a study of several measures, those of all of them, too."""
    for format in formats:
        content = parquet(run.summary()) if format == "parquet" else _lines(run.table(format))
        yield f"summary.{SUFFIXES[format]}", content
    if run.others:
        table = run.measures()
        yield "measures.parquet", parquet(table)
        yield "measures.csv", _lines(for_programs(table, "csv"))
        if "markdown" in formats:
            texts = [f"## {other.measure.label}\n\n{other.table('markdown')}" for other in run.others]
            yield "measures.md", _lines("\n\n".join(texts))


def _answer_files(run: Results) -> Iterator[tuple[str, bytes]]:
    for answer in run.answers():
        for format, suffix in SUFFIXES.items():
            if format == "parquet":
                content = parquet(answer.table)
            elif format in FOR_PROGRAMS:
                content = _lines(for_programs(answer.table, format))
            else:
                content = _lines(layout([as_table(answer)], "", format))
            yield f"{answer.name}.{suffix}", content


def _page(run: Results, chosen: Sequence[Picture]) -> bytes:
    """All tables and figures on one page, as sites show them that host repositories."""
    figures = [f"![{markdown(picture.title)}]({picture.name}.svg)" for picture in chosen]
    return _lines("\n\n".join([run.table("markdown", answers=True), "## Figures", *figures]))


def parquet(frame: pd.DataFrame) -> bytes:
    """A data frame as the content of a Parquet file."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _lines(text: str) -> bytes:
    return f"{text}\n".encode()

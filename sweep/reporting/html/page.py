"""The page as a whole: what stands in it; how, is in page.html.j2."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files

import pandas as pd
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from sweep.data.measure import Measure
from sweep.reporting.chips import is_whole
from sweep.reporting.effort import effort, remarks
from sweep.reporting.export import Results
from sweep.reporting.figures.inline import Inline, inline
from sweep.reporting.figures.pictures import answer_pictures, pictures
from sweep.reporting.html.bibliography import linked, named, references
from sweep.reporting.html.methods import paragraphs, sources
from sweep.reporting.html.tables import cell_notes, cell_tables, effort_table, facts, work_tables
from sweep.reporting.labels import Labels, parameter_labels, value_text
from sweep.reporting.summary import with_void
from sweep.reporting.tables.columns import disagreements, has_void
from sweep.reporting.tables.frames import Answer, as_table
from sweep.reporting.tables.summary_tables import more
from sweep.texts import duration, percent

MOST_CELLS = 1000  # in tables of the page, and of its pictures' marks; a browser lays out no tens of thousands


def report(run: Results, answers: Sequence[Answer] = ()) -> str:
    """A run as one HTML page: no network, no other file; static tables and pictures where scripts do not run.

    Equal runs and answers give equal text with the same version of matplotlib.

    Args:
        run: the run.
        answers: further tables. A note that names a reference as the package's docstrings do, for example "Hesterberg
            2015", has it in the list of references.

    Raises:
        InputError: the run holds no trials.
    """
    trials, summary, manifest = run.trials(), run.summary(), run.store.manifest
    listed = with_void(summary, trials, run.parameters, run.measure)
    shown = listed[:MOST_CELLS]
    ids = {str(cell): f"cell-{i}" for i, cell in enumerate(shown["cell"])}
    measure = run.measure
    methods, ops = paragraphs(run.study, summary, trials, measure), sources(run.study)
    notes, labels = cell_notes(listed, run.parameters, measure), parameter_labels(run.study)
    spent = effort(trials, summary)
    notes += remarks(trials, summary, run.study, measure)
    if len(shown) < len(listed):
        notes.append(more(len(shown), len(listed)))
    said = [*methods, *notes, *(source for _, _, source in ops), *(answer.note for answer in answers)]
    cited = named("\n".join(said), references())
    script = resource("report.js")
    page = (
        templates()
        .get_template("page.html.j2")
        .render(
            name=run.study.name,
            contents=[
                *(("results", "Results"), ("figures", "Figures")),
                *((f"answer-{k}", answer.title) for k, answer in enumerate(answers)),
                *((key, key.capitalize()) for key in ("methods", "study", "provenance", "references")),
            ],
            study=run.study,
            subject=f"{measure.label} of perturbed networks, chip by chip.",
            style=resource("report.css"),
            script=script,
            script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            headline=_headline(run, trials, summary, listed, labels),
            notes=" ".join(notes),
            tables=[
                *cell_tables(shown, run.parameters, ids, labels, measure),
                *([] if spent is None else [effort_table(spent[:MOST_CELLS], _names(summary, run.parameters, labels))]),
            ],
            others=[
                (
                    other.measure.label,
                    " ".join(cell_notes(cells, run.parameters, other.measure)),
                    list(cell_tables(cells[:MOST_CELLS], run.parameters, {}, labels, other.measure)),
                )
                for other in run.others
                for cells in [with_void(other.summary(), trials, run.parameters, other.measure)]
            ],
            figures=list(_figures(run, trials, summary, ids, labels, answers)),
            void=_void(listed),
            answers=answers,
            answer_tables=[as_table(answer) for answer in answers],
            methods=methods,
            ops=ops,
            facts=facts(manifest, trials),
            work=work_tables(manifest, trials),
            cited=cited,
            bibtex="\n\n".join(reference.bibtex for reference in cited),
        )
    )
    return f"{page}\n"


def templates() -> Environment:
    """The templates of the page, in which every text is escaped and every name must be known."""
    environment = Environment(
        loader=FunctionLoader(_file), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"linked": linked, "to_json": lambda names: json.dumps(names, ensure_ascii=False)}
    return environment


def resource(name: str) -> Markup:
    """A file of the page, which stands in it as it is."""
    return Markup(_file(name))


def _file(name: str) -> str:
    return files("sweep.reporting.html").joinpath(name).read_text(encoding="utf-8")


def _headline(
    run: Results, trials: pd.DataFrame, summary: pd.DataFrame, listed: pd.DataFrame, labels: Labels
) -> dict[str, str]:
    sizes = summary["n_images"].dropna().unique().tolist()
    few = trials.loc[~is_whole(trials), "n_images"]
    seen = f"{len(trials) - len(few):,}" + (f", each on {sizes[0]:,} test images" if len(sizes) == 1 else "")
    worst, best = (summary.iloc[int(at)] for at in (summary["mean"].argmin(), summary["mean"].argmax()))
    void, of = _void(listed), run.measure
    return {
        "networks": ", ".join(run.study.models),
        **({"test sets": ", ".join(run.study.datasets)} if len(run.study.datasets) > 1 else {}),
        "cells": f"{len(listed)} of {len(run.study.cells)}, in {listed['family'].nunique()} families",
        "trials": seen,
        **({"chips that saw a few": f"{len(few):,}, {few.mean():.3g} test images each"} if len(few) else {}),
        "chips a cell, at most": f"{_chips(summary).max():,}",
        **({"WARNING": " ".join(wrong)} if (wrong := list(disagreements(summary))) else {}),
        f"highest {of.average}": f"{of.text(best['mean'])}{of.unit} ({_name(best, run.parameters, labels)})",
        f"lowest {of.average}": f"{of.text(worst['mean'])}{of.unit} ({_name(worst, run.parameters, labels)})",
        **({"void trials": void} if void else {}),
        "worker time": duration(float(trials["seconds"].sum())),
    }


def _void(summary: pd.DataFrame) -> str:
    """How many trials are void, and why; empty where none is."""
    if not has_void(summary):
        return ""
    cells = int((summary["nonfinite"] > 0).sum())
    return (
        f"{summary['nonfinite'].sum():,}, in {cells} {'cell' if cells == 1 else 'cells'}: images had scores that are "
        "no finite numbers"
    )


def _figures(
    run: Results,
    trials: pd.DataFrame,
    summary: pd.DataFrame,
    ids: dict[str, str],
    labels: Labels,
    answers: Iterable[Answer],
) -> Iterator[tuple[str, Inline]]:
    """Titles, and what is drawn."""

    def texts_of(one: Results, cells: pd.DataFrame) -> dict[str, tuple[str, str]]:
        rows = [(str(cell["cell"]), cell) for _, cell in cells[:MOST_CELLS].iterrows()]
        known = ((name, cell) for name, cell in rows if name in ids)
        return {name: (ids[name], _said(cell, run.parameters, labels, one.measure)) for name, cell in known}

    texts = texts_of(run, summary)
    chosen = [(p, texts) for p in pictures(trials, summary, run.parameters, labels, run.measure)]
    for other in run.others:
        cells = other.summary()
        found = pictures(trials, cells, run.parameters, labels, other.measure, brief=True)
        chosen += [(picture, texts_of(other, cells)) for picture in found]
    chosen += [(picture, texts) for picture in answer_pictures(answers, run.measure)]
    for number, (picture, said) in enumerate(chosen, 1):
        yield picture.title, inline(picture, f"fig{number}", said)


def _chips(summary: pd.DataFrame) -> pd.Series:
    """Of each cell, those of either kind."""
    return summary["trials"] + summary["sampled"] if "sampled" in summary else summary["trials"]


def _names(summary: pd.DataFrame, parameters: Sequence[str], labels: Labels) -> dict[str, str]:
    """Cell id → what the cell is, with its network where there are several."""
    several = summary["model"].nunique() > 1
    names = {str(cell["cell"]): (cell["model"], _name(cell, parameters, labels)) for _, cell in summary.iterrows()}
    return {cell: f"{name}, model {model}" if several else name for cell, (model, name) in names.items()}


def _name(cell: pd.Series, parameters: Sequence[str], labels: Labels) -> str:
    swept = [f"{name} {value_text(name, cell[name], labels)}" for name in parameters if not pd.isna(cell[name])]
    return ", ".join([str(cell["family"]), *swept])


def _said(cell: pd.Series, parameters: Sequence[str], labels: Labels, measure: Measure) -> str:
    parts = [f"{_name(cell, parameters, labels)}: {measure.text(cell['mean'])}{measure.unit}"]
    sampled = cell.get("sampled", 0)
    if not pd.isna(cell["mean_low"]) and (cell["trials"] > 1 or sampled):
        parts.append(f"95 % interval {measure.text(cell['mean_low'])} to {measure.text(cell['mean_high'])}")
    if sampled:
        parts[-1] += f" by {sampled:,} chips that saw a few images"
    if not pd.isna(cell["std"]) and (cell["trials"] > 1 or sampled):
        chips = cell["trials"] if cell["trials"] > 1 else sampled
        parts.append(f"± {measure.text(cell['std'])} between {chips:,} chips")
    if cell["trials"] > 1:
        parts.append(f"5 % to 95 % of chips {measure.text(cell['q05'])} to {measure.text(cell['q95'])}")
    if cell.get("nonfinite", 0):
        trials = f"{cell['nonfinite']:,} of {cell['trials'] + sampled:,} trials"
        parts.append(f"void, with scores that are no finite numbers: {trials}")
    if not pd.isna(cell.get("published")):
        parts.append(f"published {percent(cell['published'])} %")
    return "; ".join(parts)

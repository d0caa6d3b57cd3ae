"""The page as a whole."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from importlib.resources import files

import pandas as pd

from sweep.reporting.figures import answer_pictures, inline, parameter_labels, pictures
from sweep.reporting.html.bibliography import Reference, linked, named, references
from sweep.reporting.html.methods import paragraphs, sources
from sweep.reporting.html.provenance import provenance
from sweep.reporting.html.results import Results
from sweep.reporting.html.tables import answer_table, cell_notes, cell_tables
from sweep.reporting.labels import Labels, value_text
from sweep.reporting.tables.columns import has_void
from sweep.reporting.tables.frames import Answer
from sweep.texts import duration, percent


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
    trials, summary = run.trials(), run.summary()
    ids = {str(cell): f"cell-{i}" for i, cell in enumerate(summary["cell"])}
    methods, ops = paragraphs(run.study, summary), sources(run.study)
    said = [*methods, *cell_notes(summary, run.parameters), *(source for _, _, source in ops)]
    said += [answer.note for answer in answers]
    cited = named("\n".join(said), references())
    sections = [
        ("results", "Results", _results(summary, run.parameters, ids, cited, parameter_labels(run.study))),
        ("figures", "Figures", _figures(run, trials, summary, ids, answers)),
        *((f"answer-{i}", answer.title, _answer(answer, cited)) for i, answer in enumerate(answers)),
        ("methods", "Methods", _methods(methods, ops, cited)),
        ("study", "Study", _code(run.study.to_toml(), "The study, as run (TOML)")),
        ("provenance", "Provenance", provenance(run.store.manifest, trials)),
        ("references", "References", _references(cited)),
    ]
    return _page(run.study.name, _headline(run, trials, summary), sections)


def _headline(run: Results, trials: pd.DataFrame, summary: pd.DataFrame) -> str:
    labels = parameter_labels(run.study)
    sizes = summary["n_images"].dropna().unique().tolist()
    worst, best = (summary.iloc[int(at)] for at in (summary["mean"].argmin(), summary["mean"].argmax()))
    facts = {
        "networks": ", ".join(run.study.models),
        "cells": f"{len(summary)} of {len(run.study.cells)}, in {summary['family'].nunique()} families",
        "trials": f"{len(trials):,}" + (f", each on {sizes[0]:,} test images" if len(sizes) == 1 else ""),
        "chips a cell, at most": f"{summary['trials'].max():,}",
        "highest mean accuracy": f"{percent(best['mean'])} % ({_name(best, run.parameters, labels)})",
        "lowest mean accuracy": f"{percent(worst['mean'])} % ({_name(worst, run.parameters, labels)})",
        **({"void trials": _void(summary)} if has_void(summary) else {}),
        "worker time": duration(float(trials["seconds"].sum())) if "seconds" in trials else "unknown",
    }
    items = "\n".join(f"<div><dt>{name}</dt><dd>{html.escape(value)}</dd></div>" for name, value in facts.items())
    return f'<dl class="headline">\n{items}\n</dl>'


def _void(summary: pd.DataFrame) -> str:
    cells = int((summary["nonfinite"] > 0).sum())
    return (
        f"{summary['nonfinite'].sum():,}, in {cells} {'cell' if cells == 1 else 'cells'}: images had scores that are "
        "no finite numbers"
    )


def _results(
    summary: pd.DataFrame, parameters: Sequence[str], ids: dict[str, str], cited: Sequence[Reference], labels: Labels
) -> str:
    said = linked(" ".join(cell_notes(summary, parameters)), cited)
    return "\n".join([f"<p>{said}</p>", *cell_tables(summary, parameters, ids, labels)])


def _figures(
    run: Results, trials: pd.DataFrame, summary: pd.DataFrame, ids: dict[str, str], answers: Sequence[Answer]
) -> str:
    labels = parameter_labels(run.study)
    rows = [(str(cell["cell"]), cell) for _, cell in summary.iterrows()]
    texts = {name: (ids[name], _said(cell, run.parameters, labels)) for name, cell in rows}
    chosen = pictures(trials, summary, run.parameters, labels) + answer_pictures(answers)
    parts = []
    for number, picture in enumerate(chosen, 1):
        drawn = inline(picture, f"fig{number}", texts)
        thinned = f" One chip in {drawn.thinned} is drawn." if drawn.thinned > 1 else ""
        series = html.escape(json.dumps(drawn.series, ensure_ascii=False))
        parts.append(
            f'<figure data-names="{series}">\n'
            f'<div class="scroll" role="group" aria-label="Figure {number}" tabindex="0">{drawn.svg}</div>\n'
            f"<figcaption>Figure {number}. {html.escape(picture.title)}. Each mark leads to its row in the tables."
            f"{thinned}</figcaption>\n</figure>"
        )
    if not parts:
        return "<p>No family sweeps anything: the tables say all.</p>"
    if has_void(summary):
        parts.insert(0, f"<p>Void trials are in the figures as they were counted: {_void(summary)}.</p>")
    return "\n".join(parts)


def _name(cell: pd.Series, parameters: Sequence[str], labels: Labels) -> str:
    swept = [f"{name} {value_text(name, cell[name], labels)}" for name in parameters if not pd.isna(cell[name])]
    return ", ".join([str(cell["family"]), *swept])


def _said(cell: pd.Series, parameters: Sequence[str], labels: Labels) -> str:
    parts = [f"{_name(cell, parameters, labels)}: {percent(cell['mean'])} %"]
    if cell["trials"] > 1:
        parts.append(
            f"95 % interval {percent(cell['mean_low'])} to {percent(cell['mean_high'])}; ± {percent(cell['std'])} "
            f"between {cell['trials']:,} chips; 5 % to 95 % of chips {percent(cell['q05'])} to {percent(cell['q95'])}"
        )
    if cell.get("nonfinite", 0):
        parts.append(
            f"void, with scores that are no finite numbers: {cell['nonfinite']:,} of {cell['trials']:,} trials"
        )
    if not pd.isna(cell.get("published")):
        parts.append(f"published {percent(cell['published'])} %")
    return "; ".join(parts)


def _answer(answer: Answer, cited: Sequence[Reference]) -> str:
    return f"<p>{linked(answer.note, cited)}</p>\n{answer_table(answer)}"


def _methods(methods: Sequence[str], ops: Sequence[tuple[str, str, str]], cited: Sequence[Reference]) -> str:
    text = "\n".join(f"<p>{linked(paragraph, cited)}</p>" for paragraph in methods)
    items = "\n".join(
        f"<dt><code>{html.escape(op)}</code></dt><dd>{linked(formula, ())}"
        + (f" Source: {linked(source, cited)}</dd>" if source else "</dd>")
        for op, formula, source in ops
    )
    return f'{text}\n<h3>Transforms of this study</h3>\n<dl class="ops">\n{items}\n</dl>'


def _references(cited: Sequence[Reference]) -> str:
    items = "\n".join(f'<li id="ref-{reference.key}">{reference.sentence()}</li>' for reference in cited)
    bibtex = "\n\n".join(reference.bibtex for reference in cited)
    return f"<ol>\n{items}\n</ol>\n<h3>BibTeX</h3>\n{_code(bibtex, 'BibTeX of the references')}"


def _code(text: str, name: str) -> str:
    return f'<pre class="scroll" role="group" aria-label="{name}" tabindex="0"><code>{html.escape(text)}</code></pre>'


def _page(title: str, headline: str, sections: Sequence[tuple[str, str, str]]) -> str:
    here = files("sweep.reporting.html")
    style, script = (here.joinpath(name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
    name = html.escape(title)
    links = "".join(f'<li><a href="#{key}">{html.escape(heading)}</a></li>' for key, heading, _ in sections)
    body = "\n".join(
        f'<section aria-labelledby="{key}">\n<h2 id="{key}">{html.escape(heading)}</h2>\n{content}\n</section>'
        for key, heading, content in sections
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{name}: noisesweep report</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{name}</h1>
<p>Accuracy of perturbed networks, chip by chip.</p>
{headline}
</header>
<nav aria-label="Sections"><ul>{links}</ul></nav>
<main>
{body}
</main>
<script>{script}</script>
</body>
</html>
"""

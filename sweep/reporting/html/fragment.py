"""A run as a notebook shows it: its tables, without style and scripts of their own."""

from __future__ import annotations

from sweep.errors import InputError
from sweep.reporting.export import Results
from sweep.reporting.html.page import MOST_CELLS, templates
from sweep.reporting.html.tables import cell_notes, cell_tables
from sweep.reporting.labels import parameter_labels
from sweep.reporting.tables.summary_tables import more


def fragment(run: Results) -> str:
    """The table of all cells, as HTML; a sentence where the run holds no trials yet."""
    template = templates().get_template("fragment.html.j2")
    name, where = run.study.name, run.store.folder.uri
    try:
        summary = run.summary()
    except InputError:
        return template.render(name=name, said=f"no trials yet in {where}", tables=[], notes="")
    shown, notes = summary[:MOST_CELLS], cell_notes(summary, run.parameters)
    tables = list(cell_tables(shown, run.parameters, {}, parameter_labels(run.study)))
    notes += [more(len(shown), len(summary))] if len(shown) < len(summary) else []
    trials = int(summary["trials"].sum())
    said = f"{len(summary)} of {len(run.study.cells)} cells, {trials:,} trials, in {where}; accuracies in %"
    return template.render(name=name, said=said, tables=tables, notes=" ".join(notes))

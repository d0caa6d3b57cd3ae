"""A run as a notebook shows it: its tables, without style and scripts of their own."""

from __future__ import annotations

from sweep.data.measures import ACCURACY
from sweep.errors import InputError
from sweep.reporting.effort import remarks
from sweep.reporting.export import Results
from sweep.reporting.html.page import MOST_CELLS, templates
from sweep.reporting.html.tables import cell_notes, cell_tables
from sweep.reporting.labels import parameter_labels
from sweep.reporting.summary import with_void
from sweep.reporting.tables.summary_tables import more


def fragment(run: Results) -> str:
    """The table of all cells, as HTML; a sentence where the run holds no trials yet."""
    template = templates().get_template("fragment.html.j2")
    name, where = run.study.name, run.store.folder.uri
    try:
        summary = run.summary()
    except InputError:
        return template.render(name=name, said=f"no trials yet in {where}", tables=[], notes="")
    measure, all_trials = run.measure, run.trials()
    listed = with_void(summary, all_trials, run.parameters, measure)
    shown, notes = listed[:MOST_CELLS], cell_notes(listed, run.parameters, measure)
    tables = list(cell_tables(shown, run.parameters, {}, parameter_labels(run.study), measure))
    notes += remarks(all_trials, summary, run.study, measure)
    notes += [more(len(shown), len(listed))] if len(shown) < len(listed) else []
    trials = int(summary["trials"].sum())
    unit = "; accuracies in %" if measure.name == ACCURACY.name else ""
    said = f"{len(listed)} of {len(run.study.cells)} cells, {trials:,} trials, in {where}{unit}"
    return template.render(name=name, said=said, tables=tables, notes=" ".join(notes))

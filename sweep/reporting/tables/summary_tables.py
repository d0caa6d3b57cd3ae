"""A summary as text, Markdown, CSV, LaTeX or JSON: one small table a family."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from sweep.data.measure import Measure
from sweep.data.measures import ACCURACY
from sweep.reporting.tables.columns import columns_of, notes
from sweep.reporting.tables.frames import for_programs
from sweep.reporting.tables.layout import FOR_PROGRAMS, WIDTH, Table, Value, layout
from sweep.study.family import CLEAN
from sweep.texts import number

_INTERVAL = "95 % interval"


def render(
    summary: pd.DataFrame,
    parameters: Sequence[str],
    format: str,
    title: str = "",
    components: pd.DataFrame | None = None,
    remarks: Sequence[str] = (),
    measure: Measure = ACCURACY,
    most: int | None = None,
) -> str:
    """Render a summary.

    CSV and JSON (a list of objects, one per cell) carry every column of the summary with full precision:
    fractions, missing values empty and null. The others are for people: accuracies in %, one small table per
    family and model with the parameters that it sweeps and the brief ones of `sweep.reporting.tables.columns`, and
    below it what each of these is. A table wider than 79 characters is split by its first swept parameters. LaTeX
    needs the package booktabs.

    Args:
        summary: one row per cell, as `sweep.reporting.summary.summarise` returns it.
        parameters: names of the columns of swept parameters.
        format: text, markdown, csv, latex or json.
        title: stands above the tables; CSV and JSON have none.
        components: for several networks, as `sweep.reporting.summary.components` returns them; one more table a
            family at the end, but not in CSV and JSON.
        remarks: further sentences below the tables, but not in CSV and JSON.
        measure: of which the summary is.
        most: rows of cells, and of `components`; CSV and JSON have all of them. Notes are of all cells.

    Returns:
        The whole text, without a line feed at its end.

    Raises:
        InputError: `format` is none of these.
    """
    if format in FOR_PROGRAMS:
        return for_programs(summary, format)
    shown, rest = summary[:most], summary[len(summary[:most]) :]
    tables = list(_tables(shown, parameters, measure))
    below = list(remarks)
    if components is not None:
        tables += _component_tables(components[:most], parameters, measure)
    if len(rest):
        below = [more(len(shown), len(summary)), *notes(rest, columns_of(rest, True, measure), (), measure), *remarks]
    if tables and below:
        tables[-1] = replace(tables[-1], notes=(*tables[-1].notes, *below))
    return layout(tables, title, format)


def more(shown: int, cells: int) -> str:
    """What is said below tables that have not all cells."""
    return f"The first {shown:,} of {cells:,} cells; `sweep table RUN` prints all, and summary.csv has them."


def _tables(summary: pd.DataFrame, parameters: Sequence[str], measure: Measure) -> Iterator[Table]:
    several_models = summary["model"].nunique() > 1
    for family, of_family in summary.groupby("family", sort=False):
        swept = [name for name in parameters if of_family[name].notna().any()]
        if family == CLEAN and several_models:
            yield _table(CLEAN, of_family, ["model", *swept], measure)
            continue
        for model in of_family["model"].unique():
            caption = f"{family}, model {model}" if several_models else str(family)
            yield from _narrow(caption, of_family[of_family["model"] == model], swept, measure)


def _narrow(caption: str, cells: pd.DataFrame, swept: Sequence[str], measure: Measure) -> Iterator[Table]:
    """One table, or where it is too wide, one for each value of its first swept parameter."""
    table = _table(caption, cells, swept, measure)
    if len(swept) < 2 or table.width <= WIDTH:
        yield table
        return
    first, *others = swept
    for value in cells[first].unique():
        yield from _narrow(f"{caption}, {first} {_value(value)}", cells[cells[first] == value], others, measure)


def _table(caption: str, cells: pd.DataFrame, swept: Sequence[str], measure: Measure) -> Table:
    return cell_table(caption, cells, swept, lambda _, value: Value(_value(value)), measure=measure)


def cell_table(
    caption: str,
    cells: pd.DataFrame,
    swept: Sequence[str],
    said: Callable[[str, Any], Value],
    brief: bool = True,
    ids: Sequence[str] = (),
    measure: Measure = ACCURACY,
) -> Table:
    """Cells that sweep the same, a row each.

    Args:
        caption: what they are.
        cells: rows of a summary.
        swept: the columns that they sweep, which come first; others that name the cells may be among them.
        said: what is shown of a swept column and its value.
        brief: without what narrow tables leave out.
        ids: of the rows' elements.
        measure: of which the summary is.
    """
    columns = columns_of(cells, brief, measure)
    rows = [
        [*(said(name, cell[name]) for name in swept), *(column.value(cell, measure) for column in columns)]
        for cell in cells.to_dict("records")
    ]
    below = tuple(notes(cells, columns, swept, measure))
    return Table(caption, [*swept, *(c.heading for c in columns)], rows, below, ids)


def _component_tables(components: pd.DataFrame, parameters: Sequence[str], measure: Measure) -> Iterator[Table]:
    """For each family, the spread over all networks and where it comes from."""
    for family in components["family"].unique():
        rows = components[components["family"] == family]
        swept = [name for name in parameters if rows[name].notna().any()]
        yield Table(
            caption=f"{family}, all networks",
            header=(*swept, "networks", "chips", "mean", _INTERVAL, "± trainings", "± chips", "± rest"),
            rows=[
                [
                    *(Value(_value(row[name])) for name in swept),
                    Value(str(row["networks"])),
                    Value(str(row["chips"])),
                    Value(_shown(row["mean"], measure)),
                    Value(_interval(row["mean_low"], row["mean_high"], measure)),
                    *(Value(_shown(row[f"std_{name}"], measure)) for name in ("trainings", "chips", "interaction")),
                ]
                for row in rows.to_dict("records")
            ],
            notes=tuple(_component_notes(rows)),
        )


def _component_notes(rows: pd.DataFrame) -> Iterator[str]:
    yield (
        "Over all networks: mean with 95 % interval, then standard deviations between networks (trainings), between "
        "chips, and of how one chip suits one network (crossed random effects)."
    )
    if (rows["truncated"] != "").any():
        yield "An estimated variance below 0 is given as 0."
    if (rows["left_out"] > 0).any():
        yield f"{rows['left_out'].sum():,} trials left out: their seeds are not run on every network."
    if rows["std_trainings"].isna().any():
        yield "One chip: the parts cannot be told apart."


def _interval(low: Any, high: Any, measure: Measure) -> str:
    low, high = _shown(low, measure), _shown(high, measure)
    return f"{low} – {high}" if low and high else ""


def _value(value: Any) -> str:
    """A swept value; a number without the digits that it does not need."""
    if pd.isna(value):
        return ""
    return number(value, 10) if isinstance(value, float) else str(value)


def _shown(value: Any, measure: Measure) -> str:
    return "" if pd.isna(value) else measure.text(value)

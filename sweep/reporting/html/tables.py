"""Tables in HTML: static, and sortable where scripts run."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from sweep.reporting.labels import Labels, value_text
from sweep.reporting.tables.columns import columns_of, notes
from sweep.reporting.tables.frames import Answer, Value, readable

_NUMBER = ' class="number"'


def table(caption: str, header: Sequence[str], rows: Sequence[Sequence[Value]], ids: Sequence[str] = ()) -> str:
    """A table in a box that scrolls where the page is narrow.

    Args:
        caption: what it holds.
        header: a name for each column.
        rows: one value for each column; the first names the row.
        ids: of the rows' elements.
    """
    name = html.escape(caption)
    numeric = [any(row[i].number is not None for row in rows) for i in range(len(header))]
    head = "".join(
        f'<th scope="col"{_NUMBER if number else ""}>{html.escape(text)}</th>'
        for text, number in zip(header, numeric, strict=True)
    )
    body = "\n".join(_row(row, f' id="{ids[i]}" tabindex="-1"' if ids else "") for i, row in enumerate(rows))
    return (
        f'<div class="scroll" role="group" aria-label="{name}" tabindex="0">\n<table class="data">\n'
        f"<caption>{name}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>"
    )


def cell_tables(summary: pd.DataFrame, parameters: Sequence[str], ids: dict[str, str], labels: Labels) -> Iterator[str]:
    """The cells of a summary, a table for each family and model; `ids` are those of the rows, by cell."""
    several_models = summary["model"].nunique() > 1
    for (family, model), cells in summary.groupby(["family", "model"], sort=False):
        swept = [name for name in parameters if cells[name].notna().any()]
        columns = columns_of(cells, brief=False)
        header = [*(swept or ["family"]), *(column.heading for column in columns)]
        rows = [
            [
                *([_swept(name, cell[name], labels) for name in swept] or [Value(str(family))]),
                *(column.value(cell) for column in columns),
            ]
            for cell in cells.to_dict("records")
        ]
        caption = f"{family}, model {model}" if several_models else str(family)
        yield table(caption, header, rows, [ids[cell] for cell in cells["cell"]])


def cell_notes(summary: pd.DataFrame, parameters: Sequence[str]) -> list[str]:
    """What the columns of these tables are, a sentence each; none twice."""
    swept = [name for name in parameters if summary[name].notna().any()]
    said = [
        note
        for _, cells in summary.groupby(["family", "model"], sort=False)
        for note in notes(cells, columns_of(cells, brief=False), swept)
    ]
    return list(dict.fromkeys(said))


def answer_table(answer: Answer) -> str:
    """Any answer, as people read it."""
    header, rows = readable(answer.table, answer.percent)
    return table(answer.title, header, rows)


def _row(row: Sequence[Value], attributes: str) -> str:
    first, *others = row
    cells = "".join(_cell(value, "td") for value in others)
    return f"<tr{attributes}>{_cell(first, 'th', ' scope=row')}{cells}</tr>"


def _cell(value: Value, tag: str, attributes: str = "") -> str:
    number = "" if value.number is None else f' data-value="{value.number!r}"'
    return f"<{tag}{attributes}{'' if value.number is None else _NUMBER}{number}>{html.escape(value.text)}</{tag}>"


def _swept(name: str, value: Any, labels: Labels) -> Value:
    if pd.isna(value):
        return Value("")
    number = None if isinstance(value, str | bool) else float(value)
    return Value(value_text(name, value, labels), number)

"""Tables in HTML: static, and sortable where scripts run."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from sweep.analysis.figures.labels import value_text
from sweep.analysis.frames import Answer, Value, readable

_NONFINITE = "chips with scores that are no numbers"
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


def cell_tables(summary: pd.DataFrame, parameters: Sequence[str], ids: dict[str, str]) -> Iterator[str]:
    """The cells of a summary, a table for each family and model; `ids` are those of the rows, by cell."""
    several_models = summary["model"].nunique() > 1
    for (family, model), cells in summary.groupby(["family", "model"], sort=False):
        swept = [name for name in parameters if cells[name].notna().any()]
        columns = list(_statistics(cells))
        header = [*(swept or ["family"]), "chips", *(text for text, _ in columns)]
        rows = [
            [
                *([_swept(name, cell[name]) for name in swept] or [Value(str(family))]),
                Value(f"{cell['trials']:,}", float(cell["trials"])),
                *(_statistic(cell, keys) for _, keys in columns),
            ]
            for cell in cells.to_dict("records")
        ]
        caption = f"{family}, model {model}" if several_models else str(family)
        yield table(caption, header, rows, [ids[cell] for cell in cells["cell"]])


def _statistics(cells: pd.DataFrame) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Headings and columns of a summary: one, or the two ends of an interval."""
    spread = bool((cells["trials"] > 1).any())
    yield "mean", ("mean",)
    if spread:
        yield "95 % interval", ("mean_low", "mean_high")
    yield "new images", ("new_low", "new_high")
    if spread:
        yield "± std", ("std",)
        yield "95 % interval", ("std_low", "std_high")
    if "published" in cells and cells["published"].notna().any():
        yield "published", ("published",)
    if spread:
        yield from (
            ("min", ("min",)),
            ("5 %", ("q05",)),
            ("median", ("median",)),
            ("95 %", ("q95",)),
            ("max", ("max",)),
        )


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


def _swept(name: str, value: Any) -> Value:
    if pd.isna(value):
        return Value("")
    number = None if isinstance(value, str | bool) else float(value)
    return Value(value_text(name, value), number)


def _statistic(cell: dict[Any, Any], keys: tuple[str, ...]) -> Value:
    if keys == ("nonfinite",):
        return Value("") if pd.isna(cell["nonfinite"]) else Value(f"{cell['nonfinite']:,}", float(cell["nonfinite"]))
    return _percent(*(cell[key] for key in keys))


def _percent(*fractions: Any) -> Value:
    """One fraction, or an interval, which is sorted by its lower end."""
    if any(pd.isna(fraction) for fraction in fractions):
        return Value("")
    return Value(" – ".join(f"{100 * fraction:.2f}" for fraction in fractions), 100 * float(fractions[0]))

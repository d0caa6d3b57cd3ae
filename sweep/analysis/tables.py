"""A summary as text, Markdown, CSV, LaTeX or JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sweep.errors import InputError

_WIDTH = 79
_GAP = "  "
_INTERVAL = "95 % interval"
_NO_TRIALS = "No trials yet."


@dataclass(frozen=True)
class _Table:
    """One family (of one model, where there are several) as people read it; every column aligns right."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def render(
    summary: pd.DataFrame,
    parameters: Sequence[str],
    format: str,
    title: str = "",
    components: pd.DataFrame | None = None,
) -> str:
    """Render a summary.

    CSV and JSON (a list of objects, one per cell) carry every column of the summary with full precision:
    fractions, missing values empty and null. The others are for people: accuracies in %, one small table per
    family and model with the parameters that it sweeps, mean, standard deviation, 95 % interval of the mean,
    and the published accuracy where the family has any. A table wider than 79 characters is split by its
    first swept parameters. LaTeX needs the package booktabs.

    Args:
        summary: one row per cell, as `sweep.analysis.summary.summarise` returns it.
        parameters: names of the columns of swept parameters.
        format: text, markdown, csv, latex or json.
        title: stands above the tables; CSV and JSON have none.
        components: for several networks, as `sweep.analysis.components.components` returns them; one more table a
            family at the end, but not in CSV and JSON.

    Returns:
        The whole text, without a line feed at its end.

    Raises:
        InputError: `format` is none of these.
    """
    if format == "csv":
        return summary.to_csv(index=False, lineterminator="\n").removesuffix("\n")
    if format == "json":
        return _json(summary)
    if format not in _FOR_PEOPLE:
        valid = ", ".join(FORMATS)
        raise InputError(f"format: {format!r} is not one of {valid}")
    tables = list(_tables(summary, parameters))
    if components is not None:
        tables += _component_tables(components, parameters)
    return _FOR_PEOPLE[format](tables, title)


def _json(summary: pd.DataFrame) -> str:
    # pandas' own writer keeps 15 digits, too few to give a float64 back.
    records = [
        {str(name): _plain(value) for name, value in zip(summary.columns, row, strict=True)}
        for row in summary.itertuples(index=False, name=None)
    ]
    return json.dumps(records, indent=2, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    """A scalar of a data frame as JSON knows it."""
    if pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value


def _tables(summary: pd.DataFrame, parameters: Sequence[str]) -> Iterator[_Table]:
    several_models = summary["model"].nunique() > 1
    for family in summary["family"].unique():
        of_family = summary[summary["family"] == family]
        swept = [name for name in parameters if of_family[name].notna().any()]
        for model in of_family["model"].unique():
            caption = f"{family}, model {model}" if several_models else str(family)
            yield from _narrow(caption, of_family[of_family["model"] == model], swept)


def _narrow(caption: str, cells: pd.DataFrame, swept: Sequence[str]) -> Iterator[_Table]:
    """One table, or where it is too wide, one for each value of its first swept parameter."""
    table = _table(caption, cells, swept)
    if len(swept) < 2 or sum(_widths(table)) + len(_GAP) * (len(table.header) - 1) <= _WIDTH:
        yield table
        return
    first, *others = swept
    for value in cells[first].unique():
        yield from _narrow(f"{caption}, {first} {_value(value)}", cells[cells[first] == value], others)


def _table(caption: str, cells: pd.DataFrame, swept: Sequence[str]) -> _Table:
    published = "published" in cells and bool(cells["published"].notna().any())
    return _Table(
        caption=caption,
        header=(*swept, "trials", "mean", "± std", _INTERVAL, *(["published"] if published else [])),
        rows=tuple(_row(cell, swept, published) for cell in cells.to_dict("records")),
        notes=tuple(_notes(cells, published)),
    )


def _row(cell: dict[Any, Any], swept: Sequence[str], published: bool) -> tuple[str, ...]:
    return (
        *(_value(cell[name]) for name in swept),
        str(cell["trials"]),
        _percent(cell["mean"]),
        _percent(cell["std"]),
        _interval(cell),
        *([_percent(cell["published"])] if published else []),
    )


def _notes(cells: pd.DataFrame, published: bool) -> Iterator[str]:
    """What the numbers of a table are, a sentence at a time."""
    sizes = cells["n_images"].dropna().unique().tolist() if "n_images" in cells else []
    images = f"{sizes[0]:,} test images" if len(sizes) == 1 else "the test images"
    yield f"Mean and standard deviation over chips, accuracy in % on {images}; interval: 95 % for the mean."
    if ((cells["std"] == 0) & (cells["trials"] == 1)).any():
        yield "One trial with standard deviation 0: no randomness, exact for these images."
    if ((cells["std"] == 0) & (cells["trials"] > 1)).any():
        yield "Several trials with standard deviation 0: all equal; that does not show that no chip differs."
    if cells["std"].isna().any():
        yield "One trial without standard deviation: a single chip does not show the spread."
    if "nonfinite" in cells and cells["nonfinite"].any():
        yield (
            f"In {cells['nonfinite'].sum():,} trials images had scores that are no finite numbers: weights or sums "
            "overflowed, and the decision on such an image means nothing."
        )
    if published:
        yield "Published: as the study gives it."


def _component_tables(components: pd.DataFrame, parameters: Sequence[str]) -> Iterator[_Table]:
    """For each family, the spread over all networks and where it comes from."""
    for family in components["family"].unique():
        rows = components[components["family"] == family]
        swept = [name for name in parameters if rows[name].notna().any()]
        yield _Table(
            caption=f"{family}, all networks",
            header=(*swept, "networks", "chips", "mean", _INTERVAL, "± trainings", "± chips", "± rest"),
            rows=tuple(
                (
                    *(_value(row[name]) for name in swept),
                    str(row["networks"]),
                    str(row["chips"]),
                    _percent(row["mean"]),
                    _interval(row),
                    *(_percent(row[f"std_{name}"]) for name in ("trainings", "chips", "interaction")),
                )
                for row in rows.to_dict("records")
            ),
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


def _interval(row: dict[Any, Any]) -> str:
    low, high = _percent(row["mean_low"]), _percent(row["mean_high"])
    return f"{low} – {high}" if low and high else ""


def _value(value: Any) -> str:
    """A swept value; a number without the digits that it does not need."""
    if pd.isna(value):
        return ""
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _percent(fraction: Any) -> str:
    return "" if pd.isna(fraction) else f"{100 * fraction:.2f}"


def _widths(table: _Table) -> list[int]:
    return [max(map(len, column)) for column in zip(table.header, *table.rows, strict=True)]


def _footer(tables: Sequence[_Table]) -> str:
    """The notes of all tables, each sentence once."""
    return " ".join(dict.fromkeys(note for table in tables for note in table.notes)) or _NO_TRIALS


def _text(tables: Sequence[_Table], title: str) -> str:
    blocks = [title] if title else []
    for table in tables:
        widths = _widths(table)
        lines = [
            _GAP.join(text.rjust(width) for text, width in zip(row, widths, strict=True)).rstrip()
            for row in (table.header, *table.rows)
        ]
        rule = "─" * len(lines[0])
        blocks.append("\n".join([table.caption, rule, lines[0], rule, *lines[1:], rule]))
    blocks.append(textwrap.fill(_footer(tables), _WIDTH))
    return "\n\n".join(blocks)


def _markdown(tables: Sequence[_Table], title: str) -> str:
    blocks = [f"## {_escape(title, _MARKDOWN)}"] if title else []
    for table in tables:
        rows = [[_escape(text, _MARKDOWN) for text in row] for row in (table.header, *table.rows)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "| " + " | ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) + " |" for row in rows
        ]
        rule = "|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|"
        blocks.append("\n".join([f"**{_escape(table.caption, _MARKDOWN)}**", "", lines[0], rule, *lines[1:]]))
    blocks.append(_escape(_footer(tables), _MARKDOWN))
    return "\n\n".join(blocks)


def _latex(tables: Sequence[_Table], title: str) -> str:
    blocks = [r"% Needs \usepackage{booktabs}."]
    for table in tables:
        name = ": ".join(part for part in (title, table.caption) if part)
        caption = " ".join([f"{name}.", *table.notes])
        rows = [[_escape(text, _LATEX) for text in row] for row in (table.header, *table.rows)]
        lines = [" & ".join(row) + r" \\" for row in rows]
        blocks.append(
            "\n".join(
                [
                    r"\begin{table}[htbp]",
                    r"  \centering",
                    rf"  \caption{{{_escape(caption, _LATEX)}}}",
                    rf"  \begin{{tabular}}{{{'r' * len(table.header)}}}",
                    r"    \toprule",
                    f"    {lines[0]}",
                    r"    \midrule",
                    *(f"    {line}" for line in lines[1:]),
                    r"    \bottomrule",
                    r"  \end{tabular}",
                    r"\end{table}",
                ]
            )
        )
    if not tables:
        blocks.append(_footer(tables))
    return "\n\n".join(blocks)


_LATEX = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "±": r"$\pm$",
    " – ": "--",
    " %": r"~\%",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{character: f"\\{character}" for character in "{}_%&#$"},
}
_MARKDOWN = {character: f"\\{character}" for character in "\\`*_~|<&["}


def _escape(text: str, replacements: dict[str, str]) -> str:
    """Replace in one pass, the earlier key first, so that nothing is escaped twice."""
    result, position = "", 0
    while position < len(text):
        found = next((key for key in replacements if text.startswith(key, position)), None)
        result += text[position] if found is None else replacements[found]
        position += 1 if found is None else len(found)
    return result


_FOR_PEOPLE: dict[str, Callable[[Sequence[_Table], str], str]] = {
    "text": _text,
    "markdown": _markdown,
    "latex": _latex,
}

FORMATS = ("text", "markdown", "csv", "latex", "json")
"""What `render` can make."""

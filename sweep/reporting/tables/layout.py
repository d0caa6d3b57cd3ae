"""Tables as people read them: text, Markdown, LaTeX; HTML is in sweep.reporting.html."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sweep.errors import InputError

WIDTH = 79  # characters of a line of text; what is wider is not broken
_GAP = 2
_WIDEST = 100_000  # for rich, which would break lines or cut them


class Value(NamedTuple):
    """A cell of a table: what is read, and what is sorted by (a number, or None for the text itself)."""

    text: str
    number: float | None = None


@dataclass(frozen=True)
class Table:
    """One table; as text, every column aligns right.

    Attributes:
        caption: what it holds.
        header: a name for each column.
        rows: a value for each column; the first names the row.
        notes: sentences on what the numbers are.
        ids: of the rows' elements, in HTML.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Value]]
    notes: Sequence[str] = ()
    ids: Sequence[str] = ()

    @property
    def texts(self) -> list[Sequence[str]]:
        """The header, and what is read of each row."""
        return [self.header, *([value.text for value in row] for row in self.rows)]

    @property
    def numeric(self) -> list[bool]:
        """Whether there are numbers in each column."""
        return [any(row[i].number is not None for row in self.rows) for i in range(len(self.header))]

    @property
    def width(self) -> int:
        """Columns of a terminal that a line takes, as text."""
        from rich.cells import cell_len

        columns = zip(*self.texts, strict=True)
        return sum(max(map(cell_len, column)) for column in columns) + _GAP * (len(self.header) - 1)


def layout(tables: Sequence[Table], title: str, format: str) -> str:
    """Tables one below the other, then their notes, each sentence once.

    Args:
        tables: in order.
        title: stands above them.
        format: text, markdown or latex; LaTeX needs the package booktabs.

    Raises:
        InputError: `format` is none of these.
    """
    if format not in _FOR_PEOPLE:
        raise InputError(f"format: {format!r} is not one of {', '.join(FORMATS)}")
    return _FOR_PEOPLE[format](tables, title)


def text_table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 0) -> str:
    """A table of plain text, as wide as it must be, on terminals and in files alike: no colour, nothing broken or cut.

    Args:
        header: a name for each column; none at all for rows alone, aligned left, without rules.
        rows: a text for each column, shown as it is.
        left: so many columns with names align left, all others right.
    """
    from rich.box import Box
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    rules = Box(" ── \n    \n ── \n    \n    \n    \n    \n ── \n") if header else None
    grid = Grid(box=rules, padding=(0, _GAP - bool(header), 0, 0), pad_edge=False, show_header=bool(header))
    for column, text in enumerate(header):
        grid.add_column(Text(text), justify="left" if column < left else "right", no_wrap=True)
    for row in rows:
        grid.add_row(*(Text(text, no_wrap=True) for text in row))
    out = io.StringIO()
    Console(file=out, width=_WIDEST, color_system=None, force_terminal=False).print(grid)
    return "\n".join(line[bool(header) :].rstrip() for line in out.getvalue().splitlines())  # the box's sides are blank


def _footer(tables: Sequence[Table]) -> str:
    """The notes of all tables, each sentence once."""
    return " ".join(dict.fromkeys(note for table in tables for note in table.notes)) or "No trials yet."


def _text(tables: Sequence[Table], title: str) -> str:
    blocks = [title] if title else []
    for table in tables:
        blocks.append(f"{table.caption}\n{text_table(table.header, table.texts[1:])}")
    blocks.append(textwrap.fill(_footer(tables), WIDTH))
    return "\n\n".join(blocks)


def _markdown(tables: Sequence[Table], title: str) -> str:
    blocks = [f"## {markdown(title)}"] if title else []
    for table in tables:
        rows = [[markdown(text) for text in row] for row in table.texts]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "| " + " | ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) + " |" for row in rows
        ]
        rule = "|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|"
        blocks.append("\n".join([f"**{markdown(table.caption)}**", "", lines[0], rule, *lines[1:]]))
    blocks.append(markdown(_footer(tables)))
    return "\n\n".join(blocks)


def _latex(tables: Sequence[Table], title: str) -> str:
    blocks = [r"% Needs \usepackage{booktabs}."]
    for table in tables:
        name = ": ".join(part for part in (title, table.caption) if part)
        caption = " ".join([f"{name}.", *table.notes])
        rows = [[_escape(text, _LATEX) for text in row] for row in table.texts]
        lines = [_no_option(" & ".join(row)) + r" \\" for row in rows]
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


def _no_option(line: str) -> str:
    r"""A row that is no part of the \\ before it, which takes a star or an option in brackets."""
    return f"{{}}{line}" if line.startswith(("[", "*")) else line


def _escape(text: str, replacements: dict[str, str]) -> str:
    """Replace in one pass, the earlier key first, so that nothing is escaped twice."""
    return re.sub("|".join(map(re.escape, replacements)), lambda found: replacements[found[0]], text)


def markdown(text: str) -> str:
    """A text as Markdown shows it, whatever stands in it."""
    return _escape(text, _MARKDOWN)


_FOR_PEOPLE: dict[str, Callable[[Sequence[Table], str], str]] = {
    "text": _text,
    "markdown": _markdown,
    "latex": _latex,
}
FOR_PROGRAMS = ("csv", "json")
FORMATS = ("text", "markdown", "csv", "latex", "json")

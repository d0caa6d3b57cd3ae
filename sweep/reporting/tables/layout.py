"""Tables of texts as people read them: text, Markdown, LaTeX."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sweep.errors import InputError

WIDTH = 79
GAP = "  "
_NO_TRIALS = "No trials yet."


@dataclass(frozen=True)
class Table:
    """One table of texts; every column aligns right.

    Attributes:
        caption: what it holds.
        header: a name for each column.
        rows: a text for each column.
        notes: sentences on what the numbers are.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Characters of a line, as text."""
        return sum(_widths(self)) + len(GAP) * (len(self.header) - 1)


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


def _widths(table: Table) -> list[int]:
    return [max(map(len, column)) for column in zip(table.header, *table.rows, strict=True)]


def _footer(tables: Sequence[Table]) -> str:
    """The notes of all tables, each sentence once."""
    return " ".join(dict.fromkeys(note for table in tables for note in table.notes)) or _NO_TRIALS


def _text(tables: Sequence[Table], title: str) -> str:
    blocks = [title] if title else []
    for table in tables:
        widths = _widths(table)
        lines = [
            GAP.join(text.rjust(width) for text, width in zip(row, widths, strict=True)).rstrip()
            for row in (table.header, *table.rows)
        ]
        rule = "─" * len(lines[0])
        blocks.append("\n".join([table.caption, rule, lines[0], rule, *lines[1:], rule]))
    blocks.append(textwrap.fill(_footer(tables), WIDTH))
    return "\n\n".join(blocks)


def _markdown(tables: Sequence[Table], title: str) -> str:
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


def _latex(tables: Sequence[Table], title: str) -> str:
    blocks = [r"% Needs \usepackage{booktabs}."]
    for table in tables:
        name = ": ".join(part for part in (title, table.caption) if part)
        caption = " ".join([f"{name}.", *table.notes])
        rows = [[_escape(text, _LATEX) for text in row] for row in (table.header, *table.rows)]
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
    result, position = "", 0
    while position < len(text):
        found = next((key for key in replacements if text.startswith(key, position)), None)
        result += text[position] if found is None else replacements[found]
        position += 1 if found is None else len(found)
    return result


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

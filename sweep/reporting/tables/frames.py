"""Any data frame as people read it (intervals in one column, percent, short numbers) and as programs do (CSV, JSON)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sweep.errors import printable
from sweep.reporting.tables.layout import Table, Value
from sweep.texts import number, percent

_FORMULA = ("=", "+", "-", "@")  # what a formula begins with, in one spreadsheet or another


class Answer(NamedTuple):
    """One table that answers a question.

    Attributes:
        name: of its files.
        title: the question, for people.
        table: the figures; accuracies are fractions.
        note: a sentence on what they are.
        percent: columns of fractions that people read in percent.
    """

    name: str
    title: str
    table: pd.DataFrame
    note: str
    percent: tuple[str, ...] = ()


def as_table(answer: Answer) -> Table:
    """What people read of an answer.

    A column `x` with its limits `x_low` and `x_high` becomes two, the value and its 95 % interval; the column `cell`,
    columns without any value, and `model` where there is only one are left out.
    """
    columns = list(_columns(answer.table))
    rows = [
        [_value(row, keys, owner in answer.percent) for _, keys, owner in columns]
        for row in answer.table.to_dict("records")
    ]
    return Table(answer.title, [header for header, _, _ in columns], rows, (answer.note,))


def for_programs(frame: pd.DataFrame, format: str) -> str:
    """A data frame as CSV or as JSON (a list of objects), with every digit; missing values are empty or null.

    In CSV, a text that a spreadsheet would compute, because it begins like a formula, begins with an apostrophe, and
    control characters are written out.
    """
    if format == "csv":
        return _unmoving(frame).to_csv(index=False, lineterminator="\n").removesuffix("\n")
    # pandas' own writer keeps 15 digits, too few to give a float64 back.
    records = [
        {str(name): _scalar(value) for name, value in zip(frame.columns, row, strict=True)}
        for row in frame.itertuples(index=False, name=None)
    ]
    return json.dumps(records, indent=2, ensure_ascii=False, allow_nan=False)


def _unmoving(frame: pd.DataFrame) -> pd.DataFrame:
    """Names and texts that no spreadsheet takes for formulas."""
    return pd.DataFrame(
        {
            _no_formula(name): column if pd.api.types.is_numeric_dtype(column) else column.map(_no_formula)
            for name, column in frame.items()
        }
    )


def _no_formula(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _scalar(value: Any) -> Any:
    """A scalar of a data frame as JSON knows it; what is not finite as text."""
    if pd.isna(value):
        return None
    plain = value.item() if hasattr(value, "item") else value
    return str(plain) if isinstance(plain, float) and math.isinf(plain) else plain


def _columns(frame: pd.DataFrame) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Heading, the columns that stand below it (one, or the two limits), and whose value or limits they are."""
    names = [str(name) for name in frame.columns]
    limits = {f"{name}{end}" for name in names for end in ("_low", "_high") if f"{name}_low" in names}
    for name in names:
        alone = name == "cell" or (name == "model" and frame[name].nunique() < 2)
        if name in limits or alone or not _says_something(frame[name]):
            continue
        yield name.replace("_", " "), (name,), name
        if f"{name}_low" in limits and _says_something(frame[f"{name}_low"]):
            yield "95 % interval", (f"{name}_low", f"{name}_high"), name


def _says_something(column: pd.Series) -> bool:
    return bool((column.notna() & (column.astype(object) != "")).any())


def _value(row: dict[Any, Any], keys: tuple[str, ...], fraction: bool) -> Value:
    parts = [_plain(row[key], fraction) for key in keys]
    texts = [part.text for part in parts]
    if len(parts) == 1 or not any(texts):
        return parts[0]
    return Value(" – ".join(text or "?" for text in texts), parts[0].number)


def _plain(value: Any, fraction: bool) -> Value:
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return Value("")
    if isinstance(value, bool | np.bool_):
        return Value("yes" if value else "no")
    if isinstance(value, int | float | np.number):
        if fraction:
            return Value(percent(float(value)), 100 * float(value))
        return Value(number(float(value), 4), float(value))
    return Value(str(value))

"""The tables of the page: cells, answers, and where the figures come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from sweep.data.measure import Measure
from sweep.data.measures import ACCURACY
from sweep.reporting.chips import is_whole
from sweep.reporting.labels import Labels, value_text
from sweep.reporting.tables.columns import columns_of, notes
from sweep.reporting.tables.layout import Table, Value
from sweep.reporting.tables.summary_tables import cell_table
from sweep.texts import duration


def cell_tables(
    summary: pd.DataFrame, parameters: Sequence[str], ids: dict[str, str], labels: Labels, measure: Measure = ACCURACY
) -> Iterator[Table]:
    """The cells of a measure's summary, a table for each family and model; `ids` of the rows by cell, if any."""

    def said(name: str, value: Any) -> Value:
        number = None if pd.isna(value) or isinstance(value, str | bool) else float(value)
        return Value("" if pd.isna(value) else value_text(name, value, labels), number)

    several_models = summary["model"].nunique() > 1
    for (family, model), cells in summary.groupby(["family", "model"], sort=False):
        swept = [name for name in parameters if cells[name].notna().any()]
        caption = f"{family}, model {model}" if several_models else str(family)
        own = [ids[cell] for cell in cells["cell"]] if ids else []
        yield cell_table(caption, cells, swept or ["family"], said, False, own, measure)


def cell_notes(summary: pd.DataFrame, parameters: Sequence[str], measure: Measure = ACCURACY) -> list[str]:
    """What the columns of these tables are, a sentence each; none twice."""
    swept = [name for name in parameters if summary[name].notna().any()]
    said = [
        note
        for _, cells in summary.groupby(["family", "model"], sort=False)
        for note in notes(cells, columns_of(cells, False, measure), swept, measure)
    ]
    return list(dict.fromkeys(said))


def effort_table(spent: pd.DataFrame, names: Mapping[str, str]) -> Table:
    """What the mean of each cell took; `spent` is what `effort` returns, `names` are those of cells by id."""

    def seconds(value: float) -> Value:
        return Value("") if pd.isna(value) else Value(duration(value, 2), float(value))

    def known(value: float, text: str) -> Value:
        return Value("") if pd.isna(value) else Value(text.format(value), float(value))

    rows = [
        [
            Value(names[row["cell"]]),
            Value(f"{row['sampled']:,}", float(row["sampled"])),
            known(row["images"], "{:.3g}"),
            known(100 * row["half_width"], "{:.3f}"),
            seconds(row["seconds"]),
            known(row["whole"], "{:,.0f}"),
            seconds(row["whole_seconds"]),
            known(row["times"], "{:,.0f}" if row["times"] >= 10 else "{:.2g}"),
        ]
        for row in spent.to_dict("records")
    ]
    header = (
        *("cell", "sampled chips", "images each", "± mean, points", "worker time"),
        *("whole chips for the same", "their time, about", "times as much"),
    )
    return Table("What the means took", header, rows)


def facts(manifest: Mapping[str, Any], trials: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Versions, digests and times of a run, each with its name."""
    for name, version in sorted(manifest.get("versions", {}).items()):
        yield f"version of {name}, where the run was started", version
    if "study_digest" in manifest:
        yield "SHA-256 of the study", manifest["study_digest"]
    for name, digest in manifest.get("identity", {}).get("files", {}).items():
        yield f"SHA-256 of {name}", digest
    yield "shards", f"{len(manifest.get('shards', [])):,}"
    for name in ("started", "finished"):
        if manifest.get(name):
            yield f"{name}, UTC", manifest[name]
    if "wall_seconds" in manifest:
        yield "wall-clock time, resumptions included", duration(float(manifest["wall_seconds"]))
    yield "time in trials, all workers together", duration(float(trials["seconds"].sum()))


def work_tables(manifest: Mapping[str, Any], trials: pd.DataFrame) -> Iterator[Table]:
    """The hosts of a run, and what each of them did."""
    hosts = sorted(manifest.get("hosts", []), key=lambda host: sorted(host.items()))
    if hosts:
        columns = list(dict.fromkeys(name for host in hosts for name in host))
        yield Table("Hosts", columns, [[Value(host.get(name, "")) for name in columns] for host in hosts])
    keys = ["host", "device", "engine", *(() if is_whole(trials).all() else ("n_images",))]
    work = trials.groupby(keys, dropna=False)["seconds"].agg(["size", "sum", "mean"])
    rows = [
        [
            *(Value("" if pd.isna(name) else str(name)) for name in names),
            Value(f"{int(count):,}", float(count)),
            Value(f"{total:.1f}", float(total)),
            Value(f"{1000 * each:.1f}", float(each)),
        ]
        for names, count, total, each in work.itertuples(name=None)
    ]
    yield Table(
        "Work done", [*(key.replace("n_", "") for key in keys), "trials", "worker time (s)", "a trial (ms)"], rows
    )

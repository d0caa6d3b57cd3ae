"""Where the figures of a page come from: versions, digests, hosts, time."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from sweep.reporting.html.tables import table
from sweep.reporting.tables.frames import Value
from sweep.texts import duration


def provenance(manifest: Mapping[str, Any], trials: pd.DataFrame) -> str:
    """In HTML: a list of facts, the hosts, and what each of them did."""
    facts = "\n".join(f"<dt>{html.escape(name)}</dt><dd>{value}</dd>" for name, value in _facts(manifest, trials))
    return "\n".join([f'<dl class="facts">\n{facts}\n</dl>', _hosts(manifest), _work(trials)])


def _facts(manifest: Mapping[str, Any], trials: pd.DataFrame) -> Iterator[tuple[str, str]]:
    versions = manifest.get("versions", {})
    for name in sorted(versions):
        yield f"version of {name}, where the run was started", html.escape(str(versions[name]))
    if "study_digest" in manifest:
        yield "SHA-256 of the study", f"<code>{html.escape(str(manifest['study_digest']))}</code>"
    for name, digest in manifest.get("identity", {}).get("files", {}).items():
        yield f"SHA-256 of {name}", f"<code>{html.escape(str(digest))}</code>"
    yield "shards", f"{len(manifest.get('shards', [])):,}"
    for name in ("started", "finished"):
        if manifest.get(name):
            yield f"{name}, UTC", html.escape(str(manifest[name]))
    if "wall_seconds" in manifest:
        yield "wall-clock time, resumptions included", duration(float(manifest["wall_seconds"]))
    if "seconds" in trials:
        yield "time in trials, all workers together", duration(float(trials["seconds"].sum()))


def _hosts(manifest: Mapping[str, Any]) -> str:
    hosts = sorted(manifest.get("hosts", []), key=lambda host: sorted((str(k), str(v)) for k, v in host.items()))
    if not hosts:
        return ""
    columns = list(dict.fromkeys(str(name) for host in hosts for name in host))
    return table("Hosts", columns, [[Value(str(host.get(name, ""))) for name in columns] for host in hosts])


def _work(trials: pd.DataFrame) -> str:
    keys = [name for name in ("host", "device", "engine") if name in trials]
    if not keys or "seconds" not in trials:
        return ""
    work = trials.groupby(keys, dropna=False)["seconds"].agg(["size", "sum", "mean"])
    rows = [
        [
            *(Value("" if pd.isna(name) else str(name)) for name in (names if isinstance(names, tuple) else (names,))),
            Value(f"{int(count):,}", float(count)),
            Value(f"{total:.1f}", float(total)),
            Value(f"{1000 * each:.1f}", float(each)),
        ]
        for names, count, total, each in work.itertuples(name=None)
    ]
    return table("Work done", [*keys, "trials", "worker time (s)", "a trial (ms)"], rows)

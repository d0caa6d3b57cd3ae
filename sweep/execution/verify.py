"""Is a run what it says? Every shard against its checksum, and a sample of trials evaluated again."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sweep.data.measures import is_exact
from sweep.engine.machine import width
from sweep.errors import InputError, OtherStudyError, SweepError, UntrustedError
from sweep.execution.job import Job
from sweep.execution.plan import Chunk, kind_of
from sweep.execution.resume import survey_of
from sweep.execution.trials import Trial
from sweep.execution.worker import evaluate_chunk
from sweep.networks.backend import library
from sweep.preparation.inputs import Prepared, prepare
from sweep.storage.kept import Trust, read_study, trusted_study
from sweep.storage.store import Store
from sweep.study.study import Study, digest

Different = tuple[Trial, str, str]
TOLERANCE = 1e-4
"""Of a measure that is made of scores, between one way to evaluate and another: a share of its size."""
ROUNDED = 1e-3
"""Of a trial's decisions that another kind of device or width of processor may turn: deep networks whose data flow is
rounded reach it (docs/engine.md), others stay far below."""


@dataclass(frozen=True)
class Verdict:
    """What a check found.

    Attributes:
        shards: how many were read.
        damaged: those that cannot be trusted, each with what is wrong.
        repaired: whether they were set aside.
        trials: how many were evaluated again.
        different: those with another count, or value of a measure, as (trial, stored, now).
        moved: those that were evaluated on another kind of device or width of processor, and have another count, by no
            more than rounding may turn; as (trial, stored, now).
        decisions: so many decisions of these, at least, are others.
        withheld: why no trial was evaluated again, though that was asked for.
    """

    shards: int
    damaged: dict[str, str]
    repaired: bool
    trials: int
    different: tuple[Different, ...]
    withheld: str = ""
    moved: tuple[Different, ...] = ()
    decisions: int = 0

    @property
    def sound(self) -> bool:
        """Whether nothing that was looked at is wrong, or no longer."""
        return not self.different and (self.repaired or not self.damaged)

    def __str__(self) -> str:
        good = self.shards - len(self.damaged)
        lines = [f"{good:,} of {self.shards:,} shards are as they were committed"]
        lines += [f"  {problem}" for problem in self.damaged.values()]
        if self.repaired and self.damaged:
            lines.append("  set aside in damaged/; `sweep run` computes them again")
        same = self.trials - len(self.different) - len(self.moved)
        if self.trials:
            lines.append(f"{same:,} of {self.trials:,} trials evaluated again have the same count")
        if self.moved:
            lines.append(
                f"{len(self.moved):,} of them, evaluated on another kind of device or processor then, differ by "
                f"{self.decisions:,} decisions in all, within rounding"
            )
            lines += [f"  {c} at seed {s}: {old} stored, {new} now" for (c, s), old, new in self.moved]
        if self.withheld:
            lines.append(f"no trial evaluated again: {self.withheld}")
        lines += [f"  {c} at seed {s}: {old} stored, {new} now" for (c, s), old, new in self.different]
        return "\n".join(lines)


def verify(
    place: str | Path,
    sample: int = 10,
    repair: bool = False,
    trust_model: bool = False,
    trust_plugins: Trust = False,
) -> Verdict:
    """Check a run folder.

    Trials are evaluated again by plain Keras; those of cells that round or disturb the data flow as they were, because
    there another order of summing may take an activation over the border between two levels.

    Args:
        place: the run folder.
        sample: trials to evaluate again, spread evenly over the run; 0 for none. This needs the study's files.
        repair: set damaged shards aside, so that the next `sweep run` computes just those.
        trust_model: load model files without checks, as in `sweep.api.run`.
        trust_plugins: whether to run the plugins that the folder brings, or who is asked; without them, the trials of a
            run that has some are not evaluated again.

    Raises InputError when there is no run, or its files are not those of the run; OtherStudyError, and sets nothing
    aside, when its study.toml is of another study than its manifest.
    """
    store = Store.open(place)
    try:
        store.expect(read_study(store))
    except OtherStudyError:
        raise  # every shard would seem damaged
    except SweepError:
        pass  # shards are checked all the same; what is wrong is said below, or by readers
    study_digest = store.manifest.get("study_digest", "")
    damaged = store.damaged(study_digest)
    shards = len({*store.shards, *damaged})
    if damaged and repair:
        store.set_aside(damaged)
    for name in damaged:
        store.shards.pop(name, None)
    if not sample:
        return Verdict(shards, damaged, repair, 0, ())
    try:
        study = trusted_study(store, trust_plugins)
    except UntrustedError as error:
        return Verdict(shards, damaged, repair, 0, (), str(error))
    found = _again(store, study, sample, trust_model)
    moved = {trial: apart for trial, _, _, apart in found.different if apart is not None}
    different = tuple((trial, old, new) for trial, old, new, apart in found.different if apart is None)
    others = tuple((trial, old, new) for trial, old, new, apart in found.different if apart is not None)
    return Verdict(shards, damaged, repair, found.trials, different, moved=others, decisions=sum(moved.values()))


class _Again(NamedTuple):
    """How many trials were evaluated again; those that differ, and where that is rounding, by how many decisions."""

    trials: int
    different: list[tuple[Trial, str, str, int | None]]


def _again(store: Store, study: Study, sample: int, trust: bool) -> _Again:
    table = store.table()
    if table is None:
        return _Again(0, [])
    prepared = prepare(study, trust)
    if digest(prepared.identity) != store.manifest.get("study_digest"):
        raise InputError(f"{store.folder.uri}: its networks, dataset or plugins are not the files that are there now")
    study = prepared.study
    rows = table.select(
        ["cell", "seed", "n_correct", "n_images", "host", "device", "engine", *study.further]
    ).to_pylist()
    rows.sort(key=lambda row: (row["cell"], row["seed"]))
    rows = [rows[i * len(rows) // sample] for i in range(sample)] if len(rows) > sample else rows
    stored = {(row["cell"], row["seed"]): row for row in rows}
    cells = {cell.id: cell for cell in study.cells}
    groups: dict[tuple[str, str, str], list[Trial]] = {}
    for row in rows:
        engine = row["engine"] if prepared.flow.get(row["cell"]) else "plain"
        cell = cells[row["cell"]]
        groups.setdefault((cell.model, cell.dataset, engine), []).append((row["cell"], row["seed"]))
    different: list[tuple[Trial, str, str, int | None]] = []
    here = width()
    others = {
        h.get("host")
        for h in store.manifest.get("hosts", [])
        if h.get("width", here) != here or ("jax" in h) is not (library() == "jax")
    }
    for (*place, engine), trials in groups.items():
        expected = Counter(name for name, _ in trials)
        job = Job.of(prepared, engine=engine, survey=survey_of(prepared, store.folder), expected=expected)
        for row in _evaluated(job, prepared, place, trials):
            trial = (row["cell"], row["seed"])
            was = stored[trial]
            changed = [name for name in ("n_correct", *study.further) if not _same(name, was, row)]
            if changed:
                name = changed[0]
                elsewhere = was["device"] not in (row["device"], None) or was["host"] in others
                apart = [_apart(name, was, row) if elsewhere else None for name in changed]
                most = None if None in apart else max(filter(None, apart), default=0)
                what = "" if name == "n_correct" else f"{name} "
                different.append((trial, f"{what}{was[name]}", f"{row[name]}", most))
    return _Again(len(stored), different)


def _same(name: str, stored: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    before, after = stored[name], now[name]
    if name == "n_correct" or is_exact(name) or before is None or after is None:
        return bool(before == after)
    return math.isclose(before, after, rel_tol=TOLERANCE, abs_tol=TOLERANCE**2)


def _apart(name: str, stored: Mapping[str, Any], now: Mapping[str, Any]) -> int | None:
    """By how many decisions at least a trial differs from itself; None where that is more than rounding turns."""
    before, after, images = stored[name], now[name], stored["n_images"]
    if before is None or after is None or not (name == "n_correct" or is_exact(name)):
        return None
    apart = abs(before - after) if name == "n_correct" else round(images * abs(before - after))
    return apart if apart <= max(1, ROUNDED * images) else None


def _evaluated(job: Job, prepared: Prepared, place: Sequence[str], trials: list[Trial]) -> Iterator[dict[str, Any]]:
    """Trials of the model and the test set of these two labels."""
    model, dataset = place
    for _, alike in itertools.groupby(sorted(trials, key=kind_of), kind_of):
        chunk = Chunk(model, tuple(alike), dataset)
        yield from evaluate_chunk(job, prepared.models[model], prepared.datasets[dataset], chunk)[0].to_pylist()

"""What each command does, as functions that a notebook can call."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from sweep.errors import InputError, hint
from sweep.reporting.tables.layout import text_table
from sweep.study.paths import in_run_folder

if TYPE_CHECKING:  # each function imports what it needs: a command's help is there at once
    from sweep.execution.runner import Runner
    from sweep.preparation.inputs import Prepared
    from sweep.reporting.run import Run
    from sweep.storage.kept import Trust
    from sweep.study.study import Study

Found = TypeVar("Found")
MANY_TRIALS = 1_000_000  # of a study: to be confirmed
MOST_TRIALS = 100_000_000  # at a time: the driver holds what is missing, 12 bytes each, and sorts it
RUNS = "results"  # runs lie in a folder of this name below the current directory, unless `out` says otherwise


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes:
        study: the study.
        folder: the run folder.
        trials: trials that the study asks for.
        done: how many of them are committed there.
        means: what is asked for of the means, and what it will probably take; nothing where nothing is.
        images: what goes into each network; nothing where only the folder is read.
        reached: what the families reach in it; likewise.
        memory: what a worker takes of it; likewise.
        running: who runs it now, each line with its heading.
        finished: whether nothing is missing; where only the folder is read.
        chips: the files that chips are in, a line for each set of them.
        state: of the run, in words, or how the study has changed since it was begun.
    """

    study: Study
    folder: str
    trials: int
    done: int
    means: Sequence[str] = ()
    images: Sequence[str] = ()
    reached: Sequence[str] = ()
    state: str = ""
    memory: str = ""
    running: Sequence[tuple[str, str]] = ()
    finished: bool = False
    chips: Sequence[str] = ()

    def __str__(self) -> str:
        study, cells = self.study, self.study.cells
        sets = f", test sets {len(study.datasets)}" if len(study.datasets) > 1 else ""
        random = sum(cell.random for cell in cells)
        seeds = len(study.seed_range)
        chips = f"{random} with {seeds} seeds each" if seeds else f"{random} with random chips"
        return text_table(
            (),
            [
                ("study", f"{study.name}: models {len(study.models)}{sets}, families {len(study.family)}"),
                ("cells", f"{len(cells)}: {chips}, {len(cells) - random} without randomness, one trial each"),
                ("trials", f"{self.trials:,}: {self.done:,} done, {self.trials - self.done:,} to do"),
                *(("means", line) for line in self.means),
                *([("state", self.state)] if self.state else []),
                *self.running,
                ("folder", self.folder),
                *(("images", line) for line in self.images),
                *(("chips", line) for line in self.chips),
                *([("memory", self.memory)] if self.memory else []),
                *(("reached", line) for line in self.reached),
            ],
        )


def prepared_of(
    study: Study | str | Path,
    seeds: int | Mapping[str, int] | None,
    precision: float | None,
    trust: bool,
    trust_plugins: Trust,
) -> Prepared:
    """A study with its files read and checked, over `seeds` and to a `precision` instead of its own where given.

    One that lies in a run folder takes its plugins from there, when they are trusted. InputError names every mistake in
    the study and in all its files.
    """
    from sweep.preparation.inputs import prepare
    from sweep.storage.kept import trusted_study
    from sweep.storage.store import Store
    from sweep.study.study import parse_file

    if isinstance(study, str | Path):
        if not in_run_folder(str(study)):
            return prepare(parse_file(study).over(seeds, precision), trust)
        found = trusted_study(Store.open(Path(study).parent), trust_plugins)
    else:
        found = study.with_code()
    return prepare(found.over(seeds, precision), trust)


def run(
    study: Study | str | Path,
    out: str | Path | None = None,
    *,
    seeds: int | Mapping[str, int] | None = None,
    precision: float | None = None,
    address: str | None = None,
    workers: int | None = None,
    gpus: float = 0.0,
    device: str | None = None,
    labels: Mapping[str, str] | None = None,
    runner: Literal["ray", "inline"] = "ray",
    chunk_trials: int | None = None,
    threads: int = 1,
    engine: Literal["plain", "stacked", "compiled"] | None = None,
    backend: Literal["tensorflow", "jax"] | None = None,
    deadline: float | None = None,
    trust_model: bool = False,
    trust_plugins: Trust = False,
    insecure_cluster: bool = False,
    memory: int | None = None,
    wait_for_nodes: int | None = None,
    log: Literal["json"] | None = None,
    confirm: Callable[[int], bool] | None = None,
) -> Run:
    """Run what is missing of a study; write trials, summary and figures into the run folder.

    Args:
        study: a study or the path of its file.
        out: the run folder, a local path or a URI (`s3://`, `gs://`, `az://`); default `results/<name>`.
        seeds: instead of the study's own: a count, or `{"start": 200, "count": 800}`.
        precision: instead of the study's own: the half-width of the 95 % interval of each mean, in points, or in the
            unit of a measure that is no fraction; a finished run is sharpened by what is missing.
        address: of a Ray cluster; None starts a local Ray for this call.
        workers: tasks at a time; None uses every core (or GPU share) there is.
        gpus: GPUs that a task asks for; a fraction lets tasks share one.
        device: what evaluates: "cpu", "gpu", "gpu:TYPE" (such as "gpu:A100", as the cluster calls it), "auto" (a GPU
            where each node has one; a CPU where the run was begun on CPUs) or "mixed" (as "auto", but with trials by
            CPUs and by GPUs, which may take near ties otherwise, in one run). None for "gpu" with `gpus`, else for
            "cpu", or with runner "inline" for "auto".
        labels: that nodes of a cluster must have to take part, such as `{"market-type": "spot"}`; values as of Ray's
            label selectors.
        runner: "inline" evaluates in the calling process, without Ray.
        chunk_trials: trials of a task; None makes tasks of some seconds.
        threads: TensorFlow threads of a task.
        engine: how to evaluate; None takes what is clearly the fastest, where measuring that pays. The counts do not
            depend on it, but where the data flow is rounded (docs/engine.md).
        backend: the library whose tensors Keras uses, here and in the workers: "jax" evaluates on GPUs where TensorFlow
            sees none, and needs `noisesweep[jax]`; None for what `KERAS_BACKEND` says, else "tensorflow". One process
            uses one.
        deadline: seconds after which a task is given up, in Ray; None for half an hour.
        trust_model: load model files without the checks of `sweep.networks.checks.safety`: code stored in them may run.
        trust_plugins: for a study file that lies in a run folder: run the plugins that lie there, too. Or who is asked,
            given what would run.
        insecure_cluster: also use a cluster on other machines that takes work from anyone, without a token.
        memory: bytes that a worker may take; None shares what this machine has, of which it holds images of at most
            1 GiB. There are fewer workers where memory is short.
        wait_for_nodes: of a cluster: begin once so many nodes that can run a task have joined, for which its autoscaler
            is asked; within 15 minutes. Nodes that are all lost later on are waited for as long.
        log: "json" says what goes on in a JSON object a line on standard error, instead of a display for people.
        confirm: asked about the number of trials when it is above a million; None runs them.

    Raises:
        InputError: every mistake in the study and its files, before anything is computed.
        TaskError, StoreError, Interrupted: see there; what is committed stays, and the same call goes on.
    """
    from sweep.execution import driver
    from sweep.execution.devices import Wish
    from sweep.execution.memory import room_for
    from sweep.execution.plan import count_wanted
    from sweep.execution.resume import keeping
    from sweep.execution.runner import InlineRunner
    from sweep.networks.backend import hide_gpus, use
    from sweep.reporting.run import Run

    if wait_for_nodes is not None and (address is None or runner == "inline" or wait_for_nodes < 1):
        raise InputError(f"--wait-for-nodes {wait_for_nodes}: one node or more of a Ray cluster; give its --address")
    wish = Wish.of(device, gpus, labels, inline=runner == "inline")
    if backend is not None:
        use(backend)
    if runner == "inline" and wish.kind == "cpu":
        hide_gpus()
    prepared = prepared_of(study, seeds, precision, trust_model, trust_plugins)
    _confirm(prepared, count_wanted(prepared.study), confirm)
    folder = out or Path(RUNS) / prepared.study.name
    room = room_for(prepared, memory, 1 if runner == "inline" else workers, runner == "inline" or address is None)
    chosen: Runner
    if runner == "inline":
        chosen = InlineRunner(wish, prepared.networks.values())
    else:
        from sweep.execution.ray.cluster import RayRunner

        chosen = RayRunner(address, room.workers, wish, insecure_cluster, memory or 0, wait_for_nodes or 0)
    with keeping(folder):
        store = driver.run(
            prepared,
            folder,
            chosen,
            chunk_trials=chunk_trials,
            threads=threads,
            engine=engine,
            deadline=deadline,
            memory=room.images,
            wish=wish,
            log=log,
        )
        finished = Run(store)
        finished.write_summary()
    return finished


def plan(
    study: Study | str | Path,
    out: str | Path | None = None,
    *,
    seeds: int | Mapping[str, int] | None = None,
    precision: float | None = None,
    trust_model: bool = False,
    trust_plugins: Trust = False,
    memory: int | None = None,
    workers: int | None = None,
    address: str | None = None,
) -> Plan:
    """What `run` would do, after the same checks; computes nothing and writes nothing."""
    from sweep.execution.means import Means
    from sweep.execution.memory import room_for
    from sweep.execution.plan import count_done, count_wanted
    from sweep.execution.resume import open_store, present
    from sweep.preparation.reach import reach

    prepared = prepared_of(study, seeds, precision, trust_model, trust_plugins)
    study = prepared.study
    store, growth = open_store(prepared, out or Path(RUNS) / study.name)
    have = present(store, study.main, growth)
    means, done = Means(study, have.sampled()).said([*map(len, prepared.datasets.values())]), count_done(study, have)
    reached = reach(study, prepared.networks, prepared.flow)
    changed = str(growth) if growth else ""
    room = str(room_for(prepared, memory, workers, address is None))
    return Plan(
        study,
        store.folder.uri,
        count_wanted(study),
        done,
        means,
        prepared.fed(),
        reached,
        changed,
        room,
        chips=prepared.chips(),
    )


def status(place: str | Path, trust_plugins: Trust = False) -> Plan:
    """How far a run is and whether it goes on, from its folder alone; `trust_plugins` as in `open_run`."""
    from sweep.execution.means import Means
    from sweep.execution.plan import count_done, count_wanted
    from sweep.execution.resume import present, remaining
    from sweep.reporting.run import open_run
    from sweep.storage.drivers import Ear, state

    found = open_run(place, trust_plugins)
    have = present(found.store, found.study.main)
    done, means = count_done(found.study, have), Means(found.study, have.sampled()).said()
    drivers = Ear(found.store.folder).drivers()
    missing = bool(remaining(found.study, have))
    going_on = state(found.store.manifest, drivers, missing)
    running = [line for heard in drivers if heard.lives for line in heard.driver.lines()]
    return Plan(
        found.study,
        found.store.folder.uri,
        count_wanted(found.study),
        done,
        means,
        state=going_on,
        running=running,
        finished=not missing,
    )


def submit(
    study: str | Path,
    out: str,
    address: str,
    *,
    seeds: int | Mapping[str, int] | None = None,
    precision: float | None = None,
    gpus: float = 0.0,
    device: str | None = None,
    labels: Mapping[str, str] | None = None,
    trust_model: bool = False,
    insecure_cluster: bool = False,
    options: Sequence[str] = (),
    confirm: Callable[[int], bool] | None = None,
) -> str:
    """Check a study, and hand its driver to the job server of a Ray cluster; returns the job's id, and does not wait.

    Args:
        study: the path of its file; what travels with it, see `sweep.execution.parcel.parcel`.
        out: the run folder: the URI of an object store, or an absolute path, that this machine and the cluster see.
        address: of the job server, such as http://HOST:8265, or of the head, HOST:6379.
        options: of `sweep run`, as on the command line, with those of the following that it has; these are checked.
        seeds, precision, gpus, device, labels, trust_model, insecure_cluster, confirm: as in `run`.

    Raises:
        InputError: every mistake in the study and its files; `out` is no such place; too much would travel.
        SweepError: the job server does not answer or take the job.
    """
    from sweep.execution.devices import Wish
    from sweep.execution.parcel import parcel
    from sweep.execution.plan import count_wanted
    from sweep.execution.ray import submission
    from sweep.storage.paths import OBJECT_STORES

    if out.partition("://")[0] not in OBJECT_STORES and not Path(out).is_absolute():
        valid = ", ".join(f"{scheme}://" for scheme in OBJECT_STORES)
        raise InputError(f"--out {out}: give a place that the cluster sees, too: {valid}, or an absolute path")
    Wish.of(device, gpus, labels)
    prepared = prepared_of(study, seeds, precision, trust_model, False)
    packed = parcel(prepared)
    _confirm(prepared, count_wanted(prepared.study), confirm)
    return submission.submit(packed, ["--out", out, *options, "--yes"], address, insecure_cluster)


def _confirm(prepared: Prepared, trials: int, confirm: Callable[[int], bool] | None) -> None:
    """Raise InputError where a study asks for too many trials, or for more than were confirmed."""
    if trials > MOST_TRIALS:
        raise InputError(
            f"{prepared.study.source}: asks for {trials:,} trials, more than {MOST_TRIALS:,} at a time; "
            "run ranges of seeds one after the other into one folder: --seeds 0:1000, then --seeds 1000:2000, …"
        )
    if trials > MANY_TRIALS and confirm and not confirm(trials):
        raise InputError(f"{prepared.study.source}: asks for {trials:,} trials; say --yes to run so many")


def catalogue(op: str | None = None, plugins: Sequence[str] = ()) -> str:
    """Formula, parameters, units, source and other names of every transform, or of one; Markdown.

    `plugins` are files of your own, which are run; without an `op`, their transforms alone are described.

    Raises InputError when there is no such transform, or when a plugin cannot be used.
    """
    from sweep.perturb import REGISTRY
    from sweep.perturb import catalogue as pages
    from sweep.study.plugins import load_plugins, loaded, ops_of

    own = sorted(ops_of(loaded(load_plugins(plugins, "catalogue").values())))
    if op is None:
        return "\n".join(pages.entry(REGISTRY[name]) + "\n" for name in own) or pages.catalogue()
    if op not in REGISTRY:
        raise InputError(f"no op {op!r}; valid: {', '.join(sorted(REGISTRY))}{hint(op, REGISTRY)}")
    return pages.entry(REGISTRY[op]) + "\n"


def schema() -> str:
    """The JSON Schema of study files, by which editors complete and check them."""
    from sweep.study.schema import json_schema

    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"

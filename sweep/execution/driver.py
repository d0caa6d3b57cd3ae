"""From a checked study to its committed trials: plan what is missing, submit, watch, finish."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweep.data.decisions import chance_warning, is_near_chance, shortfall
from sweep.data.measures import ACCURACY
from sweep.engine.budget import HELD_BYTES
from sweep.errors import NondeterminismError, StoreError, TaskError, UnexpectedError, VersionError
from sweep.execution.controlled import gradients_of
from sweep.execution.devices import DEVICES, Wish, bare, devices_of, joined_by, of_several_widths
from sweep.execution.failures import Failures, Nodes, said
from sweep.execution.growth import Growth
from sweep.execution.hosts import versions
from sweep.execution.job import Job, Outcome
from sweep.execution.log import Log
from sweep.execution.means import Means
from sweep.execution.plan import (
    DEADLINE_SECONDS,
    FACTORS,
    FEW,
    PILOT,
    Chunk,
    Cutter,
    count_wanted,
    missing,
    of_each_worker,
    sizes,
)
from sweep.execution.progress import Progress
from sweep.execution.pulse import Pulse
from sweep.execution.resume import open_store, present, remaining, survey_of
from sweep.execution.runner import Runner
from sweep.execution.sampled import FEWEST, HALF
from sweep.execution.trials import Trial
from sweep.networks.backend import LIBRARIES, library
from sweep.preparation.inputs import Prepared
from sweep.preparation.resolved import resolved_table
from sweep.signals import stopping, whole
from sweep.storage.kept import described, described_measures
from sweep.storage.manifest import Clock
from sweep.storage.merge import gather, merge
from sweep.storage.paths import Folder
from sweep.storage.schema import parquet_bytes
from sweep.storage.shards import commit
from sweep.storage.store import FIGURES, RESOLVED, Store
from sweep.storage.surveys import Survey, keep_survey
from sweep.study.paths import STUDY
from sweep.study.plugins import FOLDER, kept_code, kept_name, scripts_of
from sweep.version import VERSION

BESIDE = 80  # images whose time such a chip takes beside those that it sees, of a small network
SAVE_SECONDS = 5.0  # between two writes of the manifest
SAVE_SHARE = 0.05  # of the time, at most, where these take long


def run(
    prepared: Prepared,
    place: str | Path,
    runner: Runner,
    *,
    chunk_trials: int | None = None,
    threads: int = 1,
    engine: str | None = None,
    deadline: float | None = None,
    memory: int = HELD_BYTES,
    wish: Wish | None = None,
    log: str | None = None,
) -> Store:
    """Run what is missing of a study and return its run folder; see `sweep.api.run` for the options.

    `memory` is in bytes, what a worker may take for images; `wish` is the runner's, on what trials are evaluated; `log`
    is how to say what goes on, "json" or for people.

    Raises:
        Interrupted: on Ctrl-C; everything committed so far stays, and the same call goes on from there.
        TaskError: when trials failed again and again; all others are committed.
        NondeterminismError: when the same trials gave two results.
        VersionError: when a worker has other versions of TensorFlow, Keras or NumPy than this process.
    """
    folder = Folder.at(place)
    folder.check_writable()
    folder.names(FIGURES)  # written at the end; that it is a link, which nothing is written through, is said now
    try:
        store, growth = open_store(prepared, place)
        how = {"threads": threads, "engine": engine, "deadline": deadline or DEADLINE_SECONDS, "memory": memory}
        how["backend"] = library()
        job = Job.of(prepared, folder.uri, versions=versions(), survey=survey_of(prepared, folder, growth), **how)
        ran = _Sweep(prepared, store, runner, job, chunk_trials, growth, wish, log).run()
        merge(store, job.study_digest, job.columns, list(job.cells))
        store.tidy()
        lost = remaining(prepared.study, present(store, prepared.study.main)) if ran else 0
        if lost:
            raise StoreError(f"{folder.uri}: {lost:,} trials were taken away while others ran; run it again")
    except BaseException:
        folder.withdraw()
        raise
    return store


class _Sweep:
    """One pass over the missing trials of a study."""

    def __init__(
        self,
        prepared: Prepared,
        store: Store,
        runner: Runner,
        job: Job,
        chunk_trials: int | None = None,
        growth: Growth | None = None,
        wish: Wish | None = None,
        log: str | None = None,
    ) -> None:
        self._prepared = prepared
        self._store = store
        self._runner = runner
        self._job = job
        self._growth = growth
        self._wish = wish or Wish()
        self._shown = Log if log == "json" else Progress
        self._means: Means
        self._sizes = sizes(chunk_trials, light=job.survey is not None)
        self._clock = Clock(store.manifest)
        self._failures = Failures(len(job.cells))
        self._nodes = Nodes()
        self._pulse = Pulse(store.folder)
        self._again: list[tuple[Chunk, frozenset[str]]] = []  # with the nodes to try them on, where it matters
        self._save_next = time.monotonic() + SAVE_SECONDS

    def run(self) -> int:
        """Evaluate and commit what is missing; returns how many trials were. The folder is begun once workers are."""
        with self._pulse:  # its end says that the manifest has all that there will be
            return self._run()

    def _run(self) -> int:
        study, store, job = self._prepared.study, self._store, self._job
        if self._growth is None:
            store.adopt(job.study_digest, job.columns)
        have = present(store, study.main, self._growth)
        for cell in study.clean if study.main == ACCURACY.name else ():
            for value in have.of_cell(cell)[1].tolist():
                self._check(cell, value)
        self._means = Means(study, have.sampled())
        full, few = missing(study, have), self._means.missing()
        if not full and not few:
            self._begin()
            return 0
        done = count_wanted(study) - len(full) + self._means.wanted - len(few)
        images = [len(dataset) for dataset in self._prepared.datasets.values()]
        light = 1.0 if self._job.survey is None else min(1.0, (2 * HALF + BESIDE) * len(images) / sum(images))
        total = done + len(full) + len(few)
        progress = self._shown(
            list(job.cells), done, total, target=study.precision, light=light, measure=study.measure_called(study.main)
        )
        for cell in job.cells:
            progress.before(cell, *have.of_cell(cell))
        begun = False
        try:
            with progress, self._runner:
                device = self._runner.settle(bare(devices_of(store)))
                devices = joined_by(store, device, self._job.backend, self._wish)
                self._job = replace(self._job, device=device)
                self._runner.gather(progress.note)
                with whole():  # a folder is begun or is not
                    self._begin(**self._clock.unfinished(), **{DEVICES: devices})
                    begun = True
                resolved = resolved_table(study, self._prepared.networks, self._prepared.flow)
                store.folder.write(RESOLVED, parquet_bytes(resolved))
                self._pulse.begin()
                self._start(progress)
                for stage in self._stages(full, sampling=bool(few)):
                    several = self._means.wanted + self._means.forecast()
                    progress.expect(count_wanted(study) + several, several)
                    self._runner.update(replace(self._job, expected=of_each_worker(stage, self._runner.slots)))
                    self._loop(Cutter(study, stage), progress)
                if not self._failures:
                    progress.finish()
        except KeyboardInterrupt:
            stopping()
            if begun:
                store.adopt(job.study_digest, job.columns)  # tasks that committed while we stopped
            raise
        finally:
            if begun:
                store.save(**self._clock.unfinished())
        if self._failures:
            raise TaskError(str(self._failures))
        store.save(**self._clock.finished())
        return len(full) + len(few)

    def _stages(self, full: Sequence[Trial], sampling: bool) -> Iterator[Sequence[Trial]]:
        """What can run at the same time: chips that see all images, the survey, then what is needed by what is there.

        Whoever reads on has run what was given.
        """
        survey, store, images = self._job.survey, self._store, self._prepared.sizes
        pilots: list[Trial] = []
        if sampling and survey is not None:
            random = [cell.id for cell in self._job.cells.values() if cell.random]
            pilots = [(c, PILOT) for c in random if images[c] >= FEWEST and c not in survey.pilots]
        yield [*pilots, *full] if pilots else full
        found = self._job.survey
        if pilots and found:
            self._job = replace(self._job, survey=keep_survey(store.folder, found, images))
        tried: set[Trial] = set()
        while todo := [trial for trial in self._means.missing() if trial not in tried and self._can(trial[0])]:
            yield from self._controls()
            tried.update(todo)
            yield [trial for trial in todo if self._can(trial[0])]

    def _controls(self) -> Iterator[Sequence[Trial]]:
        """What finds by which factors the next chips of cells are controlled, where they are to be."""
        survey = self._job.survey
        said = {} if survey is None else self._means.uncontrolled(survey.controls.factors)
        said = {cell: what for cell, what in said.items() if self._can(cell) and self._prepared.sizes[cell] >= FEWEST}
        if survey is None or not said:
            return
        cells = (self._job.cells[cell] for cell in said)
        lacking = [cell for cell in cells if cell.subject not in survey.controls.gradients]
        survey |= Survey(controls=gradients_of(self._prepared, lacking))
        self._job = replace(self._job, survey=survey, said=said)
        yield [(cell, FACTORS) for cell in said]
        kept = keep_survey(self._store.folder, self._job.survey or survey, self._prepared.sizes)
        self._job = replace(self._job, survey=kept, said={})

    def _can(self, cell: str) -> bool:
        """Whether chips of a cell that serve the mean alone can be evaluated."""
        survey = self._job.survey
        few = survey if self._prepared.sizes[cell] >= FEWEST else None
        return cell not in self._failures.given_up and (few is None or cell in few.pilots)

    def _begin(self, **clock: Any) -> None:
        """Write what says of what study the folder is, with the entries of the clock where there is work to do."""
        study, store = self._prepared.study, self._store
        if self._growth:
            self._growth.apply(store, chance=self._prepared.chance)
        kept = {kept_name(*item): item[1] for item in study.plugin_digests.items()}
        kept |= {kept_code(*item): item[1] for item in study.code_digests.items()}
        content = {s.digest: s.content for s in [*self._job.plugins, *scripts_of(study.code_digests.values())]}
        store.save(  # first: a driver that is refused has written nothing
            name=study.name,
            ops=described(study),
            **({"measures": said} if (said := described_measures(study)) else {}),
            identity=self._prepared.identity,
            study_digest=self._job.study_digest,
            chance=self._prepared.chance,
            versions={"python": platform.python_version(), "noisesweep": VERSION},
            **clock,
        )
        self._job = replace(self._job, run=store.manifest["run"])
        for name, digest in kept.items():
            store.folder.write(f"{FOLDER}/{name}", content[digest])
        store.folder.write(STUDY, study.to_toml().encode())

    def _start(self, progress: Progress) -> None:
        runner, prepared = self._runner, self._prepared
        runner.start(self._job, prepared.models, prepared.datasets)
        joined = f"{runner.joined} joined; " if runner.joined else ""
        where = f"on {self._job.device}s, " if self._wish.kind != "cpu" else ""
        progress.note(
            f"{joined}{where}workers load {LIBRARIES[self._job.backend]} and the network, and choose how to evaluate"
        )
        self._pulse.tell(progress, runner)

    def _loop(self, cutter: Cutter, progress: Progress) -> None:
        runner = self._runner
        while runner.pending or cutter.left or self._again:
            runner.avoid(self._nodes.avoided(runner.nodes))
            slots = runner.slots
            while (cutter.left or self._again) and runner.pending < 2 * slots:
                if self._again:
                    runner.submit(*self._again.pop())
                else:
                    runner.submit(cutter.cut(self._sizes[cutter.kind].next(cutter.left, slots)))
            outcome = runner.wait(0.25)
            if outcome:
                if outcome.error:
                    self._failed(outcome, outcome.error, cutter, progress)
                else:
                    self._take(outcome, progress)
                if self._failures.hopeless and self._nodes.failed_everywhere(runner.nodes):
                    return
            progress.work(runner.pending, slots)
            self._pulse.tell(progress, runner)
            if time.monotonic() > self._save_next:
                self._save()
        if self._nodes.bad:
            progress.remark(f"done without {len(self._nodes.bad)} of {len(runner.nodes)} nodes: {self._nodes}")

    def _failed(self, outcome: Outcome, error: Exception, cutter: Cutter, progress: Progress) -> None:
        if isinstance(error, NondeterminismError | VersionError):
            raise error
        if isinstance(error, StoreError):
            self._save()  # raises when the folder is out of reach from here, too
        chunk, reason, alive = outcome.chunk, said(error), self._runner.nodes
        elsewhere = self._nodes.failed(outcome, error, reason, alive)
        if outcome.node in self._nodes.bad:
            progress.remark(self._nodes.said(outcome.node))
        if self._nodes.useless(alive):
            raise TaskError(f"no node can do this work: {self._nodes}")
        self._failures.take(chunk, reason, outcome.host.get("host", ""), outcome.host.get("log", ""))
        if elsewhere:
            self._again.append((chunk, elsewhere))
            return
        given_up = set(self._failures.given_up)
        parts = self._failures.again(chunk)
        self._again += [(part, frozenset()) for part in parts]
        if not parts:
            self._nodes.acquit(chunk.trials)
        for cell in self._failures.given_up - given_up:
            self._nodes.acquit_cell(cell)
            left = [(chunk.without(cell), among) for chunk, among in self._again]
            self._again = [(chunk, among) for chunk, among in left if chunk.trials]
            self._failures.untried += cutter.drop(cell)

    def _save(self) -> None:
        begun = time.monotonic()
        self._store.save(**self._clock.unfinished())
        gather(self._store, self._job.study_digest, list(self._job.cells))
        done = time.monotonic()
        self._save_next = done + max(SAVE_SECONDS, (done - begun) / SAVE_SHARE)

    def _take(self, outcome: Outcome, progress: Progress) -> None:
        shard = outcome.shard
        store = self._store
        if outcome.survey is not None:
            self._job = replace(self._job, survey=(self._job.survey or Survey()) | outcome.survey)
            self._accept(outcome, progress)
            return
        if outcome.table is not None:
            name = outcome.chunk.shard_name(self._job.study_digest)
            shard = commit(store.folder, outcome.table, self._job.study_digest, name)
        assert shard is not None
        store.add(shard)
        if dict(outcome.host) not in store.manifest["hosts"]:
            if warning := of_several_widths(outcome.host, store.manifest["hosts"]):
                progress.remark(warning, "WARNING")
            store.manifest["hosts"].append(dict(outcome.host))
        self._accept(outcome, progress)
        clean = self._prepared.study.clean
        for (cell, _), (correct, images) in zip(outcome.trials, outcome.counts, strict=True):
            if cell in clean and correct is not None:
                self._check(cell, correct / images)
        for warning in self._near_chance(outcome):
            progress.remark(warning, "WARNING")
        found = list(zip(outcome.trials, outcome.values, strict=True))
        if outcome.chunk.kind == FEW:
            self._means.take(found)
        self._pulse.took(outcome.host.get("host", ""), len(found), outcome.seconds)
        progress.advance(found, outcome.seconds)

    def _accept(self, outcome: Outcome, progress: Progress) -> None:
        """A task that did its work."""
        self._failures.succeeded(outcome.trials)
        for node in self._nodes.succeeded(outcome.node, outcome.host.get("host", ""), outcome.trials):
            progress.remark(self._nodes.said(node))
        self._sizes[outcome.chunk.kind].measured(len(outcome.trials), outcome.seconds)
        for note in outcome.notes:
            progress.remark(note)

    def _check(self, cell: str, accuracy: float) -> None:
        """End the run where a clean network has less accuracy than is expected; of several test sets, on the first."""
        study = self._prepared.study
        first = next(iter(study.datasets))
        if study.expected is not None and cell in study.clean and self._job.cells[cell].dataset == first:
            problem = shortfall(study.clean[cell], accuracy, study.expected)
            if problem:
                raise UnexpectedError(problem)

    def _near_chance(self, outcome: Outcome) -> Iterator[str]:
        """Clean networks that are right about hardly more images than by lot: something is wrong with the study."""
        clean = self._prepared.study.clean
        for (cell, _), (correct, images) in zip(outcome.trials, outcome.counts, strict=True):
            label = clean.get(cell)
            if label is None or correct is None:
                continue
            if is_near_chance(correct / images, images, self._prepared.chance[label]):
                yield chance_warning(label, correct / images, self._prepared.chance[label])

"""Candidates and seeds in, what each chip says of its accuracy out: asked for again and again, evaluated once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sweep.data.decisions import shortfall
from sweep.data.measures import ACCURACY
from sweep.errors import StoreError, UnexpectedError
from sweep.execution.hosts import versions
from sweep.execution.job import Job, Outcome
from sweep.execution.plan import PILOT, SAMPLES_AT_A_TIME
from sweep.execution.sampled import FEWEST
from sweep.execution.tasks import Tasks
from sweep.execution.trials import Trial
from sweep.preparation.inputs import Prepared
from sweep.search.space import Candidate
from sweep.statistics.estimates import Floats
from sweep.statistics.sampling import edges
from sweep.storage.paths import Folder
from sweep.storage.schema import FIXED_SEED, values_of
from sweep.storage.shards import TRIALS, commit, sound
from sweep.storage.surveys import Survey, keep_survey, read_survey
from sweep.study.family import CLEAN, Cell
from sweep.study.study import digest
from sweep.version import VERSION

CHIPS = "chips"
"""The folder of all that was evaluated, in that of a search."""


class Prober:
    """Evaluates one network of a study at any candidates, as workers of a run do.

    All candidates are shown the same images by a chip, and share its draws, so that differences are paired to the last
    image. What was evaluated is committed to a folder, whole or not at all, and taken from there the next time: whoever
    goes on with a search finds the same numbers, and decides the same.

    Attributes:
        whole: whether chips see all images.
        chips: evaluated for this search, here or before.
    """

    def __init__(
        self, prepared: Prepared, model: str, place: Folder, whole: bool = False, tasks: Tasks | None = None
    ) -> None:
        """`place` is the search's folder; chips see all images where `whole`, or where these are few.

        `tasks` evaluates; None for this process.
        """
        study = prepared.study
        self.whole = whole or len(prepared.dataset) < FEWEST or study.images == "all"
        self.chips = 0
        self._model, self._prepared, self._place = model, prepared, place
        self._tasks = tasks or Tasks(prepared)
        job = Job.of(prepared, versions=versions())
        self._job = replace(job, columns={}, measures=(ACCURACY.name,), own_measures={})
        self._found: dict[str, dict[int, float]] = {}
        self._survey: Survey | None = None
        self._like = ""
        self._load()

    @property
    def made(self) -> dict[str, str]:
        """What all of it depends on: versions, and the digest of the study."""
        found = {f"version of {name}": text for name, text in self._job.versions.items()}
        return {"version of noisesweep": VERSION, **found, "SHA-256 of the study": self._digest}

    def clean(self) -> float:
        """The accuracy of the unperturbed network on all images; UnexpectedError where the study expects more."""
        found = self._exact(Candidate(Cell(self._model, CLEAN, {}, ()), ()))
        expected = self._prepared.study.expected
        if expected is not None and (problem := shortfall(self._model, found, expected)):
            raise UnexpectedError(problem)
        return found

    def begin(self, candidates: Sequence[Candidate], limit: float) -> None:
        """Settle which images chips see: those chosen for the random candidate that is nearest to an accuracy.

        As pilot chips see them, which are in no result. To be called once, before any values are asked for.
        """
        random = [candidate for candidate in candidates if candidate.cell.random]
        if not self.whole and random:
            images = len(self._prepared.dataset)
            base = self._folder("")
            survey = read_survey(base, images)
            missing = {c.cell.id: c for c in random if c.cell.id not in survey.pilots}
            for outcome in self._outcomes(missing, [(i, PILOT) for i in missing], Survey()):
                survey |= outcome.survey or Survey()
            survey = keep_survey(base, survey, images) if missing else survey
            self._like = min((c.cell.id for c in random), key=lambda i: abs(_share(survey, i, images) - limit))
            self._survey = Survey({"": survey.orders[self._like]}, {"": survey.pilots[self._like]})
            self._load()

    def values(self, candidates: Sequence[Candidate], seeds: range) -> Floats:
        """What each chip says of its accuracy, unbiased; (candidates, seeds).

        A candidate without randomness has its one accuracy throughout.
        """
        random = {c.cell.id: c for c in candidates if c.cell.random}
        todo = []
        for start in range(seeds.start, seeds.stop, SAMPLES_AT_A_TIME):
            part = range(start, min(start + SAMPLES_AT_A_TIME, seeds.stop))
            todo += [(i, seed) for seed in part for i in random if seed not in self._found.get(i, {})]
        self._evaluate(random, todo)
        rows = []
        for candidate in candidates:
            if candidate.cell.random:
                known = self._found[candidate.cell.id]
                rows.append([known[seed] for seed in seeds])
            else:
                rows.append([self._exact(candidate)] * len(seeds))
        return np.array(rows, np.float64).reshape(len(candidates), len(seeds))

    def _exact(self, candidate: Candidate) -> float:
        i = candidate.cell.id
        if i not in self._found:
            self._evaluate({i: candidate}, [(i, FIXED_SEED)])
        return self._found[i][FIXED_SEED]

    def _evaluate(self, candidates: dict[str, Candidate], trials: Sequence[Trial]) -> None:
        own = {i: candidates[i] for i, _ in trials}
        survey = self._survey
        if survey is not None:
            survey = Survey(dict.fromkeys(own, survey.orders[""]), dict.fromkeys(own, survey.pilots[""]))
        folder, name = self._folder(self._like), self._digest
        for outcome in self._outcomes(own, trials, survey):
            assert outcome.table is not None
            commit(folder, outcome.table, name, outcome.chunk.shard_name(name))
            self._take(outcome.table)

    def _outcomes(
        self, candidates: Mapping[str, Candidate], trials: Sequence[Trial], survey: Survey | None
    ) -> Iterator[Outcome]:
        cells, flow = {i: c.cell for i, c in candidates.items()}, {i: c.flow for i, c in candidates.items()}
        return self._tasks.run(replace(self._job, cells=cells, flow=flow, survey=survey), self._model, trials)

    def _load(self) -> None:
        """What was evaluated before, by chips that see these images; a damaged file is set aside, and made again."""
        folder = self._folder(self._like)
        for name in folder.names(TRIALS):
            content = folder.read(f"{TRIALS}/{name}")
            try:
                self._take(sound(content or b"", f"{folder.uri}/{TRIALS}/{name}"))
            except StoreError:
                folder.move(f"{TRIALS}/{name}", f"damaged/{name}")

    def _take(self, table: pa.Table) -> None:
        self.chips += table.num_rows
        trials = zip(table["cell"].to_pylist(), table["seed"].to_pylist(), values_of(table).tolist(), strict=True)
        for cell, seed, value in trials:
            self._found.setdefault(cell, {})[seed] = value

    def _folder(self, like: str) -> Folder:
        """Of the study, and in it of the images that chips see: neither budget nor cost is in it."""
        under = digest({"study": self._digest, "images": like or self.whole})[:16]
        return Folder(f"{self._place.uri}/{CHIPS}/{under}")

    @property
    def _digest(self) -> str:
        return self._prepared.digest


def _share(survey: Survey, cell: str, images: int) -> float:
    """The accuracy of pilot chips, by the sizes of the strata."""
    right, seen = survey.pilots[cell]
    each: npt.NDArray[np.int64] = np.diff(edges(images))
    return float(np.sum(each * right / seen) / images)

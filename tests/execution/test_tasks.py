"""Trials that are evaluated here, and by others once that pays."""

from pathlib import Path

import pyarrow as pa
import pytest

from sweep.errors import TaskError, VersionError
from sweep.execution import tasks
from sweep.execution.hosts import versions
from sweep.execution.job import Job, Outcome
from sweep.execution.plan import FEW, SURVEY, WHOLE, Chunk, ChunkSize
from sweep.execution.runner import InlineRunner
from sweep.execution.tasks import Tasks
from sweep.execution.trials import Trial
from sweep.preparation.inputs import Prepared, prepare
from sweep.storage.schema import PROVENANCE
from sweep.study.study import parse_file


class Several(InlineRunner):
    """Three at a time, the latest first; each chunk fails as often as `bad` says, with an error of its own."""

    slots = 3

    def __init__(self, bad: int = 0, error: Exception | None = None) -> None:
        super().__init__()
        self.bad, self.error = bad, error or ValueError("a cable is loose")
        self.tries: dict[Chunk, int] = {}
        self.most = 0
        self.ended = False

    def wait(self, seconds: float) -> Outcome | None:
        self.most = max(self.most, self.pending)
        self._queue.rotate(1)
        chunk = self._queue[0]
        self.tries[chunk] = self.tries.get(chunk, 0) + 1
        if self.tries[chunk] <= self.bad:
            return Outcome(self._queue.popleft(), error=self.error, host={"host": "h7"})
        return super().wait(seconds)

    def __exit__(self, *exception: object) -> None:
        self.ended = True


@pytest.fixture
def prepared(place: Path, monkeypatch: pytest.MonkeyPatch) -> Prepared:
    """A study whose trials are evaluated two at a time."""
    monkeypatch.setattr(tasks, "sizes", lambda: {kind: ChunkSize(fixed=2) for kind in (WHOLE, FEW, SURVEY)})
    return prepare(parse_file(place / "study.toml"))


def trials_of(prepared: Prepared) -> tuple[Job, list[Trial]]:
    job = Job.of(prepared, versions=versions())
    return job, [(i, seed) for seed in range(6) for i, cell in job.cells.items() if cell.random]


def rows(outcomes: list[Outcome]) -> pa.Table:
    assert all(one.shard is None for one in outcomes)  # whoever asked commits
    table = pa.concat_tables([one.table for one in outcomes])
    return table.drop_columns(list(PROVENANCE)).sort_by([("cell", "ascending"), ("seed", "ascending")])


def test_others_are_asked_once_that_pays_and_rows_are_the_same(prepared: Prepared, monkeypatch: pytest.MonkeyPatch):
    job, trials = trials_of(prepared)
    alone = list(Tasks(prepared).run(job, "net", trials))
    several = Several()
    monkeypatch.setattr(tasks, "PATIENCE", 1e-9)  # gone with the first task
    with Tasks(prepared, lambda: several) as shared:
        found = list(shared.run(job, "net", trials))
        assert rows(found).equals(rows(alone))
        assert set(several.tries) == {one.chunk for one in found[1:]}
        assert several.most > 3
        again = list(shared.run(job, "net", trials))  # they stay
        assert {one.chunk for one in again} <= set(several.tries)
        assert rows(again).equals(rows(alone))
        assert not several.ended
    assert several.ended


def test_what_fails_is_tried_again_and_at_last_said(prepared: Prepared):
    job, trials = trials_of(prepared)
    alone = list(Tasks(prepared).run(job, "net", trials))
    with Tasks(prepared, lambda: Several(bad=2), at_once=True) as shared:
        assert rows(list(shared.run(job, "net", trials))).equals(rows(alone))
    with Tasks(prepared, lambda: Several(bad=3), at_once=True) as shared, pytest.raises(TaskError) as error:
        list(shared.run(job, "net", trials))
    assert str(error.value) == "a task failed 3 times, at last on h7: ValueError: a cable is loose"
    other = Several(bad=1, error=VersionError("another TensorFlow"))
    with Tasks(prepared, lambda: other, at_once=True) as shared, pytest.raises(VersionError):
        list(shared.run(job, "net", trials))
    assert max(other.tries.values()) == 1

"""What is counted for Ray's own metrics; that they leave a cluster is shown in tests/cluster."""

from collections import Counter

import pytest

from sweep.errors import TaskError
from sweep.execution.job import Outcome
from sweep.execution.plan import Chunk
from sweep.execution.ray.metrics import Metrics
from sweep.storage.surveys import Survey

CHUNK = Chunk("net", (("cell", 0), ("cell", 1), ("cell", 2)))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()

    class Fake:
        def __init__(self, name: str, words: str, keys: tuple[str, ...]) -> None:
            assert words
            assert keys == ("host",)
            self.name = name

        def inc(self, value: float, tags: dict[str, str]) -> None:
            assert value > 0, "as Ray has it"
            found[self.name, tags["host"]] += value  # type: ignore[assignment]

    monkeypatch.setattr("ray.util.metrics.Counter", Fake)
    return found


def test_trials_their_seconds_and_failures_by_host(counted: Counter[tuple[str, str]]):
    metrics = Metrics()
    for host, seconds in (("a", 1.5), ("b", 0.0), ("a", 0.5)):
        metrics.took(Outcome(CHUNK, seconds, {"host": host}, CHUNK.trials))
    metrics.took(Outcome(CHUNK, host={"host": "b"}, error=TaskError("no")))
    metrics.took(Outcome(CHUNK, error=TaskError("its process died")))
    metrics.took(Outcome(CHUNK, 3.0, {"host": "a"}, CHUNK.trials, survey=Survey()))
    assert counted == {
        ("noisesweep_trials", "a"): 6,
        ("noisesweep_trials", "b"): 3,
        ("noisesweep_trial_seconds", "a"): 2.0,
        ("noisesweep_failed_tasks", "b"): 1,
        ("noisesweep_failed_tasks", ""): 1,
    }

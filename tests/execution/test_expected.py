"""Workers know how many trials are to come, so that choosing how to evaluate them is worth it."""

from pathlib import Path

import pytest

import sweep
from sweep.execution import worker
from sweep.execution.plan import PILOT, of_each_worker
from sweep.randomness import FIRST_SAMPLED

STUDY = """
name = "two"
model = "net.keras"
dataset = "data.npz"
seeds = 6
[[family]]
name = "everywhere"
perturb = [{ op = "gaussian", scale = [0.1, 0.2] }]
[[family]]
name = "last"
perturb = [{ op = "gaussian", scale = 0.1, layers = "fc" }]
"""


def test_trials_on_all_images_are_shared_by_the_workers():
    stage = [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", PILOT), ("b", FIRST_SAMPLED), ("c", PILOT)]
    assert of_each_worker(stage, 1) == {"a": 3, "b": 1}
    assert of_each_worker(stage, 4) == {"a": 0.75, "b": 0.25}
    assert of_each_worker([], 4) == of_each_worker([("c", PILOT)], 0) == {}


def test_trials_that_perturb_the_same_variables_count_together(small: Path, tmp_path: Path, monkeypatch):
    from sweep.engine.evaluator import Evaluator

    asked: set[tuple[tuple[int, ...], float | None]] = set()
    right = Evaluator.backend

    def backend(own, varied, block=None, trials=None):
        if trials is not None:
            asked.add((tuple(varied), trials))
        return right(own, varied, block, trials)

    monkeypatch.setattr(Evaluator, "backend", backend)
    for name in ("net.keras", "data.npz"):
        (tmp_path / name).write_bytes((small / name).read_bytes())
    (tmp_path / "two.toml").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    run = sweep.run("two.toml", "run", runner="inline", chunk_trials=4)
    assert asked == {((), 1.0), ((0, 1), 12.0), ((1,), 6.0)}
    assert set(run.trials()["engine"]) == {"plain"}, "too few to try anything"
    asked.clear()
    sweep.run("two.toml", "run", runner="inline", seeds=8)
    assert asked == {((0, 1), 4.0), ((1,), 2.0)}, "what is missing"


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch):
    """A worker that has met nothing."""
    for name in ("_networks", "_evaluators", "_expectations"):
        monkeypatch.setattr(worker, name, type(getattr(worker, name))())

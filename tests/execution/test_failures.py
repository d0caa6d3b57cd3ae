import re
from pathlib import Path

import pytest

import sweep
from sweep.errors import TaskError
from sweep.execution import driver
from sweep.execution.inputs import prepare
from sweep.execution.runner import InlineRunner
from sweep.execution.worker import Outcome
from sweep.perturb.noise import Gaussian


class Catching(InlineRunner):
    """Reports errors, as a cluster does, and counts the chunks."""

    chunks = 0

    def wait(self, seconds: float) -> Outcome | None:
        chunk = self._queue[0]
        self.chunks += 1
        try:
            return super().wait(seconds)
        except ArithmeticError as error:
            return Outcome(chunk, error=f"{type(error).__name__}: {error}")


def spoil(monkeypatch: pytest.MonkeyPatch, *scales: float) -> None:
    apply = Gaussian.apply

    def spoilt(transform: Gaussian, *given: object) -> object:
        if transform.scale in scales:
            raise ArithmeticError("as planted")
        return apply(transform, *given)

    monkeypatch.setattr(Gaussian, "apply", spoilt)


def run(runner: Catching) -> str:
    prepared = prepare(sweep.Study.from_toml("study.toml").with_seeds(20))
    with pytest.raises(TaskError) as caught:
        driver.run(prepared, "run", runner, chunk_trials=1)
    return str(caught.value)


def test_a_cell_that_always_fails_is_given_up_before_all_its_trials_are_tried(place: Path, monkeypatch):
    spoil(monkeypatch, 0.1)
    message = run(Catching())
    first, cells = message.splitlines()
    assert re.match(r"[34] trials failed, and 1[67] more of the same cells were not tried; what else", first)
    assert cells == "  net/gaussian/scale=0.1: ArithmeticError: as planted"
    assert len(sweep.open_run("run").trials()) == 3 + 3 * 20


def test_when_everything_fails_it_is_over_soon(place: Path, monkeypatch):
    spoil(monkeypatch, 0.0, 0.1, 0.3)
    text = Path("study.toml").read_text()
    Path("study.toml").write_text(text[: text.index('[[family]]\nname = "rounded, then')])
    runner = Catching()
    assert "nothing succeeded" in run(runner)
    assert runner.chunks <= 9

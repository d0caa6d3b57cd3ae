"""Two drivers started together on one study: each trial once, the right results, and both succeed."""

from pathlib import Path

import pytest

from tests.chaos import scene


@pytest.mark.parametrize(
    ("runner", "chunks"),
    [
        pytest.param("inline", (5, 7), marks=pytest.mark.slow),
        pytest.param("inline", (5, 5), marks=scene.LONG),
        pytest.param("ray", (5, 7), marks=scene.LONG),
    ],
)
def test_two_drivers_on_one_study(place: Path, monkeypatch, runner: str, chunks: tuple[int, int]):
    trials = scene.write_study(40, seconds=0.01)
    env = scene.environment()
    first = ["--out", "run", "--runner", runner, "--chunk", str(chunks[0])]
    second = ["--out", "run", "--runner", runner, "--chunk", str(chunks[1])]
    with scene.running(*first, env=env) as one, scene.running(*second, env=env) as other:
        outcomes = [scene.finish(process) for process in (one, other)]
    assert [status for status, _ in outcomes] == [0, 0], outcomes
    begun = len(scene.logged())
    scene.check("run", scene.undisturbed(monkeypatch), env[scene.MARK])
    print(f"{trials} trials, {begun} begun by the two together")

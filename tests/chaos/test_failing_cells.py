"""A cell whose every chunk kills its process, runs out of memory, hangs or raises: the others are completed."""

import re
import time
from pathlib import Path

import pytest

from tests.chaos import scene

DEADLINE = 60  # s, for a chunk; on a busy machine a worker's first one takes half of that


@scene.LONG
@pytest.mark.parametrize(
    ("trap", "reason"),
    [
        ("raise", r"logged\.py:\d+ \(trap\): ValueError: as planted"),
        ("kill", "its process died"),
        ("allocate", r"(logged\.py:\d+ \(trap\): )?\w*MemoryError"),
        ("hang", f"TimeoutError: took longer than {DEADLINE} s"),
    ],
)
def test_a_cell_that_fails_is_named_and_the_others_completed(place: Path, monkeypatch, trap: str, reason: str):
    scene.write_study(8, (0.1, 0.2, 0.3), at_0_2=trap)
    env = scene.environment()
    begun = time.monotonic()
    with scene.running("--out", "run", "--deadline", str(DEADLINE), env=env) as process:
        status, errors = scene.finish(process)
    took = time.monotonic() - begun
    assert status == 1
    assert "8 trials failed; what else was asked for is committed" in errors
    assert re.search(rf"net/noise/scale=0\.2: {reason}", errors), errors
    expected = scene.undisturbed(monkeypatch)
    sound = expected[expected["scale"] != 0.2].reset_index(drop=True)
    scene.check("run", sound, env[scene.MARK])
    tries = scene.logged().count(next(line for line in scene.logged() if line.startswith("0.2 ")))
    print(f"{trap}: over after {took:.0f} s; its first trial was tried {tries} times")
    assert tries <= 20

    Path("log.json").write_text("{}")
    again = scene.environment()
    with scene.running("--out", "run", env=again) as process:
        status, errors = scene.finish(process)
    assert status == 0, errors
    scene.check("run", expected, again[scene.MARK])

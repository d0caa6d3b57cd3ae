"""Two hundred broken studies: each message names every mistake, nothing is started, and there is no traceback."""

import functools
import os
import random
from collections import Counter
from pathlib import Path

import pytest
import tomli_w

from sweep import cli
from sweep.execution.ray import cluster
from sweep.preparation import files
from tests.chaos.broken import KINDS, plant, valid

STUDIES = int(os.environ.get("SWEEP_BROKEN", "200"))


@pytest.fixture(autouse=True)
def no_compute(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster.RayRunner, "__enter__", lambda _: pytest.fail("a cluster was started"))
    monkeypatch.setattr(files, "load_network", functools.cache(files.load_network))  # it takes most of the time
    Path("twin.keras").write_bytes(Path("net.keras").read_bytes())
    Path("notes.txt").write_text("no dataset")


def test_what_the_generator_gives_before_it_plants_mistakes_is_valid(capsys: pytest.CaptureFixture[str]):
    for seed in range(20):
        Path("study.toml").write_text(tomli_w.dumps(valid(random.Random(seed))))
        assert cli.main(["plan", "study.toml"]) == 0, capsys.readouterr().err


def test_every_planted_mistake_is_named(capsys: pytest.CaptureFixture[str]):
    kinds: Counter[str] = Counter()
    for seed in range(STUDIES):
        rng = random.Random(seed)
        study = valid(rng)
        planted = plant(rng, study, 1 + seed % 4)
        Path("study.toml").write_text(tomli_w.dumps(study))
        command = rng.choice(["run", "plan"])
        assert cli.main([command, "study.toml"]) == 2, (seed, planted)
        printed = capsys.readouterr()
        assert printed.out == ""
        assert "Traceback" not in printed.err
        lines = printed.err.removeprefix("sweep: ").splitlines()
        for mistake in planted:
            start = f"study.toml: {mistake.where}"
            assert any(line.startswith(start) and mistake.what in line for line in lines), (seed, mistake, lines)
        assert all(line.startswith("study.toml: ") for line in lines), (seed, lines)
        kinds.update(mistake.kind for mistake in planted)
    assert not Path("results").exists()
    print(f"{sum(kinds.values())} mistakes of {len(kinds)} kinds in {STUDIES} studies")
    assert len(kinds) > len(KINDS) or STUDIES < 200

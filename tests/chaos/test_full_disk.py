"""A disk that is full after any page: one clear error, nothing half-written, and the same command goes on."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from sweep import cli
from sweep.errors import SweepError
from sweep.execution import driver
from sweep.execution.runner import InlineRunner
from sweep.preparation.inputs import Prepared, prepare
from sweep.study.study import Study
from tests.chaos import scene
from tests.chaos.compacting import EAGER

PAGE = 4096
PAGES = 1024
STEP = 1 if "SWEEP_LONG" in os.environ else 4


@pytest.fixture
def disk(place: Path) -> Iterator[Path]:
    """A small file system of its own."""
    folder = place / "disk"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={PAGES * PAGE}", "tmpfs", str(folder)]
    if subprocess.run(["mount", *options], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def leave(disk: Path, pages: int) -> Path:
    """Fill the disk up to so many pages."""
    filler = disk / "filler"
    state = os.statvfs(disk)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, (state.f_bavail - pages) * PAGE)
    return filler


def whole(run: Path) -> bool:
    """Whether every file that a reader sees is complete; and whether there is a run at all."""
    for path in run.glob("**/[!.]*.parquet"):
        pd.read_parquet(path)
    manifest = run / "manifest.json"
    if manifest.exists():
        json.loads(manifest.read_text())
    return manifest.exists()


def attempt(prepared: Prepared, run: Path) -> bool:
    try:
        driver.run(prepared, run, InlineRunner(), chunk_trials=10)
    except SweepError as error:
        message = str(error)
    else:
        return True
    assert "No space left on device" in message
    assert "\n" not in message
    return False


@pytest.mark.parametrize("compacts", [False, True], ids=["", "compacting"])
def test_a_disk_that_is_full_at_every_page(disk: Path, monkeypatch: pytest.MonkeyPatch, compacts: bool):
    for name, value in EAGER.items() if compacts else ():
        monkeypatch.setattr(driver, name, value)
    prepared = prepare(Study.from_toml("study.toml"))
    driver.run(prepared, "undisturbed", InlineRunner())
    expected = scene.results("undisturbed")
    full = 0
    for pages in range(0, PAGES, STEP):
        run = disk / f"run{pages}"
        filler = leave(disk, pages)
        finished = attempt(prepared, run)
        whole(run)
        filler.unlink()
        assert attempt(prepared, run)
        scene.check(run, expected)
        for path in sorted(run.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        if finished:
            break
        full += 1
    assert full >= 10 / STEP
    print(f"the disk was full after 0 to {(full - 1) * STEP} pages, in {full} runs")


def test_a_disk_that_is_full_when_summary_figures_and_report_are_written(disk: Path, capsys):
    run = disk / "run"
    arguments = ["run", "study.toml", "--runner", "inline", "--out", str(run)]
    assert attempt(prepare(Study.from_toml("study.toml")), run)
    for pages in (0, 3, 40):
        filler = leave(disk, pages)
        capsys.readouterr()
        assert cli.main(arguments) == 1
        errors = capsys.readouterr().err
        assert "No space left on device" in errors
        assert len(errors.splitlines()) == 1, errors
        whole(run)
        filler.unlink()
    assert cli.main(arguments) == 0
    assert (run / "report.html").exists()
    assert not list(run.rglob(".*"))

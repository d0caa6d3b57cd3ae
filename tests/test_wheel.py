"""The wheel: one top-level name, and a study that runs from it alone, in another folder."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from sweep.version import VERSION

PIP = ["-m", "pip", "--disable-pip-version-check", "--quiet"]


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what is in the package, so that no build folder is left in the tree."""
    source = tmp_path_factory.mktemp("source")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if name.startswith("sweep/") or "/" not in name:
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (root / name).exists():
                target.write_bytes((root / name).read_bytes())
    out = tmp_path_factory.mktemp("wheel")
    build = [
        *PIP,
        "wheel",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "--wheel-dir",
        str(out),
        str(source),
    ]
    subprocess.run([sys.executable, *build], check=True, capture_output=True)
    return next(out.glob("*.whl"))


def test_the_only_top_level_name_is_sweep(wheel: Path):
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"sweep"}


def test_the_wheel_says_its_licence_and_brings_the_text_and_the_notice(wheel: Path, root: Path):
    with zipfile.ZipFile(wheel) as files:
        (info,) = {name.split("/")[0] for name in files.namelist()} - {"sweep"}
        metadata = files.read(f"{info}/METADATA").decode().splitlines()
        assert "License-Expression: Apache-2.0" in metadata
        for name in ("LICENSE", "NOTICE"):
            assert f"License-File: {name}" in metadata
            assert files.read(f"{info}/licenses/{name}") == (root / name).read_bytes()


@pytest.mark.slow
def test_a_study_runs_from_the_wheel_in_another_folder(wheel: Path, place: Path):
    """In a fresh environment that sees this one's dependencies, but neither the tree nor its editable install."""
    subprocess.run([sys.executable, "-m", "venv", "fresh"], check=True)
    python = place / "fresh" / "bin" / "python"
    subprocess.run([python, *PIP, "install", "--no-deps", "--no-index", wheel], check=True)
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    Path(site, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = subprocess.run(
        [python, "-c", "import sweep; print(sweep.__file__)"], capture_output=True, text=True, check=True
    )
    assert where.stdout.strip().startswith(site)
    done = subprocess.run(
        [place / "fresh" / "bin" / "sweep", "run", "study.toml", "--workers", "1"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "rounded, then noisy" in done.stdout
    assert (place / "results" / "small" / "summary.csv").exists()


UNINSTALLED = """
import importlib.metadata
found = importlib.metadata.Distribution.from_name.__func__
def absent(cls, name):
    if name == "noisesweep":
        raise importlib.metadata.PackageNotFoundError(name)
    return found(cls, name)
importlib.metadata.Distribution.from_name = classmethod(absent)
"""


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["inline", "ray"])
def test_a_study_runs_from_an_unpacked_source(root: Path, place: Path, runner: str):
    """Where no distribution of this name is installed, in the driver or in the workers."""
    (place / "there").mkdir()
    shutil.copytree(root / "sweep", place / "there" / "sweep", ignore=shutil.ignore_patterns("__pycache__"))
    (place / "there" / "sitecustomize.py").write_text(UNINSTALLED)
    done = subprocess.run(
        [sys.executable, "-m", "sweep", "run", "study.toml", "--runner", runner, "--workers", "1"],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(place / "there")},
    )
    assert done.returncode == 0, done.stderr
    manifest = json.loads((place / "results" / "small" / "manifest.json").read_text())
    assert manifest["versions"]["noisesweep"] == VERSION


def test_the_version_of_the_wheel_is_the_one_in_the_code(wheel: Path):
    assert wheel.name.startswith(f"noisesweep-{VERSION}-")

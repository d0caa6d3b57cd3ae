"""The command line: exit status, one clear line per mistake, and nothing started before all is checked."""

import io
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import sweep
from sweep import cli, parser, version
from sweep.execution.ray import cluster

COMMANDS = ("run", "plan", "status", "table", "inspect", "train")


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster.RayRunner, "__enter__", lambda _: pytest.fail("a cluster was started"))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The message of a command that ends with exit status 2."""
    try:
        status = cli.main(arguments)
    except SystemExit as exit_:  # argparse
        status = exit_.code
    captured = capsys.readouterr()
    assert status == 2, captured
    assert "Traceback" not in captured.err
    assert captured.out == ""
    return captured.err


def edit(old: str, new: str) -> None:
    study = Path("study.toml")
    assert old in study.read_text()
    study.write_text(study.read_text().replace(old, new))


def resave(**arrays: np.ndarray) -> None:
    with np.load("data.npz") as data:
        np.savez("data.npz", **{**data, **arrays})


def test_run_table_and_status(place: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["run", "study.toml", "--runner", "inline"]) == 0
    out = capsys.readouterr().out
    assert "rounded, then noisy" in out
    assert "results in" in out
    for form in parser.FORMATS:
        assert cli.main(["table", "results/small", "--format", form]) == 0
        table = capsys.readouterr().out
        assert table.strip()
        if form == "json":
            assert len(json.loads(table)) == 8
    assert cli.main(["status", "results/small"]) == 0
    out = capsys.readouterr().out
    assert "28: 28 done, 0 to do" in out
    assert "done, after" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_screen_and_shows_an_example(command: str, capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as exit_:
        cli.main([command, "--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert len(text.splitlines()) <= 30
    assert f"example: sweep {command} " in text


def test_every_command_is_in_the_help_and_the_readme(root: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    shown = capsys.readouterr().out
    readme = (root / "README.md").read_text()
    for command in COMMANDS:
        assert f"    {command} " in shown
        assert f"sweep {command}" in readme


def test_the_version_is_said_from_its_one_home(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parser, "VERSION", "1.2.3")
    with pytest.raises(SystemExit) as exit_:
        cli.main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out == "noisesweep 1.2.3\n"
    said = subprocess.run([sys.executable, "-m", "sweep", "--version"], capture_output=True, text=True, check=True)
    assert said.stdout == f"noisesweep {version.VERSION}\n"
    assert sweep.__version__ == version.VERSION


def test_the_dry_run_writes_nothing(place: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["run", "study.toml", "--dry-run"]) == 0
    assert "28: 0 done, 28 to do" in capsys.readouterr().out
    assert not Path("results").exists()


def test_no_study(place: Path, capsys: pytest.CaptureFixture[str]):
    assert f"nothing.toml: no such file (looked for {Path.cwd() / 'nothing.toml'})" in refused(
        capsys, "run", "nothing.toml"
    )


def test_a_study_that_is_no_toml(place: Path, capsys: pytest.CaptureFixture[str]):
    Path("study.toml").write_text("name = ")
    assert "study.toml: is not valid TOML" in refused(capsys, "run", "study.toml")


def test_mistakes_in_the_study_come_together(place: Path, capsys: pytest.CaptureFixture[str]):
    edit("seeds = 6", "seeds = 0\nsede = 1")
    edit("bits = [8, 1]", "bits = [8, -1]")
    lines = refused(capsys, "run", "study.toml").splitlines()
    assert len(lines) == 3


def test_missing_files_come_together_with_the_resolved_path(place: Path, capsys: pytest.CaptureFixture[str]):
    edit("net.keras", "nets/other.keras")
    edit("data.npz", "other.npz")
    lines = refused(capsys, "run", "study.toml").splitlines()
    assert len(lines) == 2
    assert str(place / "nets" / "other.keras") in "".join(lines)
    assert str(place / "other.npz") in "".join(lines)


def test_paths_fall_back_to_the_study_files_repository(place: Path, monkeypatch, capsys):
    (place / "pyproject.toml").touch()
    (place / "deep").mkdir()
    Path("study.toml").rename("deep/study.toml")
    monkeypatch.chdir(place / "deep")
    assert cli.main(["plan", "study.toml"]) == 0


@pytest.mark.parametrize("content", [b"", b"not a network", b"PK\x03\x04 half a zip"])
def test_an_unreadable_model(place: Path, capsys: pytest.CaptureFixture[str], content: bytes):
    Path("net.keras").write_bytes(content)
    assert "net.keras" in refused(capsys, "run", "study.toml")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_test": np.zeros((300, 11, 12), np.uint8)}, "shape"),
        ({"x_test": np.zeros((300, 12, 12, 3), np.uint8)}, "shape"),
        ({"x_test": np.full((300, 12, 12), np.nan, np.float32)}, "NaN"),
        ({"x_test": np.full((300, 12, 12), "a")}, "x_test is <U1"),
        ({"x_test": np.zeros((0, 12, 12), np.uint8), "y_test": np.zeros(0, np.int64)}, "x_test"),
        ({"y_test": np.zeros(299, np.int64)}, "299"),
        ({"y_test": np.full(300, 5)}, "5"),
        ({"y_test": np.full(300, -1)}, "negative"),
        ({"y_test": np.full(300, 0.5)}, "numbers with fractions"),
    ],
    ids=["rows", "channels", "nan", "text", "empty", "length", "label too large", "negative label", "fractions"],
)
def test_a_dataset_that_does_not_fit(place: Path, capsys, arrays: dict, message: str):
    resave(**arrays)
    error = refused(capsys, "run", "study.toml")
    assert message in error
    assert "study.toml: " in error


def test_an_npz_without_the_arrays_names_those_that_are_there(place: Path, capsys):
    np.savez("data.npz", images=np.zeros(3))
    error = refused(capsys, "run", "study.toml")
    assert "x_test" in error
    assert "images" in error


def test_a_model_with_too_few_outputs(place: Path, capsys):
    net = keras.Sequential([keras.Input((12, 12, 1)), keras.layers.Flatten(), keras.layers.Dense(3, name="fc")])
    net.save("net.keras")
    assert "label" in refused(capsys, "run", "study.toml")


def test_a_layer_that_is_not_there(place: Path, capsys):
    edit('layers = "fc"', 'layers = "dense*"')
    error = refused(capsys, "run", "study.toml")
    assert "study.toml: family[1].perturb[1].layers: 'dense*' selects no kernel" in error
    assert "conv1 (0, Conv2D), fc (3, Dense)" in error


def test_an_unwritable_folder(place: Path, capsys):
    Path("file").touch()
    assert "cannot be written to" in refused(capsys, "run", "study.toml", "--out", "file/run")
    if os.geteuid() != 0:
        Path("locked").mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
        assert "cannot be written to" in refused(capsys, "run", "study.toml", "--out", "locked/run")


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "study.toml", "--seeds", "0"],
        ["run", "study.toml", "--seeds", "9:3"],
        ["run", "study.toml", "--workers", "-1"],
        ["run", "study.toml", "--gpus", "1.5"],
        ["run", "study.toml", "--runner", "dask"],
        ["table", "results/small", "--format", "xls"],
        ["table", "."],
        ["status", "nowhere"],
        ["train", "nothing.toml"],
        ["train", "study.toml"],
        ["swep"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line(place: Path, capsys, arguments: list[str]):
    assert refused(capsys, *arguments)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_more_than_a_million_trials_are_confirmed(place: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    few = ["run", "study.toml", "--runner", "inline", "--seeds", "1"]
    many = ["run", "study.toml", "--runner", "inline", "--seeds", "1000000"]
    error = refused(capsys, *many)
    assert error == "sweep: study.toml: asks for 4,000,004 trials; say --yes to run so many\n"
    error = refused(capsys, "run", "study.toml", "--runner", "inline", "--seeds", "1000000000", "--yes")
    assert "asks for 4,000,000,004 trials, more than 100,000,000 at a time; run ranges of seeds" in error
    assert not Path("results").exists()
    assert cli.main(["plan", "study.toml", "--seeds", "1000000000"]) == 0
    assert "4,000,000,004: 0 done" in capsys.readouterr().out
    monkeypatch.setattr("sweep.api.MANY_TRIALS", 6)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert "say --yes" in refused(capsys, *few), "no terminal, no confirmation"
    for answer, status in (("n", 2), ("", 2), ("y", 0)):
        monkeypatch.setattr("sys.stdin", Terminal(f"{answer}\n"))
        assert cli.main(few) == status
        assert "8 trials: run them? [y/N]" in capsys.readouterr().err
    assert cli.main([*few, "--out", "again", "--yes"]) == 0


def test_nobody_else_can_read_what_the_umask_forbids(place: Path):
    before = os.umask(0o077)
    try:
        assert cli.main(["run", "study.toml", "--runner", "inline", "--out", "run"]) == 0
    finally:
        os.umask(before)
    wide = [path for path in [Path("run"), *Path("run").rglob("*")] if path.stat().st_mode & 0o077]
    assert not wide


@pytest.mark.parametrize(
    ("arguments", "least"),
    [
        (("verify", "run", "--sample", "-1"), 0),
        (("train", "r.toml", "--seeds", "0"), 1),
        (("run", "s", "--chunk", "x"), 1),
    ],
)
def test_a_number_that_is_none_is_told_with_what_is_valid(
    arguments: tuple[str, ...], least: int, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 2
    assert f"is not a whole number of at least {least}" in capsys.readouterr().err

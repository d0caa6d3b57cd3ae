"""Run folders as noisesweep wrote them, kept in tests/frozen: every version's open, and say what they said."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

import sweep
from sweep.cli import main

FROZEN = Path(__file__).parent / "frozen"
STATISTICS = ["trials", "mean", "std", "mean_low", "mean_high", "min", "median", "max"]


@pytest.fixture
def frozen(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(FROZEN / request.param, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


@pytest.mark.parametrize("frozen", ["0.1.0/plain"], indirect=True)
def test_a_run_without_plugins_opens_as_before(frozen: Path, capsys):
    said = pd.read_csv(frozen / "summary.csv").set_index("cell")[STATISTICS]
    summary = sweep.open_run("run").summary().set_index("cell").loc[said.index, STATISTICS]
    pd.testing.assert_frame_equal(summary, said, check_dtype=False)
    for arguments in (["table", "run"], ["status", "run"], ["report", "run"], ["verify", "run", "--sample", "0"]):
        assert main(arguments) == 0, arguments
    assert "1 of 1 shards are as they were committed" in capsys.readouterr().out


@pytest.mark.parametrize("frozen", ["0.1.0/own"], indirect=True)
def test_a_run_with_a_plugin_says_in_one_line_what_to_do(frozen: Path, capsys):
    for arguments in (["table", "run"], ["status", "run"], ["report", "run"], ["export", "run", "out"]):
        assert main(arguments) == 2
        assert capsys.readouterr().err == (
            f"sweep: {frozen}: brings code of its own (plugins/my_noise.py), which runs only with --trust-plugins; "
            "`sweep run STUDY` with your own study stores what readers need instead\n"
        )
    assert main(["verify", "run", "--sample", "0"]) == 0
    assert not Path("CANARY").exists()

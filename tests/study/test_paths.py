"""Where a study finds its files, however their paths are written, and from wherever it is run."""

from pathlib import Path

import pytest

from sweep.errors import InputError
from sweep.study.paths import locate, matching


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A study file in a folder of a repository; the current directory is elsewhere."""
    for name in ("repository/.git", "repository/mine/data", "elsewhere", "home"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("repository/mine/beside.h5", "repository/mine/data/x.npz", "repository/above.h5", "home/own.h5"):
        (tmp_path / name).touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    return str(tmp_path / "repository/mine/study.toml")


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("beside.h5", "repository/mine/beside.h5"),
        ("above.h5", "repository/above.h5"),
        ("mine/beside.h5", "repository/mine/beside.h5"),
        ("~/own.h5", "home/own.h5"),
        ("data\\x.npz", "repository/mine/data/x.npz"),
        ("..\\above.h5", "repository/mine/../above.h5"),
    ],
)
def test_a_file_is_found_from_anywhere(tmp_path: Path, study: str, written: str, found: str):
    assert locate(written, study) == tmp_path / found


def test_the_current_directory_comes_first(tmp_path: Path, study: str):
    (tmp_path / "elsewhere/beside.h5").touch()
    assert locate("beside.h5", study) == tmp_path / "elsewhere/beside.h5"
    assert matching("*.h5", study) == [tmp_path / "elsewhere/beside.h5"]
    (tmp_path / "elsewhere/beside.h5").unlink()
    assert matching("*.h5", study) == [tmp_path / "repository/mine/beside.h5"]


def test_what_is_nowhere_is_told_with_every_place(tmp_path: Path, study: str):
    with pytest.raises(InputError) as error:
        locate("no.h5", study)
    for folder in ("elsewhere", "repository/mine", "repository"):
        assert str(tmp_path / folder / "no.h5") in str(error.value)
    with pytest.raises(InputError, match="no such home folder"):
        locate("~nobody-of-that-name/no.h5", study)

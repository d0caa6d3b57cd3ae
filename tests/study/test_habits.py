"""What people write by habit, and what they are told."""

from pathlib import Path

import pytest

from sweep import cli
from sweep.errors import InputError
from sweep.study.study import Study

STUDY = """\
name = "s"
model = "m.h5"
dataset = "d.npz"
seeds = 3
[[family]]
name = "f"
perturb = [ { op = "gaussian", scale = 0.1 } ]
"""


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("[[family]]", "[family]", "in double brackets"),
        ("scale = 0.1", "sigma = 0.1", "(did you mean 'scale', which is missing?)"),
        ("scale = 0.1", "std = [0.1, 0.2]", "(did you mean 'scale', which is missing?)"),
        ('"gaussian", scale = 0.1', '"bit_flip", rate = 0.1, bits = 8.0', "from 2 to 32; write 8"),
        ("seeds = 3", "seeds = 1e3", "; write 1000"),
        ("seeds = 3", "seeds = 2.5", "2.5 is not a whole number of at least 1"),
        ('"m.h5"', '"models\\m.h5"', "write paths with / or in 'single quotes'"),
    ],
)  # fmt: skip
def test_the_message_says_what_to_write(tmp_path: Path, old: str, new: str, told: str):
    path = tmp_path / "study.toml"
    path.write_text(STUDY.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError) as error:
        Study.from_toml(path)
    assert told in str(error.value)


def test_a_file_from_an_editor_that_marks_its_encoding_is_read(tmp_path: Path):
    (tmp_path / "study.toml").write_text(STUDY, encoding="utf-8-sig")
    assert Study.from_toml(tmp_path / "study.toml").name == "s"


@pytest.mark.parametrize("option", ["--precis", "--trust", "--dry"])
def test_options_are_not_abbreviated(option: str, capsys: pytest.CaptureFixture[str]):
    """An abbreviation would mean something else once there is another option of that beginning."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", "study.toml", option])
    assert ended.value.code == 2
    assert "unrecognized arguments" in capsys.readouterr().err

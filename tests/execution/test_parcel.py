"""What travels with a driver that is handed to a cluster, and what cannot."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sweep import api, cli, parser
from sweep.errors import InputError
from sweep.execution import parcel as module
from sweep.execution.parcel import CODE, Parcel, parcel
from sweep.preparation.inputs import prepare
from sweep.study.study import parse_file

OWN = """
import numpy as np

def load():
    return np.zeros((4, 12, 12), np.uint8), np.arange(4)
"""


def packed(study: str = "study.toml") -> Parcel:
    return parcel(prepare(parse_file(study)))


def changed(old: str, new: str) -> None:
    path = Path("study.toml")
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def own(found: Parcel) -> set[str]:
    return {name for name in found.files if not name.startswith(f"{CODE}/sweep/")}


def test_the_study_its_files_and_this_package_travel(place: Path):
    Path("my").mkdir()
    Path("my/data.py").write_text(OWN)
    changed('dataset = "data.npz"', 'dataset = "my/data.py:load"')
    Path("not_named.txt").write_text("private")
    found = packed()
    assert own(found) == {"study.toml", "net.keras", "my/data.py"}
    assert found.there == ()
    assert f"{CODE}/sweep/cli.py" in found.files
    assert not [name for name in found.files if "__pycache__" in name]


def test_the_archive_runs_elsewhere_and_is_the_same_each_time(place: Path, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("node")
    packed().write(elsewhere / "a.zip")
    packed().write(elsewhere / "b.zip")
    assert (elsewhere / "a.zip").read_bytes() == (elsewhere / "b.zip").read_bytes(), "the cluster knows it"
    with zipfile.ZipFile(elsewhere / "a.zip") as archive:
        archive.extractall(elsewhere / "work")
    shutil.rmtree(place, ignore_errors=False)
    code = f"import sys; sys.path.insert(0, {CODE!r}); from sweep.__main__ import main; main()"
    command = [sys.executable, "-c", code, "plan", "study.toml"]
    done = subprocess.run(command, cwd=elsewhere / "work", capture_output=True, text=True, timeout=300)
    assert (done.returncode, "28" in done.stdout) == (0, True), done


def test_what_has_an_absolute_path_stays(place: Path):
    changed('dataset = "data.npz"', f'dataset = "{place / "data.npz"}"')
    found = packed()
    assert own(found) == {"study.toml", "net.keras"}
    assert found.there == (str(place / "data.npz"),)


def test_what_cannot_travel_is_refused(place: Path, monkeypatch):
    Path("sub").mkdir()
    changed('model = "net.keras"', 'model = "sub/../net.keras"')
    with pytest.raises(InputError, match=r"sub/\.\./net\.keras: does not travel"):
        packed()
    changed("sub/../", "")
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    with pytest.raises(InputError, match=r"at most 1000 B|at most 0\.977 KiB travel"):
        packed()


def test_the_folder_of_the_study_itself_does_not_travel(place: Path):
    """It may hold anything."""
    with np.load("data.npz") as data:
        for name in ("x_test", "y_test"):
            np.save(f"{name}.npy", data[name])
    changed('dataset = "data.npz"', 'dataset = "."')
    with pytest.raises(InputError, match=r"\.: does not travel; name a file or a folder below"):
        packed()


@pytest.mark.parametrize("out", ["run", "./run", "file:///x", "http://x/y", ""])
def test_results_go_where_both_see_them(place: Path, out: str, capsys):
    with pytest.raises(InputError, match="a place that the cluster sees, too"):
        api.submit("study.toml", out, "http://127.0.0.1:1")
    assert cli.main(["submit", "study.toml", "--address", "http://127.0.0.1:1"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_what_is_asked_of_devices_is_checked_before_anything_travels(place: Path, capsys):
    submit = ["submit", "study.toml", "--address", "http://127.0.0.1:1", "--out", "/shared/run"]
    for wrong in (["--device", "tpu"], ["--device", "cpu", "--gpus", "1"], ["--label", "=x"]):
        assert cli.main([*submit, *wrong]) == 2
        assert capsys.readouterr().err.startswith(f"sweep: {wrong[0]} ")


def test_options_are_given_again_to_the_driver_there(place: Path, monkeypatch, capsys):
    from sweep.execution.ray import submission

    given: list[object] = []
    monkeypatch.setattr(submission, "submit", lambda *arguments: given.append(arguments) or "job-1")
    options = ["--seeds", "2:9", "--memory", "1GiB", "--chunk", "5", "--trust-model", "--wait-for-nodes", "2"]
    options += ["--device", "gpu:A100", "--label", "market-type=spot", "--label", "zone=!in(a,b)"]
    assert cli.main(["submit", "study.toml", "--address", "http://a:8265", "--out", "/shared/run", *options]) == 0
    _, passed, address, insecure = given[0]
    again = parser.parser().parse_args(["run", "study.toml", *passed])
    assert (again.seeds, again.memory, again.chunk) == ({"start": 2, "count": 7}, 1 << 30, 5)
    assert (again.trust_model, again.wait_for_nodes, again.yes, again.out) == (True, 2, True, "/shared/run")
    assert (again.device, again.label) == ("gpu:A100", [("market-type", "spot"), ("zone", "!in(a,b)")])
    assert (address, insecure) == ("http://a:8265", False)
    assert "sweep status /shared/run --watch" in capsys.readouterr().out

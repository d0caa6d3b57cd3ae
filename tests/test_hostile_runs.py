"""A stranger's run folder is data: readers execute, write and remove nothing of it; each ends in a table or a line."""

import csv
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
import tomli_w

import sweep
from sweep import api, cli
from sweep.errors import InputError, StoreError, SweepError, UntrustedError
from sweep.execution.verify import verify
from sweep.perturb import REGISTRY
from sweep.reporting.tables.layout import FORMATS
from sweep.storage import kept
from sweep.storage.paths import Folder
from sweep.storage.store import Store
from tests import hostile
from tests.storage.conftest import s3  # noqa: F401
from tests.storage.s3 import BUCKET, Standin

Change = Callable[[Path], None]
COMMANDS = {
    "table": ["table", "run"],
    "answers": ["table", "run", "--answers"],
    "latex": ["table", "run", "--format", "latex"],
    "status": ["status", "run"],
    "report": ["report", "run"],
    "export": ["export", "run", "out"],
    "plan": ["plan", "run/study.toml"],
    "run": ["run", "run/study.toml", "--runner", "inline"],
    "verify": ["verify", "run"],
    "shards": ["verify", "run", "--sample", "0"],
    "repair": ["verify", "run", "--sample", "0", "--repair"],
}
READERS = ("table", "answers", "latex", "status", "report", "export")


@pytest.fixture(scope="module")
def made(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run in it, its study, and the files of that."""
    place = tmp_path_factory.mktemp("own")
    for name in ("net.keras", "data.npz"):
        shutil.copy(small / name, place)
    hostile.run_own(place)
    return place


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the run in a folder with a victim; the plugin, if it ran, would leave a canary, and its ops."""
    monkeypatch.setenv("CANARY", str(tmp_path / "canary"))
    shutil.copytree(made / "run", tmp_path / "run")
    (tmp_path / "victim").mkdir()
    for name in ("study.toml", "x.parquet", "report.html", "accuracy-scale.svg"):
        (tmp_path / "victim" / name).write_text("mine")
    (tmp_path / "victim.parquet").write_text("mine")
    monkeypatch.chdir(tmp_path)
    ops = set(REGISTRY)
    yield tmp_path / "run"
    assert set(REGISTRY) == ops, "a plugin was run"


def outside(place: Path) -> dict[str, str]:
    """What lies beside the run, with checksums; exports and results go there by right."""
    skip = {"run", "out", "results"}
    files = [p for p in place.rglob("*") if p.relative_to(place).parts[0] not in skip]
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files if p.is_file() and not p.is_symlink()}


def said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit status, and what a command says on standard error: at most one line."""
    before = outside(Path.cwd())
    status = cli.main(arguments)
    assert outside(Path.cwd()) == before, f"{arguments} wrote or removed what is not the run's"
    assert not Path("canary").exists(), f"{arguments} ran the plugin"
    line = capsys.readouterr().err
    assert line.count("\n") <= 1, line
    assert line.isprintable() or line[:-1].isprintable()
    return status, line


def as_0_1_0(run: Path) -> None:
    hostile.edited(run, lambda manifest: manifest.pop("ops"))


def changed(run: Path) -> None:
    path = run / "plugins" / "my_noise.py"
    path.write_text(path.read_text() + "\n# changed\n")


def gone(run: Path) -> None:
    shutil.rmtree(run / "plugins")


@pytest.mark.parametrize("change", [lambda _: None, changed, gone], ids=["as it is", "changed", "gone"])
def test_nothing_of_a_run_folder_is_executed(run: Path, change: Change, capsys):
    change(run)
    for name in COMMANDS:
        status, line = said(COMMANDS[name], capsys)
        if name in READERS or name in ("shards", "repair"):
            assert (status, line) == (0, ""), name
        elif name == "verify":
            assert (status, line) == (1, "sweep: run: checked in part; --sample 0 asks for no more\n")
        else:
            assert status == 2, name
            assert "brings code of its own (plugins/my_noise.py), which runs only with --trust-plugins" in line
    opened = sweep.open_run("run")
    assert len(opened.trials()) == 1 + 2 + 2 * 4 + 2 + 1 + 4
    opened.compare({"family": "stripes", "basis": "weight"}, {"family": "stripes", "basis": "absolute"})
    assert opened.plot.curve("scale").has_data()
    assert not Path("canary").exists()


@pytest.mark.slow
def test_readers_of_stand_ins_say_what_the_plugin_itself_would(made: Path, run: Path, capsys):
    """In a process that runs the study, and in this one, which knows the transforms by description only."""
    code = """
import sweep
from sweep.study.study import Study
from sweep.storage.store import Store
study = Study.from_toml("own.toml")
run = sweep.run("own.toml", "run", runner="inline")
assert all(type(t).__name__ != "StandIn" for cell in study.cells for t in cell.transforms)
run.study = study
print(run.table(answers=True))
print(run.report())
"""
    by_code = subprocess.run(
        [sys.executable, "-c", code], cwd=made, capture_output=True, text=True, timeout=300, check=True
    ).stdout
    opened = sweep.open_run("run")
    assert type(opened.study.cells[1].transforms[0]).__name__ == "StandIn"
    report = opened.report()
    assert f"{opened.table(answers=True)}\n{report}\n" == by_code
    assert "one v ~ N(0, 1) for each output channel" in report
    assert "Liu et al., DAC 2015" in report


def test_reading_needs_neither_tensorflow_nor_ray(run: Path):
    block = "import sys; sys.modules.update(dict.fromkeys(('tensorflow', 'keras', 'ray', 'jax', 'torch')))"
    lines = [f"assert cli.main({arguments!r}) == 0" for name, arguments in COMMANDS.items() if name in READERS]
    lines += ["assert cli.main(['verify', 'run', '--sample', '0']) == 0", "sweep.open_run('run').summary()"]
    code = "\n".join([block, "import sweep", "from sweep import cli", *lines])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_a_run_of_0_1_0_with_plugins_says_what_to_do(run: Path, made: Path, capsys, monkeypatch):
    expected = sweep.open_run("run").table(answers=True)
    as_0_1_0(run)
    for name in READERS:
        status, line = said(COMMANDS[name], capsys)
        assert status == 2
        assert "runs only with --trust-plugins; `sweep run STUDY` with your own study stores" in line
    for file in ("net.keras", "data.npz", "own.toml", "my_noise.py"):
        shutil.copy(made / file, run.parent)
    again = [sys.executable, "-m", "sweep", "run", "own.toml", "--out", "run", "--runner", "inline"]
    assert subprocess.run(again, capture_output=True, timeout=300).returncode == 0
    Path("canary").unlink()
    assert sweep.open_run("run").table(answers=True) == expected


def trusting(*arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, which may run the plugin."""
    command = [sys.executable, "-m", "sweep", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)


@pytest.mark.slow
def test_code_that_is_trusted_runs_when_it_is_that_of_the_run(run: Path, made: Path):
    for file in ("net.keras", "data.npz"):
        shutil.copy(made / file, run.parent)
    done = trusting("verify", "run")
    assert done.returncode == 1
    assert "no trial evaluated again" in done.stdout
    done = trusting("verify", "run", "--trust-plugins")
    assert done.returncode == 0, done.stderr
    assert "10 of 10 trials evaluated again have the same count" in done.stdout
    assert Path("canary").exists()
    done = trusting("run", "run/study.toml", "--out", "run", "--trust-plugins", "--runner", "inline")
    assert done.returncode == 0, done.stderr
    as_0_1_0(run)
    assert "stripes" in trusting("table", "run", "--trust-plugins").stdout
    Path("canary").unlink()
    changed(run)
    for arguments in (["verify", "run"], ["plan", "run/study.toml"], ["table", "run"]):
        done = trusting(*arguments, "--trust-plugins")
        assert "my_noise.py: is not the file that the run was made with; it is not run" in done.stderr
        assert not Path("canary").exists()


def test_who_is_asked_may_say_no(run: Path):
    asked = []
    verdict = verify("run", trust_plugins=lambda what: bool(asked.append(what)))
    assert asked == [f"{run} brings code of its own (plugins/my_noise.py)"]
    assert verdict.sound
    assert "no trial evaluated again" in str(verdict)
    with pytest.raises(UntrustedError):
        api.plan("run/study.toml", trust_plugins=lambda _: False)


def test_a_study_read_from_a_folder_does_not_run_without_its_code(run: Path):
    with pytest.raises(InputError, match="is there without the code of its plugins; run the file of your own study"):
        sweep.run(sweep.open_run("run").study, "other", runner="inline")


HOSTILE = {**hostile.MANIFESTS, **hostile.STUDIES, **hostile.SHARDS, **hostile.LINKS}
FEW = ("table", "status", "report", "export", "shards")


@pytest.mark.parametrize(("change", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_folder_that_means_harm(run: Path, change: Change, message: str, capsys, monkeypatch):
    """Every reader says the same line; verify lists damaged shards, and sets aside nothing but files of the folder."""
    monkeypatch.setattr(kept, "BEGINS", 0.01)
    change(run)
    for name in FEW:
        status, line = said(COMMANDS[name], capsys)
        if name == "shards":
            assert status in (0, 1, 2)
            continue
        assert status in (1, 2), name
        assert re.search(message, line), line
    said(COMMANDS["repair"], capsys)


@pytest.mark.parametrize("folder", ["figures", "damaged", "plugins"])
def test_nothing_is_written_through_a_link(run: Path, made: Path, folder: str):
    shutil.rmtree(run / folder, ignore_errors=True)
    (run / folder).symlink_to(run.parent / "victim")
    before = outside(run.parent)
    place = Folder.at(run)
    for attempt in (
        lambda: place.write(f"{folder}/x.parquet", b"theirs"),
        lambda: place.publish(f"{folder}/new", b"theirs"),
        lambda: place.remove(f"{folder}/x.parquet"),
        lambda: place.move(f"{folder}/x.parquet", "trials/x.parquet"),
        lambda: place.move("report.html", f"{folder}/report.html"),
        lambda: place.names(folder),
        lambda: place.tidy(folder),
    ):
        with pytest.raises(StoreError, match=f"{folder} is a link, and links in a run folder are not followed"):
            attempt()
    assert outside(run.parent) == before


def test_a_run_into_a_folder_with_a_link_says_so_before_it_computes(place: Path):
    (place / "run").mkdir()
    (place / "elsewhere").mkdir()
    (place / "run" / "figures").symlink_to(place / "elsewhere")
    with pytest.raises(StoreError, match="figures is a link"):
        sweep.run("study.toml", "run", runner="inline")
    assert not (place / "run" / "trials").exists()
    assert not any((place / "elsewhere").iterdir())


def test_a_report_replaces_a_link_and_not_what_it_leads_to(run: Path):
    (run / "report.html").unlink()
    (run / "report.html").symlink_to(run.parent / "victim" / "report.html")
    sweep.open_run("run").write_report()
    assert not (run / "report.html").is_symlink()
    assert (run.parent / "victim" / "report.html").read_text() == "mine"


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a\0"])
@pytest.mark.parametrize("place", ["run", f"s3://{BUCKET}/runs/mine"])
def test_no_name_leads_out_of_a_folder(run: Path, s3: Standin, name: str, place: str):  # noqa: F811
    folder = Folder.at(place)
    for attempt in (
        folder.read,
        folder.remove,
        folder.names,
        lambda n: folder.write(n, b""),
        lambda n: folder.move("a", n),
    ):
        with pytest.raises(StoreError, match="is no file in it"):
            attempt(name)


def uploaded(run: Path, server: Standin) -> None:
    """The folder in a bucket, beside a victim."""
    server.objects["runs/victim.parquet"] = b"mine"
    for path in run.rglob("*"):
        if path.is_file():
            server.objects[f"runs/mine/{path.relative_to(run)}"] = path.read_bytes()


def test_a_run_in_an_object_store(run: Path, s3: Standin, capsys):  # noqa: F811
    uri = f"s3://{BUCKET}/runs/mine"
    expected = sweep.open_run("run").table()
    uploaded(run, s3)
    assert sweep.open_run(uri).table() == expected
    for name in READERS:
        assert said([uri if a == "run" else a for a in COMMANDS[name]], capsys) == (0, ""), name
    assert said(["verify", uri], capsys)[0] == 1
    hostile.edited(run, lambda manifest: manifest.update(replaced=["../../victim.parquet"]))
    uploaded(run, s3)
    for name in ("table", "shards", "repair"):
        status, line = said([uri if a == "run" else a for a in COMMANDS[name]], capsys)
        assert status == 1
        assert "is damaged: replaced: '../../victim.parquet' is no file of trials" in line
    assert s3.objects["runs/victim.parquet"] == b"mine"


@pytest.mark.slow
def test_plugins_of_a_run_in_an_object_store_are_found(run: Path, made: Path, s3: Standin):  # noqa: F811
    uri = f"s3://{BUCKET}/runs/mine"
    for file in ("net.keras", "data.npz"):
        shutil.copy(made / file, run.parent)
    uploaded(run, s3)
    done = trusting("verify", uri, "--trust-plugins", "--sample", "3")
    assert done.returncode == 0, done.stderr
    assert "3 of 3 trials evaluated again have the same count" in done.stdout
    s3.objects["runs/mine/plugins/my_noise.py"] += b"#"
    done = trusting("verify", uri, "--trust-plugins")
    assert "is not the file that the run was made with; it is not run" in done.stderr


def test_what_replaced_files_a_folder_of_another_may_name(run: Path, made: Path):
    """`clean` removes what a manifest says has been replaced: files of trials, and no others."""
    manifest = json.loads((run / "manifest.json").read_text())
    assert "replaced" not in manifest
    (run / "trials" / "old.parquet").write_bytes(b"old")
    hostile.edited(run, lambda m: m.update(replaced=["old.parquet"]))
    Store.open(run).clean()
    assert not (run / "trials" / "old.parquet").exists()


def test_every_error_is_one_of_ours(run: Path):
    """What these tests call a line is a SweepError with its exit status, not a crash that the command hides."""
    hostile.edited(run, lambda manifest: manifest.update(replaced=["/x.parquet"]))
    with pytest.raises(SweepError):
        sweep.open_run("run")


NAMES = ['=HYPERLINK("x")', "<script>alert(1)<img src=x>", "$x^$ \\frac{", "[2em]*", "@|`_&%#{}", "..", "\u202eabc"]


def test_names_that_mean_harm_in_every_format(place: Path, capsys):
    """A study with such families, from end to end: pages and figures are well-formed, and no text is anything else."""
    families = [{"name": n, "perturb": [{"op": "fixed_point", "bits": [4, 2]}]} for n in NAMES]
    data = {"name": "names", "model": "net.keras", "dataset": "data.npz", "seeds": 1, "family": families}
    Path("names.toml").write_text(tomli_w.dumps(data))
    sweep.run("names.toml", "run", runner="inline")
    for form in FORMATS:
        assert cli.main(["table", "run", "--answers", "--format", form]) == 0
    assert cli.main(["export", "run", "out"]) == 0
    page = sweep.open_run("run").report()
    assert "<script>alert" not in page
    for path in Path("out").iterdir():
        if path.suffix == ".svg":
            ElementTree.fromstring(path.read_text())
        if path.suffix == ".csv":
            cells = [cell for row in csv.reader(path.read_text().splitlines(keepends=True)) for cell in row]
            assert not [c for c in cells if c.startswith(("=", "@"))], path
    assert "$x^$" in (Path("out") / "accuracy-bits.svg").read_text(), "drawn as it stands"

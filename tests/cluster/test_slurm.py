"""jobs/cluster/slurm.sh on a real Slurm of three nodes: equal to a local run, cancelled, killed, queued again."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import sweep
from tests.chaos import scene
from tests.cluster import slurm as real
from tests.cluster.slurm import Slurm

SCRIPT = Path(__file__).parents[2] / "jobs/cluster/slurm.sh"
CHUNK = ("--chunk", "10")


@pytest.fixture
def slurm() -> Iterator[Slurm]:
    with real.running() as found:
        yield found


def submit(slurm: Slurm, *options: str, study: str = "chaos.toml", run: tuple[str, ...] = ("--out", "run")) -> str:
    log = {scene.LOG: str(Path("log").absolute())}
    return slurm.submit("--cpus-per-task=1", *options, str(SCRIPT), study, *run, env=log)


def output(job: str) -> str:
    path = Path(f"slurm-{job}.out")
    return path.read_text() if path.exists() else ""


def completed(slurm: Slurm, job: str) -> str:
    """The output of a job that has succeeded."""
    state = slurm.ended(job)
    text = output(job)
    assert state == "COMPLETED", text
    return text


def folders(job: str) -> list[Path]:
    """What a job has left in the temporary folder of the nodes."""
    return [*Path("/tmp").glob(f"noisesweep-{job}-????")]


def trials_kept() -> int:
    return sum(len(pd.read_parquet(path)) for path in scene.shards())


def test_three_nodes(slurm: Slurm, place: Path) -> None:
    job = submit(slurm, "--nodes=3", study="study.toml")
    text = completed(slurm, job)
    assert not folders(job)
    assert "3 of 3 nodes have joined" in text
    assert "3 nodes with 3 slots joined" in text
    assert not re.search("error|CANCELLED|Traceback", text), text
    expected = scene.results_of(sweep.run("study.toml", "local", runner="inline"))
    scene.check("run", expected)
    first = text.splitlines()[:4]
    assert "sweep status run" in first[1]
    assert str(Path(f"slurm-{job}.out").absolute()) in first[2]


def test_all_cores_of_a_node(slurm: Slurm, place: Path) -> None:
    job = submit(slurm, "--nodes=2", "--exclusive", study="study.toml")
    assert f"2 nodes with {2 * real.CPUS} slots joined" in completed(slurm, job)


def test_two_jobs_on_one_node(slurm: Slurm, place: Path) -> None:
    jobs = [submit(slurm, "--nodelist=n1", study="study.toml", run=("--out", run)) for run in ("one", "two")]
    scene.until(lambda: [slurm.state(job) for job in jobs] == ["RUNNING", "RUNNING"])
    texts = [completed(slurm, job) for job in jobs]
    assert len({re.search(r"Ray at (\S+);", text)[1] for text in texts}) == 2  # type: ignore[index]
    expected = scene.results_of(sweep.run("study.toml", "local", runner="inline"))
    for run in ("one", "two"):
        scene.check(run, expected)


def test_an_array_of_studies(slurm: Slurm, place: Path) -> None:
    text = Path("study.toml").read_text()
    Path("other.toml").write_text(text.replace('"small"', '"other"'))
    Path("studies.txt").write_text("study.toml\nother.toml\n")
    array = submit(slurm, "--array=1-2", "--output=%A_%a.out", study="studies.txt", run=())
    scene.until(lambda: Path("results/small/report.html").exists() and Path("results/other/report.html").exists())
    scene.until(lambda: not slurm.ask("squeue", "--noheader", "--jobs", array))
    expected = scene.results_of(sweep.run("study.toml", "local", runner="inline"))
    scene.check("results/small", expected)
    scene.check("results/other", expected)


def test_a_cancelled_job_is_resumed(slurm: Slurm, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.write_study(200, seconds=0.05)
    job = submit(slurm, "--nodes=2", run=("--out", "run", *CHUNK))
    scene.until(lambda: len(scene.shards()) > 5)
    slurm.ask("scancel", job)
    assert slurm.ended(job) == "CANCELLED"
    text = output(job)
    assert "Traceback" not in text, text
    assert "queued again" not in text
    kept = trials_kept()
    assert 0 < kept < 601
    completed(slurm, submit(slurm, "--nodes=2", run=("--out", "run", *CHUNK)))
    scene.check("run", scene.undisturbed(monkeypatch))


def test_a_job_at_its_time_limit_is_queued_again(slurm: Slurm, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.write_study(200, seconds=0.05)
    job = submit(slurm, "--nodes=2", run=("--out", "run", *CHUNK))
    scene.until(lambda: len(scene.shards()) > 5)
    slurm.ask("scancel", "--batch", "--signal=USR1", job)  # as Slurm does before the limit
    scene.until(lambda: slurm.field(job, "Restarts") == "1")
    kept = trials_kept()
    assert 0 < kept < 601
    # Slurm itself waits for two minutes. Within a second, slurmd refuses the job: "credential revoked".
    slurm.ask("scontrol", "update", f"JobId={job}", "StartTime=now+10")
    text = completed(slurm, job)
    assert "sweep: stopped" in text
    assert "queued again" in text
    assert "start 2:" in text
    scene.check("run", scene.undisturbed(monkeypatch))


def test_a_job_that_finishes_nothing_is_not_queued_for_ever(slurm: Slurm, place: Path) -> None:
    scene.write_study(3, seconds=900)
    job = submit(slurm, run=("--out", "run", "--chunk", "1"))
    for start in (1, 2, 3):
        scene.until(lambda start=start: output(job).count("have joined") == start)  # type: ignore[misc]
        scene.until(lambda: Path("run/manifest.json").exists() and trials_kept() > 0)  # the clean network's
        slurm.ask("scancel", "--batch", "--signal=USR1", job)
        if start < 3:
            scene.until(lambda start=start: slurm.field(job, "Restarts") == str(start))  # type: ignore[misc]
            slurm.ask("scontrol", "update", f"JobId={job}", "StartTime=now+10")
    assert slurm.ended(job) == "FAILED"
    text = output(job)
    assert text.count("queued again") == 2
    assert "nothing was finished in it; give it more, by --time" in text


@pytest.mark.parametrize("node", ["n2", "n1"])
def test_a_node_dies(slurm: Slurm, place: Path, monkeypatch: pytest.MonkeyPatch, node: str) -> None:
    scene.write_study(300, seconds=0.05)
    job = submit(slurm, "--nodes=2", "--nodelist=n1,n2", run=("--out", "run", *CHUNK))
    scene.until(lambda: len(scene.shards()) > 5)
    before = folders(job)
    slurm.fail(node, job)
    if node == "n1":  # that of the batch script and of Ray's head
        scene.until(lambda: slurm.field(job, "Restarts") == "1")
        slurm.ask("scontrol", "update", f"JobId={job}", "StartTime=now+10", "ReqNodeList=n2,n3")
    completed(slurm, job)
    scene.check("run", scene.undisturbed(monkeypatch))
    for folder in before:  # the dead cannot remove theirs
        shutil.rmtree(folder, ignore_errors=True)
    assert not folders(job)


def test_a_failed_study_fails_the_job(slurm: Slurm, place: Path) -> None:
    Path("net.keras").unlink()
    job = submit(slurm, study="study.toml")
    assert slurm.ended(job) == "FAILED"
    assert slurm.field(job, "ExitCode") == "2:0"
    assert "net.keras" in output(job)

"""Ray: the same rows as in one process, whatever the workers; interrupted and resumed; a cluster's address."""

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import sweep
from sweep.execution.ray import authentication
from sweep.storage.schema import PROVENANCE
from tests.chaos.scene import MARK, left

PATIENCE = 300  # s, for a step that takes some seconds on a quiet machine


def results(run: str) -> pd.DataFrame:
    return sweep.open_run(run).trials().drop(columns=list(PROVENANCE))


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "sweep", *arguments]


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    """In the environment of everything that a test starts; `left(mark)` gives what of it lives."""
    monkeypatch.setenv(MARK, uuid.uuid4().hex)
    return os.environ[MARK]


@pytest.mark.slow
def test_one_and_two_workers_give_what_one_process_gives(place: Path, mark: str):
    """On two test sets, of which each task gets its own."""
    more = np.load("data.npz")
    np.savez("more.npz", x_test=more["x_test"][100:], y_test=more["y_test"][100:])
    study = Path("study.toml").read_text().replace('"data.npz"', '["data.npz", "more.npz"]')
    study += (
        '[[family]]\nname = "stuck"\nperturb = [ { op = "activation_stuck_at", rate = [0.0, 0.2] } ]\n'  # data flow
    )
    Path("study.toml").write_text(study)
    sweep.run("study.toml", "inline", runner="inline")
    for workers in ("1", "2"):
        done = subprocess.run(
            command("run", "study.toml", "--out", workers, "--workers", workers),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        assert re.fullmatch(r"(\d+/70 trials .*\n)+", done.stderr), "progress is all that Ray runs print"
        pd.testing.assert_frame_equal(results("inline"), results(workers), check_exact=True)
        assert not left(mark), "the local Ray is gone"


@pytest.mark.slow
def test_a_program_that_has_imported_ray_before(place: Path, mark: str):
    """Ray reads its environment when it is imported; what we set comes later here, as in a notebook that uses Ray."""
    lines = [
        "import ray, sweep",
        "sweep.run('study.toml', 'run', workers=1)",
        "from ray._private import services",
        "print(services.get_node_ip_address())",
    ]
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], env=env, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["127.0.0.1"], "this Ray is bound to loopback"
    sweep.run("study.toml", "inline", runner="inline")
    pd.testing.assert_frame_equal(results("inline"), results("run"), check_exact=True)
    assert not left(mark)


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_committed_and_the_same_command_goes_on(place: Path, mark: str):
    arguments = ("run", "study.toml", "--out", "run", "--seeds", "4000", "--chunk", "5")
    process = subprocess.Popen(command(*arguments), stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + PATIENCE
    while not list(Path("run/trials").glob("*.parquet")):
        assert time.monotonic() < deadline, "no shard came"
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.search(r"sweep: stopped; [\d,]+ trials are kept in .*/run, and the same command goes on", errors)
    assert "Traceback" not in errors
    assert not left(mark)
    kept = results("run")
    assert 0 < len(kept) < 16_000
    assert len(kept) == len(pd.read_parquet("run/trials")), "the manifest knows every committed shard"
    assert not list(Path("run/trials").glob(".*")), "no half-written file"

    enough = int(kept["seed"].max()) + 2
    sweep.run("study.toml", "run", runner="inline", seeds=enough)
    sweep.run("study.toml", "undisturbed", runner="inline", seeds=enough)
    pd.testing.assert_frame_equal(results("run"), results("undisturbed"), check_exact=True)


def test_no_cluster_at_the_address(place: Path):
    done = subprocess.run(
        command("run", "study.toml", "--address", "127.0.0.1:1"), capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 1
    assert "no Ray cluster answers at 127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_gpu_that_is_not_there(place: Path):
    if Path("/dev/nvidia0").exists():
        pytest.skip("there is a GPU")
    done = subprocess.run(command("run", "study.toml", "--gpus", "1"), capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2
    assert "this machine has no such GPU" in done.stderr


ON_A_NODE_THAT_SAYS_IT_HAS_A_GPU = """
import ray, sweep

def main():
    type_of_gpu = {"accelerator_type:A100": 1}
    quiet = dict(include_dashboard=False, log_to_driver=False, object_store_memory=10**8)
    ray.init(address="local", num_cpus=2, num_gpus=1, resources=type_of_gpu, labels={"zone": "a"}, **quiet)
    for how in ({"labels": {"zone": "b"}}, {"device": "gpu:H100"}, {"device": "gpu:A100", "gpus": 0.5}):
        try:
            sweep.run("study.toml", "refused", **how)
        except sweep.SweepError as error:
            print(error)
    sweep.run("study.toml", "labelled", labels={"zone": "in(a,c)"}, device="auto")

main()
"""


@pytest.mark.slow
def test_types_and_labels_of_nodes(place: Path, mark: str):
    """By a Ray that takes our word for a GPU; TensorFlow sees none, so that `auto` takes CPUs."""
    if Path("/dev/nvidia0").exists():
        pytest.skip("there is a GPU")
    script = [sys.executable, "-c", ON_A_NODE_THAT_SAYS_IT_HAS_A_GPU]
    done = subprocess.run(script, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    other, type_of_gpu, unseen = done.stdout.splitlines()[-3:]
    assert other == "this machine has no node with zone=b with a CPU for tasks"
    assert type_of_gpu == "--device gpu:H100: this machine has no node with 1 of such a GPU"
    assert unseen.startswith("no node can do this work: worker on ")
    assert "TensorFlow sees no GPU, though 0.5 of one was given to the task" in unseen
    sweep.run("study.toml", "inline", runner="inline")
    pd.testing.assert_frame_equal(results("labelled"), results("inline"), check_exact=True)
    assert set(sweep.open_run("labelled").trials()["device"]) == {"CPU"}


def test_an_existing_cluster(place: Path):
    """A head without this package's folder on its path: the driver sends the code along."""
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}
    ray = [sys.executable, "-m", "ray.scripts.scripts"]

    def run(*arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        every = command("run", "study.toml", "--address", "127.0.0.1:6399", *arguments)
        return subprocess.run(every, capture_output=True, text=True, timeout=PATIENCE, env=environment)

    start = [*ray, "start", "--head", "--node-ip-address=127.0.0.1", "--port=6399", "--num-cpus=2"]
    quiet = ["--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={place.parent}/r"]
    head = subprocess.Popen(
        [*start, *quiet, "--block"],
        env={**environment, "PYTHONPATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            done = run("--out", "run", environment=environment)
            absent = "no Ray cluster" in done.stderr
            if not absent or time.monotonic() > deadline:
                break
            time.sleep(2)
        assert done.returncode == 0, done.stderr
        everything = [path.read_bytes() for path in Path("run").rglob("*") if path.is_file()]
        secret = environment["RAY_AUTH_TOKEN"]
        assert not [content for content in (done.stdout.encode(), *everything) if secret.encode() in content]

        done = run("--gpus", "1", "--out", "gpu", environment=environment)
        assert done.returncode == 2
        assert "--gpus 1: the cluster at 127.0.0.1:6399 has no such GPU; leave it out to run on CPUs" in done.stderr

        assert not authentication.lets_anyone_in("127.0.0.1:6399")
        done = run("--out", "other", environment={**environment, "RAY_AUTH_TOKEN": "1" * 64})
        assert done.returncode == 1
        assert "sweep: the Ray cluster at 127.0.0.1:6399 does not take the token of this process; set" in done.stderr
        assert not Path("other").exists()
        shown = {name: value for name, value in environment.items() if not name.startswith("RAY_AUTH")}
        done = run("--out", "other", environment=shown)
        assert done.returncode == 1
        assert "the Ray cluster at 127.0.0.1:6399 asks for a token, and this process shows none; set" in done.stderr, (
            done.stderr
        )
        assert "1111" not in done.stderr
        assert "Traceback" not in done.stderr
    finally:
        head.send_signal(signal.SIGTERM)
        head.communicate(timeout=60)
    sweep.run("study.toml", "inline", runner="inline")
    pd.testing.assert_frame_equal(results("inline"), results("run"), check_exact=True)

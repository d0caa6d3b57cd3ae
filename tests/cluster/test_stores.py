"""Runs in real object stores: what a local run gives, whatever is killed; what cannot work is one line, soon."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pandas as pd
import pytest

from sweep.storage.objects import Bucket
from sweep.storage.store import Store
from tests.chaos import scene
from tests.chaos.nodes import AUTHENTICATED, Node
from tests.cluster import stores
from tests.cluster.stores import Server

pytestmark = pytest.mark.skipif(
    "SWEEP_CLUSTER" not in os.environ, reason="real schedulers and stores: make test-cluster"
)
SOON = 60  # s; what is looked at is the number of tries, on a machine of any speed
COMMANDS = ("run", "status", "table", "report", "verify")
RUNNERS = {"inline": ("--runner", "inline"), "ray": ("--workers", "2")}


@pytest.fixture(scope="module", params=["s3", "az"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    if missing := stores.missing(request.param):
        pytest.skip(missing)
    with stores.serving(request.param) as found:
        yield found


@pytest.fixture
def entered(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process may look into the store."""
    for name in [name for name in os.environ if name.startswith(stores.FOREIGN)]:
        monkeypatch.delenv(name)
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)


def environment(env: dict[str, str], **more: str) -> dict[str, str]:
    return {**stores.without(scene.environment()), **env, **more}


def sweep(env: dict[str, str], *arguments: str) -> tuple[int, str, str, float]:
    """Exit status, output, errors and seconds of a command."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "sweep", *arguments], env=env, capture_output=True, text=True, timeout=scene.PATIENCE
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr, time.monotonic() - begun


def trials_in(run: str) -> list[str]:
    return Bucket(run).names("trials")


def check(server: Server, run: str, expected: pd.DataFrame, *said: str) -> None:
    """The results of a local run, each trial once, in one file, nothing half, and no secret anywhere."""
    pd.testing.assert_frame_equal(scene.results(run), expected, check_exact=True)
    assert not Store.open(run).trials([]).duplicated(["cell", "seed"]).any()
    bucket = Bucket(run)
    assert len(trials_in(run)) == 1
    listed = {under: sorted(bucket._listed(under)) for under in ("", "trials", "plugins", "figures")}
    assert not [name for names in listed.values() for name in names if name.startswith(".")], listed
    assert {"manifest.json", "study.toml", "report.html", "summary.parquet"} <= set(listed[""])
    for under, names in listed.items():
        for name in names:
            content = bucket.read(f"{under}/{name}".lstrip("/")) or b""
            assert not any(secret.encode() in content for secret in server.secrets), name
    assert not any(secret in text for secret in server.secrets for text in said)


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_run_that_is_killed_and_goes_on(place: Path, server: Server, entered: None, monkeypatch, runner: str):
    scene.write_study(40, seconds=0.03)
    env, run = environment(server.env), server.run(f"killed/{runner}")
    arguments = ("--out", run, "--chunk", "10", *RUNNERS[runner])
    with scene.running(*arguments, env=env) as process:
        scene.until(lambda: len(trials_in(run)) > 2, process)
        process.kill()
        scene.until(lambda: not scene.started(env[scene.MARK]))
    kept, begun = len(trials_in(run)), len(scene.logged())
    assert kept < 12
    state = sweep(env, "status", run)
    assert state[0] == 0, state
    with scene.running(*arguments, env=env) as process:
        output, errors = process.communicate(timeout=scene.PATIENCE)
        assert process.returncode == 0, errors
    assert f"report: {run}/report.html" in output
    assert len(scene.logged()) - begun - 3 <= 121 - 10 * kept, "what was committed is not computed again"
    said = [output, errors]
    for command in COMMANDS[1:]:
        status, output, errors, seconds = sweep(env, command, run, "--trust-plugins")
        print(f"{server.kind}, {runner}: {command} {seconds:.1f} s")
        assert status == 0, errors
        said += [output, errors]
    assert "121 done, 0 to do" in said[2]
    assert "10 of 10 trials evaluated again have the same count" in said[-2]
    check(server, run, scene.undisturbed(monkeypatch), *said)


@pytest.mark.parametrize("runner", RUNNERS)
def test_two_drivers_at_once(place: Path, server: Server, entered: None, monkeypatch, runner: str):
    scene.write_study(40, seconds=0.01)
    env, run = environment(server.env), server.run(f"two/{runner}")
    first = ("--out", run, "--chunk", "5", *RUNNERS[runner])
    second = ("--out", run, "--chunk", "7", *RUNNERS[runner])
    with scene.running(*first, env=env) as one, scene.running(*second, env=env) as other:
        outcomes = [scene.finish(process) for process in (one, other)]
    assert [status for status, _ in outcomes] == [0, 0], outcomes
    check(server, run, scene.undisturbed(monkeypatch), *(errors for _, errors in outcomes))


def nowhere() -> str:
    return f"http://127.0.0.1:{stores.free_port()}"


def refusals(server: Server) -> dict[str, tuple[dict[str, str], str, str]]:
    """What cannot work: an environment, a bucket, and what is said."""
    who = {"s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", "az": "AZURE_STORAGE_ACCOUNT_KEY"}[server.kind]
    kind = {"s3": "bucket", "az": "container"}[server.kind]
    gone = server.changed(AWS_ENDPOINT_URL=nowhere(), AZURE_STORAGE_ENDPOINT=f"{nowhere()}/{stores.ACCOUNT}").env
    return {
        "wrong": (server.changed(**stores.WRONG).env, stores.NAME, f"the store refuses these credentials .*{who}"),
        "none": (server.place, stores.NAME, f"the environment has no credentials; set .*{who}"),
        "missing": (server.env, "nobody", f"there is no such {kind}; make it first, or correct the address"),
        "gone": (gone, stores.NAME, r"the store does not answer, after 6 tries in \d+ s; check .*the network"),
    }


@pytest.mark.parametrize("mistake", ["wrong", "none", "missing", "gone"])
def test_what_cannot_work_is_one_line(place: Path, server: Server, entered: None, mistake: str):
    """Exit status 2 where nothing was begun, 1 where a run cannot be read; nothing is left behind."""
    scene.write_study(4)
    env, bucket, said = refusals(server)[mistake]
    run = server.run(f"refused/{mistake}", bucket)
    for command in COMMANDS:
        arguments = (command, "chaos.toml", "--out", run) if command == "run" else (command, run)
        status, output, errors, seconds = sweep(environment(env, HOME=str(place)), *arguments)
        print(f"{server.kind}, {mistake}: {command} {seconds:.1f} s, {status}: {errors.strip()}")
        assert status == (2 if command == "run" else 1), errors
        (line,) = errors.splitlines()
        assert re.search(said, line), line
        assert line.startswith(f"sweep: {run}")
        assert not output
        assert seconds < SOON
        assert not any(secret in line for secret in server.secrets)
    assert not Path("results").exists()
    assert not scene.logged()
    if bucket == stores.NAME:
        assert not Bucket(server.run("refused"))._listed(mistake)


def test_who_may_only_read(place: Path, server: Server, entered: None):
    """Looks at a run; whatever writes is one line."""
    if not server.reader:
        pytest.skip("azurite knows one account, which may do everything")
    scene.write_study(4)
    run, other = server.run("reader"), server.run("reader2")
    status, _, errors, _ = sweep(environment(server.env), "run", "chaos.toml", "--out", run, "--runner", "inline")
    assert status == 0, errors
    reader = environment(server.reader)
    for command in ("status", "table", "verify"):
        assert sweep(reader, command, run, "--trust-plugins")[0] == 0
    for arguments in (("report", run), ("run", "chaos.toml", "--out", other)):
        status, _, errors, seconds = sweep(reader, *arguments)
        (line,) = errors.splitlines()
        print(f"{server.kind}, reader: {arguments[0]} {seconds:.1f} s, {status}: {line}")
        assert status == (2 if arguments[0] == "run" else 1)
        assert "the store refuses these credentials (AccessDenied); check AWS_ACCESS_KEY_ID" in line
        assert not any(secret in line for secret in server.secrets)
    assert not Bucket(other)._listed("")


WORKERS = {
    "none": "the environment has no credentials",
    "wrong": "the store refuses these credentials",
    "gone": "the store does not answer",
    "reader": "the store refuses these credentials",
}


@pytest.mark.parametrize("lack", WORKERS)
def test_workers_that_cannot_reach_the_store_hand_their_rows_to_the_driver(
    place: Path, server: Server, entered: None, monkeypatch, lack: str
):
    if lack == "reader" and not server.reader:
        pytest.skip("azurite knows one account, which may do everything")
    trials = scene.write_study(70)
    env, run = environment(server.env, **AUTHENTICATED), server.run(f"workers/{lack}")
    there = server.reader if lack == "reader" else refusals(server)[lack][0]
    with ExitStack() as stack:
        head = Node(stack, {**environment(there, **AUTHENTICATED), "HOME": str(place)}, cpus=2).wait()
        begun = time.monotonic()
        with scene.running("--out", run, "--chunk", "5", "--address", head.address, env=env) as process:
            status, errors = scene.finish(process)
        print(f"{server.kind}, workers {lack}: {trials} trials in {time.monotonic() - begun:.0f} s")
    assert status == 0, errors
    (note,) = [line for line in errors.splitlines() if "worker on" in line]
    assert note.startswith(f"note: worker on {os.uname().nodename}: cannot write to the run folder: {WORKERS[lack]}")
    assert note.endswith("; the driver writes for it")
    check(server, run, scene.undisturbed(monkeypatch), errors)


def test_keys_from_a_profile(place: Path, server: Server, entered: None, monkeypatch):
    if server.kind != "s3":
        pytest.skip("profiles are for S3")
    scene.write_study(4)
    (place / ".aws").mkdir()
    keys = [f"{name.lower()} = {value}\n" for name, value in server.env.items() if "KEY" in name]
    (place / ".aws/credentials").write_text(f"[mine]\n{''.join(keys)}")
    env = environment(server.place, HOME=str(place), AWS_PROFILE="mine")
    run = server.run("profile")
    status, output, errors, _ = sweep(env, "run", "chaos.toml", "--out", run, "--runner", "inline")
    assert status == 0, errors
    check(server, run, scene.undisturbed(monkeypatch), output, errors)

"""What the chaos tests share: commands in the background, their processes, the log of trials, and invariant G."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

import sweep
from sweep.storage.schema import PROVENANCE

PATIENCE = 300  # s, for a step that takes some seconds on a quiet machine
MARK = "SWEEP_CHAOS"  # in the environment of everything that a test starts
LOG = "SWEEP_CHAOS_LOG"
LONG = pytest.mark.skipif("SWEEP_LONG" not in os.environ, reason="minutes long: make test-chaos")

PLUGIN = '''
"""Noise that writes a line for each trial before it is drawn, and comes to grief where the file TRAP says so."""

import json
import os
import sys
import time
from dataclasses import dataclass

from sweep.perturb import Transform, parameter, register


@register("logged")
@dataclass(frozen=True, kw_only=True)
class Logged(Transform):
    """w + s * v, v ~ N(0, 1)."""

    scale: float = parameter("noise level", minimum=0.0)
    random = True

    def apply(self, weight, variable, generator):
        draw = generator.standard_normal(weight.shape, dtype="float32")
        with open(os.environ["SWEEP_CHAOS_LOG"], "a") as log:
            log.write(f"{os.getpid()} {self.scale} {float(draw.flat[0])!r}\\n")
        if "default_worker" in sys.argv[0]:  # of Ray: the driver applies each transform once, too
            trap(self.scale)
        return weight + self.scale * draw


def trap(scale):
    with open(os.environ["SWEEP_CHAOS_LOG"] + ".json") as file:
        traps = json.load(file)
    what = traps.get(str(scale))
    if what == "kill":
        os.kill(os.getpid(), 9)
    elif what == "hang":
        time.sleep(1e6)
    elif what == "raise":
        raise ValueError("as planted")
    elif what == "allocate":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (1, 1))
        bytearray(10**9)
    time.sleep(traps.get("seconds", 0.0))
'''

STUDY = """
name = "chaos"
model = "net.keras"
dataset = "data.npz"
seeds = {seeds}
plugins = ["logged.py"]

[[family]]
name = "noise"
perturb = [ {{ op = "logged", scale = {scales}, layers = "fc" }} ]
"""


def write_study(seeds: int = 100, scales: tuple[float, ...] = (0.1, 0.2, 0.3), **traps: object) -> int:
    """Write chaos.toml, its plugin, and what goes wrong; returns the number of trials.

    `traps` says by scale (as `at_0_1`) what a trial does, and how many `seconds` each sleeps.
    """
    Path("logged.py").write_text(PLUGIN)
    Path("chaos.toml").write_text(STUDY.format(seeds=seeds, scales=list(scales)))
    named = {key.removeprefix("at_").replace("_", "."): value for key, value in traps.items()}
    Path("log.json").write_text(json.dumps(named))
    return seeds * len(scales)


def pace(seconds: float) -> None:
    """From now on each trial sleeps so long."""
    traps = json.loads(Path("log.json").read_text())
    written = Path("log.json.new")
    written.write_text(json.dumps({**traps, "seconds": seconds}))
    written.replace("log.json")  # trials read it all the time


def environment(log: str = "log", **more: str) -> dict[str, str]:
    """For a command whose processes are told from others by a mark, and which logs its trials."""
    Path("log.json").touch()
    return {**os.environ, MARK: uuid.uuid4().hex, LOG: str(Path(log).absolute()), **more}


def command(*arguments: str, sweep: Sequence[str] = ("-m", "sweep")) -> list[str]:
    return [sys.executable, *sweep, "run", "chaos.toml", *arguments]


def started(mark: str) -> dict[int, str]:
    """Living processes with a mark, and their command lines."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                if state not in "ZX":
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except OSError:  # it has ended
            continue
    return found


def kill_worker(mark: str, process: subprocess.Popen[str], rng: random.Random) -> None:
    """Kill a Ray worker of a running command that is at a task; between two, workers have another title."""
    workers: list[int] = []

    def found() -> bool:
        workers[:] = [pid for pid, title in started(mark).items() if title.startswith("ray::task")]
        return bool(workers)

    until(found, process)
    os.kill(rng.choice(workers), signal.SIGKILL)


def left(mark: str, seconds: float = 30) -> dict[int, str]:
    """Processes with a mark that still live after a while, which killed ones take to end."""
    deadline = time.monotonic() + seconds
    while (found := started(mark)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


@contextmanager
def running(
    *arguments: str, env: dict[str, str], sweep: Sequence[str] = ("-m", "sweep")
) -> Iterator[subprocess.Popen[str]]:
    """`sweep run chaos.toml` in the background; what is left of it at the end is killed."""
    process = subprocess.Popen(
        command(*arguments, sweep=sweep),
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        for pid in started(env[MARK]):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.communicate()


def kill(mark: str, title: str) -> None:
    """Kill the processes with a mark whose command lines match."""
    for pid, found in started(mark).items():
        if re.search(title, found):
            os.kill(pid, signal.SIGKILL)


def finish(process: subprocess.Popen[str], seconds: float = PATIENCE) -> tuple[int, str]:
    """Exit status and standard error of a command that ends in time."""
    _, errors = process.communicate(timeout=seconds)
    assert "Traceback" not in errors, errors
    return process.returncode, errors


def until(happened: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    """Wait for something that a running command does."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        late = time.monotonic() > deadline
        if late and process:
            process.terminate()  # to read what it has said
        if late or (process and process.poll() is not None):
            pytest.fail(f"it did not happen: {process.communicate() if process else 'no process'}")
        time.sleep(0.05)


def shards(run: str = "run") -> list[Path]:
    return sorted(Path(run, "trials").glob("*.parquet"))


def logged(log: str = "log") -> list[str]:
    """The trials that were begun, one line each, twice where a trial was."""
    lines = Path(log).read_text().splitlines() if Path(log).exists() else []
    return [line.partition(" ")[2] for line in lines]


def results(run: str | Path) -> pd.DataFrame:
    return sweep.open_run(run).trials().drop(columns=list(PROVENANCE))


def undisturbed(monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """What the study gives in one process."""
    traps = Path("log.json").read_text()
    monkeypatch.setenv(LOG, str(Path("undisturbed.log").absolute()))
    Path("undisturbed.log.json").write_text("{}")
    found = results_of(sweep.run("chaos.toml", "undisturbed", runner="inline"))
    Path("log.json").write_text(traps)
    return found


def results_of(run: sweep.Run) -> pd.DataFrame:
    return run.trials().drop(columns=list(PROVENANCE))


def check(run: str | Path, expected: pd.DataFrame, *marks: str) -> None:
    """Invariant G: these results, each trial once, no process and no temporary file left."""
    pd.testing.assert_frame_equal(results(run), expected, check_exact=True)
    rows = pd.read_parquet(Path(run, "trials"))
    assert not rows.duplicated(["cell", "seed"]).any(), "each trial once"
    assert len(rows) == len(expected)
    hidden = [path for path in Path(run).rglob("*") if path.name.startswith(".") or path.name.endswith(".part")]
    assert not hidden, hidden
    for mark in marks:
        assert not left(mark), "no process is left"

"""SIGTERM and SIGHUP end a command like Ctrl-C, whatever it is doing; a second one changes nothing."""

import contextlib
import importlib
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import sweep
from tests.chaos import scene

PAUSE = str(Path(__file__).parent / "pause")
RAY, INLINE = (), ("--runner", "inline")
KEPT = r"sweep: stopped; [\d,]+ trials are kept in {folder}/run, and the same command goes on\n"
STOPPED = r"sweep: stopped\n"

# Where a run is paused, and whether its run folder is begun by then.
PHASES = {
    "importing": ("pandas", False),
    "importing TensorFlow": ("tensorflow", False),
    "checking files": ("sweep.preparation.inputs:prepare", False),
    "beginning the folder": ("sweep.execution.driver:described", True),
    "merging": ("sweep.storage.store:Store.replace", True),
    "writing the summary": ("sweep.reporting.run:summary_files", True),
    "drawing figures": ("sweep.reporting.figures.pictures:save_figures", True),
    "writing the report": ("sweep.reporting.html.page:report", True),
    "computing": ("sweep.storage.store:Store.add", True),
}
WITH_RAY = {
    "starting Ray": ("ray:init", False),
    "Ray's processes are there": ("ray._private.worker:connect", False),
    "Ray has started": ("sweep.execution.ray.heartbeat:Heartbeat.room", False),
    "workers start": ("sweep.execution.ray.cluster:RayRunner.wait", True),
}
BEFORE = [phase for phase, (_, begun) in PHASES.items() if not begun]
AFTER = [phase for phase, (_, begun) in PHASES.items() if begun]
NUMBERS = ("SIGTERM", "SIGHUP")
CASES = [
    *((phase, INLINE, number, False) for phase in BEFORE for number in NUMBERS),
    *((phase, runner, number, False) for phase in AFTER for runner in (RAY, INLINE) for number in NUMBERS),
    *((phase, RAY, number, group) for phase in WITH_RAY for number in NUMBERS for group in (False, True)),
    *(("computing", RAY, number, True) for number in NUMBERS),
]
FEW = [
    ("Ray has started", RAY, "SIGTERM"),
    pytest.param("computing", INLINE, "SIGHUP", marks=pytest.mark.slow),
]


@contextmanager
def command(
    *arguments: str, pause: str = "", before: tuple[str, ...] = (), **options: object
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A `sweep` command that pauses somewhere, and its mark; what is left of it at the end is killed."""
    for name in ("reached", "go"):
        Path(name).unlink(missing_ok=True)
    env = scene.environment(SWEEP_PAUSE=pause, PYTHONPATH=os.pathsep.join([PAUSE, os.environ.get("PYTHONPATH", "")]))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    process = subprocess.Popen(
        [*before, sys.executable, "-m", "sweep", *arguments],
        env=env,
        **{**pipes, **options},  # type: ignore[call-overload]
    )
    try:
        yield process, env[scene.MARK]
    finally:
        scene.kill(env[scene.MARK], "")
        process.communicate()


def said(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit status of a command that ends, and what it wrote to standard error but progress."""
    errors = process.communicate(timeout=scene.PATIENCE)[1]
    return process.returncode, re.sub(r"^[\d,]+/[\d,]+ trials .*\n", "", errors, flags=re.MULTILINE)


def reached(process: subprocess.Popen[str]) -> None:
    scene.until(Path("reached").exists, process)


def go_on(after: str = "") -> None:
    """Let a command that pauses go on; see `pause`."""
    Path("go.new").write_text(after)
    Path("go.new").replace("go")


def run_and_stop(phase: str, runner: tuple[str, ...], number: str, place: Path, whole_group: bool, again: bool) -> None:
    where, begun = {**PHASES, **WITH_RAY}[phase]
    run = ("run", "study.toml", "--out", "run", "--chunk", "3", *runner)
    with command(*run, pause=where) as (process, mark):
        reached(process)
        for _ in range(2):  # scancel and systemd send it to every process, and send it again
            (os.killpg if whole_group else os.kill)(process.pid, signal.Signals[number])
        go_on("interrupted")
        status, errors = said(process)
        assert status == 1, errors
        by_ray = not errors and not begun and whole_group  # which ends this process where its own end while it starts
        if not by_ray:
            assert re.fullmatch(KEPT.format(folder=re.escape(str(place))) if begun else STOPPED, errors), errors
        assert not scene.left(mark), "no process is left"
    if by_ray:
        assert not list(Path("run").rglob("*"))
    else:
        assert Path("run").exists() is begun, "a folder in which nothing was begun is not left behind"
    if again:
        with command(*run) as (process, mark):
            status, errors = said(process)
            assert (status, errors) == (0, "")
            assert not scene.left(mark)
    else:
        sweep.run("study.toml", "run", runner="inline")
    scene.check("run", scene.results_of(sweep.run("study.toml", "undisturbed", runner="inline")))


@pytest.mark.parametrize(("phase", "runner", "number"), FEW)
def test_a_run_that_is_told_to_end(place: Path, phase: str, runner: tuple[str, ...], number: str):
    run_and_stop(phase, runner, number, place, whole_group=False, again=False)


@scene.LONG
@pytest.mark.parametrize(("phase", "runner", "number", "whole_group"), CASES)
def test_a_run_that_is_told_to_end_at_any_phase(
    place: Path, phase: str, runner: tuple[str, ...], number: str, whole_group: bool
):
    run_and_stop(phase, runner, number, place, whole_group, again=phase in WITH_RAY)


@scene.LONG
@pytest.mark.parametrize("number", NUMBERS)
def test_a_run_that_is_told_to_end_while_it_connects(place: Path, number: str):
    """To something that takes the connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with command("run", "study.toml", "--out", "run", "--address", address) as (process, mark):
            server.accept()[0].close()  # looks whether anything listens
            connection = server.accept()[0]
            process.send_signal(signal.Signals[number])
            assert said(process) == (1, "sweep: stopped\n")
            connection.close()
            assert not scene.left(mark)
    assert not Path("run").exists()


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_a_second_signal_after_some_seconds_ends_a_process_that_does_not_stop(tmp_path: Path, number: str):
    """Whatever keeps it, and without a trace."""
    code = """
import time
from sweep import signals
signals.PATIENCE_SECONDS = 0.0
signals.guard()
try:
    print("ready", flush=True)
    time.sleep(100)
except KeyboardInterrupt:
    signals.stopping()
    print("stopping", flush=True)
    while True:
        time.sleep(100)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert process.stdout
    for line in ("ready", "stopping"):
        assert process.stdout.readline() == f"{line}\n"
        process.send_signal(signal.Signals[number])
    _, errors = process.communicate(timeout=scene.PATIENCE)
    assert process.returncode == 1
    assert errors == "sweep: stopped at once; what is committed is kept, and the same command goes on\n"


def test_an_interrupt_that_is_swallowed_comes_again():
    code = """
import time
from sweep import signals
signals.AGAIN_SECONDS = 0.2
signals.guard()
class Hole:
    def __del__(self):
        print("ready", flush=True)
        time.sleep(100)
hole = Hole()
del hole
try:
    time.sleep(100)
except KeyboardInterrupt:
    print("stopped", signals.asked())
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.communicate(timeout=scene.PATIENCE) == ("stopped True\n", "")


@scene.LONG
def test_nohup_stays_nohup(place: Path):
    run = ("run", "study.toml", "--out", "run", "--runner", "inline")
    where = PHASES["computing"][0]
    with command(*run, pause=where, before=("nohup",), stdin=subprocess.DEVNULL) as (process, _):
        reached(process)
        process.send_signal(signal.SIGHUP)
        go_on()
        status, errors = said(process)
        assert (status, errors) == (0, "")


@scene.LONG
def test_a_terminal_that_is_closed(place: Path):
    """The command's terminal goes away: the kernel sends SIGHUP, and nothing can be written there any more."""
    ours, theirs = pty.openpty()
    run = ("run", "study.toml", "--out", "run", "--runner", "inline")
    terminal = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "start_new_session": False}
    where = PHASES["computing"][0]
    with command(*run, pause=where, before=("setsid", "--ctty", "--wait"), **terminal) as (process, mark):
        os.close(theirs)
        os.set_blocking(ours, False)
        scene.until(lambda: _drained(ours) and Path("reached").exists(), process)
        os.close(ours)
        go_on("interrupted")
        assert process.wait(scene.PATIENCE) == 1
        assert not scene.left(mark)
    assert not list(Path("run").rglob("*.part"))
    sweep.run("study.toml", "run", runner="inline")
    scene.check("run", scene.results_of(sweep.run("study.toml", "undisturbed", runner="inline")))


def _drained(descriptor: int) -> bool:
    with contextlib.suppress(BlockingIOError):
        while os.read(descriptor, 4096):
            continue
    return True


RECIPE = """
name = "own"
dataset = "data.npz"
input_shape = [12, 12, 1]
epochs = 1
batch = 100
optimizer = "adam"
learning_rate = 0.001
seed = 0
formats = ["keras"]
layer = [ { type = "Flatten" }, { type = "Dense", units = 5, activation = "softmax" } ]
"""
OTHERS = [
    (("train", "recipe.toml", "--out", "own"), "sweep.training.fitting:fit"),
    (("verify", "run"), "sweep.execution.verify:evaluate_chunk"),
    (("bench", "net.keras", "data.npz", "--network", "cnn"), "sweep.bench.sgemm:sgemm_rate"),
    (("report", "run"), "sweep.reporting.html.page:report"),
    (("export", "run", "exported"), "sweep.reporting.export:summary_files"),
]


@pytest.mark.parametrize(
    "where", sorted({where for where, _ in (PHASES | WITH_RAY).values()} | {where for _, where in OTHERS})
)
def test_where_commands_are_paused_is_a_place_in_the_code(where: str):
    """Here, since those that pause there run in the chaos suite alone."""
    module, _, name = where.partition(":")
    found: object = importlib.import_module(module)
    for part in name.split(".") if name else ():
        found = getattr(found, part)


@scene.LONG
@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize(("arguments", "where"), OTHERS, ids=lambda value: value[0])
def test_other_commands_that_are_told_to_end(place: Path, arguments: tuple[str, ...], where: str, number: str):
    with np.load("data.npz") as data:
        np.savez("data.npz", **data, x_train=data["x_test"], y_train=data["y_test"])
    Path("recipe.toml").write_text(RECIPE)
    sweep.run("study.toml", "run", runner="inline")
    with command(*arguments, pause=where) as (process, mark):
        reached(process)
        for _ in range(2):
            process.send_signal(signal.Signals[number])
        go_on("interrupted")
        status, errors = said(process)
        assert status == 1, errors
        assert errors.splitlines()[-1:] == ["sweep: stopped"]
        assert "Traceback" not in errors
        assert not scene.left(mark)


HANDLERS = """
import ctypes, faulthandler, signal, sys, threading
import sweep

def handlers():
    libc = ctypes.CDLL(None)
    found = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        action = ctypes.create_string_buffer(1024)
        libc.sigaction(int(number), None, action)
        found.append((signal.getsignal(number), action.raw[:8]))  # whose function it is
    return found, signal.pthread_sigmask(signal.SIG_BLOCK, ())

def run():
    sweep.run("study.toml", sys.argv[1], workers=1)

own = lambda number, frame: None
signal.signal(signal.SIGTERM, own)
before = handlers()
thread = threading.Thread(target=run)
if sys.argv[1] == "thread":
    thread.start()
    thread.join()
else:
    run()
assert handlers() == before
assert signal.getsignal(signal.SIGTERM) is own
"""


@scene.LONG
@pytest.mark.parametrize("where", ["main", "thread"])
def test_a_program_that_runs_a_study_keeps_its_handlers(place: Path, where: str):
    """Python's, and what the kernel has, with a Ray that starts and ends in between."""
    done = subprocess.run(
        [sys.executable, "-c", HANDLERS, where], capture_output=True, text=True, timeout=scene.PATIENCE
    )
    assert done.returncode == 0, done.stderr


@scene.LONG
def test_rays_processes_can_be_told_to_end(place: Path):
    """What the command blocks for itself is not blocked in the processes that it starts, SIGHUP apart."""
    with command("run", "study.toml", pause="sweep.execution.ray.heartbeat:Heartbeat.room") as (process, mark):
        reached(process)
        (raylet,) = [pid for pid, title in scene.started(mark).items() if "raylet/raylet" in title.split()[0]]
        (blocked,) = re.findall(r"^SigBlk:\t(\w+)", Path(f"/proc/{raylet}/status").read_text(), re.MULTILINE)
        numbers = {number for number in signal.valid_signals() if int(blocked, 16) >> (number - 1) & 1}
        assert signal.SIGTERM not in numbers

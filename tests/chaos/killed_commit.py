"""A driver that dies at every system call of its last commit, and of all that it does after it, each in a fork.

    python killed_commit.py STUDY RUN KILLED STEP

A first fork lives, and strace lists its system calls. Leaves the run folder as each death left it: KILLED/1, KILLED/2,
… or, to be quicker, one in STEP of them. Prints how many system calls there are, and how many forks have died.
"""

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from sweep.execution import driver, worker
from sweep.execution.plan import wanted
from sweep.execution.pulse import Pulse
from sweep.execution.runner import InlineRunner
from sweep.preparation.inputs import prepare
from sweep.storage import drivers
from sweep.study.study import Study

CHUNK = 10


def main(study: str, run: str, killed: str, step: str) -> None:
    prepared = prepare(Study.from_toml(study))
    chunks = -(-len(wanted(prepared.study)) // CHUNK)
    commit = worker.commit
    calls = itertools.count(1)

    def last_one_dies(*given):
        if next(calls) < chunks:
            return commit(*given)
        shutil.copytree(run, f"{killed}/before")
        log = f"{killed}/log"
        if traced("-o", log) == "fork":
            return commit(*given)
        calls_made = re.findall(r"^(\w+)\(", Path(log).read_text(), re.MULTILINE)
        points = [(name, calls_made[: i + 1].count(name)) for i, name in enumerate(calls_made) if name != "exit_group"]
        deaths = 0
        for n, (name, nth) in enumerate(points[:: int(step)], 1):
            shutil.rmtree(run)
            shutil.copytree(f"{killed}/before", run)
            fate = traced("-o", "/dev/null", "-e", f"inject={name}:signal=KILL:when={nth}")
            if fate == "fork":
                return commit(*given)
            deaths += fate == "died"
            shutil.copytree(run, f"{killed}/{n}")
        print(len(points), deaths, flush=True)
        os._exit(0)

    # One sign of life, which its end removes: this process, which does not die, would write where a fork's folder lies.
    Pulse._run = lambda pulse: drivers.write(pulse._folder, pulse._driver)
    begin = Pulse.begin
    Pulse.begin = lambda pulse: (begin(pulse), pulse._thread.join())
    worker.commit = last_one_dies
    driver.run(prepared, run, InlineRunner(), chunk_trials=CHUNK)
    os._exit(0)


def traced(*options: str) -> str:
    """In a fork that strace traces: "fork". In this process, when it has ended: whether it "died" or "lived"."""
    waiting, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(waiting, 1)
        return "fork"
    os.close(waiting)
    strace = ["strace", "-q", *options, "-p", str(child)]
    tracer = subprocess.Popen(strace, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while "TracerPid:\t0\n" in Path(f"/proc/{child}/status").read_text():
        if tracer.poll() is not None:
            os.kill(child, signal.SIGKILL)
            print("strace:", tracer.stderr.read())
            os._exit(3)
        time.sleep(0.001)
    os.write(go, b".")
    os.close(go)
    status = os.waitpid(child, 0)[1]
    tracer.wait()
    tracer.stderr.close()
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        return "died"
    assert os.WEXITSTATUS(status) == 0, status
    return "lived"


if __name__ == "__main__":
    main(*sys.argv[1:])

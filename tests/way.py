"""The way of a study, seen from outside: which function hands it to which of another file, from the command to a task.

    python -m tests.way STUDY OUT

runs the study in this process and prints `caller -> callee`, a line a pair, in the order of the first calls, until a
task begins. A call counts when it is given the study, whatever form it has by then; asking it something does not.
"""

from __future__ import annotations

import sys
from pathlib import Path, PurePath
from types import FrameType
from typing import Any

import sweep

PACKAGE = Path(sweep.__file__).parent
ROOT = str(PACKAGE)
FORMS = {"Namespace", "Parsed", "Study", "Prepared", "Job"}  # and the file's path, and its tables
LAST = "execution/worker.py:run_chunk"
MODULE = ":<module>"  # what a file does when it is imported is no step


def main(study: str, out: str) -> int:
    """Run the study and print its way; returns the command's exit status."""
    from sweep import cli

    pairs: dict[tuple[str, str], None] = {}

    def is_study(value: Any) -> bool:
        if isinstance(value, str | PurePath):
            return str(value) == study
        return type(value).__name__ in FORMS or (isinstance(value, dict) and {"family", "model"} <= set(value))

    def called(frame: FrameType, event: str, argument: Any) -> None:
        if event != "call" or not frame.f_code.co_filename.startswith(ROOT):  # of millions of events
            return
        callee, caller, code = _name(frame), frame.f_back, frame.f_code
        while caller is not None and _name(caller) is None:  # through dataclasses, functools, contextlib
            caller = caller.f_back
        before = _name(caller) if caller else None
        if (
            callee is None
            or before is None
            or before.endswith(MODULE)
            or before.partition(":")[0] == callee.partition(":")[0]
        ):
            return
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        if any(is_study(frame.f_locals.get(name)) for name in names if name != "self"):
            pairs.setdefault((before, callee))
        if callee == LAST:
            sys.setprofile(None)

    sys.setprofile(called)
    try:
        status = cli.main(["run", study, "--runner", "inline", "--seeds", "1", "--out", out])
    finally:
        sys.setprofile(None)
    print("the way:", *(f"{caller} -> {callee}" for caller, callee in pairs), sep="\n")
    return status


def _name(frame: FrameType) -> str | None:
    """A function of the package as `file:function`, or None."""
    if not frame.f_code.co_filename.startswith(ROOT):
        return None
    path = Path(frame.f_code.co_filename)
    function = frame.f_code.co_qualname.partition(".<")[0]  # what stands in a function is the function's
    return f"{path.relative_to(PACKAGE).as_posix()}:{function}"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

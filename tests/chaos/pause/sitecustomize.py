"""In a `sweep` command that a test starts: stop where the test says so, tell it, and go on when it allows that.

SWEEP_PAUSE is `MODULE` (before it is imported) or `MODULE:NAME` (before that function is called). The file `reached` is
made there; what follows waits for the file `go`. Where this says "interrupted", a signal was sent before, and the
interrupt is waited for, too: on a busy machine the thread that waits for signals takes its time.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import time
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any


def pause() -> None:
    if not Path("reached").exists():
        Path("reached").touch()
        while not Path("go").exists():
            time.sleep(0.02)
        if Path("go").read_text() == "interrupted":
            guard = sys.modules["sweep.signals"]._guard
            while not guard._late:  # it ends this loop, unless something is to be finished first
                time.sleep(0.02)


class Finder(importlib.abc.MetaPathFinder):
    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.module:
            return None
        if not self.name:
            pause()
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def and_wrap(module: ModuleType) -> None:
            execute(module)
            owner: Any = module
            *outer, last = self.name.split(".")
            for part in outer:
                owner = getattr(owner, part)
            function = getattr(owner, last)

            def paused(*arguments: Any, **options: Any) -> Any:
                pause()
                return function(*arguments, **options)

            setattr(owner, last, paused)

        spec.loader.exec_module = and_wrap  # type: ignore[method-assign]
        return spec


if "SWEEP_PAUSE" in os.environ and sys.orig_argv[1:3] == ["-m", "sweep"]:
    module, _, name = os.environ["SWEEP_PAUSE"].partition(":")
    sys.meta_path.insert(0, Finder(module, name))

"""Python files of a user's own, which a study names: read once, run once a process, and sent to workers as they are."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from sweep.errors import InputError
from sweep.files import reason

_MODULE = "noisesweep_plugin_"


@dataclass(frozen=True)
class Script:
    """A Python file, as it was run or is to be run.

    Attributes:
        path: where it was found.
        content: what stands in it.
        digest: SHA-256 of that, in hex.
    """

    path: str
    content: bytes
    digest: str

    @classmethod
    def of(cls, path: str, content: bytes) -> Script:
        """One with this content."""
        return cls(path, content, hashlib.sha256(content).hexdigest())

    @classmethod
    def read(cls, path: Path) -> Script:
        """The one that lies there; raises InputError where it cannot be read."""
        try:
            return cls.of(str(path.absolute()), path.read_bytes())
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from None

    def run(self) -> ModuleType:
        """Run it in a module of its own, which has the same name in every process; see `forget`.

        Raises:
            InputError: it fails.
        """
        module = ModuleType(self.module)
        module.__file__ = self.path
        sys.modules[self.module] = module  # dataclasses look their own module up
        try:
            exec(compile(self.content, self.path, "exec", dont_inherit=True), module.__dict__)
        except InputError:
            self.forget()
            raise
        except Exception as error:
            self.forget()
            raise InputError(f"{self.path}: {type(error).__name__}: {reason(error)}") from error
        return module

    def forget(self) -> None:
        """Take the module away of one that cannot be used."""
        sys.modules.pop(self.module, None)

    @property
    def module(self) -> str:
        """The name of its module."""
        return f"{_MODULE}{self.digest[:16]}"


def place_of(error: BaseException) -> str:
    """The last line of a user's own file that an error came through, such as "mine.py:7 (apply)"; empty for none."""
    found, trace = "", error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if str(frame.f_globals.get("__name__")).startswith(_MODULE):
            found = f"{Path(frame.f_code.co_filename).name}:{trace.tb_lineno} ({frame.f_code.co_name})"
        trace = trace.tb_next
    return found

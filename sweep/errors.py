"""The errors a user may see; the command line maps each to one message and an exit status."""

from __future__ import annotations

import contextlib
import difflib
import unicodedata
from collections.abc import Iterable, Iterator
from typing import ClassVar


class SweepError(Exception):
    """Something stopped the sweep; the message says what, where, and what to do."""

    exit_status: ClassVar[int] = 1

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the message alone, which says all; IPython asks for it."""
        return [f"{type(self).__name__}: {printable(str(self))}"]


class InputError(SweepError):
    """Mistakes of the user's, found before any compute: all of them, one line each."""

    exit_status: ClassVar[int] = 2

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


@contextlib.contextmanager
def collected(problems: list[str], before: str = "", after: str = "") -> Iterator[None]:
    """Mistakes found in this block end it and join the `problems`, with words before and after each."""
    try:
        yield
    except InputError as error:
        problems += [f"{before}{problem}{after}" for problem in error.problems]


def printable(text: str) -> str:
    """A text for a terminal, on which control characters would do things: they are written out, line feeds apart."""
    return "".join(c if c == "\n" or unicodedata.category(c) not in ("Cc", "Cs") else f"\\x{ord(c):02x}" for c in text)


class UntrustedError(InputError):
    """A run folder brings code of its own, which nobody said may run."""


class UnexpectedError(SweepError):
    """A clean network has less accuracy than its study expects: what is perturbed is not what was trained."""


class StoreError(SweepError):
    """A run folder cannot be read, or holds something that it should not."""


class OtherStudyError(StoreError):
    """The study that a run folder keeps is not the one that its manifest is of: whoever began it was killed."""


class GrownError(StoreError):
    """A run folder has become another study's since its manifest was read: it is to be opened again."""


class NondeterminismError(StoreError):
    """The same trials gave other results than before; nothing else of the run can be trusted until it is known why."""


class VersionError(SweepError):
    """A worker has other versions of the packages that results depend on than the driver."""


class NodeError(SweepError):
    """A worker cannot do any of the work, because of what its machine lacks."""


class TaskError(SweepError):
    """Chunks failed, again and again; the trials of all others are committed."""


class Interrupted(SweepError):
    """The user stopped the run; what is committed stays."""


def nearest(word: object, valid: Iterable[str]) -> str | None:
    """The valid name that was probably meant, if any."""
    close = difflib.get_close_matches(word, list(valid), n=1) if isinstance(word, str) else []
    return close[0] if close else None


def hint(word: object, valid: Iterable[str]) -> str:
    """The end of a message about a name that is not valid."""
    meant = nearest(word, valid)
    return f" (did you mean {meant!r}?)" if meant else ""

"""Ctrl-C, SIGTERM and SIGHUP end a command in one way, at any moment, whatever its libraries do with signals.

Ray sets handlers of its own while it starts: one in Python that exits, and one in C++ that prints a trace and aborts,
even in threads of other libraries. So in the process of a command every thread blocks these signals, and one thread
waits for them: it interrupts the main thread as Ctrl-C does, with KeyboardInterrupt. Nothing here happens on import;
only the command calls `guard`. In a program of someone else's, `unchanged` keeps the handlers that it has set.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import TextIO

ENDING = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
MESSENGER = signal.SIGUSR1  # from the thread that waits to the main thread, which it also wakes
POLL_SECONDS = 0.2
AGAIN_SECONDS = 5.0  # until the main thread is interrupted again, where something has swallowed it
PATIENCE_SECONDS = 10.0  # of stopping, after which another signal ends the process at once
AT_ONCE = "sweep: stopped at once; what is committed is kept, and the same command goes on"
_STRUCTURE_BYTES = 1024  # a struct sigaction has 152 on Linux, 16 on macOS


class _Guard:
    """What the process of a command does about signals.

    Attributes:
        asked: whether one came.
        stopping: whether none is to interrupt any more.
    """

    def __init__(self) -> None:
        self.asked = False
        self.stopping = threading.Event()
        self._whole = 0  # blocks that are to be finished first
        self._late = False
        wanted = {number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN}  # nohup stays nohup
        ours = ENDING - signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        # Ray's processes would inherit what is blocked, but are to end on SIGTERM; on SIGHUP not before this process.
        passed = ours - {signal.SIGHUP}
        os.register_at_fork(after_in_child=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, passed))
        signal.signal(MESSENGER, self._interrupt)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {MESSENGER})
        sys.unraisablehook = self._unraisable
        sys.stderr = _own_stderr()
        self._main = threading.main_thread().ident or 0
        if wanted:
            threading.Thread(target=self._watch, args=(wanted,), name="signals", daemon=True).start()

    def _watch(self, wanted: set[signal.Signals]) -> None:
        signal.sigwait(wanted)
        begun = time.monotonic()
        self.asked = True
        _quiet()
        sent = -math.inf
        while True:
            if self.stopping.is_set() or signal.sigpending() & wanted:
                signal.sigwait(wanted)
                if time.monotonic() - begun > PATIENCE_SECONDS:
                    break
            elif time.monotonic() - sent > AGAIN_SECONDS:
                sent = time.monotonic()
                signal.pthread_kill(self._main, MESSENGER)
            self.stopping.wait(POLL_SECONDS)
        with contextlib.suppress(OSError, ValueError):
            print(AT_ONCE, file=sys.stderr, flush=True)
        os._exit(1)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._whole:
            self._late = True
        elif not self.stopping.is_set():
            raise KeyboardInterrupt

    def _unraisable(self, problem: sys.UnraisableHookArgs) -> None:
        """An interrupt that fell into a destructor is swallowed, and comes again."""
        if problem.exc_type is not KeyboardInterrupt:
            sys.__unraisablehook__(problem)

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._whole += 1
        try:
            yield
        finally:
            self._whole -= 1
        if self._late and not self._whole and not self.stopping.is_set():
            self._late = False
            raise KeyboardInterrupt


_guard: _Guard | None = None


def guard() -> None:
    """From now on, for the rest of this process, whose main thread calls this: Ctrl-C, SIGTERM and SIGHUP interrupt it.

    To be called before other threads exist, because they inherit what is blocked. A signal that is ignored, as SIGHUP
    under nohup, stays ignored. Signals that come while the process is stopping change nothing; one that comes more than
    10 s after the first ends the process at once, with exit status 1.
    """
    global _guard
    _guard = _guard or _Guard()


def asked() -> bool:
    """Whether this process was asked to end."""
    return _guard is not None and _guard.asked


def stopping() -> None:
    """What was asked for is being done: no signal interrupts any more. Without effect unless there is a guard."""
    if _guard:
        _guard.stopping.set()


def stopped() -> int:
    """Say that the command was stopped; returns its exit status."""
    stopping()
    print("sweep: stopped", file=sys.stderr)
    return 1


def whole() -> contextlib.AbstractContextManager[None]:
    """Signals interrupt after this block instead of within it. Without effect unless there is a guard."""
    return _guard.whole() if _guard else contextlib.nullcontext()


@contextlib.contextmanager
def unchanged() -> Iterator[None]:
    """Whatever handlers are set within this block, those of SIGINT, SIGTERM and SIGHUP are afterwards as before.

    Python's and those that a library sets behind its back, in any thread.
    """
    main = threading.current_thread() is threading.main_thread()
    libc = ctypes.CDLL(None)
    before = {number: ctypes.create_string_buffer(_STRUCTURE_BYTES) for number in ENDING}
    handlers = {number: signal.getsignal(number) for number in ENDING}
    for number, action in before.items():
        libc.sigaction(int(number), None, action)
    try:
        yield
    finally:
        for number, action in before.items():
            if main and handlers[number] is not None and signal.getsignal(number) is not handlers[number]:
                signal.signal(number, handlers[number])
            libc.sigaction(int(number), action, None)


def _own_stderr() -> TextIO:
    """Standard error by a descriptor of its own, as long as there is one."""
    try:
        return os.fdopen(os.dup(2), "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")
    except (OSError, AttributeError):
        return sys.stderr


def _quiet() -> None:
    """Let nothing reach the screen but what Python writes: libraries complain of processes that were told to end, too.

    And what is written to a terminal that is gone is written nowhere, and is no error.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            descriptor = stream.fileno()
            try:
                os.write(descriptor, b"")
            except OSError:
                os.dup2(nowhere, descriptor)
    if sys.stderr is not sys.__stderr__:
        os.dup2(nowhere, 2)

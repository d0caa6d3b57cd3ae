"""Files that a user names: found and fingerprinted, or refused in one line."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tomllib
from pathlib import Path
from typing import Any, BinaryIO

from sweep.errors import InputError


def require_file(path: str | Path) -> Path:
    """The path itself; raises InputError, with the resolved path, when it is missing, a folder or unreadable."""
    path = Path(path)
    try:
        where = path.resolve()
        if not path.exists():
            raise InputError(f"{path}: no such file (looked for {where})")
        if not path.is_file():
            raise InputError(f"{path}: not a file ({where}); give the file itself")
        if not os.access(path, os.R_OK):
            raise InputError(f"{path}: not readable ({where}); check its permissions")
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: not a usable path: {reason(error)}") from error
    return path


def function_in(place: str | Path) -> tuple[str, str] | None:
    """The Python file and the function of a place such as `my_data.py:load`; None for any other."""
    file, colon, function = str(place).rpartition(":")
    return (file, function) if colon and file.endswith(".py") and function.isidentifier() else None


def open_file(path: Path) -> BinaryIO:
    """A regular file, opened to be read, whatever else somebody puts in its place meanwhile.

    Raises InputError when it cannot be read, or is not a regular file any more.
    """
    try:
        # A pipe put there in the meantime must not keep us waiting.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {reason(error)}") from error
    file = open(descriptor, "rb")  # noqa: PTH123, SIM115
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise InputError(f"{path}: not a file; give the file itself")
    return file


def copy_file(path: Path, to: Path, largest: int) -> Path:
    """Copy a regular file's content; returns `to`.

    Raises InputError when it cannot be read, has more than `largest` bytes, or there is no room for the copy.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > largest:
            raise InputError(f"{path}: it has {size:,} bytes; at most {largest:,} are read")
        try:
            with to.open("xb") as copy:
                shutil.copyfileobj(file, copy, 1024**2)
        except OSError as error:
            raise InputError(f"{path}: cannot be copied to {to.parent}: {reason(error)}") from error
    return to


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def reason(error: BaseException, limit: int = 160) -> str:
    """The first line of an error's message, at most `limit` characters: what fits in a one-line report."""
    lines = str(error).strip().splitlines()
    text = lines[0].strip() if lines else type(error).__name__
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def read_tables(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file; raises InputError when it cannot be read, or is none."""
    try:
        return tables_of(require_file(Path(path).expanduser()).read_text(encoding="utf-8-sig"), str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not a text file in UTF-8") from None


def tables_of(text: str, source: str) -> dict[str, Any]:
    """The tables of a TOML text; raises InputError, which names `source`, when it is none."""
    try:
        return tomllib.loads(text)
    except ValueError as error:  # a number of too many digits, too
        slashes = "; write paths with / or in 'single quotes'" if "\\" in str(error) else ""
        raise InputError(f"{source}: is not valid TOML: {error}{slashes}") from None
    except RecursionError:
        raise InputError(f"{source}: is not valid TOML: its lists and tables are too deep in one another") from None

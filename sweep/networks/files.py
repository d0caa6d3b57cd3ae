"""Files that a user names: found and fingerprinted, or refused in one line."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from sweep.errors import InputError


def require_file(path: str | Path) -> Path:
    """The path itself when it names a readable file.

    Raises:
        InputError: it is missing, a folder or unreadable; the message gives the resolved path.
    """
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


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def reason(error: BaseException, limit: int = 160) -> str:
    """The first line of an error's message, at most `limit` characters: what fits in a one-line report."""
    lines = str(error).strip().splitlines()
    text = lines[0].strip() if lines else type(error).__name__
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"

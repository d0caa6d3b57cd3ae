"""Which way was the fastest for a network on this machine: a small file for each choice, in the user's cache folder.

Results do not depend on it: counts are the same by every way, and one that is remembered is proved again before it is
used. So a file that is missing, damaged or of something else is none, and where none can be written, none is.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

CACHE = "NOISESWEEP_CACHE"
"""The environment variable that names another folder for these files, or `off`."""
LARGEST = 2**16  # bytes of such a file
FACTS, WAY = "facts", "way"


def recall(facts: Mapping[str, object]) -> str | None:
    """The way remembered for these facts, which are what JSON holds; None where there is none."""
    path = _path(facts)
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(LARGEST))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get(FACTS) != facts:
        return None
    way = found.get(WAY)
    return way if isinstance(way, str) else None


def remember(facts: Mapping[str, object], way: str) -> None:
    """Keep which way it was, if that can be written."""
    path = _path(facts)
    if path is None:
        return
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".choice-")
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump({FACTS: facts, WAY: way}, file)
            Path(name).replace(path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise


def _path(facts: Mapping[str, object]) -> Path | None:
    folder = os.environ.get(CACHE, "")
    if folder == "off":
        return None
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "noisesweep"
    except RuntimeError:  # nobody's home
        return None
    name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    return (Path(folder) if folder else base) / "choices" / f"{name}.json"

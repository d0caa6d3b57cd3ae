"""How long a study took, over all the runs that worked on it; for the manifest, and for no result."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any


class Clock:
    """Wall-clock time of this run, on top of what earlier runs of the study have left in the manifest."""

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        self._before = float(manifest.get("wall_seconds", 0.0))
        self._started = manifest.get("started") or _now()
        self._begun = time.monotonic()

    def running(self) -> dict[str, Any]:
        """Entries for the manifest while there is work to do: nobody knows yet when it ends."""
        seconds = self._before + time.monotonic() - self._begun
        return {"started": self._started, "finished": None, "wall_seconds": round(seconds, 3)}

    def finished(self) -> dict[str, Any]:
        """Entries for the manifest once everything asked for is committed."""
        return {**self.running(), "finished": _now()}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

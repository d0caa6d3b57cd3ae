"""What the processor of this machine is called."""

from __future__ import annotations

import platform
from pathlib import Path


def processor() -> str:
    """The model of the processor, as Linux has it; elsewhere what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()

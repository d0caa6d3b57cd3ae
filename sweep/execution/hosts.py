"""Where a task runs, and with which versions of what results depend on."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version

from sweep.engine.machine import width
from sweep.errors import VersionError
from sweep.networks.backend import library, onednn


def versions() -> dict[str, str]:
    """Of the packages that results depend on."""
    return {name: version(name) for name in (library(), "keras", "numpy")}


def check_versions(expected: Mapping[str, str]) -> None:
    """Raise VersionError where they are not the driver's: counts could differ between workers."""
    found = versions()
    differ = [f"{name} {there} there, {found[name]} here" for name, there in expected.items() if found[name] != there]
    if differ:
        where = f"worker on {platform.node()}: versions differ from the driver's"
        raise VersionError(f"{where}: {', '.join(differ)}; install the same everywhere")


def here() -> dict[str, str]:
    """Where this is, as outcomes and rows say it; loads what evaluates."""
    from sweep.engine import tensors

    return {
        "host": platform.node(),
        "device": tensors.device(),
        "machine": platform.machine(),
        "width": width(),
        "onednn": onednn(),
        "python": platform.python_version(),
        **versions(),
    }

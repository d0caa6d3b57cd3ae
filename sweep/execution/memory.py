"""How much memory there is on this machine, what a worker takes of it, and how many workers have room."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sweep.engine.budget import HELD_BYTES
from sweep.errors import InputError
from sweep.execution.ray.cluster import available_cores
from sweep.networks.feeding import fed_shape
from sweep.networks.inspection import largest_activation
from sweep.preparation.inputs import Prepared
from sweep.texts import size_text

WORKER_BYTES = 640 * 1024**2
"""What a worker takes beside images and weights: Python, TensorFlow and Ray."""
WEIGHTS = 12
"""Times a network's file that its weights are in memory: those of eight trials, and what is made of them."""
RECALIBRATING = 6
"""Times the largest activation of all calibration images, what a pass over them takes: 2.8 to 5.6 in three networks."""
LEAST_BYTES = 64 * 1024**2
"""Of images that a worker has room for at least."""
_OF_IMAGES, _AT_POSITIONS = 2, 8  # times all scores of a trial that a worker holds, for measures of these
_FEWEST = 3 * 256  # images likewise: what backends are tried on, in the forms in which they read it
CGROUPS = Path("/sys/fs/cgroup")
_LIMITS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


@dataclass(frozen=True)
class Room:
    """What workers take.

    Attributes:
        workers: at a time; None for as many as there are cores.
        base: bytes of one, beside images.
        images: bytes of the images that one may hold.
        all_images: bytes of all of them, as the network takes them.
        there: bytes that this machine has to give; None where that is not known, or another machine's.
        fewer: whether there would be more workers, with more memory.
    """

    workers: int | None
    base: int
    images: int
    all_images: int
    there: int | None = None
    fewer: bool = False

    def __str__(self) -> str:
        if self.all_images <= self.images // 4:
            of_images = f"all images, {size_text(self.all_images)} as the network takes them"
        else:
            of_images = f"at most {size_text(self.images)} of images ({size_text(self.all_images)} in all), in parts"
        said = f"a worker takes about {size_text(self.base)} and {of_images}"
        if self.workers is not None and self.there is not None:
            said += f"; {self.workers} worker{'s' * (self.workers > 1)}, and {size_text(self.there)} there"
        return said + ("; more memory would have room for more workers" if self.fewer else "")


def room_for(prepared: Prepared, memory: int | None, workers: int | None, local: bool) -> Room:
    """How many workers have room, and for how much of the images each; of several test sets, of the largest.

    Args:
        prepared: the study.
        memory: bytes that a worker may take; None shares what is there.
        workers: how many at most.
        local: whether they run on this machine; elsewhere, `memory` is asked of the cluster for each.

    Raises:
        InputError: a worker does not fit into `memory`, or into what this machine has.
    """
    networks, datasets = prepared.networks.values(), prepared.datasets.values()
    ones = [4 * max(math.prod(fed_shape(n, dataset)) for n in networks) for dataset in datasets]
    one, every = max(ones), max(one * len(dataset) for one, dataset in zip(ones, datasets, strict=True))
    base = WORKER_BYTES + WEIGHTS * max(model.content.nbytes for model in prepared.models.values())
    if prepared.study.further:  # which need all scores of a trial
        base += (
            4
            * max(map(len, datasets))
            * max(n.outputs * (_AT_POSITIONS if n.positions else _OF_IMAGES) for n in networks)
        )
    least = max(LEAST_BYTES, _FEWEST * one)
    anew = max((cell.recalibrated for cell in prepared.study.cells), default=0)
    passing = RECALIBRATING * anew * max(largest_activation(n.model) for n in networks) if anew else 0
    base += passing
    needed = f"a worker takes about {size_text(base + least)}"
    if passing:
        needed += f", {size_text(passing)} of them for the pass over {anew:,} calibration images"
    if memory is not None and memory < base + least:
        raise InputError(f"--memory {size_text(memory)}: {needed}; give that or more")
    images = HELD_BYTES if memory is None else memory - base
    room = Room(workers, base, max(least, images), every)
    there = available() if local else None
    if there is None:
        return room
    wanted = workers or available_cores()
    most = there // (memory or base + least)
    if not most:
        if memory is not None and there >= base + least:
            raise InputError(f"--memory {size_text(memory)}: this machine has {size_text(there)}; {needed}")
        raise InputError(f"this machine has {size_text(there)} of memory to give, and {needed}; run on a larger one")
    fits = min(wanted, most)
    images = min(room.images, max(least, there // fits - base)) if memory is None else room.images
    return replace(room, workers=fits, images=images, there=there, fewer=fits < wanted)


def available(proc: str = "/proc/meminfo", groups: Sequence[Path] | None = None) -> int | None:
    """Bytes that programs can still take here, in the container or control group; None where nothing tells."""
    found = []
    try:
        lines = dict(line.split(":", 1) for line in Path(proc).read_text().splitlines())
        found.append(1024 * int(lines["MemAvailable"].split()[0]))
    except (OSError, KeyError, ValueError):
        return None
    for folder in _groups() if groups is None else groups:
        for limit, used, given_back in _LIMITS:
            try:
                most, now = (int((folder / name).read_text()) for name in (limit, used))
                stat = (folder / limit).with_name("memory.stat").read_text()
                pages = dict(line.split() for line in stat.splitlines()).get(given_back, "0")
            except (OSError, ValueError):  # no such group, or one without a limit
                continue
            found.append(max(0, most - now + int(pages)))
    return min(found)


def _groups() -> list[Path]:
    """Folders of the control groups that this process is in, of either version, and of those that hold them."""
    found = [CGROUPS, CGROUPS / "memory"]
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers in ("", "memory"):
                inner = CGROUPS / controllers / path.lstrip("/")
                found += [folder for folder in [inner, *inner.parents] if folder.is_relative_to(CGROUPS)]
    return list(dict.fromkeys(found))

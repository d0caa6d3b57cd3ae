"""What keeps a budget of accuracy: the cheapest setting of each layer, the level that one parameter may have."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

from sweep.api import RUNS, prepared_of
from sweep.errors import Interrupted

if TYPE_CHECKING:  # each function imports what it needs: a command's help is there at once
    from sweep.execution.runner import Runner
    from sweep.execution.tasks import Tasks
    from sweep.preparation.inputs import Prepared
    from sweep.search.allocation import Allocation
    from sweep.search.tolerance import Tolerance
    from sweep.storage.kept import Trust
    from sweep.study.study import Study

Found = TypeVar("Found")


def allocate(
    study: Study | str | Path,
    out: str | Path | None = None,
    *,
    family: str | None = None,
    address: str | None = None,
    workers: int | None = None,
    runner: Literal["ray", "inline"] = "ray",
    trust_model: bool = False,
    trust_plugins: Trust = False,
    insecure_cluster: bool = False,
    tell: Callable[[str], None] | None = None,
) -> Allocation:
    """Find, layer by layer, the cheapest setting of a family's swept parameters that keeps the study's `budget`.

    On CPUs: in this process, and where that takes longer than Ray's start, in Ray tasks on every core. What is
    evaluated is kept in the folder: interrupted, the same call goes on, and comes to the same answer, with any workers.

    Args:
        study: a study with a budget, or the path of its file.
        out: the folder of the search, a local path or a URI; default `results/<name>-allocation`.
        family: which one; None for the only one.
        address, workers, trust_model, trust_plugins, insecure_cluster: as for `run`; a cluster is asked at once.
        runner: "inline" stays in this process.
        tell: is told how far it is, in a line, again and again.

    Returns:
        The answer, with files in the folder: `allocation.json`, `layers.csv`, `front.csv`, the figure `front`, and
        `allocated.toml`, a study of what was found. Where no setting keeps the budget, `kept` is False, and it is the
        best that was found.

    Raises:
        InputError: every mistake in the study and its files, and costs that are not known, before anything is computed.
        StoreError, Interrupted: what is evaluated stays, and the same call goes on.
    """
    from sweep.search.allocate import allocate as allocated

    helpers = _Helpers(address, workers, runner, insecure_cluster)
    return _searched(allocated, "allocation", study, out, family, helpers, trust_model, trust_plugins, tell)


def tolerate(
    study: Study | str | Path,
    out: str | Path | None = None,
    *,
    family: str | None = None,
    precision: float = 2.0,
    address: str | None = None,
    workers: int | None = None,
    runner: Literal["ray", "inline"] = "ray",
    trust_model: bool = False,
    trust_plugins: Trust = False,
    insecure_cluster: bool = False,
    tell: Callable[[str], None] | None = None,
) -> Tolerance:
    """Find the level of a family's swept number that takes the study's `budget`, for all layers and for each alone.

    Evaluated and kept as with `allocate`. Accuracy is taken to fall with it.

    Args:
        study, family: as for `allocate`; the family sweeps one number, and the list says between which ends its level
            is sought.
        address, workers, runner, trust_model, trust_plugins, insecure_cluster, tell: as for `allocate`.
        out: the folder; default `results/<name>-tolerance`.
        precision: half-width of the level's interval, in % of the level.

    Returns:
        The levels with their intervals; in the folder, `tolerance.json` and `levels.csv`.

    Raises:
        InputError, StoreError, Interrupted: as `allocate`.
    """
    from sweep.search.tolerate import tolerate as tolerated

    search = partial(tolerated, precision=precision / 100)
    helpers = _Helpers(address, workers, runner, insecure_cluster)
    return _searched(search, "tolerance", study, out, family, helpers, trust_model, trust_plugins, tell)


def report(place: str | Path) -> str | None:
    """Write report.html, one page of what searches in a folder have found; returns where, None where none has.

    Raises StoreError where what is there is damaged.
    """
    from sweep.search.report import report_of

    return report_of(place)


class _Helpers(NamedTuple):
    """Who evaluates beside this process."""

    address: str | None
    workers: int | None
    runner: Literal["ray", "inline"]
    insecure: bool

    def tasks(self, prepared: Prepared, tell: Callable[[str], None]) -> Tasks:
        """What evaluates trials of a study."""
        from sweep.execution.memory import room_for
        from sweep.execution.tasks import Tasks

        alone = self.address is None and (self.runner == "inline" or self.workers == 1)
        room = room_for(prepared, None, 1 if alone else self.workers, self.address is None)

        def several() -> Runner:
            from sweep.execution.ray.cluster import RayRunner

            tell("Ray starts, to share the work")
            return RayRunner(self.address, room.workers, insecure=self.insecure)

        return Tasks(prepared, None if alone else several, self.address is not None, room.images)


def _searched(
    search: Callable[..., Found],
    what: str,
    study: Study | str | Path,
    out: str | Path | None,
    family: str | None,
    helpers: _Helpers,
    trust_model: bool,
    trust_plugins: Trust,
    tell: Callable[[str], None] | None,
) -> Found:
    from sweep.networks.backend import hide_gpus
    from sweep.signals import stopping

    hide_gpus()
    prepared = prepared_of(study, None, None, trust_model, trust_plugins)
    folder = out or Path(RUNS) / f"{prepared.study.name}-{what}"
    told = tell or (lambda _: None)
    try:
        with helpers.tasks(prepared, told) as tasks:
            return search(prepared, folder, family, told, tasks)
    except KeyboardInterrupt:
        stopping()
        kept = "what was evaluated is kept, and the same command goes on"
        raise Interrupted(f"stopped; {kept}: {folder}") from None

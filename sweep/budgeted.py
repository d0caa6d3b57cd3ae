"""What keeps a budget of accuracy: the cheapest setting of each layer, the level that one parameter may have."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sweep.api import RUNS, prepared_of
from sweep.errors import Interrupted

if TYPE_CHECKING:  # each function imports what it needs: a command's help is there at once
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
    trust_model: bool = False,
    trust_plugins: Trust = False,
    tell: Callable[[str], None] | None = None,
) -> Allocation:
    """Find, layer by layer, the cheapest setting of a family's swept parameters that keeps the study's `budget`.

    In this process, on its CPU. What is evaluated is kept in the folder: interrupted, the same call goes on, and comes
    to the same answer.

    Args:
        study: a study with a budget, or the path of its file.
        out: the folder of the search, a local path or a URI; default `results/<name>-allocation`.
        family: which one; None for the only one.
        trust_model, trust_plugins: as for `run`.
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

    return _searched(allocated, "allocation", study, out, family, trust_model, trust_plugins, tell)


def tolerate(
    study: Study | str | Path,
    out: str | Path | None = None,
    *,
    family: str | None = None,
    precision: float = 2.0,
    trust_model: bool = False,
    trust_plugins: Trust = False,
    tell: Callable[[str], None] | None = None,
) -> Tolerance:
    """Find the level of a family's swept number that takes the study's `budget`, for all layers and for each alone.

    In this process, on its CPU; what is evaluated is kept, as with `allocate`. Accuracy is taken to fall with it.

    Args:
        study, family, trust_model, trust_plugins, tell: as for `allocate`; the family sweeps one number, and the list
            says between which ends its level is sought.
        out: the folder; default `results/<name>-tolerance`.
        precision: half-width of the level's interval, in % of the level.

    Returns:
        The levels with their intervals; in the folder, `tolerance.json` and `levels.csv`.

    Raises:
        InputError, StoreError, Interrupted: as `allocate`.
    """
    from sweep.search.tolerate import tolerate as tolerated

    search = partial(tolerated, precision=precision / 100)
    return _searched(search, "tolerance", study, out, family, trust_model, trust_plugins, tell)


def report(place: str | Path) -> str | None:
    """Write report.html, one page of what searches in a folder have found; returns where, None where none has.

    Raises StoreError where what is there is damaged.
    """
    from sweep.search.report import report_of

    return report_of(place)


def _searched(
    search: Callable[..., Found],
    what: str,
    study: Study | str | Path,
    out: str | Path | None,
    family: str | None,
    trust_model: bool,
    trust_plugins: Trust,
    tell: Callable[[str], None] | None,
) -> Found:
    from sweep.networks.backend import hide_gpus
    from sweep.signals import stopping

    hide_gpus()
    prepared = prepared_of(study, None, None, trust_model, trust_plugins)
    folder = out or Path(RUNS) / f"{prepared.study.name}-{what}"
    try:
        return search(prepared, folder, family, tell or (lambda _: None))
    except KeyboardInterrupt:
        stopping()
        kept = "what was evaluated is kept, and the same command goes on"
        raise Interrupted(f"stopped; {kept}: {folder}") from None

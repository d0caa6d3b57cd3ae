"""How much accuracy a trained Keras network keeps when its weights are noisy, coarse or faulty.

`sweep.run(study)` runs a study, `sweep.open_run(folder)` opens its results.
"""

from typing import TYPE_CHECKING, Any

from sweep.version import VERSION

__version__ = VERSION

if TYPE_CHECKING:
    from sweep.api import Plan, catalogue, plan, run, status
    from sweep.budgeted import allocate, tolerate
    from sweep.errors import InputError, SweepError
    from sweep.reporting.run import Run, open_run
    from sweep.study.family import Family
    from sweep.study.study import Study

_HOMES = {
    "Family": "sweep.study.family",
    "InputError": "sweep.errors",
    "Run": "sweep.reporting.run",
    "Study": "sweep.study.study",
    "SweepError": "sweep.errors",
    "allocate": "sweep.budgeted",
    "open_run": "sweep.reporting.run",
    "tolerate": "sweep.budgeted",
}

__all__ = [
    "Family",
    "InputError",
    "Plan",
    "Run",
    "Study",
    "SweepError",
    "allocate",
    "catalogue",
    "open_run",
    "plan",
    "run",
    "status",
    "tolerate",
]


def __getattr__(name: str) -> Any:
    """What this package offers, imported when it is first asked for: the command and the workers need less at first."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(_HOMES.get(name, "sweep.api")), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

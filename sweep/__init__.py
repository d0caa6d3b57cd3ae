"""How much accuracy a trained Keras network keeps when its weights are noisy, coarse or faulty.

`sweep.run(study)` runs a study, `sweep.open_run(folder)` opens its results.
"""

from sweep.api import Plan, Run, catalogue, open_run, plan, run, status
from sweep.errors import InputError, SweepError
from sweep.study import Family, Study

__all__ = [
    "Family",
    "InputError",
    "Plan",
    "Run",
    "Study",
    "SweepError",
    "catalogue",
    "open_run",
    "plan",
    "run",
    "status",
]

"""What a report needs of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import pandas as pd

from sweep.storage.store import Store
from sweep.study.study import Study


class Results(Protocol):
    """A run as `sweep.reporting.run.Run` gives it, which imports the report."""

    study: Study
    store: Store

    @property
    def parameters(self) -> Sequence[str]:
        """Columns of the swept parameters."""

    def trials(self) -> pd.DataFrame:
        """One row per trial."""

    def summary(self) -> pd.DataFrame:
        """One row per cell."""

"""What accuracy may be lost, and what is to be saved for it: the table `budget` of a study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sweep.errors import InputError
from sweep.perturb.base import Scalar
from sweep.study.family import CLEAN
from sweep.study.study import Study
from sweep.texts import number

MEMORY, OPERATIONS = "memory", "operations"
T = TypeVar("T")


@dataclass(frozen=True)
class Budget:
    """How much accuracy may be lost, of what, how surely, and what is to cost least; see `study.schema` for the keys.

    Attributes:
        drop: points.
        below: "clean", or values of one cell of the family by column.
        quantile: the share of the chips that may lose more; None for the mean over chips.
        confidence: with which the answer keeps the budget.
        cost: "memory", "operations", or by layer the cost of each of its settings.
    """

    drop: float
    below: str | Mapping[str, Scalar] = CLEAN
    quantile: float | None = None
    confidence: float = 0.95
    cost: str | Mapping[str, Sequence[float]] = MEMORY

    @classmethod
    def of(cls, study: Study) -> Budget:
        """That of a study; InputError where it has none."""
        if study.budget is None:
            raise InputError(f"{study.source}: budget: is missing; say what may be lost: [budget] drop = 1.0")
        return cls(**study.budget)

    def reference(self, study: Study, at: Callable[[Mapping[str, Scalar]], T]) -> T | None:
        """What `at` makes of the values that losses are counted from; None where these are the clean network's.

        Raises InputError, which says where in the study they stand, where `at` does.
        """
        if isinstance(self.below, str):
            return None
        try:
            return at(self.below)
        except InputError as error:
            raise InputError(f"{study.source}: budget.below: {error}") from None

    def __str__(self) -> str:
        of = "on average" if self.quantile is None else f"for all but {number(100 * self.quantile)} % of the chips"
        than = "the clean network" if isinstance(self.below, str) else _text(self.below)
        return f"at most {number(self.drop)} points below {than}, {of}"


def _text(values: Mapping[str, Scalar]) -> str:
    return ", ".join(f"{name} {number(v) if isinstance(v, float) else v}" for name, v in values.items())

"""How much a network tolerates, as people see it: a level for all layers together and for each alone; and as files."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from sweep.reporting.figures.levels import Bar, levels_picture
from sweep.reporting.figures.pictures import Picture, save_figures
from sweep.reporting.tables.layout import WIDTH, text_table
from sweep.storage.paths import Folder
from sweep.study.budget import Budget
from sweep.texts import number

TOLERANCE, LEVELS = "tolerance.json", "levels.csv"
ALL = "all layers"


class Level(NamedTuple):
    """The level furthest towards harm that keeps the budget.

    Attributes:
        where: a layer, or "all layers".
        level: as fresh chips say.
        sure: up to which the budget is kept with the confidence; None where no level of the range is so.
        most: beyond which it is surely not kept; None where the range ends before.
        outside: "beyond 0.2" where even the end of the range keeps the budget, "before 0.01" where its beginning does
            not; else empty.
        chips: fresh ones.
    """

    where: str
    level: float | None
    sure: float | None
    most: float | None
    outside: str
    chips: int


@dataclass(frozen=True)
class Tolerance:
    """What a study's budget leaves for one parameter.

    Attributes:
        study, family, model: of what.
        parameter: whose level it is.
        budget: that is to be kept.
        levels: first of all layers together, then of each alone.
        evaluated: chips, for all this.
        folder: with its files.
        made: what it depends on: versions, and the digest of the study.
    """

    study: str
    family: str
    model: str
    parameter: str
    budget: Budget
    levels: Sequence[Level]
    evaluated: int
    folder: str
    made: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Tolerance:
        """The answer of which `to_dict` said this; KeyError, TypeError or ValueError where it is none."""

        def known(value: Any) -> float | None:
            return None if value is None else float(value)

        levels = []
        for one in said["levels"]:
            level, sure, most = (known(one[key]) for key in ("level", "sure", "most"))
            levels.append(Level(str(one["where"]), level, sure, most, str(one["outside"]), int(one["chips"])))
        own = {key: str(said[key]) for key in ("study", "family", "model", "parameter", "folder")}
        made = {str(key): str(text) for key, text in said.get("made", {}).items()}
        if not levels:
            raise ValueError("no levels")
        return cls(**own, budget=Budget(**said["budget"]), levels=levels, evaluated=int(said["evaluated"]), made=made)

    @property
    def kept(self) -> bool:
        """Whether all layers together keep the budget at some level of the range, with the confidence."""
        return self.levels[0].sure is not None

    def verdict(self) -> str:
        """In one line, what all layers together tolerate."""
        first = self.levels[0]
        if first.sure is None:
            found = first.outside or f"about {number(first.level or 0.0, 4)} keeps it, which is not sure"
            return f"no level of {self.parameter} surely keeps the budget, {self.budget}: {found}"
        return f"{self.parameter} up to {_text(first.sure)} keeps the budget, {self.budget}"

    def __str__(self) -> str:
        rows = [(one.where, _text(one.level) or one.outside, _interval(one), f"{one.chips:,}") for one in self.levels]
        head = f"{self.study}: {self.family}, {self.model}: {self.budget}"
        sure = f"{100 * self.budget.confidence:.4g} %"
        table = text_table(("where", self.parameter, f"{sure} interval", "fresh chips"), rows, left=1)
        return f"{head}\n\n{table}\n\n{textwrap.fill(self.words(), WIDTH)}"

    def words(self) -> str:
        """What the levels are, in sentences."""
        return (
            "The furthest level that keeps the budget, where accuracy only falls with it. The near end of an interval "
            f"is the level up to which the budget is surely kept. {self.evaluated:,} chips were evaluated."
        )

    def picture(self) -> Picture:
        """The levels with their intervals."""
        bars = [Bar(one.where, one.level, one.sure, one.most, one.outside) for one in self.levels]
        return levels_picture(bars, self.parameter)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "levels": [one._asdict() for one in self.levels], "kept": self.kept}

    def write(self, place: Folder) -> None:
        """Its tables into a folder."""
        place.write(TOLERANCE, (json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n").encode())
        out = io.StringIO()
        rows = [["" if v is None else v for v in one] for one in self.levels]
        csv.writer(out, lineterminator="\n").writerows([Level._fields, *rows])
        place.write(LEVELS, out.getvalue().encode())
        save_figures([self.picture()], lambda name, content: place.write(name, content))


def _text(level: float | None) -> str:
    return "" if level is None else number(level, 4)


def _interval(one: Level) -> str:
    if one.sure is None and one.most is None:
        return ""
    ends = [_text(end) or "…" for end in (one.sure, one.most)]
    return " to ".join(ends)

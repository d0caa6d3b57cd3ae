"""Pictures of what families say together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import pandas as pd

from sweep.reporting.figures.equivalence import equivalence_curve
from sweep.reporting.figures.pictures import Panel, Picture, in_grid, panels_of
from sweep.reporting.tables.frames import Answer

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_MOST_PANELS = 4  # they stand below one another


def answer_pictures(answers: Iterable[Answer]) -> list[Picture]:
    """The pictures of a run's answers: noise-equivalent bits, unless networks and laws of noise are many."""
    return list(_pictures(answers))


def _pictures(answers: Iterable[Answer]) -> Iterator[Picture]:
    for answer in answers:
        if answer.name != "equivalent-bits":
            continue
        known = answer.table[answer.table["level"] > 0]
        keys = [key for key in ("family", "model", "rounding") if key == "family" or key in known]
        found = list(panels_of(known.rename(columns={"noise": "family"}), keys, {}))
        if 0 < len(found) <= _MOST_PANELS:
            yield Picture(answer.name, answer.title, in_grid(found, _draw, legends=True))


def _draw(axes: Axes, panel: Panel) -> None:
    equivalence_curve(axes, pd.DataFrame(panel.cells))

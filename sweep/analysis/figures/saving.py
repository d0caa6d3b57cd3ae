"""Pictures as files."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import pandas as pd

from sweep.analysis.figures.labels import Labels
from sweep.analysis.figures.pictures import pictures
from sweep.analysis.figures.style import house_style

_DOTS_PER_INCH = 200
_METADATA = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}


def save_figures(
    trials: pd.DataFrame,
    summary: pd.DataFrame,
    parameters: Sequence[str],
    write: Callable[[str, bytes], None],
    labels: Labels | None = None,
) -> list[str]:
    """Write every picture of a run as SVG and as PNG: see `pictures` for which ones there are.

    The same data give the same bytes with the same version of matplotlib, whatever the user's matplotlibrc
    says.

    Args:
        trials: one row per trial, as for `accuracy_curve`.
        summary: of these trials.
        parameters: the columns of all swept parameters.
        write: takes a file name and its content.
        labels: of axes, by family and column, as `parameter_labels` gives them.

    Returns:
        The names written.
    """
    from matplotlib.figure import Figure

    names = []
    for picture in pictures(trials, summary, parameters, labels):
        with house_style():
            figure = Figure(layout="constrained")
            picture.draw(figure)
            for kind, metadata in _METADATA.items():
                buffer = io.BytesIO()
                figure.savefig(buffer, format=kind, dpi=_DOTS_PER_INCH, metadata=metadata)
                names.append(f"{picture.name}.{kind}")
                write(names[-1], buffer.getvalue())
    return names

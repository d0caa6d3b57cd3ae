"""One picture at a time, for notebooks: `run.plot.curve()`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from sweep.data.measure import Measure
from sweep.data.measures import ACCURACY
from sweep.errors import InputError
from sweep.reporting.figures.curves import accuracy_curve
from sweep.reporting.figures.equivalence import equivalence_curve
from sweep.reporting.figures.heatmaps import heat_map
from sweep.reporting.figures.layers import layer_sensitivity
from sweep.reporting.figures.style import house_style, size_with_legend
from sweep.reporting.figures.yields import yield_curve
from sweep.reporting.labels import Labels
from sweep.study.family import DATASET

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Plot:
    """The pictures of a run, each drawn into given axes or into a new figure of pyplot's, and returned as `Axes`.

    Families, models and test sets are chosen by name; without, all that sweep the parameter are drawn. Accuracies are
    in %. What is called accuracy below is the measure of the plot.
    """

    def __init__(
        self,
        trials: pd.DataFrame,
        summary: pd.DataFrame,
        parameters: Sequence[str],
        labels: Labels,
        equivalent: pd.DataFrame | None = None,
        measure: Measure = ACCURACY,
    ) -> None:
        self._trials = trials
        self._summary = summary
        self._parameters = parameters
        self._labels = labels
        self._equivalent = equivalent
        self._measure = measure

    def curve(
        self,
        parameter: str | None = None,
        family: str | Sequence[str] | None = None,
        model: str | None = None,
        axes: Axes | None = None,
        dataset: str | None = None,
    ) -> Axes:
        """Mean accuracy against a swept parameter, with a band from the 5 % to the 95 % quantile and every chip a dot.

        Raises InputError when nothing sweeps it.
        """
        cells, name = self._cells(parameter, family, model, dataset)
        how = self._parameters, self._labels, self._measure
        return _draw(axes, lambda at: accuracy_curve(at, self._trials, cells, name, *how))

    def distribution(
        self,
        family: str | None = None,
        parameter: str | None = None,
        model: str | None = None,
        axes: Axes | None = None,
        dataset: str | None = None,
    ) -> Axes:
        """The share of chips that reach an accuracy, a line for each level of one family.

        Raises InputError when nothing sweeps the parameter, several families, models, test sets or further parameters
        do, or no cell has two chips that saw all images.
        """
        cells, name = self._one(parameter, family, model, dataset)
        if not (cells["trials"] > 1).any():
            raise InputError("plot: no cell here has two chips that saw all images, whose distribution there would be")
        how = None, self._labels, self._measure
        return _draw(axes, lambda at: yield_curve(at, self._trials, cells, name, *how))

    def layers(
        self,
        family: str | None = None,
        parameter: str | None = None,
        model: str | None = None,
        axes: Axes | None = None,
        dataset: str | None = None,
    ) -> Axes:
        """Accuracy with one layer perturbed at a time, of a family with `sensitivity = "per-layer"`.

        Raises InputError when there is no such family, or it is on several test sets.
        """
        cells, name = self._cells("layer", family, model, dataset)
        _check_alone(cells, [DATASET])
        rest = [p for p in self._swept(cells) if p != name]
        level = parameter or (rest[0] if rest else None)
        return _draw(axes, lambda at: layer_sensitivity(at, cells, name, level, self._labels, self._measure))

    def heat_map(
        self,
        family: str | None = None,
        across: str | None = None,
        down: str | None = None,
        axes: Axes | None = None,
        dataset: str | None = None,
    ) -> Axes:
        """Mean accuracy over two swept parameters of a family; the test set counts as the last of them.

        Raises InputError when no family sweeps two, or two others on several test sets.
        """
        cells = self._chosen(family, None, dataset)
        swept = {name: self._swept(group) for name, group in cells.groupby("family", sort=False)}
        two = [str(name) for name, columns in swept.items() if len(columns) >= 2]
        if not two:
            raise InputError("plot: no family sweeps two parameters")
        cells = cells[cells["family"] == two[0]]
        first, second = sorted(swept[two[0]], key=lambda name: name == DATASET)[:2]
        both = across or second, down or first
        _check_alone(cells, [] if DATASET in both else [DATASET])
        return _draw(axes, lambda at: heat_map(at, cells, *both, labels=self._labels, measure=self._measure))

    def equivalence(
        self,
        noise: str | None = None,
        model: str | None = None,
        axes: Axes | None = None,
        dataset: str | None = None,
    ) -> Axes:
        """For each bit-width the noise level that costs as much accuracy, of one family of noise.

        Raises InputError when the study has no families of plain noise and of plain rounding.
        """
        if self._equivalent is None:
            raise InputError("plot: needs a family that sweeps the scale of plain noise, and one of fixed-point bits")
        table = self._equivalent
        noise, model = noise or table["noise"].iloc[0], model or table["model"].iloc[0]
        table = table[(table["noise"] == noise) & (table["model"] == model)]
        if DATASET in table and not table.empty:  # the first, too
            table = table[table[DATASET] == (dataset or table[DATASET].iloc[0])]
        if "rounding" in table and not table.empty:  # several families round: the first
            table = table[table["rounding"] == table["rounding"].iloc[0]]
        if table.empty:
            raise InputError(f"plot: no equivalence of {noise!r}, model {model!r}")
        return _draw(axes, lambda at: equivalence_curve(at, table, self._measure))

    def _chosen(self, family: str | Sequence[str] | None, model: str | None, dataset: str | None) -> pd.DataFrame:
        cells = self._summary
        for column, wanted in (("family", family), ("model", model), (DATASET, dataset)):
            names = [wanted] if isinstance(wanted, str) else wanted
            if names and column not in cells:
                raise InputError("plot: the study has one test set, which has no name in its results")
            for name in names or []:
                if name not in set(cells[column]):
                    raise InputError(f"plot: no {column} {name!r}; there are {', '.join(cells[column].unique())}")
            if names is not None:
                cells = cells[cells[column].isin(list(names))]
        return cells

    def _swept(self, cells: pd.DataFrame) -> list[str]:
        names = [name for name in self._parameters if cells[name].notna().any()]
        return [name for name in names if name != DATASET or cells[name].nunique() > 1]

    def _cells(
        self, parameter: str | None, family: str | Sequence[str] | None, model: str | None, dataset: str | None
    ) -> tuple[pd.DataFrame, str]:
        """The cells that sweep a parameter, by default the first number."""
        cells = self._chosen(family, model, dataset)
        swept = [column for column in self._swept(cells) if parameter or pd.api.types.is_numeric_dtype(cells[column])]
        if not swept or (parameter is not None and parameter not in swept):
            raise InputError(f"plot: nothing sweeps {parameter or 'anything'}; there are {', '.join(swept) or 'none'}")
        name = parameter or swept[0]
        return cells[cells[name].notna()], name

    def _one(
        self, parameter: str | None, family: str | None, model: str | None, dataset: str | None
    ) -> tuple[pd.DataFrame, str]:
        """The cells of one family, model and test set that sweep one parameter."""
        cells, name = self._cells(parameter, family, model, dataset)
        _check_alone(cells, ["family", "model", DATASET])
        if len(self._swept(cells)) > 1:
            raise InputError(f"plot: the family sweeps {', '.join(self._swept(cells))}; plot it from trials()")
        return cells, name


def _check_alone(cells: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise InputError where one of these columns has several values."""
    for column in columns:
        there = cells[column].unique() if column in cells else ()
        if len(there) > 1:
            raise InputError(f"plot: name one {column} of {', '.join(there)}")


def _draw(axes: Axes | None, draw: Callable[[Axes], Axes]) -> Axes:
    """Into given axes, or into a new figure as large as its legend needs."""
    if axes is not None:
        from matplotlib.text import Text

        with house_style():
            draw(axes)
        for text in axes.findobj(Text):  # those that were there before the house's style
            text.set_parse_math(False)
        return axes
    import matplotlib
    from matplotlib import pyplot

    # A notebook's backend starts with its first figure, and sets what must outlast the house's style.
    pyplot.switch_backend(matplotlib.get_backend())
    with house_style():
        figure, new = pyplot.subplots(layout="constrained")
        draw(new)
        if new.get_legend() or figure.legends:
            figure.set_size_inches(*size_with_legend(new))
        return new

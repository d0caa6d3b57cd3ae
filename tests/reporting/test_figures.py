"""Figures by what they draw; whether they are worth looking at is for eyes."""

import io
import itertools
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import FillBetweenPolyCollection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from sweep.reporting.figures import axis
from sweep.reporting.figures.curves import accuracy_curve
from sweep.reporting.figures.equivalence import equivalence_curve
from sweep.reporting.figures.heatmaps import heat_map
from sweep.reporting.figures.inline import inline
from sweep.reporting.figures.layers import layer_sensitivity
from sweep.reporting.figures.pictures import compact, pictures, save_figures
from sweep.reporting.figures.style import house_style
from sweep.reporting.figures.yields import yield_curve
from sweep.reporting.labels import Label, parameter_labels
from sweep.reporting.summary import summarise
from tests.reporting.synthetic import HOSTILE, SyntheticRun

PARAMETERS = ["scale", "bits"]
REFERENCE = Path(__file__).parents[2] / "results" / "reference"
SCALE = Label("Noise scale", "weight units", "square")
KNOWN = {(family, "scale"): SCALE for family in ("gaussian", "uniform", "both")}
KNOWN |= {(family, "bits"): Label("Weights: bits", worse="low", whole=True) for family in ("fixed-point", "both")}


def trials_of(*cells: tuple[str, float | None, int | None, int], model: str = "net.h5") -> pd.DataFrame:
    """Trials from (family, scale, bits, number of chips); accuracy falls with scale and with few bits."""
    rng = np.random.default_rng(5)
    rows = []
    for family, scale, bits, chips in cells:
        centre = 0.98 - 2 * (scale or 0) - 0.3 / (bits or 32)
        for seed in range(chips):
            accuracy = round(float(np.clip(centre + (chips > 1) * rng.normal(0, 0.03), 0, 1)), 3)
            rows.append((model, family, f"{model} {family} {scale} {bits}", scale, bits, seed, 1000, accuracy))
    names = ["model", "family", "cell", "scale", "bits", "seed", "n_images", "accuracy"]
    return pd.DataFrame(rows, columns=names).astype({"scale": "Float64", "bits": "Int64"})


NOISE = [(family, scale, None, 40) for family in ("gaussian", "uniform") for scale in (0.04, 0.08, 0.16)]
ROUNDING = [("fixed-point", None, bits, 1) for bits in (32, 8, 4, 2, 1)]
TRIALS = trials_of(*NOISE, *ROUNDING)
PUBLISHED = {"net.h5 gaussian 0.04 None": 0.9687, "net.h5 uniform 0.04 None": 0.9687, "net.h5 uniform 0.16 None": 0.528}


def summary_of(trials: pd.DataFrame) -> pd.DataFrame:
    """With the exact cells and published values of these trials."""
    return summarise(trials, PARAMETERS, trials.loc[trials["family"] == "fixed-point", "cell"].tolist(), PUBLISHED)


def draw(trials: pd.DataFrame, parameter: str) -> Axes:
    """A curve on fresh axes."""
    axes = Figure().add_subplot()
    assert accuracy_curve(axes, trials, summary_of(trials), parameter, PARAMETERS, KNOWN) is axes
    axes.figure.draw_without_rendering()
    return axes


def line(axes: Axes, label: str) -> np.ndarray:
    """The points of a labelled line, shape (2, n)."""
    (found,) = [line for line in axes.lines if line.get_label() == label]
    return np.array(found.get_data(), dtype=float)


def labels(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_means_are_drawn_in_percent_in_the_order_of_levels() -> None:
    shuffled = TRIALS.sample(frac=1, random_state=1)
    axes = draw(shuffled, "scale")
    expected = TRIALS[TRIALS["family"] == "uniform"].groupby("scale")["accuracy"].mean()
    assert line(axes, "uniform") == pytest.approx(np.array([[0.04, 0.08, 0.16], 100 * expected]))
    assert set(labels(axes)) == {"gaussian", "uniform", "published"}
    assert axes.get_ylabel() == "Accuracy on the test set (%)"
    assert axes.get_xlabel().startswith("Noise scale (weight units")


def test_bands_run_between_the_quantiles() -> None:
    axes = draw(TRIALS, "scale")
    band = bands(axes)[0].get_paths()[0].vertices
    of_first = TRIALS[TRIALS["family"] == "gaussian"].groupby("scale")["accuracy"]
    for level, low, high in zip((0.04, 0.08, 0.16), of_first.quantile(0.05), of_first.quantile(0.95), strict=True):
        heights = band[np.isclose(band[:, 0], level), 1]
        assert (heights.min(), heights.max()) == pytest.approx((100 * low, 100 * high))


def bands(axes: Axes) -> list[FillBetweenPolyCollection]:
    return [found for found in axes.collections if isinstance(found, FillBetweenPolyCollection)]


@pytest.mark.parametrize(("chips", "expected"), [(19, 0), (20, 1)])
def test_fewer_than_20_chips_have_dots_and_no_band(chips: int, expected: int) -> None:
    axes = draw(trials_of(*[("gaussian", scale, None, chips) for scale in (0.04, 0.08)]), "scale")
    assert len(bands(axes)) == expected
    assert ("band" in axes.get_legend().get_title().get_text()) == bool(expected)
    assert [len(points) for points in dots(axes)] == [2 * chips]


def dots(axes: Axes) -> list[np.ndarray]:
    return [found.get_offsets().data for found in axes.collections if isinstance(found, PathCollection)]


def test_every_chip_is_a_dot_beside_its_own_level_only() -> None:
    gaussian, uniform = dots(draw(TRIALS, "scale"))
    for family, points in (("gaussian", gaussian), ("uniform", uniform)):
        of_family = TRIALS[TRIALS["family"] == family]
        assert np.sort(points[:, 1]) == pytest.approx(np.sort(100 * of_family["accuracy"]))
        nearest = np.abs(points[:, :1] - np.array([0.04, 0.08, 0.16])).min(axis=1)
        assert nearest.max() < 0.02
    near = [points[np.abs(points[:, 0] - 0.08) < 0.02, 0] for points in (gaussian, uniform)]
    assert near[0].max() < near[1].min()


def test_a_chip_keeps_its_place_whatever_the_order_of_rows() -> None:
    shuffled = TRIALS.sample(frac=1, random_state=2).sort_values("family", kind="stable")  # the curves keep their order
    one, other = (np.concatenate(dots(draw(trials, "scale"))) for trials in (TRIALS, shuffled))
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(np.unique(one, axis=0), np.unique(other, axis=0))


def test_published_points_are_drawn_once() -> None:
    axes = draw(TRIALS, "scale")
    assert line(axes, "published") == pytest.approx(np.array([[0.04, 0.16], [96.87, 52.8]]))
    assert "published" not in labels(draw(TRIALS, "bits"))


def places(axes: Axes, levels: list[float]) -> np.ndarray:
    """Where levels stand, as shares of the way from the first to the last."""
    pixels = axes.transData.transform([(level, 50) for level in levels])[:, 0]
    return (pixels - pixels[0]) / (pixels[-1] - pixels[0])


def test_bits_rise_from_coarse_to_fine_on_the_scale_of_the_log_of_one_more() -> None:
    axes = draw(TRIALS, "bits")
    left, right = axes.transData.transform([(1, 50), (32, 50)])[:, 0]
    assert left < right
    position = np.log2([2, 3, 5, 9, 33])
    assert places(axes, [1, 2, 4, 8, 32]) == pytest.approx((position - position[0]) / np.ptp(position))
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2", "4", "8", "32"]
    assert labels(axes) == ["fixed-point"]
    assert dots(axes) == []


def test_bits_reach_zero() -> None:
    axes = draw(trials_of(*[("fixed-point", None, bits, 1) for bits in (0, 1, 3)]), "bits")
    assert places(axes, [0, 1, 3]) == pytest.approx([0, 0.5, 1])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "1", "3"]
    assert np.diff(axes.transData.transform([(0, 50), (3, 50)])[:, 0]) > 0


def test_labels_of_close_bits_do_not_run_into_one_another() -> None:
    axes = draw(trials_of(*[("fixed-point", None, bits, 1) for bits in range(33)]), "bits")
    boxes = sorted(tick.get_window_extent().extents.tolist() for tick in axes.get_xticklabels())
    assert len(boxes) > 10
    assert all(one[2] < other[0] for one, other in itertools.pairwise(boxes))


def test_levels_over_decades_stand_on_a_logarithmic_axis() -> None:
    axes = draw(trials_of(*[("gaussian", scale, None, 5) for scale in (0.001, 0.01, 0.1)]), "scale")
    assert axes.get_xscale() == "log"
    assert not axes.xaxis_inverted()
    with_zero = draw(trials_of(*[("gaussian", scale, None, 5) for scale in (0, 0.01, 0.1)]), "scale")
    assert with_zero.get_xscale() == "linear"


def test_curves_differ_in_colour_marker_and_line() -> None:
    axes = draw(TRIALS, "scale")
    one, other = (next(line for line in axes.lines if line.get_label() == name) for name in ("gaussian", "uniform"))
    assert to_hex(one.get_color()) != to_hex(other.get_color())
    assert one.get_marker() != other.get_marker()
    assert one.get_linestyle() != other.get_linestyle()


def test_models_and_other_parameters_get_curves_of_their_own() -> None:
    grid = [("both", scale, bits, 3) for scale in (0.04, 0.08) for bits in (2, 4)]
    trials = pd.concat([trials_of(*grid), trials_of(*grid, model="other.h5")])
    expected = [f"both, model {model}, bits {bits}" for model in ("net.h5", "other.h5") for bits in (2, 4)]
    assert labels(draw(trials, "scale")) == expected


def test_a_single_level_and_a_single_chip_can_be_drawn() -> None:
    assert line(draw(trials_of(("gaussian", 0.1, None, 1)), "scale"), "gaussian").shape == (2, 1)
    assert line(draw(trials_of(("gaussian", 0.1, None, 9)), "scale"), "gaussian").shape == (2, 1)


def test_figures_are_written_for_the_numeric_parameters() -> None:
    trials = TRIALS.assign(layers=pd.array(["conv*"] * len(TRIALS), dtype="string"))
    summary = summarise(trials, [*PARAMETERS, "layers"], trials.loc[trials["scale"].isna(), "cell"].tolist())
    written: dict[str, bytes] = {}
    names = save_figures(pictures(trials, summary, [*PARAMETERS, "layers"]), written.__setitem__)
    expected = ["accuracy-scale-by-layers", "yield-scale-by-layers", "accuracy-bits-by-layers"]
    assert names == [f"{name}.{kind}" for name in expected for kind in ("svg", "png")]
    assert list(written) == names
    assert written["accuracy-scale-by-layers.png"].startswith(b"\x89PNG")
    assert b"<svg" in written["accuracy-bits-by-layers.svg"]
    assert b"<dc:date>" not in written["accuracy-bits-by-layers.svg"]


def test_figures_have_the_same_bytes_whatever_the_readers_matplotlib_settings() -> None:
    import matplotlib

    runs: list[dict[str, bytes]] = [{}, {}]
    save_figures(pictures(TRIALS, summary_of(TRIALS), PARAMETERS), runs[0].__setitem__)
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "pink", "savefig.dpi": 50}):
        settings = dict(matplotlib.rcParams)
        save_figures(pictures(TRIALS, summary_of(TRIALS), PARAMETERS), runs[1].__setitem__)
        assert dict(matplotlib.rcParams) == settings
    assert runs[0] == runs[1]


def drawn(svg: str) -> list[tuple[str, dict[str, str], list[tuple[float, ...]]]]:
    """The elements of an SVG in order: name, attributes without places, places."""
    found = []
    for element in ElementTree.fromstring(svg).iter():
        rest = {key: value for key, value in element.items() if key not in ("d", "x", "y")}
        moved = rest.pop("transform", "")
        places = [tuple(map(float, words.split())) for words in re.findall(r"\(([^)]*)\)", moved)]
        places += [(float(element.get(key, 0)),) for key in "xy"]
        path = element.get("d", "")
        rest["commands"] = re.sub(r"[^A-Za-z]", "", path)
        places += [tuple(map(float, words.split())) for words in re.findall(r"[^A-Za-z]+", path)]
        found.append((element.tag, rest, places))
    return found


@pytest.mark.parametrize("number", [0, 1, 2])
def test_an_svg_has_fewer_digits_and_the_same_drawing(number: int) -> None:
    noise = ("gaussian", 0.1, None, 300), ("gaussian", 0.2, None, 300)
    trials = trials_of(*noise, ("fixed-point", None, 3, 1), ("fixed-point", None, 2, 1))
    picture = pictures(trials, summary_of(trials), PARAMETERS)[number]
    buffer = io.StringIO()
    with house_style():
        figure = Figure(layout="constrained")
        picture.draw(figure)
        figure.savefig(buffer, format="svg")
    short = compact(buffer.getvalue())
    assert len(short) < 0.9 * len(buffer.getvalue())
    assert compact(short) == short
    for (tag, rest, have), (*same, want) in zip(drawn(short), drawn(buffer.getvalue()), strict=True):
        assert [tag, rest] == same
        assert list(map(len, have)) == list(map(len, want))
        np.testing.assert_allclose(np.concatenate(have), np.concatenate(want), rtol=0, atol=0.00501)


@pytest.mark.parametrize("path", sorted(REFERENCE.glob("*/*.svg")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_tracked_figures_are_as_short_as_they_are_written_today(path: Path) -> None:
    assert compact(path.read_text()) == path.read_text()


def test_tracked_results_are_tables_and_one_picture_a_figure() -> None:
    names = {path.name for path in REFERENCE.glob("*/*")}
    assert {Path(name).suffix for name in names} == {".csv", ".md", ".svg"}
    assert {Path(name).stem for name in names if name.endswith(".csv")} == {
        Path(name).stem for name in names - {"README.md"} if name.endswith(".md")
    }
    for folder in REFERENCE.glob("*/"):
        shown = set(re.findall(r"!\[[^]]*\]\(([^)]*)\)", (folder / "README.md").read_text()))
        assert shown == {path.name for path in folder.glob("*.svg")}


def boxes_of(trials: pd.DataFrame) -> tuple[Bbox, Bbox, Bbox]:
    """The boxes of page, axes and legend of the first picture, in pixels."""
    with house_style():
        figure = Figure(layout="constrained")
        pictures(trials, summary_of(trials), PARAMETERS)[0].draw(figure)
        figure.draw_without_rendering()
    (axes,) = figure.axes
    return figure.bbox.frozen(), axes.bbox.frozen(), axes.get_legend().get_window_extent()


def test_the_legend_stands_above_the_axes_or_beside_them_on_the_page() -> None:
    above = boxes_of(TRIALS)
    nets = [trials_of(*[("one", scale, None, 2) for scale in (0.04, 0.08)], model=f"{i}.h5") for i in range(8)]
    beside = boxes_of(pd.concat(nets))
    assert above[2].y0 >= above[1].y1
    assert beside[2].x0 >= beside[1].x1
    for page, axes, legend in (above, beside):
        assert page.x0 <= legend.x0 < legend.x1 <= page.x1
        assert page.y0 <= legend.y0 < legend.y1 <= page.y1
        assert axes.width > 0.5 * above[1].width  # the legend does not take the place of the axes
    assert beside[0].width > 1.2 * above[0].width


@pytest.mark.parametrize(("curves", "with_dots"), [(6, 6), (7, 0)])
def test_more_than_six_curves_have_no_dots(curves: int, with_dots: int) -> None:
    axes = draw(
        trials_of(*[("both", scale, bits, 2) for scale in (0.04, 0.08) for bits in range(2, 2 + curves)]), "scale"
    )
    assert len(labels(axes)) == curves
    assert len(dots(axes)) == with_dots


def test_importing_the_module_does_not_import_matplotlib() -> None:
    code = "import sys, sweep.reporting.figures; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_pyplot_is_never_needed() -> None:
    code = (
        "import sys, pandas as pd, numpy as np\n"
        "from sweep.reporting.figures.pictures import pictures, save_figures\n"
        "from sweep.reporting.summary import summarise\n"
        "trials = pd.DataFrame({'model': 'm', 'family': 'f', 'cell': ['a', 'a', 'b', 'b'], 'scale': [1., 1., 2., 2.],"
        " 'seed': [0, 1, 0, 1], 'n_images': 10, 'accuracy': [.9, .8, .7, .5]})\n"
        "chosen = pictures(trials, summarise(trials, ['scale']), ['scale'])\n"
        "save_figures(chosen, lambda name, content: None)\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


RUN = SyntheticRun()
LABELS = parameter_labels(RUN.study)


def family(name: str) -> pd.DataFrame:
    """The summary's rows of one family of the synthetic run."""
    summary = RUN.summary()
    return summary[summary["family"] == name]


def test_times_stand_on_a_logarithmic_axis_with_units() -> None:
    axes = Figure().add_subplot()
    accuracy_curve(axes, RUN.trials(), family("drift"), "time", ["time"], LABELS)
    axes.figure.draw_without_rendering()
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["25 s", "1 h", "1 y"]
    assert places(axes, [25, 3600, 31536000])[1] == pytest.approx(np.log(3601 / 26) / np.log(31536001 / 26))
    assert axes.get_xlabel() == "Time after programming"


def test_a_yield_curve_is_the_share_of_chips_that_reach_an_accuracy() -> None:
    cells = family("gaussian")
    axes = yield_curve(Figure().add_subplot(), RUN.trials(), cells, "scale")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["0.04", "0.1"]  # 0 has one exact trial
    trials = RUN.trials()
    accuracy = np.sort(100 * trials.loc[trials["cell"] == cells["cell"].iloc[1], "accuracy"].to_numpy())
    x, y = line(axes, "0.04")
    for threshold in (accuracy[3], accuracy[10] - 0.01, accuracy[-1], accuracy[-1] + 0.01):
        # Drawn with steps before the points: between two points the height is that of the right one.
        drawn = y[np.searchsorted(x, threshold, side="left")]
        assert drawn == pytest.approx(100 * np.mean(accuracy >= threshold))


def test_layers_have_rows_from_the_top_and_a_marker_for_each_level() -> None:
    axes = layer_sensitivity(Figure().add_subplot(), family("layers"), "layer", "scale", LABELS)
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["conv1", "<fc>"]
    assert axes.yaxis_inverted()
    assert labels(axes) == ["scale 0.1", "scale 0.2"]
    x, y = line(axes, "scale 0.2")
    assert x == pytest.approx(100 * family("layers").query("scale == 0.2")["mean"])
    assert np.round(y).tolist() == [0, 1]


def test_a_heat_map_has_a_shade_and_the_number_of_each_pair() -> None:
    cells = family("both")
    axes = heat_map(Figure().add_subplot(), cells, "bits_1", "bits", labels=LABELS)
    shades = axes.collections[0].get_array().reshape(2, 2)
    finest = cells[(cells["bits"] == 4) & (cells["bits_1"] == 4)]["mean"].item()
    assert shades[1, 1] == pytest.approx(100 * finest)
    assert f"{100 * finest:.1f}" in [text.get_text() for text in axes.texts]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Activations: fractional bits", "Weights: fractional bits")


def test_equivalence_shows_measured_levels_with_their_interval_and_the_theory() -> None:
    bits = np.array([8.0, 4, 3, 1])
    table = pd.DataFrame({"bits": bits, "level": [np.nan, 0.02, 0.04, 0.16], "level_low": [np.nan, 0.01, 0.03, 0.15]})
    table = table.assign(level_high=[np.nan, 0.03, 0.05, np.nan], theory=2**-bits / np.sqrt(12))
    axes = equivalence_curve(Figure().add_subplot(), table)
    axes.figure.draw_without_rendering()
    assert labels(axes) == ["theory: step / √12", "measured, 95 % interval"]
    assert axes.get_yscale() == "log"
    assert line(axes, "theory: step / √12")[0].tolist() == [1, 3, 4]


def test_equivalence_shows_what_is_claimed_where_someone_claims() -> None:
    table = pd.DataFrame(
        {"bits": [3.0, 1], "level": [0.04, 0.16], "level_low": [0.03, 0.15], "level_high": [0.05, 0.2]}
    )
    table = table.assign(theory=0.1, claimed=[0.06, np.nan])
    axes = equivalence_curve(Figure().add_subplot(), table)
    assert labels(axes) == ["theory: step / √12", "published", "measured, 95 % interval"]
    bits, levels = line(axes, "published")
    assert (bits[1], levels[1]) == (3, 0.06)
    assert "published" not in labels(equivalence_curve(Figure().add_subplot(), table.assign(claimed=np.nan)))


def test_the_pictures_of_a_run_follow_what_its_families_sweep() -> None:
    chosen = pictures(RUN.trials(), RUN.summary(), RUN.parameters, LABELS)
    assert [picture.name for picture in chosen] == [
        "accuracy-scale",
        "yield-scale",
        "accuracy-bits",
        "accuracy-time",
        "yield-time",
        "layers-scale",
        "accuracy-scale-by-layer",
        "yield-scale-by-layer",
        "accuracy-bits-bits_1",
    ]


def test_families_whose_levels_have_other_units_have_a_picture_of_their_own() -> None:
    units = {("gaussian", "scale"): SCALE, ("uniform", "scale"): Label("Noise scale", "× max |W|", "square")}
    names = [picture.name for picture in pictures(TRIALS, summary_of(TRIALS), PARAMETERS, units)]
    assert names == ["accuracy-scale", "yield-scale", "accuracy-scale-2", "yield-scale-2", "accuracy-bits"]


def test_several_families_with_many_curves_have_panels() -> None:
    nets = [trials_of(*NOISE, model=f"{i}.h5") for i in range(4)]
    trials = pd.concat(nets)
    with house_style():
        figure = Figure(layout="constrained")
        pictures(trials, summary_of(trials), PARAMETERS)[0].draw(figure)
    headings = [axes.get_legend().get_title().get_text().partition("\n")[0] for axes in figure.axes]
    assert headings == ["gaussian", "uniform"]


def test_a_picture_inside_a_page_has_no_name_as_markup_and_a_mark_for_every_cell() -> None:
    summary = RUN.summary()
    texts = {cell: (f"row-{i}", f"says {cell}") for i, cell in enumerate(summary["cell"])}
    first = pictures(RUN.trials(), summary, RUN.parameters, LABELS)[0]
    drawn = inline(first, "fig1", texts)
    assert drawn.series == ("gaussian", HOSTILE)
    assert "<img" not in drawn.svg
    assert "<script" not in drawn.svg
    assert drawn.svg.count('<a class="mark"') == 5
    assert drawn.svg.count('data-series="1"') > 5
    assert "http" not in drawn.svg
    assert drawn == inline(first, "fig1", texts)


def test_a_wide_axis_has_room_for_zero() -> None:
    levels = np.array([0, 1e-6, 1e-4, 1e-2, 0.1])
    scale = axis.scale_of("rate", levels, {})
    positions = scale.forward(levels)
    assert positions[0] == 0
    assert np.diff(positions).min() > 0.05 * np.ptp(positions)
    np.testing.assert_allclose(scale.backward(positions), levels, atol=1e-15)
    assert axis.scale_of("rate", levels[1:], {}).kind == "log"
    assert axis.scale_of("scale", np.array([0, 0.04, 0.16]), KNOWN).kind == "linear"

"""Figures by what they draw; whether they are worth looking at is for eyes."""

import itertools
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import FillBetweenPolyCollection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from sweep.analysis.figures import accuracy_curve, save_figures
from sweep.analysis.summary import summarise

PARAMETERS = ["scale", "bits"]


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
    assert accuracy_curve(axes, trials, summary_of(trials), parameter, PARAMETERS) is axes
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


def test_bits_fall_from_left_to_right_on_the_scale_of_the_log_of_one_more() -> None:
    axes = draw(TRIALS, "bits")
    left, right = axes.transData.transform([(32, 50), (1, 50)])[:, 0]
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
    assert np.diff(axes.transData.transform([(3, 50), (0, 50)])[:, 0]) > 0


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
    names = save_figures(trials, summary, [*PARAMETERS, "layers"], written.__setitem__)
    assert names == ["accuracy-scale.svg", "accuracy-scale.png", "accuracy-bits.svg", "accuracy-bits.png"]
    assert list(written) == names
    assert written["accuracy-scale.png"].startswith(b"\x89PNG")
    assert b"<svg" in written["accuracy-bits.svg"]
    assert b"<dc:date>" not in written["accuracy-bits.svg"]


def test_figures_have_the_same_bytes_whatever_the_readers_matplotlib_settings() -> None:
    import matplotlib

    runs: list[dict[str, bytes]] = [{}, {}]
    save_figures(TRIALS, summary_of(TRIALS), PARAMETERS, runs[0].__setitem__)
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "pink", "savefig.dpi": 50}):
        settings = dict(matplotlib.rcParams)
        save_figures(TRIALS, summary_of(TRIALS), PARAMETERS, runs[1].__setitem__)
        assert dict(matplotlib.rcParams) == settings
    assert runs[0] == runs[1]


def boxes_of(trials: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Bbox, Bbox, Bbox]]:
    """Of each figure as saved, by its parameter: the boxes of page, axes and legend, in pixels."""
    found: list[tuple[Bbox, Bbox, Bbox]] = []

    def measure(figure: Figure, *_: object, **__: object) -> None:
        figure.draw_without_rendering()
        (axes,) = figure.axes
        found.append((figure.bbox.frozen(), axes.bbox.frozen(), axes.get_legend().get_window_extent()))

    monkeypatch.setattr(Figure, "savefig", measure)
    names = save_figures(trials, summary_of(trials), PARAMETERS, lambda name, content: None)
    return {name: boxes for name, boxes in zip(names, found, strict=True) if name.endswith(".svg")}


def test_the_legend_stands_above_the_axes_or_beside_them_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = trials_of(*[("both", scale, bits, 2) for scale in (0.04, 0.08) for bits in range(2, 9)])
    beside = boxes_of(crowd, monkeypatch)
    above = boxes_of(TRIALS, monkeypatch) | {"two": beside.pop("accuracy-bits.svg")}
    for _, axes, legend in above.values():
        assert legend.y0 >= axes.y1
    for _, axes, legend in beside.values():
        assert legend.x0 >= axes.x1
    for page, axes, legend in [*above.values(), *beside.values()]:
        assert page.x0 <= legend.x0 < legend.x1 <= page.x1
        assert page.y0 <= legend.y0 < legend.y1 <= page.y1
        assert axes.width > 0.5 * above["two"][1].width  # the legend does not take the place of the axes
    assert beside["accuracy-scale.svg"][0].width > 1.2 * above["two"][0].width


@pytest.mark.parametrize(("curves", "with_dots"), [(6, 6), (7, 0)])
def test_more_than_six_curves_have_no_dots(curves: int, with_dots: int) -> None:
    axes = draw(
        trials_of(*[("both", scale, bits, 2) for scale in (0.04, 0.08) for bits in range(2, 2 + curves)]), "scale"
    )
    assert len(labels(axes)) == curves
    assert len(dots(axes)) == with_dots


def test_importing_the_module_does_not_import_matplotlib() -> None:
    code = "import sys, sweep.analysis.figures; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_pyplot_is_never_needed() -> None:
    code = (
        "import sys, pandas as pd, numpy as np\n"
        "from sweep.analysis.figures import save_figures\n"
        "from sweep.analysis.summary import summarise\n"
        "trials = pd.DataFrame({'model': 'm', 'family': 'f', 'cell': ['a', 'a', 'b', 'b'], 'scale': [1., 1., 2., 2.],"
        " 'seed': [0, 1, 0, 1], 'n_images': 10, 'accuracy': [.9, .8, .7, .5]})\n"
        "save_figures(trials, summarise(trials, ['scale']), ['scale'], lambda name, content: None)\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

"""`sweep tolerate`: levels and their intervals against laws that are known, and the command whole."""

import csv
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import sweep
from sweep import cli
from sweep.errors import InputError, Interrupted
from sweep.execution import runner, tasks
from sweep.preparation.inputs import prepare
from sweep.reporting.figures.levels import Bar, levels_picture
from sweep.search import tolerate
from sweep.search.goal import CHIPS
from sweep.search.levels import Levels
from sweep.search.prober import Prober
from sweep.search.space import chosen_family
from sweep.statistics.estimates import Estimate
from sweep.statistics.margins import deviation, margin
from sweep.storage.paths import Folder
from sweep.study.study import parse_file

STUDY = """
name = "small"
model = "net.keras"
dataset = "data.npz"
seeds = 3

[budget]
drop = 5.0
#BUDGET

[[family]]
name = "noise"
perturb = [ { op = "gaussian", scale = [0, 0.1] } ]
"""


@pytest.fixture
def study(place: Path) -> Path:
    (place / "study.toml").write_text(STUDY)
    return place


def edit(old: str, new: str) -> None:
    text = Path("study.toml").read_text()
    assert old in text
    Path("study.toml").write_text(text.replace(old, new))


class Known:
    """Levels from 0 to 1 on a square axis, and chips whose margin is 0.02 - level² · 0.2 · (1 + z/2), z normal."""

    whole = False
    name = "scale"
    best, worst = 0.0, 1.0
    first = 128
    budget = SimpleNamespace(confidence=0.95, quantile=None, drop=2.0)
    truth = np.sqrt(0.1)

    def __init__(self, seed: int):
        self.rng_of = lambda stage: np.random.default_rng([seed, stage])

    def place(self, level: float) -> float:
        return level**2

    def level(self, place: float) -> float:
        return float(np.sqrt(place))

    def at(self, layer: str | None, level: float) -> float:
        return level

    def margins(self, level: float, chips: int, stage: int) -> np.ndarray:
        return 0.02 - level**2 * 0.2 * (1 + self.rng_of(stage).standard_normal(chips) / 2)

    def searched(self, levels: list[float], chips: int) -> tuple[np.ndarray, np.ndarray]:
        rows = [self.margins(level, chips, 0) for level in levels]
        return np.array([row.mean() for row in rows]), np.array([deviation(row) for row in rows])

    def fresh(self, level: float, chips: int, number: int, doubt: float) -> Estimate:
        return margin(self.margins(level, chips, 1 + number), doubt=doubt)


def test_intervals_of_levels_hold_as_often_as_they_say():
    found = [tolerate._level(k, k, None, 0.02) for k in map(Known, range(600))]  # type: ignore[arg-type]
    held = np.mean([one.sure <= Known.truth <= one.most for one in found])
    assert abs(held - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 600)
    beyond = np.mean([one.sure > Known.truth for one in found])
    assert beyond < 0.025 + 3 * np.sqrt(0.025 / 600)
    # 2,000 chips at least: this law asks for fewer. Half-width over level is that of the mean: 1.96 · ½/√n, halved.
    width = np.mean([(one.most - one.sure) / 2 / one.level for one in found])
    assert width == pytest.approx(1.96 * 0.5 / np.sqrt(CHIPS) / 2, rel=0.05)
    assert {one.chips for one in found} == {CHIPS}


def test_more_chips_where_a_level_is_to_be_known_better():
    one = tolerate._level(Known(0), Known(0), None, 0.006)  # type: ignore[arg-type]
    assert one.chips == pytest.approx((1.96 * 0.5 / 2 / 0.006) ** 2, rel=0.3)
    assert (one.most - one.sure) / 2 / one.level == pytest.approx(0.006, rel=0.2)


def test_the_level_is_where_the_budget_ends(study: Path):
    found = sweep.tolerate("study.toml", "found", precision=5)
    assert [one.where for one in found.levels] == ["all layers", "conv1", "fc"]
    one = prepare(parse_file("study.toml"))
    levels = Levels(one, *chosen_family(one, None), "study.toml: family[0]")
    chips = Prober(one, "net", Folder.at("all"), whole=True)
    for row in found.levels:
        layer = None if row.where == "all layers" else row.where
        ends = [levels.at(layer, level) for level in (row.sure, row.level, row.most)]
        near, centre, far = chips.clean() - 0.05 - chips.values(ends, range(1200)).mean(axis=1)
        assert near < 0.003
        assert far > -0.003
        assert abs(centre) < 0.01
        assert row.sure < row.level < row.most
    alone = levels.at("fc", 0.05).cell.transforms[0]
    assert (alone.layers, alone.scale) == ("fc", 0.05)
    assert found.levels[0].level < min(row.level for row in found.levels[1:])


def test_whole_levels_are_those_of_enumeration(study: Path):
    edit('op = "gaussian", scale = [0, 0.1]', 'op = "symmetric", bits = [2, 12]')
    found = sweep.tolerate("study.toml", "found")
    one = prepare(parse_file("study.toml"))
    levels = Levels(one, *chosen_family(one, None), "study.toml: family[0]")
    chips = Prober(one, "net", Folder.at("all"), whole=True)
    for row in found.levels:
        layer = None if row.where == "all layers" else row.where
        kept = [b for b in range(2, 13) if chips.values([levels.at(layer, b)], range(1))[0, 0] >= chips.clean() - 0.05]
        assert row.level in kept
        assert row.level - 1 not in kept
        assert row.sure == row.most == row.level  # nothing is random


@pytest.mark.slow
def test_levels_of_the_data_flow_are_where_the_budget_ends(study: Path, monkeypatch: pytest.MonkeyPatch):
    """Noise on activations, by a study of the levels that were found, on all images."""
    monkeypatch.setattr(tolerate, "CHIPS", 150)
    edit('op = "gaussian", scale = [0, 0.1]', 'op = "activation_noise", layers = "conv1", scale = [0, 2]')
    (one,) = sweep.tolerate("study.toml", "noise", precision=20).levels
    ends = f"scale = [{one.sure!r}, {one.level!r}, {one.most!r}]"
    edit("scale = [0, 2]", ends)
    edit("seeds = 3", "seeds = 60")
    means = sweep.run("study.toml", "check", runner="inline").summary().set_index("family")["mean"]
    near, centre, far = means["clean"] - 0.05 - means["noise"]
    assert near < 0.006
    assert far > -0.006
    assert abs(centre) < 0.012


def test_bits_of_converters_are_those_of_enumeration(study: Path):
    edit('op = "gaussian", scale = [0, 0.1]', 'op = "activation_affine", bits = [1, 8], layers = "conv1"')
    data = dict(np.load("data.npz"))
    np.savez("data.npz", x_train=data["x_test"][:100], **data)
    found = sweep.tolerate("study.toml", "found").levels[0]
    edit("bits = [1, 8]", "bits = [1, 2, 3, 4, 5, 6, 7, 8]")
    summary = sweep.run("study.toml", "all", runner="inline").summary()
    clean = summary.loc[summary["family"] == "clean", "mean"].iloc[0]
    kept = summary.loc[summary["mean"] >= clean - 0.05].dropna(subset="bits")["bits"].tolist()
    assert found.level in kept
    assert found.level - 1 not in kept
    assert found.level == found.sure == found.most


def test_times_are_sought_on_their_logarithm(study: Path):
    edit('op = "gaussian", scale = [0, 0.1]', 'op = "drift", nu_std = 0.05, time = [1, 1e9]')
    one = prepare(parse_file("study.toml"))
    levels = Levels(one, *chosen_family(one, None), "study.toml: family[0]")
    assert (levels.best, levels.worst) == pytest.approx((0, np.log(1e9)))
    assert levels.level(levels.place(3e4)) == pytest.approx(3e4)
    edit("time = [1, 1e9]", "time = [0, 1e9]")
    one = prepare(parse_file("study.toml"))
    with pytest.raises(InputError, match="give two, both above 0 on a log axis"):
        Levels(one, *chosen_family(one, None), "study.toml: family[0]")
    edit("time = [0, 1e9]", "time = 1e6, nu = [0.02, 0.1]")
    one = prepare(parse_file("study.toml"))
    assert Levels(one, *chosen_family(one, None), "").level(0.05) == pytest.approx(0.05)


@pytest.mark.slow
def test_what_lies_outside_the_range_is_said(study: Path, capsys: pytest.CaptureFixture[str]):
    edit("[0, 0.1]", "[0, 0.001]")
    found = sweep.tolerate("study.toml", "beyond")
    assert {one.outside for one in found.levels} == {"beyond 0.001"}
    assert found.kept
    assert found.levels[0].sure == pytest.approx(0.001)
    assert found.levels[0].most is None
    edit("[0, 0.001]", "[0.5, 1]")
    capsys.readouterr()
    assert cli.main(["tolerate", "study.toml"]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("sweep: ")]
    assert "no level of scale surely keeps the budget, at most 5 points below the clean network" in line
    assert line.endswith("before 0.5")


def test_files_say_what_is_printed(study: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tolerate, "CHIPS", 150)
    assert cli.main(["tolerate", "study.toml", "--precision", "50"]) == 0
    shown = capsys.readouterr().out
    folder = Path("results/small-tolerance")
    said = json.loads((folder / "tolerance.json").read_text())
    with (folder / "levels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["where"] for row in rows] == ["all layers", "conv1", "fc"]
    for row, one in zip(rows, said["levels"], strict=True):
        assert float(row["level"]) == one["level"]
        assert f"{one['level']:.4g}" in shown
    assert "<svg" in (folder / "levels.svg").read_text()
    page = (folder / "report.html").read_text()
    (table,) = re.findall(r"<table.*?</table>", page, re.S)
    for one in said["levels"]:
        row = [one["where"], *(f"{one[key]:.4g}" for key in ("level", "sure", "most"))]
        assert "".join(f">{text}</t" for text in row) in re.sub(r"(</t)[hd]><t[hd][^>]*", r"\1", table)
    assert 'id="ref-fritschcarlson1980"' in page
    (folder / "report.html").unlink()
    assert cli.main(["report", str(folder)]) == 0
    assert (folder / "report.html").read_text() == page


def test_levels_beyond_the_range_are_drawn_at_its_ends():
    """Arrows and words there, a mark with its interval elsewhere."""
    from matplotlib.figure import Figure

    bars = [
        Bar("all", 2.0, 1.5, 3.0, ""),
        Bar("a", None, 5.0, None, "beyond 5"),
        Bar("b", None, None, None, "before 1"),
    ]
    figure = Figure()
    levels_picture(bars, "scale").draw(figure)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["all", "a", "b"]
    assert [text.get_text() for text in axes.texts] == ["beyond 5", "before 1"]
    marks = {line.get_marker(): (line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines}
    assert (marks["o"], marks[">"], marks["<"]) == ((2.0, 0), (5.0, 1), (1.5, 2))
    (segment,) = axes.collections[0].get_segments()
    assert segment[:, 0].tolist() == [1.5, 3.0]


@pytest.mark.slow
def test_interrupted_and_begun_again_it_is_the_same_answer(study: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tolerate, "CHIPS", 150)
    whole = sweep.tolerate("study.toml", "whole", precision=50).to_dict()
    evaluate, calls = runner.run_chunk, []

    def interrupted(*given):
        calls.append(1)
        if len(calls) % 7 == 0:
            raise KeyboardInterrupt
        return evaluate(*given)

    monkeypatch.setattr(runner, "run_chunk", interrupted)
    stops = 0
    while True:
        try:
            found = sweep.tolerate("study.toml", "resumed", precision=50).to_dict()
            break
        except Interrupted:
            stops += 1
    assert stops > 2
    assert {**found, "folder": ""} == {**whole, "folder": ""}


@pytest.mark.slow
def test_ray_gives_the_same_answer(study: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tolerate, "CHIPS", 150)
    alone = sweep.tolerate("study.toml", "alone", precision=50, runner="inline").to_dict()
    monkeypatch.setattr(tasks, "PATIENCE", 0.0)
    told: list[str] = []
    shared = sweep.tolerate("study.toml", "shared", precision=50, workers=2, tell=told.append).to_dict()
    assert told[0] == "Ray starts, to share the work"
    assert {**shared, "folder": ""} == {**alone, "folder": ""}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("scale = [0, 0.1]", "scale = 0.1", "family[0]: sweeps nothing; a level is sought of one number"),
        ("scale = [0, 0.1]", "scale = [0.1]", "family[0].perturb[0].scale: a level is sought between the ends"),
        ("scale = [0, 0.1]", 'scale = 0.1, basis = ["weight", "layer_max"]', "basis: is no number"),
        ("scale = [0, 0.1]", 'scale = [0, 0.1], basis = ["weight", "layer_max"]', "family[0]: sweeps scale, basis"),
        ("#BUDGET", "below = { scale = 0.05 }", "budget.below: {'scale': 0.05} is no cell of family 'noise'"),
    ],
)
def test_mistakes_are_said_before_anything_is_computed(
    study: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, words: str
):
    edit(old, new)
    monkeypatch.setattr(runner, "run_chunk", lambda *_: pytest.fail("something was evaluated"))
    with pytest.raises(InputError) as error:
        sweep.tolerate("study.toml", "found")
    assert words in str(error.value)
    assert not Path("found").exists()

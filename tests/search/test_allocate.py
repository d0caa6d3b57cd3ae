"""`sweep allocate`, whole: its answer against all settings, its files, what it refuses, and interruptions."""

import contextlib
import csv
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest

import sweep
from sweep import cli
from sweep.errors import InputError, Interrupted
from sweep.execution import runner, tasks
from sweep.execution.plan import FEW, SURVEY, WHOLE, ChunkSize
from sweep.preparation.inputs import prepare
from sweep.search import goal, prober
from sweep.search.allocation import Allocation
from sweep.search.goal import Goal
from sweep.search.prober import Prober
from sweep.search.space import Space, chosen_family
from sweep.storage.paths import Folder
from sweep.study.budget import Budget
from sweep.study.study import parse_file

STUDY = """
name = "small"
model = "net.keras"
dataset = "data.npz"
seeds = 3
#KEYS

[budget]
drop = 6.0
#BUDGET

[[family]]
name = "mixed"
perturb = [ { op = "fixed_point", bits = [8, 6, 5, 4, 3] }, { op = "gaussian", scale = 0.01 } ]
"""


@pytest.fixture
def study(place: Path) -> Path:
    (place / "study.toml").write_text(STUDY)
    return place


def edit(old: str, new: str) -> None:
    text = Path("study.toml").read_text()
    assert old in text
    Path("study.toml").write_text(text.replace(old, new))


def setting_of(space: Space, found: Allocation) -> tuple[int, ...]:
    pairs = zip(space.layers, space.options, strict=True)
    return tuple(options.index(found.answer.options[layer]) for layer, options in pairs)


@pytest.mark.slow
def test_the_answer_is_the_cheapest_of_all_settings_that_keep_the_budget(study: Path):
    found = sweep.allocate("study.toml", "found")
    assert found.kept
    one = prepare(parse_file("study.toml"))
    space = Space(one, *chosen_family(one, None))
    other = Prober(one, "net", Folder.at("all"))
    cells = {s: space.cell(s) for s in itertools.product(range(5), repeat=2)}
    asked = Goal(other, Budget.of(one.study), list(cells.values()), None)
    begin = 3_900_000_000  # chips of nobody else
    margins = dict(
        zip(cells, asked.margins(list(cells.values()), range(begin, begin + 2000)).mean(axis=1), strict=True)
    )
    sizes = np.array([36, 500])

    def cost(s: tuple[int, ...]) -> float:
        bits = [p.bits_stored(w, None) for p, w in zip(space.cell(s).cell.transforms, kernels, strict=False)]
        return float(bits @ sizes)

    kernels = [w for w in one.networks["net"].model.get_weights() if w.ndim > 1]
    answer = setting_of(space, found)
    assert margins[answer] >= 0
    assert cost(answer) == found.answer.cost
    assert 0.06 - margins[answer] == pytest.approx(found.answer.loss.value, abs=2e-3)
    clearly = [s for s in cells if margins[s] > 2e-3]
    assert found.answer.cost <= min(map(cost, clearly))
    alike = [s for s in clearly if len(set(s)) == 1]
    assert found.uniform is not None
    assert found.uniform[1].cost <= min(map(cost, alike))
    assert found.saved == pytest.approx(1 - found.answer.cost / found.uniform[1].cost)
    # Nothing clearly beats a point of the front, as far as it is near the budget.
    for point in [point for point in found.front if point.loss.value < 0.08]:
        best = max(margins[s] for s in cells if cost(s) <= point.cost)
        assert point.loss.value - (0.06 - best) < 1e-2


def test_files_say_what_is_printed(study: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["allocate", "study.toml"]) == 0
    shown = capsys.readouterr()
    assert "settings looked at" in shown.err
    folder = Path("results/small-allocation")
    assert f"results in {folder.absolute()}" in shown.out
    said = json.loads((folder / "allocation.json").read_text())
    with (folder / "layers.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["layer"] for row in rows] == ["conv1", "fc"]
    for row in rows:
        assert f"{row['layer']:5}  {row['setting']}" in shown.out
    assert sum(float(row["cost"]) for row in rows) == said["answer"]["cost"]
    assert f"{said['answer']['cost']:,.0f}" in shown.out
    with (folder / "front.csv").open() as file:
        costs = [float(row["cost"]) for row in csv.DictReader(file)]
    assert costs == sorted(costs)
    assert said["answer"]["cost"] in costs
    assert "<svg" in (folder / "front.svg").read_text()
    assert (folder / "front.png").stat().st_size > 1000
    assert "report: " in shown.out
    check_page(folder, said, costs)
    check_page_again(folder, capsys)


def check_page(folder: Path, said: dict, costs: list[float]) -> None:
    """The page has the rows of the files, a figure, and the sources of what it says."""
    page = (folder / "report.html").read_text()
    layers, front = [rows_of(table) for table in re.findall(r"<table.*?</table>", page, re.S)]
    assert [row[0] for row in layers] == ["conv1", "fc", "all"]
    assert [float(row[2].replace(",", "")) for row in layers[:2]] == [layer["cost"] for layer in said["layers"]]
    for row, layer in zip(layers, said["layers"], strict=False):
        assert [float(text) for text in row[3:]] == pytest.approx([100 * v for v in layer["alone"].values()], abs=0.005)
    assert [float(row[2].replace(",", "")) for row in front] == costs
    for row, point in zip(front, said["front"], strict=True):
        wanted = [100 * v for limits in (point["accuracy"], point["loss"]) for v in limits.values()]
        assert [float(text) for text in row[3:]] == pytest.approx(wanted, abs=0.005)
        assert ("the answer" in row[1]) == (point["options"] == said["answer"]["options"])
    assert page.count("<svg") == 1
    assert 'id="ref-bauer1991"' in page
    assert "m = a − (r − d)" in page
    assert "name = &#34;small-allocated&#34;" in page
    assert not re.search(r'(?:src|href)="(?!#|https://doi\.org/)', page)


def check_page_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`sweep report` makes the same page of the folder, and says in a line what is wrong with one."""
    before = (folder / "report.html").read_bytes()
    (folder / "report.html").unlink()
    assert cli.main(["report", str(folder)]) == 0
    assert capsys.readouterr().out.strip() == str((folder / "report.html").absolute())
    assert (folder / "report.html").read_bytes() == before
    said = json.loads((folder / "allocation.json").read_text())
    evil = {**said, "model": "<script>alert(1)</script>"}
    (folder / "allocation.json").write_text(json.dumps(evil))
    assert cli.main(["report", str(folder)]) == 0
    assert "<script>alert" not in (folder / "report.html").read_text()
    for damaged in ("{", "[]", json.dumps({**said, "front": [{}]}), json.dumps({**said, "budget": {"dorp": 1}})):
        (folder / "allocation.json").write_text(damaged)
        capsys.readouterr()
        assert cli.main(["report", str(folder)]) == 1
        assert "allocation.json: is damaged; the command that made it makes it again" in capsys.readouterr().err
    assert cli.main(["report", str(folder / "chips")]) == 2, "neither a run nor a search"


def rows_of(table: str) -> list[list[str]]:
    found = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr.*?</tr>", table, re.S)]
    return found[1:]


def test_the_study_that_is_found_runs_from_anywhere_and_says_the_same(study: Path, monkeypatch: pytest.MonkeyPatch):
    found = sweep.allocate("study.toml", "found")
    (study / "elsewhere").mkdir()
    monkeypatch.chdir(study / "elsewhere")
    run = sweep.run(study / "found" / "allocated.toml", "run", runner="inline", seeds=1, precision=0.5)
    summary = run.summary().set_index("family")
    assert set(summary.index) == {"clean", "allocated", f"all layers alike, {found.uniform[0]}"}
    row = summary.loc["allocated"]
    assert row["mean_low"] <= found.answer.accuracy.high
    assert row["mean_high"] >= found.answer.accuracy.low
    assert summary.loc["clean", "mean"] - row["mean"] == pytest.approx(found.answer.loss.value, abs=5e-3)


def plain(found: Allocation) -> dict:
    return {**found.to_dict(), "folder": ""}


@pytest.mark.slow
def test_interrupted_anywhere_and_begun_again_it_is_the_same_answer(study: Path, monkeypatch: pytest.MonkeyPatch):
    """Interrupted once after each evaluation, and once before each commit."""
    monkeypatch.setattr(goal, "CHIPS", 400)
    whole = plain(sweep.allocate("study.toml", "whole"))
    evaluate, commit = runner.run_chunk, prober.commit
    monkeypatch.setattr(tasks, "sizes", lambda: {kind: ChunkSize(fixed=300) for kind in (WHOLE, FEW, SURVEY)})
    done = {"evaluated": 0, "committed": 0}
    stop = {"evaluated": 1, "committed": 1}

    def counted(what: str, call):
        def counting(*given, **named):
            found = call(*given, **named)
            done[what] += 1
            if done[what] >= stop[what]:
                stop[what] = done[what] + 3
                raise KeyboardInterrupt
            return found

        return counting

    monkeypatch.setattr(runner, "run_chunk", counted("evaluated", evaluate))
    monkeypatch.setattr(prober, "commit", counted("committed", commit))
    interruptions = 0
    found = None
    while found is None:
        with contextlib.suppress(Interrupted):
            found = sweep.allocate("study.toml", "resumed")
        interruptions += found is None
    assert interruptions > 20
    assert plain(found) == whole


def test_what_was_evaluated_is_not_evaluated_again(study: Path, monkeypatch: pytest.MonkeyPatch):
    whole = plain(sweep.allocate("study.toml", "found"))
    evaluate = runner.run_chunk
    monkeypatch.setattr(runner, "run_chunk", lambda *_: pytest.fail("something was evaluated"))
    assert plain(sweep.allocate("study.toml", "found")) == whole
    edit("drop = 6.0", "drop = 6.0\nconfidence = 0.94")  # of the same chips
    monkeypatch.setattr(runner, "run_chunk", evaluate)
    assert sweep.allocate("study.toml", "found").confidence == pytest.approx(0.94)


@pytest.mark.slow
def test_damaged_chips_are_set_aside_and_evaluated_again(study: Path):
    whole = plain(sweep.allocate("study.toml", "found"))
    shards = sorted(Path("found").glob("chips/*/trials/*.parquet"))
    for shard in shards[::3]:
        shard.write_bytes(shard.read_bytes()[:-40])
    assert plain(sweep.allocate("study.toml", "found")) == whole
    assert list(Path("found").glob("chips/*/damaged/*.parquet"))


def test_a_budget_that_nothing_keeps_ends_in_one_line(study: Path, capsys: pytest.CaptureFixture[str]):
    edit("drop = 6.0", "drop = 0.01")
    assert cli.main(["allocate", "study.toml"]) == 1
    shown = capsys.readouterr()
    (line,) = [line for line in shown.err.splitlines() if line.startswith("sweep: ")]
    assert "no setting was found that keeps the budget, at most 0.01 points below the clean network" in line
    assert "fresh chips" in line
    said = json.loads(Path("results/small-allocation/allocation.json").read_text())
    assert not said["kept"]
    assert said["answer"]["loss"]["low"] > 0.0001
    assert f"loses {100 * said['answer']['loss']['value']:.2f} points" in line


def test_without_randomness_it_is_exact(study: Path):
    edit(', { op = "gaussian", scale = 0.01 }', "")
    found = sweep.allocate("study.toml", "found")
    assert found.kept
    assert found.answer.loss.low == found.answer.loss.high
    assert "whatever the chip" in str(found)
    edit("#BUDGET", "quantile = 0.05")
    assert sweep.allocate("study.toml", "quantile").answer.options == found.answer.options


@pytest.mark.slow
def test_a_quantile_asks_for_more_than_the_mean(study: Path):
    edit("#BUDGET", "quantile = 0.1")
    edit("drop = 6.0", "drop = 12.0")
    found = sweep.allocate("study.toml", "quantile")
    assert found.kept
    one = prepare(parse_file("study.toml"))
    space = Space(one, *chosen_family(one, None))
    chips = Prober(one, "net", Folder.at("all"), whole=True)
    rows = chips.values([space.cell(setting_of(space, found))], range(1000))
    assert (rows < chips.clean() - 0.12).mean() < 0.1
    assert "for all but 10 % of the chips" in str(found)


def test_a_setting_as_reference_is_paired(study: Path):
    edit("#BUDGET", "below = { bits = 8 }")
    edit("drop = 6.0", "drop = 1.5")
    found = sweep.allocate("study.toml", "found")
    assert "below bits 8" in str(found)
    assert found.kept
    wide = found.answer.accuracy.high - found.answer.accuracy.low
    assert found.answer.loss.high - found.answer.loss.low < wide
    assert 'name = "reference"' in Path("found/allocated.toml").read_text()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[budget]\ndrop = 6.0", "", "study.toml: budget: is missing; say what may be lost"),
        ("#BUDGET", "below = { bits = 7 }", "budget.below: {'bits': 7} is no cell of family 'mixed'; valid: bits 8"),
        ("#BUDGET", 'cost = "operations"', ""),
        ('name = "mixed"', 'name = "mixed"\nsensitivity = "per-layer"', "sensitivity: acts on one layer at a time"),
        ("bits = [8, 6, 5, 4, 3]", "bits = 4", "family[0]: sweeps nothing; give a list of values"),
        ("scale = 0.01", "scale = [0.05, 0.1]", "family[0].perturb[1].scale: no cost is known for it"),
    ],
)
def test_mistakes_are_said_before_anything_is_computed(
    study: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, words: str
):
    edit(old, new)
    if words:
        monkeypatch.setattr(runner, "run_chunk", lambda *_: pytest.fail("something was evaluated"))
        with pytest.raises(InputError) as error:
            sweep.allocate("study.toml", "found")
        assert words in str(error.value)
        assert not Path("found").exists()
    else:
        assert sweep.allocate("study.toml", "found").unit == "multiply-accumulates × bits"


def test_a_clean_network_that_is_worse_than_expected_ends_the_search(study: Path, capsys: pytest.CaptureFixture[str]):
    edit("#KEYS", "expected = 0.99")
    assert cli.main(["allocate", "study.toml"]) == 1
    assert "expected" in capsys.readouterr().err
    assert not Path("results/small-allocation/allocation.json").exists()


def test_a_run_of_the_study_passes_over_its_budget(study: Path):
    with_budget = sweep.run("study.toml", "run", runner="inline")
    edit("[budget]\ndrop = 6.0", "")
    without = sweep.run("study.toml", "run", runner="inline")  # the same run: nothing to do, and not refused
    assert with_budget.trials().equals(without.trials())

"""Chips that serve the mean alone: which there are, what they see and say, through the whole path."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import sweep
from sweep.cli import main
from sweep.errors import InputError, Interrupted, StoreError, TaskError
from sweep.execution.job import Outcome
from sweep.execution.plan import FEW, kind_of
from sweep.execution.runner import InlineRunner
from sweep.execution.verify import verify
from sweep.randomness import FIRST_SAMPLED
from sweep.statistics.precision import chips_for
from sweep.storage.schema import PROVENANCE
from sweep.storage.surveys import SURVEY, read_survey

STUDY = """
name = "small"
model = "net.keras"
dataset = "data.npz"
precision = 2

[[family]]
name = "gaussian"
perturb = [ { op = "gaussian", scale = [0, 0.1, 0.3] } ]

[[family]]
name = "stuck"
perturb = [ { op = "bit_flip", bits = 6, rate = 0.01 } ]
"""


@pytest.fixture
def precise(place: Path) -> Path:
    """A study that asks for means to ±2 points, in the current directory."""
    (place / "study.toml").write_text(STUDY)
    return place


def run(out: str = "run", **options: object) -> sweep.Run:
    return sweep.run("study.toml", out, runner="inline", **options)


def results(found: sweep.Run) -> pd.DataFrame:
    return found.trials().drop(columns=list(PROVENANCE))


def test_every_mean_is_known_as_asked_for(precise: Path):
    trials = run().trials()
    assert set(trials.loc[trials["seed"] < FIRST_SAMPLED, "cell"]) == {"net/clean", "net/gaussian/scale=0"}
    few = trials[trials["seed"] >= FIRST_SAMPLED]
    assert set(few["n_images"]) == {32}
    assert (few["accuracy"] == few["n_correct"] / 32).all()
    for _, cell in few.groupby("cell"):
        assert list(cell["seed"]) == list(range(FIRST_SAMPLED, FIRST_SAMPLED + len(cell)))
        values = (cell["estimate"] - cell["control"].fillna(0)).to_numpy()
        assert chips_for(values, 0.02) == len(values)
        assert 1.97 * values.std(ddof=1) / np.sqrt(len(values)) <= 0.0201


def test_interruptions_order_and_precision_reached_in_two_steps_change_no_byte(
    precise: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = results(run("whole", precision=1))
    pd.testing.assert_frame_equal(whole, results(run("small", precision=1, chunk_trials=37)), check_exact=True)
    run("twice", precision=3)
    pd.testing.assert_frame_equal(whole, results(run("twice", precision=1)), check_exact=True)

    wait, calls = InlineRunner.wait, []

    def interrupted(runner: InlineRunner, seconds: float) -> Outcome | None:
        calls.append(1)
        if len(calls) in (2, 9):
            raise KeyboardInterrupt
        return wait(runner, seconds)

    def last_first(runner: InlineRunner, seconds: float) -> Outcome | None:
        runner._queue.rotate(1)
        return wait(runner, seconds)

    monkeypatch.setattr(InlineRunner, "wait", interrupted)
    for _ in range(2):
        with pytest.raises(Interrupted):
            run("resumed", precision=1, chunk_trials=50)
    monkeypatch.setattr(InlineRunner, "wait", last_first)
    monkeypatch.setattr(InlineRunner, "slots", 5)
    pd.testing.assert_frame_equal(whole, results(run("resumed", precision=1, chunk_trials=20)), check_exact=True)


def test_whole_chips_stay_what_they_are_beside_those_for_the_mean(precise: Path):
    before = results(sweep.run("study.toml", "whole", runner="inline", seeds=5, precision=50))
    Path("study.toml").write_text(STUDY.replace("precision = 2", "seeds = 5"))
    alone = results(run("alone"))
    both = before[before["seed"] < FIRST_SAMPLED].reset_index(drop=True)
    pd.testing.assert_frame_equal(both, alone, check_exact=True)
    assert alone[["estimate", "half_difference", "control"]].isna().all(axis=None)
    sharpened = results(run("alone", precision=50))
    pd.testing.assert_frame_equal(before, sharpened, check_exact=True)


def test_the_same_chips_in_full_say_that_the_estimates_are_unbiased(precise: Path):
    Path("study.toml").write_text(STUDY.replace("precision = 2", 'images = "sampled"\nseeds = 400'))
    few = run("few").trials()
    Path("study.toml").write_text(STUDY.replace("precision = 2", 'images = "all"\nprecision = 0.1\nmax_seeds = 400'))
    full = run("full").trials()
    both = few.merge(full, on=["cell", "seed"], suffixes=("", "_full"))
    both = both[both["seed"] >= FIRST_SAMPLED]
    assert len(both) == 3 * 400
    assert (both["estimate_full"] == both["accuracy_full"]).all()
    assert set(both["n_images_full"]) == {300}
    for _, cell in both.groupby("cell"):
        error = cell["estimate"] - cell["accuracy_full"]
        assert abs(error.mean()) < 4 * error.std() / np.sqrt(len(error))
        # What the two halves differ by tells how far estimates scatter about the truth.
        scatter = cell["half_difference"].std() / 2
        assert error.std() == pytest.approx(scatter, rel=0.25)


def test_images_for_the_mean_are_a_matter_of_the_run(precise: Path):
    run("run", precision=20)
    Path("study.toml").write_text(STUDY.replace("precision = 2", 'precision = 2\nimages = "all"'))
    with pytest.raises(InputError, match="images of chips for the mean is new"):
        run("run")


def test_a_small_test_set_is_seen_in_full(precise: Path):
    data = np.load("data.npz")
    np.savez("data.npz", x_test=data["x_test"][:200], y_test=data["y_test"][:200])
    trials = run(precision=5).trials()
    assert set(trials["n_images"]) == {200}
    few = trials[trials["seed"] >= FIRST_SAMPLED]
    assert (few["estimate"] == few["accuracy"]).all()
    assert (few["half_difference"] == 0).all()
    assert not Path("run", SURVEY).exists()


def test_bounds_of_the_number_of_chips(precise: Path):
    few = run("most", precision=1, seeds=2).trials()
    Path("study.toml").write_text(STUDY.replace("precision = 2", "precision = 40\nmin_seeds = 300"))
    assert set(run("least").trials().query("seed >= 1000000000").groupby("cell").size()) == {300}
    Path("study.toml").write_text(STUDY.replace("precision = 2", "precision = 0.1\nmax_seeds = 40"))
    most = run("bounded").trials().query("seed >= 1000000000")
    assert set(most.groupby("cell").size()) == {40}
    again = few[few["seed"].isin(most["seed"]) & few["cell"].isin(most["cell"])]
    columns = ["cell", "seed", "n_correct", "estimate"]
    pd.testing.assert_frame_equal(
        most[columns].reset_index(drop=True), again[columns].reset_index(drop=True), check_exact=True
    )


def test_a_survey_is_made_once_and_a_damaged_one_is_refused(precise: Path):
    first = results(run())
    kept = Path("run", SURVEY).read_bytes()
    run(precision=1.5)
    assert Path("run", SURVEY).read_bytes() == kept
    Path("run", SURVEY).write_bytes(kept[:-10])
    with pytest.raises(StoreError, match=r"survey\.parquet: is damaged: .*makes it anew"):
        run(precision=1)
    Path("run", SURVEY).unlink()
    again = results(run(precision=1.5))
    assert len(first.merge(again)) == len(first)


def test_a_survey_of_other_images_is_refused(precise: Path):
    store = run().store
    with pytest.raises(StoreError, match=r"the order of net/gaussian/scale=0\.1 is none of 299 images"):
        read_survey(store.folder, 299)


def trapped(wait: Callable[..., Outcome | None], cell: str) -> Callable[..., Outcome | None]:
    def failing(runner: InlineRunner, seconds: float) -> Outcome | None:
        chunk = runner._queue[0]
        if any(trial[0] == cell and kind_of(trial) == FEW for trial in chunk.trials):
            runner._queue.popleft()
            return Outcome(chunk, error=ArithmeticError("as planted"))
        return wait(runner, seconds)

    return failing


def test_a_cell_that_fails_takes_no_other_along(precise: Path, monkeypatch: pytest.MonkeyPatch):
    whole = results(run("whole"))
    cell = "net/gaussian/scale=0.3"
    monkeypatch.setattr(InlineRunner, "wait", trapped(InlineRunner.wait, cell))
    with pytest.raises(TaskError, match=r"scale=0\.3: ArithmeticError: as planted"):
        run("run")
    monkeypatch.undo()
    monkeypatch.chdir(precise)
    rest = whole[whole["cell"] != cell].reset_index(drop=True)
    pd.testing.assert_frame_equal(results(sweep.open_run("run")), rest, check_exact=True)
    pd.testing.assert_frame_equal(results(run("run")), whole, check_exact=True)


def test_a_run_is_verified_chips_for_the_mean_included(precise: Path):
    run()
    verdict = verify("run", sample=200)
    assert (verdict.sound, verdict.trials) == (True, 200)


def test_the_plan_says_what_it_will_take(precise: Path, capsys):
    assert main(["run", "study.toml", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "each to ±2 points (95 %), from chips of their own on 32 images each" in said
    # 3 cells, (1.96 · 0.05 / 0.02)² = 24.01 chips each.
    assert "768 chips first, which tell how many it takes: about 75 where one estimate scatters by 5 points" in said
    run("run")
    assert main(["plan", "study.toml", "--out", "run", "--precision", "0.5"]) == 0
    assert "to do, as many images as" in capsys.readouterr().out
    assert main(["status", "run"]) == 0
    assert "chips done" in capsys.readouterr().out


def test_a_precision_that_is_none_is_said(precise: Path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["run", "study.toml", "--precision", "0"])
    assert ended.value.code == 2
    assert "'0' is not a number above 0, such as 0.1" in capsys.readouterr().err
    with pytest.raises(InputError, match="precision: 60 is not points"):
        run(precision=60)

"""Chips whose estimates have controls of their draw, through the whole path."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import sweep
from sweep.errors import Interrupted, StoreError
from sweep.execution.job import Outcome
from sweep.execution.plan import FACTORS
from sweep.execution.runner import InlineRunner
from sweep.execution.verify import verify
from sweep.randomness import FIRST_SAMPLED
from sweep.statistics.precision import uncontrolled
from sweep.storage.controls import CONTROLS, Controls, read_controls
from sweep.storage.schema import PROVENANCE

STUDY = """
name = "small"
model = "net.keras"
dataset = "data.npz"
precision = 0.4
max_seeds = 900

[[family]]
name = "gaussian"
perturb = [ { op = "gaussian", scale = [0.1, 0.3] } ]
"""
MORE = """
[[family]]
name = "rounded"
perturb = [ { op = "fixed_point", bits = 4 }, { op = "uniform", scale = 2.0, basis = "layer_std" } ]

[[family]]
name = "flipped"
perturb = [ { op = "bit_flip", bits = 6, rate = 0.01 } ]
"""
CELLS = ["net/gaussian/scale=0.1", "net/gaussian/scale=0.3"]


@pytest.fixture
def precise(place: Path) -> Path:
    """A study whose cells come to have controls, in the current directory."""
    (place / "study.toml").write_text(STUDY)
    return place


def run(out: str = "run", **options: object) -> sweep.Run:
    return sweep.run("study.toml", out, runner="inline", **options)


def results(found: sweep.Run) -> pd.DataFrame:
    return found.trials().drop(columns=list(PROVENANCE))


def kept(found: sweep.Run) -> Controls:
    return read_controls(found.store.folder)


def test_controls_have_mean_0_and_leave_the_mean_of_full_evaluation(precise: Path):
    Path("study.toml").write_text(STUDY.replace("max_seeds = 900", "max_seeds = 1300").replace("0.4", "0.05") + MORE)
    found = run("few")
    few, controls = found.trials(), kept(found)
    assert controls.gradients.keys() == {"net"}
    Path("study.toml").write_text(Path("study.toml").read_text().replace("precision", 'images = "all"\nprecision'))
    full = run("full").trials()
    both = few.merge(full, on=["cell", "seed"], suffixes=("", "_full"))
    both = both[both["seed"] >= FIRST_SAMPLED]
    assert set(both.groupby("cell").size() > 1200) == {True}
    for name, cell in both.groupby("cell"):
        own = controls.factors[name]
        if "flipped" in name:
            assert len(own.values) == 0
            assert cell["control"].isna().all()
            continue
        values = (cell["estimate"] - cell["control"]).to_numpy()
        assert own.begin == uncontrolled(values) < 1000
        assert own.values.shape == (40,)
        behind = cell[own.begin :]
        assert abs(behind["control"].mean()) < 4 * behind["control"].std() / len(behind) ** 0.5
        error = values - cell["accuracy_full"]
        assert abs(error.mean()) < 4 * error.std() / len(error) ** 0.5
        assert values[own.begin :].var() < 0.6 * values[: own.begin].var()


@pytest.mark.slow
def test_interruptions_order_and_precision_reached_in_two_steps_change_no_byte(
    precise: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = results(run("whole"))
    assert set(kept(sweep.open_run("whole")).factors) == set(CELLS)
    content = Path("whole", CONTROLS).read_bytes()
    for coarser in (0.7, 0.45):
        run("twice", precision=coarser)
    pd.testing.assert_frame_equal(whole, results(run("twice")), check_exact=True)

    wait, caught = InlineRunner.wait, []

    def interrupted(runner: InlineRunner, seconds: float) -> Outcome | None:
        """Once when the first factors are found, once when the others are, once when chips have controls."""
        runner._queue.rotate(1)
        outcome = wait(runner, seconds)
        cell, seed = outcome.chunk.trials[0] if outcome else ("", 0)
        kind = cell if seed == FACTORS else str(seed >= FIRST_SAMPLED + 700)
        if kind in (*CELLS, "True") and kind not in caught:
            caught.append(kind)
            raise KeyboardInterrupt
        return outcome

    monkeypatch.setattr(InlineRunner, "wait", interrupted)
    monkeypatch.setattr(InlineRunner, "slots", 5)
    for _ in range(3):
        with pytest.raises(Interrupted):
            run("resumed", chunk_trials=37)
    assert set(caught) == {*CELLS, "True"}
    pd.testing.assert_frame_equal(whole, results(run("resumed", chunk_trials=20)), check_exact=True)
    assert Path("resumed", CONTROLS).read_bytes() == Path("twice", CONTROLS).read_bytes() == content
    assert verify("resumed", sample=200).sound


def test_coarse_means_and_runs_without_precision_have_no_controls_of_the_draw(precise: Path):
    run("coarse", precision=1)
    assert not Path("coarse", CONTROLS).exists()
    Path("study.toml").write_text(STUDY.replace("precision = 0.4\nmax_seeds = 900", 'images = "sampled"\nseeds = 700'))
    before = results(run())
    assert not Path("run", CONTROLS).exists()
    Path("study.toml").write_text(STUDY)
    after = results(run())
    few = after[after["seed"] < FIRST_SAMPLED + 700].reset_index(drop=True)
    pd.testing.assert_frame_equal(before, few, check_exact=True)
    factors = kept(sweep.open_run("run")).factors
    assert {cell: own.begin for cell, own in factors.items()} == dict.fromkeys(CELLS, 700)


def test_controls_that_are_damaged_are_refused_and_made_anew(precise: Path):
    found = run(precision=0.45)
    content = Path("run", CONTROLS).read_bytes()
    controls = kept(found)
    assert all(np.isfinite(table).all() for table in controls.gradients.values())
    for wrong in (content[:-10], Controls({"net": np.full((2, 3), np.inf, np.float16)}).content()):
        Path("run", CONTROLS).write_bytes(wrong)
        with pytest.raises(StoreError, match=r"controls\.parquet: is damaged: .*makes it anew"):
            run(precision=0.4)
    Path("run", CONTROLS).unlink()
    assert len(run(precision=0.4).trials()) > len(found.trials())

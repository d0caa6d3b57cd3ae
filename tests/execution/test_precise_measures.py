"""Means of other measures than accuracy, to the precision that is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import sweep
from sweep.api import status
from sweep.errors import InputError, Interrupted
from sweep.execution.means import Means
from sweep.execution.runner import InlineRunner
from sweep.randomness import FIRST_SAMPLED
from sweep.storage.schema import PROVENANCE
from sweep.study.study import CHIPS_TOGETHER, Study
from tests.oracle import perturbed

IMAGES = 300
NOISY = {"name": "noise", "perturb": [{"op": "gaussian", "scale": [0.05, 0.2]}]}
OWN = '''"""A measure of the user's own: how far the first output lies off, in the unit of the targets."""


def off(scores, targets):
    return abs(scores[:, 0] - targets[:, 0])


off.higher = False
'''


@pytest.fixture(autouse=True)
def regression(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network of two numbers, and what they should be, in the current directory."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(2)])
    model.set_weights([rng.normal(size=w.shape).astype(np.float32) for w in model.get_weights()])
    images = rng.normal(size=(IMAGES, 6)).astype(np.float32)
    model.save("n.keras")
    targets = model.predict(images, verbose=0) + rng.normal(size=(IMAGES, 2)).astype(np.float32) / 2
    np.savez("d.npz", x_test=images, y_test=targets.astype(np.float32))
    Path("own.py").write_text(OWN)


def study(*measures: str, **more: Any) -> Study:
    tables: dict[str, Any] = {"name": "s", "model": "n.keras", "dataset": "d.npz", "measures": list(measures)}
    return Study.from_dict({**tables, "family": [NOISY], **more})


def run(asked: Study, out: str = "run", **options: Any) -> sweep.Run:
    return sweep.run(asked, out, runner="inline", **options)


def results(found: sweep.Run) -> pd.DataFrame:
    return found.trials().drop(columns=[*PROVENANCE])


@pytest.mark.parametrize(("measure", "precision"), [("mse", 0.2), ("mae", 0.05), ("own.py:off", 0.05)])
def test_each_mean_has_the_half_width_and_values_are_those_of_plain_keras(measure: str, precision: float):
    found = run(study(measure, precision=precision))
    name = measure.rpartition(":")[2]
    model, data = keras.saving.load_model("n.keras"), np.load("d.npz")
    for cell, trials in found.trials().query("family == 'noise'").groupby("cell"):
        assert trials["seed"].tolist() == [FIRST_SAMPLED + k for k in range(len(trials))]
        assert set(trials["n_images"]) == {IMAGES}
        assert len(trials) % CHIPS_TOGETHER == 0
        values = trials[name].to_numpy()
        reach = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
        assert reach <= precision
        fewer = values[: len(values) - 2 * CHIPS_TOGETHER]
        row = found.summary().set_index("cell").loc[cell]
        assert row["trials"] == len(values)
        assert row["mean"] == pytest.approx(values.mean())
        assert (row["mean_high"] - row["mean_low"]) / 2 == pytest.approx(reach)
        if len(values) > 256:
            assert 1.96 * fewer.std(ddof=1) / np.sqrt(len(fewer)) > 0.9 * precision, "no more than it takes"
        for k in (0, 1, 200):
            op = {"op": "gaussian", "scale": float(str(cell).rpartition("=")[2])}
            model.set_weights(perturbed(model, [0, 2], [op], FIRST_SAMPLED + k))
            scores = model.predict(data["x_test"], verbose=0)
            model.set_weights(keras.saving.load_model("n.keras").get_weights())
            apart = (scores - data["y_test"]).astype(np.float64)
            expected = {"mse": (apart**2).mean(), "mae": abs(apart).mean(), "off": abs(apart[:, 0]).mean()}[name]
            assert values[k] == pytest.approx(expected, rel=1e-5)


def test_interruptions_tasks_and_two_steps_change_nothing(monkeypatch: pytest.MonkeyPatch):
    asked = study("mse", precision=0.1)
    whole = results(run(asked, "whole"))
    assert len(whole) > 1 + 2 * 256, "or there is one stage"
    pd.testing.assert_frame_equal(whole, results(run(asked, "small", chunk_trials=37)))
    run(asked.but(precision=0.4), "twice")
    pd.testing.assert_frame_equal(whole, results(run(asked, "twice")))
    wait, calls = InlineRunner.wait, []

    def interrupted(runner: InlineRunner, seconds: float):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return wait(runner, seconds)

    monkeypatch.setattr(InlineRunner, "wait", interrupted)
    with pytest.raises(Interrupted):
        run(asked, "resumed", chunk_trials=50)
    assert "on all images" in str(status("resumed"))
    assert not status("resumed").finished
    pd.testing.assert_frame_equal(whole, results(run(asked, "resumed", chunk_trials=60)))
    assert status("resumed").finished


def test_void_chips_are_replaced_by_others_unless_most_are_void():
    flips = {"name": "flips", "perturb": [{"op": "float32_bit_flip", "rate": [0.01, 0.5]}]}
    found = run(study("mse", precision=30, min_seeds=64, max_seeds=640, family=[flips]))
    trials = found.trials().query("family == 'flips'")
    counts = trials.groupby("cell")["mse"].agg(["size", "count"])
    assert counts.loc["n/flips/rate=0.5"].tolist() == [128, 0], "after twice as many as were asked for first"
    assert 64 <= counts.loc["n/flips/rate=0.01", "count"] <= counts.loc["n/flips/rate=0.01", "size"] <= 640
    some = trials[trials["cell"] == "n/flips/rate=0.01"]
    assert some["mse"].isna().any(), "or this shows nothing"
    assert status("run").finished
    assert "not within ±30: `max_seeds` ends them at 640 chips a cell" in " ".join(found.table().split())


def test_as_many_more_are_drawn_as_are_void():
    asked = study("mse", precision=1e-9, max_seeds=1024, min_seeds=100)
    cell = "n/noise/scale=0.05"
    values = np.arange(100.0)
    values[[3, 50, 99]] = np.nan
    assert len(asked.samples({cell: values})[cell]) == 128 + 3, "whole lots of them"
    values = np.r_[values, np.arange(31.0)]
    assert len(asked.samples({cell: values})[cell]) == 1024, "now that there are as many numbers, more"
    assert len(asked.samples({cell: np.full(60, np.nan)})[cell]) == 128 + 60
    assert len(asked.samples({cell: np.full(300, np.nan)})[cell]) == 256, "twice 128, and no more"


@pytest.mark.parametrize("value", [1e77, 1e160])
def test_values_and_precisions_beyond_all_bounds_take_the_most_chips(value: float):
    asked = study("mse", precision=1e-200, max_seeds=1000)
    cell = "n/noise/scale=0.05"
    values = np.r_[np.linspace(0, 1, 255), value]
    assert len(asked.samples({cell: values})[cell]) == 1000
    assert len(asked.samples({cell: np.r_[values[::-1], values]})[cell]) == 1000
    assert len(study("accuracy", precision=1e-200, max_seeds=500).samples({cell: values / value})[cell]) == 500
    means = Means(asked, {(cell, FIRST_SAMPLED + k): v for k, v in enumerate(values)})
    assert means.wanted + means.forecast() == 1000 + 256, "of the other cell a pilot is asked for"


def test_a_run_without_randomness_or_of_void_chips_alone_has_its_tables():
    fixed = {"name": "rounded", "perturb": [{"op": "fixed_point", "bits": [8, 4]}]}
    assert "rounded" in run(study("mse", precision=1.0, family=[fixed]), "fixed").table()
    flips = {"name": "flips", "perturb": [{"op": "float32_bit_flip", "rate": [0.5]}]}
    found = run(study("mse", precision=1.0, min_seeds=32, family=[flips]), "void")
    assert "flips" in found.table()
    assert "flips" in found._repr_html_()
    assert "flips" in found.report()


def test_a_measure_that_is_no_number_is_told():
    Path("own.py").write_text("def sometimes(scores, targets):\n    return (scores[:, 0].max() - 16) ** 0.5\n")
    wild = {"name": "wild", "perturb": [{"op": "gaussian", "scale": [0.01, 0.5]}]}
    with np.errstate(invalid="ignore"):
        found = run(study("own.py:sometimes", precision=0.001, min_seeds=32, max_seeds=640, family=[wild]))
    counts = found.trials().groupby("cell")["sometimes"].agg(["size", "count"])
    assert counts.loc["n/wild/scale=0.01"].tolist() == [64, 0], "twice as many as were asked for first"
    assert counts.loc["n/wild/scale=0.5", "size"] == 64
    assert 2 <= counts.loc["n/wild/scale=0.5", "count"] < 32
    said = " ".join(found.table().split())
    assert " 0.01 0 " in said, "it stays in the table"
    assert "1 of 1 means is not within ±0.001: half of their chips have no value" in said


def test_a_run_of_seeds_takes_precision_up():
    asked = study("mse", seeds=5)
    before = results(run(asked))
    found = run(study("mse", seeds=5, precision=0.5))
    after = results(found)
    pd.testing.assert_frame_equal(before, after[after["seed"] < FIRST_SAMPLED].reset_index(drop=True)[list(before)])
    at_once = run(study("mse", seeds=5, precision=0.5), "at-once")
    pd.testing.assert_frame_equal(after, results(at_once))
    assert (after["seed"] >= FIRST_SAMPLED).sum() >= 512


def test_a_run_with_chips_that_saw_a_few_images_does_not_mix_them_with_others():
    rng = np.random.default_rng(1)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    model.save("n.keras")
    np.savez("d.npz", x_test=rng.normal(size=(IMAGES, 6)).astype(np.float32), y_test=rng.integers(0, 4, IMAGES))
    run(study("accuracy", "loss", precision=20.0))
    with pytest.raises(InputError, match="images of chips for the mean is new"):
        run(study("loss", "accuracy", precision=1.0))


def test_a_notebook_shows_the_measure_in_its_unit():
    shown = run(study("mse", seeds=3))._repr_html_()
    assert "Mean squared error on 300 test images; less is better" in shown
    assert "in %" not in shown


def test_fractions_are_in_points_and_further_measures_have_the_same_chips():
    rng = np.random.default_rng(1)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    model.save("n.keras")
    images = rng.normal(size=(IMAGES, 6)).astype(np.float32)
    np.savez("d.npz", x_test=images, y_test=model.predict(images, verbose=0).argmax(1))
    found = run(study("balanced", "accuracy", precision=1.5))
    for _, values in found.trials().query("family == 'noise'").groupby("cell")["balanced"]:
        assert 100 * 1.97 * values.std() / np.sqrt(len(values)) <= 1.51
    assert "points" in str(sweep.plan(study("balanced", "accuracy", precision=1.5), "other"))
    assert found.of("accuracy").summary()["trials"].tolist() == found.summary()["trials"].tolist()
    assert "known to ±1.5 points" in found.report()


@pytest.mark.parametrize(
    ("measures", "more", "message"),
    [
        (["mse"], {"precision": 1.0, "images": "sampled"}, "images: are of accuracy where sampled"),
        (["mse"], {"seeds": 10, "images": "sampled"}, "images: are of accuracy where sampled"),
        (["mse"], {"precision": -1.0}, "precision: -1.0 is not a number above 0"),
        (["auc"], {"precision": 60.0}, "precision: 60 is not points, a number above 0 and up to 50"),
        (["accuracy"], {"precision": 51}, "precision: 51 is not points"),
    ],
)
def test_what_cannot_be_is_refused(measures: list[str], more: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        study(*measures, **more)


def test_a_measure_without_bounds_may_be_wide():
    assert study("mse", precision=2000.0).half_width == 2000
    assert study("auc", precision=2.0).half_width == 0.02


def test_intervals_hold_for_values_with_a_tail():
    """Log-normal ones, over whole runs: all stages, and the interval of the chips at which they end."""
    rng, sigma, held = np.random.default_rng(3), 0.5, 0
    mean = np.exp(sigma**2 / 2)
    asked = study("mse", precision=float(1.96 * mean * np.sqrt(np.expm1(sigma**2) / 400)))
    cell = "n/noise/scale=0.05"
    for _ in range(600):
        drawn, values = rng.lognormal(0, sigma, 4096), np.empty(0)
        while len(chips := asked.samples({cell: values})[cell]) > len(values):
            values = drawn[: len(chips)]
        reach = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
        assert reach <= asked.half_width * (1 + 1e-9), "the chips that are there decide"
        held += abs(values.mean() - mean) <= reach
    assert abs(held / 600 - 0.945) < 0.03

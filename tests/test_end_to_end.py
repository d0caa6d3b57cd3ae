"""The whole path on a small network, in this process: study file → trials → tables."""

import json
from collections import OrderedDict
from pathlib import Path

import duckdb
import keras
import numpy as np
import pandas as pd
import pytest

import sweep
from sweep.engine import tensors
from sweep.errors import InputError, Interrupted, StoreError, SweepError, TaskError, UnexpectedError
from sweep.execution import hosts, worker
from sweep.execution.job import Outcome
from sweep.execution.kept import Evaluators
from sweep.execution.runner import InlineRunner
from sweep.execution.verify import verify
from sweep.perturb.noise import Gaussian
from sweep.storage.schema import PROVENANCE, SAMPLED
from tests.oracle import count, perturbed

PERTURBATIONS = {
    "clean": lambda r: [],
    "gaussian": lambda r: [{"op": "gaussian", "scale": r.scale}],
    "rounded, then noisy": lambda r: [
        {"op": "fixed_point", "bits": r.bits},
        {"op": "uniform", "scale": 0.2, "only": [1]},
    ],
    "rounded": lambda r: [{"op": "fixed_point", "bits": r.bits}],
}


def results(run: sweep.Run) -> pd.DataFrame:
    return run.trials().drop(columns=list(PROVENANCE))


def run_inline(out: str = "run", **options: object) -> sweep.Run:
    return sweep.run("study.toml", out, runner="inline", **options)


def test_every_count_is_what_plain_keras_gives(place: Path):
    trials = run_inline().trials()
    assert len(trials) == 1 + (1 + 2 * 6) + 2 * 6 + 2
    model = keras.models.load_model("net.keras")
    data = np.load("data.npz")
    images = data["x_test"][..., None].astype(np.float32) / np.float32(255)
    for row in trials.itertuples():
        weights = perturbed(model, [0, 1], PERTURBATIONS[row.family](row), row.seed)
        assert row.n_correct == count(model, weights, images, data["y_test"]), row
        assert row.accuracy == row.n_correct / 300
        assert row.n_images == 300


def test_a_process_that_has_loaded_a_network_loads_it_once(place: Path, monkeypatch: pytest.MonkeyPatch):
    expected = results(run_inline("usual"))
    monkeypatch.setattr(worker, "_networks", OrderedDict())
    monkeypatch.setattr(worker, "_evaluators", Evaluators())
    loaded = []
    load = keras.models.load_model
    monkeypatch.setattr(keras.models, "load_model", lambda *given, **how: loaded.append(1) or load(*given, **how))
    configured = []
    monkeypatch.setattr(tensors, "configure", lambda threads, gpus: configured.append((threads, gpus)))
    assert results(run_inline("once")).equals(expected)
    assert len(loaded) == 1
    assert configured == [(1, False)], "TensorFlow's digits and messages are set up as in a worker"


def test_chunk_sizes_interruptions_and_order_change_no_byte(place: Path, monkeypatch: pytest.MonkeyPatch):
    whole = results(run_inline("whole", chunk_trials=1000))
    single = results(run_inline("single", chunk_trials=1))
    pd.testing.assert_frame_equal(whole, single, check_exact=True)

    submitted = InlineRunner.wait
    calls = []

    def third_one_is_interrupted(runner: InlineRunner, seconds: float) -> Outcome | None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return submitted(runner, seconds)

    monkeypatch.setattr(InlineRunner, "wait", third_one_is_interrupted)
    with pytest.raises(Interrupted, match=r"10 trials are kept in .*resumed"):
        run_inline("resumed", chunk_trials=5)
    assert len(list(Path("resumed/trials").iterdir())) == 2
    first = pd.read_parquet("resumed/trials")
    resumed = run_inline("resumed", chunk_trials=7)
    assert len(first.merge(resumed.trials())) == 10, "none was redone"
    pd.testing.assert_frame_equal(whole, results(resumed), check_exact=True)


def test_a_second_run_computes_nothing_and_more_seeds_extend(place: Path, monkeypatch: pytest.MonkeyPatch):
    before = run_inline().trials()
    with monkeypatch.context() as patch:
        patch.setattr(InlineRunner, "wait", lambda *_: pytest.fail("something was computed"))
        run_inline()
        run_inline(seeds=2)
    after = run_inline(seeds=8)
    assert len(after.trials()) == len(before) + 2 * 4
    assert len(after.trials().merge(before)) == len(before), "none was redone"


def test_shards_committed_by_a_driver_that_died_are_not_computed_again(place: Path):
    before = run_inline(chunk_trials=5).trials()
    manifest = Path("run/manifest.json")
    text = json.loads(manifest.read_text())
    text["shards"] = []
    manifest.write_text(json.dumps(text))
    pd.testing.assert_frame_equal(run_inline().trials(), before, check_exact=True)
    assert len(json.loads(manifest.read_text())["shards"]) == 1


@pytest.mark.parametrize(("expected", "wrong"), [(0.93, False), (0.9, False), (0.934, False), (0.936, True), (1, True)])
def test_a_clean_network_that_is_worse_than_expected_ends_the_run(place: Path, expected: float, wrong: bool):
    """It is right about 279 of 300 images; half a point less than expected may be rounding."""
    study = Path("study.toml")
    study.write_text(study.read_text().replace("seeds = 6", f"seeds = 6\nexpected = {expected}"))
    if not wrong:
        assert run_inline(chunk_trials=3).study.expected == expected
        return
    for _ in range(2):  # the second time, the clean network's trial is there already
        with pytest.raises(UnexpectedError, match=r"net: the clean network is right about 93\.00 % of the images"):
            run_inline(chunk_trials=3)
    study.write_text(study.read_text().replace(f"expected = {expected}", ""))
    assert len(run_inline().trials()) == 28, "it is no part of the study's identity"


OTHER = """
[[family]]
name = "other"
perturb = [ { op = "gaussian", scale = [0.4, 0.5] } ]
"""


def test_a_changed_study_under_the_same_folder_is_refused_with_the_difference(place: Path):
    run_inline()
    study = Path("study.toml")
    study.write_text(study.read_text().partition("[[family]]")[0] + OTHER)
    with pytest.raises(InputError) as caught:
        run_inline()
    message = str(caught.value)
    assert "holds results of another study called 'small'" in message
    assert "cell net/gaussian/scale=0.3 is gone" in message
    assert "cell net/other/scale=0.4 is new" in message


def test_whatever_its_results_depend_on_is_told_when_it_differs(place: Path):
    run_inline()
    manifest = Path("run/manifest.json")
    stored = json.loads(manifest.read_text())
    stored["identity"]["something new"] = {"net": "0..255"}
    manifest.write_text(json.dumps(stored))
    with pytest.raises(InputError, match=r"something new of net is gone"):
        run_inline()


def test_another_network_under_the_same_name_is_refused(place: Path):
    run_inline()
    model = keras.models.load_model("net.keras")
    model.set_weights([w + 1 for w in model.get_weights()])
    model.save("net.keras")
    with pytest.raises(InputError, match=r"model net was [0-9a-f]{12}…, is [0-9a-f]{12}…"):
        run_inline()


def test_pandas_and_duckdb_read_the_trials(place: Path):
    run = run_inline()
    columns = [
        "model",
        "family",
        "cell",
        "scale",
        "bits",
        "seed",
        "n_images",
        "n_correct",
        "accuracy",
        "n_nonfinite",
        *SAMPLED,
        *PROVENANCE,
    ]
    frame = pd.read_parquet("run/trials")
    assert list(frame.columns) == columns
    query = "select cell, avg(accuracy), stddev_samp(accuracy) from 'run/trials/*.parquet' group by cell"
    table = {cell: (mean, std) for cell, mean, std in duckdb.sql(query).fetchall()}
    for row in run.summary().itertuples():
        mean, std = table[row.cell]
        assert mean == pytest.approx(row.mean)
        if row.trials > 1:
            assert std == pytest.approx(row.std)


def test_the_summary_stands_in_the_folder(place: Path):
    run = run_inline()
    summary = run.summary()
    assert summary["trials"].tolist() == [1, 1, 6, 6, 6, 6, 1, 1]
    assert summary.loc[2, "published"] == 0.8
    fixed = summary[summary["trials"] == 1]
    assert (fixed["std"] == 0).all()
    assert (fixed["mean_low"] == fixed["mean_high"]).all()
    pd.testing.assert_frame_equal(pd.read_parquet("run/summary.parquet"), summary)
    assert pd.read_csv("run/summary.csv")["mean"].to_numpy() == pytest.approx(summary["mean"].to_numpy())
    assert "rounded, then noisy" in Path("run/summary.md").read_text()
    assert {p.suffix for p in Path("run/figures").iterdir()} == {".svg", ".png"}
    assert json.loads(Path("run/manifest.json").read_text())["hosts"][0]["device"] == "CPU"


def test_several_models_are_an_axis(place: Path):
    Path("twin.keras").write_bytes(Path("net.keras").read_bytes())
    study = Path("study.toml")
    study.write_text(study.read_text().replace('model = "net.keras"', 'model = ["net.keras", "twin.keras"]'))
    trials = results(run_inline())
    one, two = (trials[trials["model"] == m] for m in ("net", "twin"))
    assert one["n_correct"].tolist() == two["n_correct"].tolist()
    assert len(one) == len(two) == 28


def test_plan_and_status_say_what_is_left(place: Path):
    assert (sweep.plan("study.toml", "run").trials, sweep.plan("study.toml", "run").done) == (28, 0)
    assert not Path("run").exists()
    run_inline(seeds=1)
    assert sweep.plan("study.toml", "run").done == 8
    assert sweep.status("run").trials == sweep.status("run").done == 8


def test_a_study_built_in_python_runs(place: Path):
    family = sweep.Family("g", [{"op": "gaussian", "scale": [0.1, 0.2]}])
    study = sweep.Study(name="mine", model="net.keras", dataset="data.npz", seeds=2, family=[family])
    run = sweep.run(study, runner="inline")
    assert run.store.folder.uri == str(place / "results" / "mine")
    assert len(sweep.open_run("results/mine").trials()) == 5


def test_damaged_results_stop_the_run(place: Path):
    run_inline()
    shard = next(Path("run/trials").iterdir())
    shard.write_bytes(shard.read_bytes()[:-7])
    with pytest.raises(StoreError, match="is damaged"):
        run_inline()


def test_a_worker_with_other_versions_refuses(place: Path, monkeypatch: pytest.MonkeyPatch):
    from sweep.execution import driver

    monkeypatch.setattr(driver, "versions", lambda: {**hosts.versions(), "numpy": "1.0"})
    with pytest.raises(SweepError, match=r"versions differ from the driver's: numpy 1\.0 there, .* here"):
        run_inline()
    assert not list(Path("run").glob("trials/*"))


def test_a_network_with_code_in_it_runs_only_when_trusted(place: Path):
    net = keras.models.load_model("net.keras")
    layers = [*net.layers[:-1], keras.layers.Lambda(lambda x: x + 1), net.layers[-1]]
    keras.Sequential([keras.Input((12, 12, 1)), *layers]).save("net.keras")
    with pytest.raises(InputError, match="not safe to load: Lambda"):
        run_inline()
    assert len(run_inline(trust_model=True).trials()) == 28


class Catching(InlineRunner):
    """Reports errors, as a cluster does."""

    def wait(self, seconds: float) -> Outcome | None:
        chunk = self._queue[0]
        try:
            return super().wait(seconds)
        except Exception as error:
            return Outcome(chunk, error=error)


def test_a_cell_that_fails_is_isolated_and_the_others_completed(place: Path, monkeypatch: pytest.MonkeyPatch):
    from sweep.execution import driver
    from sweep.preparation.inputs import prepare

    apply = Gaussian.apply

    def poison(transform: Gaussian, *given: object) -> np.ndarray:
        if transform.scale == 0.3:
            raise MemoryError("too large")
        return apply(transform, *given)

    prepared = prepare(sweep.Study.from_toml("study.toml"))
    with monkeypatch.context() as poisoned:
        poisoned.setattr(Gaussian, "apply", poison)
        with pytest.raises(TaskError) as caught:
            driver.run(prepared, "run", Catching(), chunk_trials=50)
    assert "6 trials failed" in str(caught.value)
    assert "net/gaussian/scale=0.3: MemoryError: too large" in str(caught.value)
    assert len(sweep.open_run("run").trials()) == 28 - 6
    pd.testing.assert_frame_equal(results(run_inline()), results(run_inline("undisturbed")), check_exact=True)


def own_clean(perturbed: str) -> None:
    """The small study with a family called `clean`."""
    text = Path("study.toml").read_text().partition("[[family]]")[0]
    more = '[[family]]\nname = "g"\nperturb = [ { op = "gaussian", scale = 0.3 } ]\n'
    Path("study.toml").write_text(f'{text}[[family]]\nname = "clean"\nperturb = [ {perturbed} ]\n{more}')


def test_a_new_study_has_no_family_called_clean_that_perturbs(place: Path):
    own_clean('{ op = "fixed_point", bits = 2 }')
    with pytest.raises(InputError, match="'clean' is the family of the unperturbed network") as refused:
        run_inline()
    assert len(refused.value.problems) == 1
    assert not Path("run").exists()


@pytest.mark.parametrize(
    "perturbed", ['{ op = "fixed_point", bits = 2 }', '{ op = "gaussian", scale = [0, 0.2] }'], ids=["fixed", "swept"]
)
def test_a_run_of_0_1_0_whose_family_clean_perturbs_goes_on(
    place: Path, monkeypatch: pytest.MonkeyPatch, perturbed: str
):
    own_clean(perturbed)
    with monkeypatch.context() as as_0_1_0:
        as_0_1_0.setattr("sweep.execution.resume.own_clean", lambda study: [])
        run_inline(seeds=2)
    run = run_inline(seeds=3)
    assert (run.trials().groupby("cell").size().loc[[c.id for c in run.study.cells if c.random]] == 3).all()
    summary = run.summary().set_index("cell")
    assert verify("run").sound
    if "bits" in perturbed:  # nothing here is the clean network, and no loss is said against what is not
        assert "loss" not in summary
    else:
        clean = summary.loc["net/clean,scale=0" if "net/clean,scale=0" in summary.index else "net/clean/scale=0"]
        assert summary["loss"].drop(clean.name).equals((clean["mean"] - summary["mean"]).drop(clean.name))

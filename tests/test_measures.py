"""A study of other measures than accuracy, from start to end."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sweep import api
from sweep.errors import InputError
from sweep.networks.backend import import_keras
from sweep.reporting.run import Run, open_run
from sweep.statistics import estimates

keras = import_keras()
FAMILIES: list[dict[str, Any]] = [
    {"name": "gaussian", "perturb": [{"op": "gaussian", "scale": [0, 0.05, 0.1]}]},
    {"name": "fixed-point", "perturb": [{"op": "fixed_point", "bits": [8, 2, 1]}]},
]


def study_of(folder: Path, **more: Any) -> Path:
    import tomli_w

    path = folder / "study.toml"
    tables = {"name": "it", "model": str(folder / "n.keras"), "dataset": str(folder / "d.npz"), "seeds": 22}
    path.write_text(tomli_w.dumps({**tables, **more, "family": FAMILIES}))
    return path


@pytest.fixture(name="autoencoder", scope="module")
def of_an_autoencoder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """One that finds anomalies: images that do not lie in a plane of which it knows."""
    folder = tmp_path_factory.mktemp("autoencoder")
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(3, 12)).astype(np.float32)
    inner, flags = rng.normal(size=(100, 3)), np.arange(100) % 2
    images = (inner @ plane + 0.3 * flags[:, None] * rng.normal(size=(100, 12))).astype(np.float32)
    model = keras.Sequential([keras.Input((12,)), keras.layers.Dense(3, use_bias=False), keras.layers.Dense(12)])
    model.set_weights([np.linalg.pinv(plane).astype(np.float32), plane, np.zeros(12, np.float32)])
    model.save(folder / "n.keras")
    np.savez(folder / "d.npz", x_test=images, y_test=flags)
    study = study_of(folder, measures=["auc", "mse"])
    return study, api.run(study, folder / "run", runner="inline")


def test_trials_have_no_accuracy_where_there_are_no_classes(autoencoder: tuple[Path, Run]) -> None:
    trials = autoencoder[1].trials()
    assert trials[["n_correct", "accuracy"]].isna().all(axis=None)
    assert trials["auc"].between(0, 1).all()
    assert (trials["mse"] > 0).all()
    clean = trials[trials["family"] == "clean"].iloc[0]
    assert clean["auc"] > 0.95, "anomalies lie outside the plane"


def test_the_summary_is_of_the_first_measure(autoencoder: tuple[Path, Run]) -> None:
    run = autoencoder[1]
    trials, summary = run.trials(), run.summary().set_index("cell")
    for cell, group in trials.groupby("cell"):
        assert summary.loc[cell, "mean"] == pytest.approx(group["auc"].mean(), rel=1e-12)
    assert summary["new_low"].isna().all(), "it is no mean over images"
    errors = run.of("mse").summary().set_index("cell")
    noisy = trials.loc[trials["cell"] == "n/gaussian/scale=0.1", "mse"].to_numpy()
    row = errors.loc["n/gaussian/scale=0.1"]
    reach = estimates.student(len(noisy) - 1) * noisy.std(ddof=1) / np.sqrt(len(noisy))
    assert row[["mean_low", "mean_high"]].tolist() == pytest.approx([noisy.mean() - reach, noisy.mean() + reach])
    assert row["loss"] == pytest.approx(noisy.mean() - errors.loc["n/clean", "mean"])
    assert row["loss"] > 0, "less is better"


def test_nothing_speaks_of_accuracy(autoencoder: tuple[Path, Run]) -> None:
    run = autoencoder[1]
    page = run.report()
    page = page[: page.index('id="references"')]
    said = re.sub(r"<script>.*?</script>|<style>.*?</style>", "", page, flags=re.DOTALL)
    for text in (said, run.table(answers=True), run.of("mse").table("markdown", answers=True)):
        assert "ccurac" not in text
    assert "Area under the ROC curve" in said
    assert "Mean squared error" in said
    folder = Path(run.store.folder.uri)
    assert {p.name for p in (folder / "figures").glob("*.svg")} >= {"auc-scale.svg", "mse-scale.svg", "auc-bits.svg"}
    assert not list((folder / "figures").glob("*accuracy*"))


def test_answers_go_by_the_direction_of_the_measure(autoencoder: tuple[Path, Run]) -> None:
    run = autoencoder[1]
    for one, sign in ((run, -1), (run.of("mse"), 1)):
        answers = {answer.name: answer.table for answer in one.answers()}
        clean = one.summary().set_index("cell").loc["n/clean", "mean"]
        limits = answers["thresholds"]["limit"]
        assert ((limits - clean) * sign > 0).all()
        assert answers["thresholds"]["level"].notna().any()
        assert "equivalent-bits" in answers
    compared = run.of("mse").compare({"family": "gaussian", "scale": 0.05}, {"family": "gaussian", "scale": 0.1})
    assert (compared["difference"] < 0).all()
    assert (compared["difference_high"] < 0).all()


def test_all_measures_are_in_one_long_table(autoencoder: tuple[Path, Run]) -> None:
    run = autoencoder[1]
    folder = Path(run.store.folder.uri)
    found = pd.read_parquet(folder / "measures.parquet")
    assert found["measure"].unique().tolist() == ["auc", "mse"]
    assert len(found) == 2 * len(run.study.cells)
    pd.testing.assert_frame_equal(found, run.measures(), check_dtype=False)
    assert "Mean squared error" in (folder / "measures.md").read_text()


def test_the_first_measure_can_be_another_one_later(autoencoder: tuple[Path, Run], tmp_path: Path) -> None:
    study, run = autoencoder
    text = study.read_text().replace('"auc",\n    "mse",', '"mse",\n    "auc",')
    assert text != study.read_text()
    (study.parent / "other.toml").write_text(text)
    plan = api.plan(study.parent / "other.toml", run.store.folder.uri)
    assert plan.done == plan.trials == len(run.trials())
    more = text.replace('"mse",', '"mse",\n    "mae",')
    (study.parent / "more.toml").write_text(more)
    with pytest.raises(InputError, match="measure mae is new"):
        api.plan(study.parent / "more.toml", run.store.folder.uri)


def test_a_run_folder_has_the_measures_that_its_study_asks_for(autoencoder: tuple[Path, Run]) -> None:
    again = open_run(autoencoder[1].store.folder.uri)
    assert again.measure.name == "auc"
    assert [other.measure.name for other in again.others] == ["mse"]
    with pytest.raises(InputError, match="no measure 'accuracy'; there are auc, mse"):
        again.of("accuracy")


def test_trials_evaluated_again_have_the_same_measures(autoencoder: tuple[Path, Run]) -> None:
    from sweep.execution.verify import verify

    verdict = verify(autoencoder[1].store.folder.uri, sample=12)
    assert verdict.sound
    assert verdict.trials == 12


@pytest.mark.parametrize(
    ("measures", "problem"),
    [
        (None, 'accuracy means nothing; write measures = ["auc"], or others of auc, mse, mae'),
        (["mse", "top2"], "measures: top2: the network has 12 outputs"),
        (["los"], "'los' is not accuracy, loss"),
        (["m.py:seed"], "'seed' is the name of a column of ours"),
        (["m.py:f", "n.py:f"], "two are called 'f'"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    autoencoder: tuple[Path, Run], tmp_path: Path, measures: list[str] | None, problem: str
) -> None:
    text = autoencoder[0].read_text()
    new = "" if measures is None else f"measures = {measures!r}"
    study = tmp_path / "s.toml"
    study.write_text(re.sub(r"measures = \[[^\]]*\]", new, text))
    with pytest.raises(InputError) as caught:
        api.plan(study)
    assert any(problem in line for line in caught.value.problems)


def test_samples_serve_the_mean_accuracy_alone(autoencoder: tuple[Path, Run]) -> None:
    from sweep.study.study import Study

    tables = {**Study.from_toml(autoencoder[0]).to_dict(), "images": "sampled"}
    with pytest.raises(InputError, match="are of accuracy where sampled, and the first of `measures` is auc"):
        Study.from_dict(tables)


def test_studies_that_name_none_are_what_they_were(autoencoder: tuple[Path, Run]) -> None:
    from sweep.storage.schema import schema_of
    from sweep.study.study import Study

    tables = Study.from_toml(autoencoder[0]).to_dict()
    del tables["measures"]
    plain, said = Study.from_dict(tables), Study.from_dict({**tables, "measures": ["accuracy"]})
    assert plain.to_toml() == said.to_toml()
    assert "measures" not in plain.identity({})
    assert plain.identity({}) == said.identity({})
    assert not schema_of(plain).field("accuracy").nullable
    assert schema_of(plain).names[-5:] == ["control", "seconds", "host", "device", "engine"]


def classifier(folder: Path) -> None:
    """A network of one layer, and images that it decides rightly."""
    rng = np.random.default_rng(4)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5, use_bias=False)])
    weights = rng.normal(size=(6, 5)).astype(np.float32)
    model.set_weights([weights])
    model.save(folder / "n.keras")
    images = rng.normal(size=(80, 6)).astype(np.float32)
    np.savez(folder / "d.npz", x_test=images, y_test=(images @ weights).argmax(axis=1))


def test_with_classes_accuracy_is_what_it_was_and_others_stand_beside_it(tmp_path: Path) -> None:
    classifier(tmp_path)
    plain = api.run(study_of(tmp_path), tmp_path / "plain", runner="inline")
    more = api.run(study_of(tmp_path, measures=["accuracy", "top2", "loss"]), tmp_path / "more", runner="inline")
    same = [name for name in plain.trials() if name not in ("seconds", "host", "device", "engine")]
    pd.testing.assert_frame_equal(plain.trials()[same], more.trials()[same])
    assert (more.trials()["top2"] >= more.trials()["accuracy"]).all()
    assert "Top-2 accuracy" in more.report()
    assert [other.measure.name for other in more.others] == ["top2", "loss"]


OWN = '''
import numpy as np

def nearest(scores, labels):
    """The share of the scores' range by which the label's is above the mean."""
    own = np.take_along_axis(scores, labels[:, None], axis=1)[:, 0]
    return (own - scores.mean(axis=1)) / np.ptp(scores, axis=1)

def cost(scores, labels):
    return np.float64(np.abs(scores.argmax(axis=1) - labels).sum())

nearest.label = "Lead of the label"
cost.higher = False
'''


@pytest.fixture(name="own", scope="module")
def of_own_functions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    folder = tmp_path_factory.mktemp("own")
    classifier(folder)
    (folder / "mine.py").write_text(OWN)
    study = study_of(folder, measures=["mine.py:nearest", "mine.py:cost", "accuracy"])
    return study, api.run(study, folder / "run", runner="inline")


def test_a_function_of_the_users_own_is_a_measure(own: tuple[Path, Run]) -> None:
    run = own[1]
    data = np.load(own[0].parent / "d.npz")
    model = keras.models.load_model(own[0].parent / "n.keras")
    scores = np.asarray(model.predict(data["x_test"], verbose=0))
    space: dict[str, Any] = {}
    exec(OWN, space)
    clean = run.trials().iloc[0]
    assert clean["nearest"] == pytest.approx(np.mean(space["nearest"](scores, data["y_test"])), rel=1e-5)
    assert clean["cost"] == 0
    assert clean["accuracy"] == 1
    assert run.measure.label == "Lead of the label"
    assert run.of("cost").measure.higher is False
    assert "Lead of the label" in run.report()


def test_reading_a_run_runs_no_measure_of_it(own: tuple[Path, Run]) -> None:
    import subprocess
    import sys

    folder = own[1].store.folder.uri
    code = (
        "import sys; from sweep.reporting.run import open_run; run = open_run(sys.argv[1]); "
        "print(run.table()); print(run.measure.label, run.of('cost').measure.higher); "
        "assert not [name for name in sys.modules if name.startswith('noisesweep_plugin')]"
    )
    found = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "Lead of the label False"


def test_a_run_with_measures_of_ones_own_goes_on_from_its_folder_when_it_is_trusted(own: tuple[Path, Run]) -> None:
    folder = Path(own[1].store.folder.uri)
    plan = api.plan(folder / "study.toml", folder, trust_plugins=True)
    assert plan.done == plan.trials
    changed = own[0].parent / "changed.toml"
    other = own[0].parent / "other"
    other.mkdir()
    (other / "mine.py").write_text(OWN + "\n# changed")
    changed.write_text(own[0].read_text().replace("mine.py", "other/mine.py"))
    with pytest.raises(InputError, match=r"plugin mine.py was"):
        api.plan(changed, folder)


@pytest.mark.parametrize(
    ("text", "problem"),
    [("def other(s, y): return 1", "has no function 'f'"), ("1/0", "ZeroDivisionError"), ("f = 3", "has no function")],
)
def test_a_file_without_the_function_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "m.py").write_text(text)
    with pytest.raises(InputError, match=problem):
        api.plan(study_of(tmp_path, measures=["m.py:f"]))


def test_what_a_function_must_return() -> None:
    from sweep.data.measure import Outputs
    from sweep.data.measures import own
    from sweep.data.scoring import LOGITS

    nothing = np.zeros(0, np.int64)
    outputs = Outputs(np.zeros((4, 2), np.float32), np.zeros(4, np.int64), None, nothing, nothing, LOGITS)
    with pytest.raises(ValueError, match=r"returned float64 of shape \(4, 2\)"):
        own("f", lambda scores, _: scores.astype(float)).value(outputs)

    def share(scores: np.ndarray, labels: np.ndarray) -> float:
        return 2.0

    share.fraction = True  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="outside 0 to 1"):
        own("share", share).value(outputs)


def several_labels(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, rows of labels and the weights of a network of one layer of sigmoids that gives most of them rightly."""
    rng = np.random.default_rng(6)
    weights = rng.normal(size=(8, 4)).astype(np.float32)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, use_bias=False, activation="sigmoid")])
    model.set_weights([weights])
    model.save(folder / "n.keras")
    images = rng.normal(size=(90, 8)).astype(np.float32)
    rows = ((images @ weights + rng.normal(size=(90, 4))) > 0).astype(np.uint8)
    np.savez(folder / "d.npz", x_test=images, y_test=rows)
    return images, rows, weights


def test_several_labels_for_an_image(tmp_path: Path) -> None:
    """Against NumPy, chip by chip; and a study that names no measure is told which there are."""
    from tests.oracle import draw

    images, rows, weights = several_labels(tmp_path)
    names = ["multilabel_accuracy", "exact_match", "multilabel_f1", "multilabel_auc", "multilabel_loss"]
    run = api.run(study_of(tmp_path, measures=names, seeds=4), tmp_path / "run", runner="inline")
    trials = run.trials()
    noisy = trials[(trials["family"] == "gaussian") & (trials["scale"] > 0)]
    assert len(noisy) == 8
    for row in noisy.itertuples():
        drawn = draw(0, row.seed, 0, 0).standard_normal(weights.shape, dtype=np.float32)
        scores = images.astype(np.float64) @ (weights + np.float32(row.scale) * drawn)
        right = (scores > 0) == (rows == 1)
        assert row.multilabel_accuracy == pytest.approx(right.mean(), abs=1e-9)
        assert row.exact_match == pytest.approx(right.all(axis=1).mean(), abs=1e-9)
        assert row.multilabel_loss == pytest.approx(np.logaddexp(0, np.where(rows, -scores, scores)).mean(), rel=1e-5)
        f1 = [2 * (p & r).sum() / (p.sum() + r.sum()) for p, r in zip((scores > 0).T, (rows == 1).T, strict=True)]
        assert row.multilabel_f1 == pytest.approx(np.mean(f1), abs=1e-9)
        areas = [np.mean(s[r == 1][:, None] > s[r == 0]) for s, r in zip(scores.T, rows.T, strict=True)]
        assert row.multilabel_auc == pytest.approx(np.mean(areas), abs=2e-3)
    assert trials[["n_correct", "accuracy"]].isna().all(axis=None)
    assert "Share of labels decided rightly" in run.report()
    assert run.summary()["new_low"].notna().any(), "a mean over images of numbers between 0 and 1"
    with pytest.raises(InputError, match=r'several labels for an image; write measures = \["multilabel_accuracy"\]'):
        api.plan(study_of(tmp_path))
    with pytest.raises(InputError, match="several labels for an image"):
        api.plan(study_of(tmp_path, measures=["f1"]))

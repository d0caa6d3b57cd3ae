"""Several test sets: an axis beside the networks, whose counts are plain Keras's on each, and on which studies grow."""

import json
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

import sweep
from sweep.errors import InputError, Interrupted, UnexpectedError
from sweep.execution import worker
from sweep.execution.verify import verify
from sweep.preparation.inputs import prepare
from sweep.randomness import FIRST_SAMPLED
from sweep.storage.schema import PROVENANCE
from tests.edits import edit
from tests.oracle import count, perturbed

STUDY = """
name = "sets"
model = "net.keras"
dataset = ["a.npz", "b.npz"]
seeds = 3

[[family]]
name = "gaussian"
perturb = [ { op = "gaussian", scale = [0, 0.1, 0.3] } ]
published = [ { scale = 0.1, accuracy = 0.8 } ]

[[family]]
name = "rounded"
perturb = [ { op = "fixed_point", bits = [8, 2] } ]

[[family]]
name = "flow"
perturb = [ { op = "activation_affine", bits = [6, 2], range = "min_max" } ]
"""
NOISY, _, FLOW = (f"[[family]]{text}" for text in STUDY.split("[[family]]")[1:])
HEAD = STUDY.partition("[[family]]")[0]
LIGHT = HEAD + NOISY.replace("[0, 0.1, 0.3]", "[0.1]") + FLOW.replace("[6, 2]", "2")
SETS = '["a.npz", "b.npz"]'
SIZES = {"a": 300, "b": 270, "few": 40}


def fill(folder: Path, small: Path) -> None:
    """The small network with sets of it: whole numbers, floating ones in another number, and few of three classes."""
    shutil.copy(small / "net.keras", folder / "net.keras")
    arrays, rng = np.load(small / "data.npz"), np.random.default_rng(4)
    train = rng.integers(0, 200, (40, 12, 12), dtype=np.uint8)
    np.savez(folder / "a.npz", **arrays, x_train=train, y_train=np.zeros(40, int))
    images = rng.random((270, 12, 12, 1), dtype=np.float32)
    clean = keras.models.load_model(folder / "net.keras")(images).numpy().argmax(1)
    labels = np.where(rng.random(270) < 0.8, clean, rng.integers(0, 5, 270))
    np.savez(folder / "b.npz", x_test=images, y_test=labels)
    np.savez(folder / "few.npz", x_test=arrays["x_test"][:40] // 2, y_test=arrays["y_test"][:40] % 3)
    (folder / "study.toml").write_text(STUDY)


@pytest.fixture
def sets(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the study, which is the current directory."""
    fill(tmp_path, small)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def ran(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder likewise, where the study has been run."""
    folder = tmp_path_factory.mktemp("sets")
    fill(folder, small)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        sweep.run("study.toml", "run", runner="inline")
    return folder


@pytest.fixture
def done(ran: Path, monkeypatch: pytest.MonkeyPatch) -> sweep.Run:
    """That run, not to be changed."""
    monkeypatch.chdir(ran)
    return sweep.open_run("run")


def run(out: str = "run", **options) -> sweep.Run:
    return sweep.run("study.toml", out, runner="inline", **options)


def results(found: sweep.Run) -> pd.DataFrame:
    return found.trials().drop(columns=[*PROVENANCE])


def assert_as_made_at_once(found: sweep.Run) -> None:
    shutil.rmtree("at-once", ignore_errors=True)
    at_once = run("at-once")
    pd.testing.assert_frame_equal(results(found), results(at_once), check_exact=True)
    pd.testing.assert_frame_equal(found.summary(), at_once.summary(), check_exact=True)
    digests = [json.loads(Path(name, "manifest.json").read_text())["study_digest"] for name in ("run", "at-once")]
    assert digests[0] == digests[1]


def arrays(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images as the network takes them, and labels."""
    found = np.load(f"{name}.npz")
    images = found["x_test"]
    images = images if images.dtype == np.float32 else images[..., None].astype(np.float32) / np.float32(255)
    return images, found["y_test"]


def test_each_cell_counts_as_plain_keras_does_on_its_set(done: sweep.Run):
    """The same chip on each: the oracle's draws know no test set."""
    model, seen = keras.models.load_model("net.keras"), 0
    for row in done.trials().itertuples():
        images, labels = arrays(row.dataset)
        assert row.n_images == len(images) == SIZES[row.dataset]
        if row.family == "flow":
            continue
        ops = {
            "gaussian": [{"op": "gaussian", "scale": row.scale}],
            "rounded": [{"op": "fixed_point", "bits": row.bits}],
            "clean": [],
        }[row.family]
        assert row.n_correct == count(model, perturbed(model, [0, 1], ops, row.seed), images, labels), row.cell
        seen += 1
    assert seen == 2 * (1 + 1 + 2 * 3 + 2)


def test_ranges_of_all_sets_are_those_of_the_first_one(done: sweep.Run):
    model, train = keras.models.load_model("net.keras"), np.load("a.npz")["x_train"]
    seen = np.asarray(model.layers[0](train[..., None].astype(np.float32) / np.float32(255)))
    low, high = min(0.0, float(seen.min())), float(seen.max())
    rows = done.trials().query("family == 'flow'")
    for row in rows.itertuples():
        images, labels = arrays(row.dataset)
        step = np.float32((high - low) / (2**row.bits - 1))
        zero = np.rint(-low / step)
        x = np.asarray(model.layers[0](images))
        x = (np.clip(np.rint(x / step) + zero, 0, 2**row.bits - 1) - zero).astype(np.float32) * step
        for layer in model.layers[1:]:
            x = np.asarray(layer(x))
        assert abs(row.n_correct - int((x.argmax(1) == labels).sum())) <= 1, "but for a value on a border"
    assert len(rows) == 4
    assert rows["n_correct"].nunique() > 2


def test_the_set_is_a_word_that_cells_sweep(done: sweep.Run):
    trials, summary = done.trials(), done.summary()
    assert trials["cell"].unique().tolist()[:3] == [
        "net/clean/dataset=a",
        "net/gaussian/dataset=a,scale=0",
        "net/gaussian/dataset=a,scale=0.1",
    ]
    assert trials.columns.tolist()[:6] == ["model", "family", "cell", "dataset", "scale", "bits"]
    assert trials["dataset"].unique().tolist() == ["a", "b"], "one set after the other"
    means = summary.set_index("cell")["mean"]
    for row in summary.query("family != 'clean'").itertuples():
        assert row.loss == pytest.approx(means[f"net/clean/dataset={row.dataset}"] - row.mean)
    chance = summary.query("family == 'clean'").set_index("dataset")["chance"]
    for name in ("a", "b"):
        assert chance[name] == np.bincount(arrays(name)[1]).max() / SIZES[name]
    published = summary.dropna(subset="published")
    assert published["cell"].tolist() == ["net/gaussian/dataset=a,scale=0.1"], "of the first set"


def test_tables_pages_and_comparisons_have_the_set(done: sweep.Run, tmp_path: Path):
    text = done.table()
    assert "dataset  bits  trials" in text
    assert "gaussian, dataset b" in text, "a table too wide is one for each set"
    page = done.report()
    assert "on one of 2 test sets (a: 300 images, b: 270 images)" in page
    assert "<dt>test sets</dt><dd>a, b</dd>" in page
    files = done.export(tmp_path / "export")
    assert {"accuracy-scale-by-dataset.svg", "accuracy-bits-by-dataset.svg", "accuracy-dataset.svg"} <= set(files)
    assert pd.read_csv(tmp_path / "export" / "summary.csv")["dataset"].unique().tolist() == ["a", "b"]
    limits = next(answer.table for answer in done.answers() if answer.name == "thresholds")
    assert set(limits["dataset"]) == {"a", "b"}
    gap = done.compare({"family": "gaussian", "dataset": "a"}, {"family": "gaussian", "dataset": "b"})
    assert gap["scale"].tolist() == [0, 0.1, 0.3]
    assert gap["pairs"].tolist()[1:] == [3, 3], "chip by chip"
    curve = done.plot.curve("scale", dataset="b")
    assert len(curve.get_legend_handles_labels()[1]) == 1
    assert done.plot.distribution("gaussian", "scale", dataset="a").get_xlabel()
    with pytest.raises(InputError, match="plot: name one dataset of a, b"):
        done.plot.distribution("gaussian", "scale")
    with pytest.raises(InputError, match="no dataset 'c'; there are a, b"):
        done.plot.curve("scale", dataset="c")


def test_a_chip_is_the_same_on_each_set_and_is_looked_at_on_one(done: sweep.Run):
    chips = [done.chip(f"net/gaussian/dataset={name},scale=0.3", 2) for name in ("a", "b")]
    for one, other in zip(*(chip.weights for chip in chips), strict=True):
        assert np.array_equal(one, other)
    assert [len(chip.images) for chip in chips] == [300, 270]
    assert verify("run", sample=100).sound


def test_one_path_is_what_it_was(sets: Path, computed: list[tuple[str, int]]):
    """As a text, as a list and as a glob; and a study says of its only set nothing but its digest."""
    edit(SETS, '"a.npz"')
    found = run()
    assert "dataset" not in found.trials()
    assert found.trials()["cell"].unique().tolist()[:2] == ["net/clean", "net/gaussian/scale=0"]
    identity = prepare(found.study).identity
    assert list(identity["files"]) == ["dataset", "model net"]
    assert list(json.loads(Path("run/manifest.json").read_text())["chance"]) == ["net"]
    computed.clear()
    text = Path("study.toml").read_text()
    for form in ('["a.npz"]', '"[a].npz"', f'"{sets}/a*.npz"'):
        Path("study.toml").write_text(text.replace('"a.npz"', form))
        assert prepare(sweep.Study.from_toml("study.toml")).identity == identity
        run()
    assert not computed


def test_what_goes_in_is_told_of_each_set(sets: Path):
    edit(SETS, '["a.npz", "b.npz", "few.npz"]')
    said = str(sweep.plan("study.toml", "run"))
    assert "models 1, test sets 3, families 3" in said
    assert "a: 300 uint8 images of 12 × 12, divided by 255: 0 to 1; labels 0 to 4, 5 outputs" in said
    assert re.search(r"b: 270 float32 images of 12 × 12 × 1, as stored: \S+ to 1; labels 0 to 4", said)
    assert "few: 40 uint8 images of 12 × 12, divided by 255: 0 to 0.498; labels 0 to 2, 5 outputs" in said
    assert re.search(r"for ranges and statistics the first [\d,]+ training images of a\b", said)
    assert said.count("weights of conv1") == 1


def test_a_set_more_runs_only_its_cells(sets: Path, computed: list[tuple[str, int]]):
    Path("study.toml").write_text(HEAD + NOISY)
    run()
    computed.clear()
    edit(SETS, '["a.npz", "b.npz", "few.npz"]')
    grown = run()
    assert {cell.split("dataset=")[1].split(",")[0] for cell, _ in computed} == {"few"}
    assert_as_made_at_once(grown)
    computed.clear()
    edit('"b.npz", ', "")
    less = run()
    assert not computed
    assert set(less.trials()["dataset"]) == {"a", "few"}
    assert_as_made_at_once(less)
    computed.clear()
    edit('["a.npz", "few.npz"]', '["a.npz", "few.npz", "b.npz"]')
    assert "cells: 4 back" in str(sweep.plan("study.toml", "run"))
    more = run()
    assert not computed, "they were hidden, and come back"
    assert_as_made_at_once(more)


def test_a_study_of_one_path_keeps_its_rows_in_a_list(sets: Path, computed: list[tuple[str, int]]):
    """And where one of several alone is left: cells are called otherwise, and are the same."""
    Path("study.toml").write_text(LIGHT.replace(SETS, '"a.npz"'))
    alone = results(run())
    computed.clear()
    edit('"a.npz"', SETS)
    assert "cells: 3 new, 3 called otherwise" in str(sweep.plan("study.toml", "run"))
    plan = sweep.plan("study.toml", "run")
    assert plan.done == len(alone)
    several = run()
    assert {cell.split("dataset=")[1].split(",")[0] for cell, _ in computed} == {"b"}
    assert_as_made_at_once(several)
    computed.clear()
    shutil.copy("b.npz", "other.npz")
    edit('"b.npz"', '"other.npz"')
    named = run()
    assert not computed
    assert set(named.trials()["dataset"]) == {"a", "other"}
    computed.clear()
    edit('["a.npz", "other.npz"]', '"a.npz"')
    pd.testing.assert_frame_equal(results(run()), alone, check_exact=True)
    assert not computed


def test_a_set_that_has_changed_is_refused(sets: Path):
    Path("study.toml").write_text(LIGHT)
    run()
    shutil.copy("few.npz", "b.npz")
    with pytest.raises(InputError, match=r"(?s)another study.*dataset b was \w{12}…, is \w{12}…"):
        run()
    edit(SETS, '["few.npz", "a.npz"]')
    with pytest.raises(
        InputError, match=r"dataset: .*few.npz: .*x_train.*activation_affine calibrates on training images"
    ):
        run()


def test_ranges_by_other_images_are_another_study(sets: Path):
    images = np.load("b.npz")
    np.savez("b.npz", **images, x_train=images["x_test"][:50], y_train=images["y_test"][:50])
    Path("study.toml").write_text(LIGHT)
    run()
    edit(SETS, '["b.npz", "a.npz"]')
    with pytest.raises(InputError, match=r"(?s)another study.*calibration was"):
        run()
    edit("seeds = 3", 'seeds = 3\ncalibration = "a.npz"')
    assert len(run().trials()) == 10, "the same images, whoever names them"


@pytest.mark.slow
def test_means_from_samples_are_of_each_set(sets: Path, computed: list[tuple[str, int]]):
    """A set too small for samples is seen whole; controls are of each set; rows stay where a set joins."""
    text = (HEAD + NOISY).replace("seeds = 3", "precision = 2")
    Path("study.toml").write_text(text.replace(SETS, '"a.npz"').replace("[0, 0.1, 0.3]", "[0.1]"))
    alone = results(run())
    computed.clear()
    edit('"a.npz"', '["a.npz", "b.npz", "few.npz"]')
    said = str(sweep.plan("study.toml", "run"))
    assert "on 32 to 40 images each" in said
    found = run()
    assert not [cell for cell, _ in computed if "dataset=a" in cell]
    kept = found.trials().query("dataset == 'a'").drop(columns=["cell", "dataset", *PROVENANCE])
    pd.testing.assert_frame_equal(kept, alone.drop(columns="cell"), check_exact=True)
    trials = found.trials().query("family == 'gaussian'")
    few = trials[trials["seed"] >= FIRST_SAMPLED]
    assert few.groupby("dataset")["n_images"].unique().map(list).to_dict() == {"a": [32], "b": [32], "few": [40]}
    assert few.groupby("dataset")["control"].apply(lambda c: c.notna().any()).to_dict() == {
        "a": True,
        "b": True,
        "few": False,
    }
    model = keras.models.load_model("net.keras")
    clean = model.get_weights()
    for name in SIZES:
        images, labels = arrays(name)
        op = [{"op": "gaussian", "scale": 0.1}]
        truth = []
        for seed in range(200):
            model.set_weights(perturbed(model, [0, 1], op, seed))
            truth.append(np.mean(model(images).numpy().argmax(1) == labels))
            model.set_weights(clean)
        mean = found.summary().query(f"family == 'gaussian' and dataset == '{name}'").iloc[0]
        error = np.std(truth, ddof=1) / np.sqrt(len(truth))
        assert abs(mean["mean"] - np.mean(truth)) < 4 * np.hypot(error, 0.02 / 1.96), "once in 15,000"
        assert (mean["mean_high"] - mean["mean_low"]) / 2 < 0.021
        assert mean["n_images"] == SIZES[name]


def test_an_interrupted_run_goes_on(sets: Path, computed: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch):
    watched, calls = worker.evaluate_chunk, []

    def stops(*given):
        calls.append(given)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return watched(*given)

    with monkeypatch.context() as patch:
        patch.setattr(worker, "evaluate_chunk", stops)
        with pytest.raises(Interrupted):
            run(chunk_trials=5)
    first = len(computed)
    assert 0 < first < 24
    worker._evaluators.clear()
    with monkeypatch.context() as patch:
        patch.setattr(worker, "_FORMS", 10**6)  # images are a large part of what may be held
        rest = run()
    assert len(computed) == 24, "the first, then the rest"
    (digest,) = {key[1] for key in worker._evaluators}
    assert digest == prepare(rest.study).datasets["b"].digest, "those of one set at a time"
    assert_as_made_at_once(rest)


def test_what_is_expected_is_of_the_first_set(sets: Path):
    head = HEAD.replace("seeds = 3", "expected = 0.91\nseeds = 1")
    Path("study.toml").write_text(head + NOISY.replace("[0, 0.1, 0.3]", "[0.1]"))
    clean = run().trials().query("family == 'clean'").set_index("dataset").accuracy
    assert clean["b"] < 0.9 < clean["a"]
    edit(SETS, '["b.npz", "a.npz"]')
    with pytest.raises(UnexpectedError, match=r"right about 8\d\.\d+ % of the images, and 91.00 % are expected"):
        run("other")


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ('["a.npz", "a.npz"]', r"dataset: 'a.npz' is listed twice"),
        ('["a.npz", "*.npz"]', r"dataset: 'a.npz' is listed twice"),
        ("[]", "dataset: .* is not the path of a dataset or a list of paths"),
        ('["a.npz", 3]', r"dataset: \['a.npz', 3\] is not the path of a dataset or a list of paths"),
        ('"sets/*.npz"', r"dataset: 'sets/\*.npz' matches no file"),
        ('["a.npz", "nowhere.npz"]', "dataset: nowhere.npz: no such file"),
        ('["a.npz", "large.npz"]', r"takes images of shape \(12, 12, 1\), the dataset has \(14, 14\) \(large\)"),
    ],
)
def test_lists_that_are_wrong(sets: Path, datasets: str, message: str):
    np.savez("large.npz", x_test=np.zeros((3, 14, 14), np.uint8), y_test=np.zeros(3, int))
    edit(SETS, datasets)
    with pytest.raises(InputError, match=message):
        sweep.plan("study.toml", "run")


def test_stems_that_collide_are_paths(sets: Path):
    Path("more").mkdir()
    shutil.copy("b.npz", "more/a.npz")
    edit(SETS, '["a.npz", "more/a.npz"]')
    assert list(sweep.Study.from_toml("study.toml").datasets) == ["a.npz", "more/a.npz"]
    named = sweep.Study.from_toml("study.toml").but(dataset=["d.py:first", "d.py:second", "cifar10.1", "x.PARQUET"])
    assert list(named.datasets) == ["first", "second", "cifar10.1", "x"]


def test_searches_take_one_set(sets: Path):
    edit("seeds = 3", "seeds = 3\nbudget = { drop = 5 }")
    with pytest.raises(InputError, match="dataset: names 2 test sets; give one"):
        sweep.tolerate("study.toml", "found", family="gaussian")


def test_code_in_a_list_of_a_run_is_not_run_unasked(sets: Path):
    """A study.toml that lies in a run folder may be anyone's."""
    Path("my_data.py").write_text(
        "import numpy as np\ndef load():\n    return np.zeros((20, 12, 12), 'uint8'), np.arange(20) % 5\n"
    )
    Path("study.toml").write_text(LIGHT.replace(SETS, '["a.npz", "my_data.py:load"]'))
    run()
    Path("my_data.py").write_text("open('ran', 'w')\n" + Path("my_data.py").read_text())
    with pytest.raises(InputError, match=r"my_data.py:load.*--trust-plugins"):
        sweep.plan("run/study.toml", "run")
    assert not Path("ran").exists()

"""Weights measured on chips of one's own: against plain Keras with these weights, in one process and in Ray workers."""

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import sweep
from sweep import api
from sweep.errors import InputError, TaskError
from sweep.execution.job import Job
from sweep.execution.parcel import parcel
from sweep.execution.verify import verify
from sweep.perturb import perturb
from sweep.perturb.measured import ChipFile, Measured
from sweep.preparation.inputs import prepare
from sweep.preparation.resolved import resolved_table
from sweep.search.space import chosen_family
from sweep.study.study import parse_file
from sweep.training.noise import read_noise
from tests.few import one_in
from tests.oracle import count, draw

STUDY = """
name = "measured"
model = "net.keras"
dataset = "data.npz"
seeds = 3
"""


def study(*families: str, extra: str = "") -> str:
    tables = "\n".join(f'[[family]]\nname = "f{i}"\n{family}\n' for i, family in enumerate(families))
    Path("study.toml").write_text(f"{STUDY}{extra}\n{tables}")
    return "study.toml"


@pytest.fixture
def chips(place: Path) -> tuple[keras.Model, list[dict[str, np.ndarray]], np.ndarray, np.ndarray]:
    """The network, what three chips have, images as it takes them, labels."""
    model = keras.models.load_model("net.keras")
    rng = np.random.default_rng(1)
    names = ("conv1/kernel", "fc/kernel", "fc/bias")
    clean = dict(zip(names, model.get_weights(), strict=True))
    found = [
        {name: (w + rng.normal(0, 0.3, w.shape)).astype(np.float32) for name, w in clean.items()} for _ in range(3)
    ]
    Path("chips").mkdir()
    for name, chip in zip("bca", found, strict=True):
        np.savez(f"chips/{name}.npz", **{key: array for key, array in chip.items() if key != "fc/bias"})
    arrays = np.load("data.npz")
    images = arrays["x_test"][..., None].astype(np.float32) / np.float32(255)
    return model, [found[2], found[0], found[1]], images, arrays["y_test"]  # in sorted order of the names


def weights_of(chip: dict[str, np.ndarray], model: keras.Model, *names: str) -> list[np.ndarray]:
    known = ("conv1/kernel", "fc/kernel", "fc/bias")
    own = dict(zip(known, model.get_weights(), strict=True))
    return [chip[name] if name in names else own[name] for name in known]


MEASURED = 'perturb = [ { op = "measured", files = "chips/*.npz" } ]'


@pytest.mark.parametrize("runner", one_in(2, ["inline", "ray"]))
def test_a_seed_has_the_weights_of_its_file(chips: Any, runner: str):
    model, measured, images, labels = chips
    noisy = 'perturb = [ { op = "measured", files = "chips/*.npz", layers = "fc" }, { op = "gaussian", scale = 0.2 } ]'
    run = sweep.run(study(MEASURED, noisy), "run", runner=runner, **({"workers": 1} if runner == "ray" else {}))
    for row in run.trials().itertuples():
        chip = measured[row.seed]
        if row.family == "f1":
            weights = weights_of(chip, model, "fc/kernel")
            for i in (0, 1):
                drawn = draw(0, row.seed, 1, i).standard_normal(weights[i].shape, dtype=np.float32)
                weights[i] = weights[i] + np.float32(0.2) * drawn
        elif row.family == "f0":
            weights = weights_of(chip, model, "conv1/kernel", "fc/kernel")
        else:
            weights = model.get_weights()
        assert row.n_correct == count(model, weights, images, labels), row
    assert run.trials().groupby("family").size().to_dict() == {"clean": 1, "f0": 3, "f1": 3}
    assert run.trials()["n_correct"].nunique() > 3
    if runner == "inline":
        assert verify("run").sound
        saved = keras.models.load_model(run.chip("net/f0", 1).save("chip.keras"))
        assert all(
            map(np.array_equal, saved.get_weights(), weights_of(measured[1], model, "conv1/kernel", "fc/kernel"))
        )


def test_large_files_travel_by_their_place(chips: Any, monkeypatch: pytest.MonkeyPatch):
    model, measured, images, labels = chips
    monkeypatch.setattr("sweep.preparation.measured.TRAVELLING", 0)
    prepared = prepare(parse_file(study(MEASURED)))
    (transform,) = next(cell for cell in Job.of(prepared).cells.values() if cell.family == "f0").transforms
    assert [file.content for file in transform.chips] == [None] * 3
    assert [Path(file.path).name for file in transform.chips] == ["a.npz", "b.npz", "c.npz"]
    row = sweep.run("study.toml", "run", runner="inline").trials().query("family == 'f0' and seed == 2").iloc[0]
    assert row["n_correct"] == count(model, weights_of(measured[2], model, "conv1/kernel", "fc/kernel"), images, labels)
    np.savez("chips/c.npz", **{"conv1/kernel": np.zeros((3, 3, 1, 4)), "fc/kernel": np.zeros((100, 5))})
    other = ChipFile(transform.chips[2].path, transform.chips[2].digest + "0")
    with pytest.raises(TaskError, match="is out of reach, or was written to after the run began; run again"):
        other.arrays()


def test_sets_of_chips_are_swept_and_layers_taken_one_at_a_time(chips: Any):
    model, measured, images, labels = chips
    Path("chips").rename("first")
    Path("second").mkdir()
    for k in range(3):
        np.savez(f"second/{k}.npz", **{name: w / 2 for name, w in measured[k].items() if name != "fc/bias"})
    swept = 'perturb = [ { op = "measured", files = ["first/*.npz", "second/*.npz"] } ]'
    found = sweep.run(study(swept, swept + '\nsensitivity = "per-layer"'), "run", runner="inline").trials()
    for row in found[found["family"] != "clean"].itertuples():
        scale = np.float32(0.5 if row.files == "second/*.npz" else 1)
        chip = {name: scale * w for name, w in measured[row.seed].items()}
        names = [f"{row.layer}/kernel"] if row.family == "f1" else ["conv1/kernel", "fc/kernel"]
        assert row.n_correct == count(model, weights_of(chip, model, *names), images, labels), row
    assert len(found) == 1 + 2 * 3 + 2 * 2 * 3


def test_the_plan_names_the_chips_and_what_is_not_used(chips: Any):
    _, measured, _, _ = chips
    for name, chip in zip("abc", measured, strict=True):
        np.savez(f"chips/{name}.npz", **chip)
    text = str(api.plan(study(MEASURED)))
    assert "chips/*.npz: 3, seed 0 is a.npz, seed 2 is c.npz; not selected: fc/bias" in " ".join(text.split())
    both = MEASURED.replace(" }", ', variables = ["kernel", "bias"] }')
    assert "not selected" not in str(api.plan(study(both)))


def test_more_chips_grow_a_run_and_another_chip_is_refused(chips: Any):
    _, measured, _, _ = chips
    sweep.run(study(MEASURED, 'perturb = [ { op = "gaussian", scale = 0.1 } ]'), "run", runner="inline")
    before = sweep.open_run("run").trials()
    np.savez("chips/d.npz", **{name: w for name, w in measured[0].items() if name != "fc/bias"})
    after = sweep.run("study.toml", "run", runner="inline", seeds=4).trials()
    both = before.merge(after, on=["cell", "seed"])
    assert len(after) == len(before) + 2
    assert (both["n_correct_x"] == both["n_correct_y"]).all()
    assert (both["seconds_x"] == both["seconds_y"]).all(), "none of them ran again"
    alike = after[(after["family"] == "f0") & after["seed"].isin([0, 3])]["n_correct"]
    assert alike.nunique() == 1, "the same weights"
    np.savez("chips/b.npz", **{name: w for name, w in measured[0].items() if name != "fc/bias"})
    with pytest.raises(InputError, match=r"measured chips/\*.npz, chip 1 was \w+…, is \w+…"):
        sweep.run("study.toml", "run", runner="inline", seeds=4)
    study('perturb = [ { op = "gaussian", scale = 0.2 } ]'.replace("0.2", "0.1"))
    text = Path("study.toml").read_text().replace('"f0"', '"f1"')
    Path("study.toml").write_text(text)
    left = sweep.run("study.toml", "run", runner="inline", seeds=4).trials()
    assert set(left["family"]) == {"clean", "f1"}, "a family that is gone needs no files"


def test_files_travel_with_a_submitted_study(chips: Any):
    names = set(parcel(prepare(parse_file(study(MEASURED)))).files)
    assert {"chips/a.npz", "chips/b.npz", "chips/c.npz"} <= names


def test_what_it_amounts_to_stands_in_the_table(chips: Any):
    model, measured, _, _ = chips
    prepared = prepare(parse_file(study(MEASURED)))
    table = resolved_table(prepared.study, prepared.networks, prepared.flow).to_pandas()
    own = table[(table["family"] == "f0") & (table["variable"] == "conv1/kernel")].iloc[0]
    error = measured[0]["conv1/kernel"] - model.get_weights()[0]
    assert own["error_std"] == pytest.approx(np.sqrt(np.mean(error.astype(np.float64) ** 2)), rel=1e-5)


def write(name: str, **arrays: Any) -> None:
    np.savez(f"chips/{name}.npz", **arrays)


GOOD = {"conv1/kernel": np.zeros((3, 3, 1, 4), np.float32), "fc/kernel": np.zeros((100, 5), np.float32)}


@pytest.mark.parametrize(
    ("files", "extra", "made", "text"),
    [
        ("none/*.npz", "", None, "family[0].perturb[0].files: 'none/*.npz' matches no .npz file"),
        ("chips", "", None, "files: 'chips' does not end in .npz; give files such as chips/*.npz"),
        ("chips/[ab].npz", "", None, "chips/[ab].npz has 2 chips, and seeds go to 2; give fewer seeds"),
        ("chips/*.npz", "precision = 1", None, "precision draws chips as it needs them, and chips/*.npz has 3"),
        (
            "chips/*.npz",
            "",
            {**GOOD, "conv1/kernel": np.zeros((3, 3, 4))},
            "chips/b.npz: conv1/kernel has the shape (3, 3, 4); the network's has (3, 3, 1, 4)",
        ),
        (
            "chips/*.npz",
            "",
            {"conv1/kernel": GOOD["conv1/kernel"]},
            "chips/b.npz: has no fc/kernel; add what is missing",
        ),
        ("chips/*.npz", "", {**GOOD, "fc/kernels": np.zeros(3)}, "'fc/kernels' is no variable; valid: conv1/kernel"),
        (
            "chips/*.npz",
            "",
            {**GOOD, "fc/kernel": np.full((100, 5), np.nan)},
            "fc/kernel holds values that are no finite",
        ),
        (
            "chips/*.npz",
            "",
            {**GOOD, "fc/kernel": np.full((100, 5), "a")},
            "chips/b.npz: fc/kernel holds <U1, not numbers",
        ),
        ("chips/*.npz", "", b"text", "chips/b.npz: not an .npz file that NumPy can read"),
    ],
)
def test_mistakes_before_any_compute(chips: Any, files: str, extra: str, made: Any, text: str):
    if isinstance(made, bytes):
        Path("chips/b.npz").write_bytes(made)
    elif made:
        write("b", **made)
    with pytest.raises(InputError, match=re.escape(text)):
        sweep.run(study(MEASURED.replace("chips/*.npz", files), extra=extra), "run", runner="inline")
    assert not Path("run").exists()


def test_searches_trainings_and_transforms_without_files_say_what_is_missing(chips: Any):
    prepared = prepare(parse_file(study(MEASURED)))
    with pytest.raises(InputError, match="measured has a chip for each of its files, and a search draws as many"):
        chosen_family(prepared, None)
    _, problems = read_noise({"perturb": [{"op": "measured", "files": "chips/*.npz"}]}, set(), {})
    assert problems == [".perturb[0]: measured has chips in files, and each step of a training draws one; leave it out"]
    network = prepared.networks["net"]
    with pytest.raises(InputError, match=r"there is no chip for seed 0; chips/\*.npz has 0"):
        perturb(network.model.get_weights(), network.variables, [Measured(files="chips/*.npz")], 0, 0)

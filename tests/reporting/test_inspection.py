"""One chip, looked at closely: what it decides is what Keras says of the same weights."""

from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

import sweep
from sweep import cli
from sweep.errors import InputError, StoreError
from sweep.randomness import stream
from sweep.reporting.run import Run

CELL = "net/gaussian/scale=0.3"
MORE = """
[[family]]
name = "activations"
perturb = [ { op = "activation_noise", scale = 0.3 } ]

[[family]]
name = "reads"
perturb = [ { op = "gaussian", scale = 0.3, lifetime = "read", block = 50 } ]
"""


@pytest.fixture
def run(place: Path) -> Run:
    study = Path("study.toml")
    study.write_text(study.read_text() + MORE)
    return sweep.run("study.toml", "run", runner="inline")


def network() -> keras.Model:
    return keras.models.load_model("net.keras")


def decisions(model: keras.Model) -> np.ndarray:
    with np.load("data.npz") as data:
        return model.predict(data["x_test"][..., None].astype(np.float32) / 255, verbose=0).argmax(1)


@pytest.mark.slow
def test_a_chip_decides_as_keras_does_with_its_weights(run: Run, capsys: pytest.CaptureFixture[str]):
    check_images(run)
    check_file(run)
    check_other_kinds(run)
    check_command(capsys)
    check_mistakes(run)


def check_images(run: Run) -> None:
    chip = run.chip(CELL, 3)
    model = network()
    clean = [np.array(w) for w in model.get_weights()]
    # The formula of the noise, written out; the kernels are the first two variables of the network.
    noisy = list(clean)
    for i, weight in enumerate(clean):
        if weight.ndim > 1:
            draw = stream(0, 3, 0, i).standard_normal(weight.shape, dtype=np.float32)
            noisy[i] = weight + np.float32(0.3) * draw
    for ours, theirs in zip(chip.weights, noisy, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    before = decisions(model)
    model.set_weights(noisy)
    images = chip.images
    assert images["decision"].tolist() == decisions(model).tolist()
    assert images["clean"].tolist() == before.tolist()
    with np.load("data.npz") as data:
        labels = data["y_test"]
    assert images["label"].tolist() == labels.tolist()
    right = images["decision"].to_numpy() == labels
    assert images["right"].tolist() == right.tolist()
    trial = run.trials().set_index(["cell", "seed"]).loc[(CELL, 3)]
    assert trial["n_correct"] == right.sum()
    confusion = chip.confusion()
    assert confusion.to_numpy().sum() == 300
    assert confusion.loc[1].sum() == (labels == 1).sum()
    classes = chip.classes.set_index("label")
    assert classes.loc[1, "right"] == pytest.approx(right[labels == 1].mean())
    assert run.chip(CELL, 1000).seed == 1000, "whether the run has it or not"
    assert run.chip(CELL.partition("/")[2], 3).cell == CELL, "as displays have it where there is one network"


def check_file(run: Run) -> None:
    for name in ("chip.keras", "chip.h5"):
        saved = keras.models.load_model(run.chip(CELL, 3).save(name))
        assert decisions(saved).tolist() == run.chip(CELL, 3).images["decision"].tolist()
    assert decisions(network()).tolist() == run.chip("net/clean").images["decision"].tolist()


def check_other_kinds(run: Run) -> None:
    for cell, told in (("net/activations", "acts on the data flow"), ("net/reads", "draws anew for each read")):
        chip = run.chip(cell, 2)
        trial = run.trials().set_index(["cell", "seed"]).loc[(cell, 2)]
        assert chip.images["right"].sum() == trial["n_correct"]
        with pytest.raises(InputError, match=told):
            chip.save("chip.keras")


def check_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", "run", "--cell", CELL, "--seed", "3", "--out", "images.csv"]) == 0
    out = capsys.readouterr().out
    images = pd.read_csv("images.csv")
    assert f"{images['right'].sum()} of 300 images right" in out
    assert "taken for" in out
    both = ["--save", "again.keras", "--out", "again.csv"]
    assert cli.main(["inspect", "run", "--cell", CELL, *both]) == 0
    assert capsys.readouterr().out == "again.keras\nagain.csv\n"
    assert cli.main(["inspect", "run", "--cell", CELL, "--out", "nowhere/images.csv"]) == 2
    assert "nowhere/images.csv: cannot be written" in capsys.readouterr().err


def check_mistakes(run: Run) -> None:
    with pytest.raises(InputError, match=r"no cell of the study.*did you mean 'net/gaussian/scale=0.3'"):
        run.chip("net/gausian/scale=0.3")
    with pytest.raises(InputError, match=r"must end in \.keras or \.h5"):
        run.chip(CELL).save("chip.npz")
    chip = run.chip(CELL, 3)
    object.__setattr__(chip, "_stored", {**chip._stored, "n_correct": 0})
    with pytest.raises(StoreError, match="other images are right than in the run: 0 there"):
        _ = chip.images
    with np.load("data.npz") as data:
        np.savez("data.npz", **{**data, "x_test": data["x_test"][::-1]})
    with pytest.raises(InputError, match="are not the files that are there now"):
        run.chip(CELL, 3)

"""A run with a cell of which all trials are void, where the first measure has no value for those."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

import sweep
from sweep.networks.backend import import_keras
from sweep.reporting.run import Run
from sweep.reporting.summary import with_void

keras = import_keras()
WHOLLY = "n/flips/rate=0.5"


@pytest.fixture(name="run", scope="module")
def of_flipped_bits(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("void")
    rng = np.random.default_rng(0)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(3)])
    model.set_weights([rng.normal(size=w.shape).astype(np.float32) for w in model.get_weights()])
    images = rng.normal(size=(60, 8)).astype(np.float32)
    model.save(folder / "n.keras")
    np.savez(folder / "d.npz", x_test=images, y_test=model.predict(images, verbose=0).argmax(1))
    tables = {"name": "s", "model": str(folder / "n.keras"), "dataset": str(folder / "d.npz"), "seeds": 3}
    family = {"name": "flips", "perturb": [{"op": "float32_bit_flip", "rate": [0.5, 0.001]}]}
    study = sweep.Study.from_dict({**tables, "measures": ["loss", "agreement"], "family": [family]})
    return sweep.run(study, folder / "run", runner="inline")


def test_it_stays_in_tables_with_its_count(run: Run) -> None:
    trials, summary = run.trials(), run.summary()
    void = trials[trials["cell"] == WHOLLY]
    assert (void["n_nonfinite"] > 0).all()
    assert void["loss"].isna().all()
    assert WHOLLY not in set(summary["cell"]), "there is nothing to summarise"
    listed = with_void(summary, trials, run.parameters, run.measure).set_index("cell")
    assert list(listed.index) == list(dict.fromkeys(trials["cell"]))
    assert listed.loc[WHOLLY, ["trials", "nonfinite", "rate"]].tolist() == [0, 3, 0.5]
    assert pd.isna(listed.loc[WHOLLY, "mean"])
    pd.testing.assert_frame_equal(listed.drop(index=WHOLLY).reset_index()[list(summary)], summary)
    assert re.search(r"^ *0\.5 +0 +3$", run.table(), re.MULTILINE)


def test_the_report_has_a_row_that_its_pictures_link_to(run: Run) -> None:
    page = run.report()
    targets = set(re.findall(r'href="#(cell-\d+)"', page))
    assert targets <= set(re.findall(r'id="(cell-\d+)"', page))
    row = next(k for k, cell in enumerate(dict.fromkeys(run.trials()["cell"])) if cell == WHOLLY)
    assert f"cell-{row}" in targets
    assert "3, in 1 cell: images had scores" in page


def test_a_cell_without_void_trials_is_not_made_up(run: Run) -> None:
    trials, summary = run.trials(), run.summary()
    some = trials.assign(loss=trials["loss"].where(trials["seed"] != 1, 0.5))
    assert with_void(summary, some, run.parameters, run.measure) is summary

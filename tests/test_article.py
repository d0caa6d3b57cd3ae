"""The shipped study on the real MNIST against an independent computation, image for image."""

from pathlib import Path

import keras
import numpy as np
import pytest

import sweep
from tests.oracle import count, perturbed

# 30 (cell, seed) pairs: both noise laws at every level of the article, and all bit-widths.
PAIRS = [
    *(("gaussian", "scale", level, seed) for level in (0, 0.04, 0.06, 0.08, 0.09, 0.10, 0.16) for seed in (0, 7)),
    *(("uniform", "scale", level, 0) for level in (0, 0.04, 0.06, 0.08, 0.09, 0.10, 0.16)),
    *(("uniform", "scale", level, 7) for level in (0.10, 0.16)),
    *(("fixed_point", "bits", bits, 0) for bits in (32, 16, 8, 4, 3, 2, 1)),
]


@pytest.fixture(scope="module")
def mnist(root: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(root / "models" / "data" / "mnist.npz") as data:
        return data["x_test"].reshape(-1, 28, 28, 1).astype(np.float32) / np.float32(255), data["y_test"]


@pytest.mark.slow
def test_30_trials_equal_keras_predict(root: Path, tmp_path: Path, mnist: tuple, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(root)
    families = [
        sweep.Family(op, [{"op": op, name: sorted({p[2] for p in PAIRS if p[0] == op})}])
        for op, name in (("gaussian", "scale"), ("uniform", "scale"), ("fixed_point", "bits"))
    ]
    paths = {"model": "models/mnist_tf2_fw.h5", "dataset": "models/data/mnist.npz"}
    counted = {}
    for seed in sorted({p[3] for p in PAIRS}):
        study = sweep.Study(name="pairs", **paths, seeds={"start": seed, "count": 1}, family=families)
        for row in sweep.run(study, tmp_path / str(seed), runner="inline").trials().itertuples():
            level = row.bits if row.family == "fixed_point" else row.scale
            counted[row.family, level, row.seed] = row.n_correct
    model = keras.models.load_model(root / paths["model"], compile=False)
    compared = 0
    for op, name, level, seed in PAIRS:
        weights = perturbed(model, [0, 1, 2], [{"op": op, name: level}], seed)
        at = seed if (op != "fixed_point" and level) else 0
        assert counted[op, level, at] == count(model, weights, *mnist), (op, level, seed)
        compared += 1
    assert compared == 30

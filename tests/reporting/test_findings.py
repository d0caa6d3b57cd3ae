"""What families say together, from trials whose answers are known."""

import tomllib

import numpy as np
import pandas as pd
import pytest

from sweep.reporting.findings import answers
from sweep.study.study import Study

STUDY = """
name = "s"
model = "m.h5"
dataset = "d.npz"
seeds = 6
[[family]]
name = "gaussian"
perturb = [ { op = "gaussian", scale = [0, 0.1, 0.2] } ]
[[family]]
name = "rounded"
perturb = [ { op = "fixed_point", bits = [8, 3, 2] } ]
published = [ { bits = 3, accuracy = 0.8CLAIM } ]
"""


def found(claim: str) -> dict[str, pd.DataFrame]:
    study = Study.from_dict(tomllib.loads(STUDY.replace("CLAIM", claim)))
    means = {0: 0.9, 0.1: 0.8, 0.2: 0.5, 8: 0.89, 3: 0.8, 2: 0.6}
    rows = []
    for cell in study.cells:
        value = next(iter(cell.values.values()), 0)
        for seed in range(6 if cell.random else 1):
            accuracy = means[value] + (0.01 * (seed - 2.5) if cell.random else 0)
            rows.append({"model": cell.model, "family": cell.family, "cell": cell.id, **cell.values, "seed": seed})
            rows[-1].update(n_images=1000, accuracy=accuracy)
    return {answer.name: answer.table for answer in answers(study, pd.DataFrame(rows))}


def test_what_is_said_of_noise_and_bits_is_a_column_only_where_a_study_says_it() -> None:
    silent, said = found(""), found(", noise = 0.12")
    assert "claims" not in silent
    pd.testing.assert_frame_equal(silent["equivalent-bits"], said["equivalent-bits"].drop(columns="claimed"))
    np.testing.assert_array_equal(said["equivalent-bits"]["claimed"], [np.nan, 0.12, np.nan])
    assert said["claims"][["bits", "claimed"]].to_numpy().tolist() == [[3, 0.12]]
    assert said["claims"]["level"].item() == pytest.approx(0.1)
    assert said["claims"]["holds"].tolist() == [False]

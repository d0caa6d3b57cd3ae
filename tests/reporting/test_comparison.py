"""Cells against cells, against scipy's own paired and Welch's intervals."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sweep.errors import InputError
from sweep.reporting.comparison import compare

RNG = np.random.default_rng(5)
PARAMETERS = ["scale", "bits"]


def cell(family: str, name: str, scale: float | None, bits: int | None, mean: float, seeds: range) -> pd.DataFrame:
    accuracy = np.round(RNG.normal(mean, 0.02, len(seeds)), 4)
    return pd.DataFrame(
        {
            "model": "m",
            "family": family,
            "cell": name,
            "scale": scale,
            "bits": bits,
            "seed": seeds,
            "accuracy": accuracy,
        }
    )


TRIALS = pd.concat(
    [
        cell("gaussian", "g1", 0.1, None, 0.8, range(30)),
        cell("gaussian", "g2", 0.2, None, 0.6, range(30)),
        cell("uniform", "u1", 0.1, None, 0.7, range(30)),
        cell("uniform", "u2", 0.2, None, 0.5, range(10, 40)),
        cell("rounded", "r4", None, 4, 0.9, range(1)),
        cell("rounded", "r2", None, 2, 0.4, range(1)),
    ]
).astype({"scale": "Float64", "bits": "Int64"})
FIXED = ["r4", "r2"]


def accuracy(name: str) -> pd.Series:
    return TRIALS[TRIALS["cell"] == name].set_index("seed")["accuracy"]


def ours(first, second, shared: bool = True) -> pd.DataFrame:
    return compare(TRIALS, TRIALS, (first, second), PARAMETERS, FIXED, shared)


def test_families_level_by_level_over_the_chips_that_both_have() -> None:
    table = ours("gaussian", "uniform")
    assert list(table["scale"]) == [0.1, 0.2]
    assert list(table["pairs"]) == [30, 20]
    assert table["first"].tolist() == pytest.approx([accuracy("g1").mean(), accuracy("g2").mean()])
    for row, (a, b) in zip(table.itertuples(), (("g1", "u1"), ("g2", "u2")), strict=True):
        both = accuracy(a).index.intersection(accuracy(b).index)
        interval = stats.ttest_rel(accuracy(a)[both], accuracy(b)[both]).confidence_interval()
        assert (row.difference_low, row.difference_high) == pytest.approx(tuple(interval))


def test_families_that_only_their_own_run_has() -> None:
    first, second = (TRIALS[TRIALS["family"] == family] for family in ("gaussian", "uniform"))
    found = compare(first, second, ("gaussian", "uniform"), PARAMETERS, FIXED)
    pd.testing.assert_frame_equal(found, ours("gaussian", "uniform"))


def test_levels_of_every_family_that_has_both() -> None:
    table = ours({"scale": 0.1}, {"scale": 0.2})
    assert list(table.columns[:3]) == ["family", "first", "second"]
    assert list(table["family"]) == ["gaussian", "uniform"]


def test_a_cell_without_randomness_is_the_same_for_every_chip() -> None:
    (row,) = ours({"family": "gaussian", "scale": 0.1}, {"bits": 4}).itertuples()
    interval = stats.ttest_1samp(accuracy("g1") - accuracy("r4").iloc[0], 0).confidence_interval()
    assert (row.difference_low, row.difference_high) == pytest.approx(tuple(interval))
    (row,) = ours("r4", "r2").itertuples()
    assert row.difference == row.difference_low == row.difference_high == row.first - row.second


def test_chips_of_another_run_are_other_chips() -> None:
    (row,) = ours("g1", "g1", shared=False).itertuples()
    assert row.pairs == 0
    assert row.difference_high - row.difference_low > 0.01
    (row,) = ours("g1", "g1").itertuples()
    assert (row.pairs, row.difference_high) == (30, 0)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("gauss", "uniform", "no cell 'gauss'; family: gaussian, uniform, rounded"),
        ({"scale": 0.3}, "uniform", "no scale 0.3; scale: 0.1, 0.2"),
        ({"width": 3}, "uniform", "no column 'width'; there are model, family"),
        ("gaussian", "rounded", "no two cells agree in model, scale, bits"),
        ({"model": "m"}, {"family": "uniform"}, "takes both g1 and u1; name more columns"),
    ],
)
def test_what_cannot_be_compared(first, second, said: str) -> None:
    with pytest.raises(InputError, match=said):
        ours(first, second)

"""Trials to rows, against pandas and numpy by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.errors import StoreError
from sweep.reporting.summary import STATISTICS, summarise
from sweep.statistics import estimates

COLUMNS = ["model", "family", "cell", "scale", "bits", "trials", "n_images", *STATISTICS]


def trials_of(*cells: tuple[str, str, float | None, int | None, list[int]], n_images: int = 1000) -> pd.DataFrame:
    """Trials from (family, cell, scale, bits, correct counts)."""
    rows = [
        ("net.h5", family, cell, scale, bits, seed, n_images, correct, correct / n_images, 0.1, "host", "cpu", "keras")
        for family, cell, scale, bits, counts in cells
        for seed, correct in enumerate(counts)
    ]
    names = "model family cell scale bits seed n_images n_correct accuracy seconds host device engine"
    frame = pd.DataFrame(rows, columns=names.split())
    return frame.astype({"scale": "Float64", "bits": "Int64", "n_images": "int32", "n_correct": "int32"})


TRIALS = trials_of(
    ("noise", "b", 0.1, None, [800, 900, 700, 850]),
    ("noise", "a", 0.0, None, [985]),
    ("rounding", "c", None, 4, [980]),
    ("noise", "d", 0.2, None, [500]),
)


def test_one_row_per_cell_in_order_of_first_appearance() -> None:
    summary = summarise(TRIALS, ["scale", "bits"], deterministic=["a", "c"])
    assert list(summary.columns) == COLUMNS
    assert summary["cell"].tolist() == ["b", "a", "c", "d"]
    assert summary["trials"].tolist() == [4, 1, 1, 1]
    assert summary["n_images"].tolist() == [1000] * 4
    assert summary["scale"].dtype == "Float64"
    assert summary["bits"].dtype == "Int64"
    assert summary["scale"].isna().tolist() == [False, False, True, False]
    assert list(summary.index) == [0, 1, 2, 3]


def test_interleaved_trials_go_to_their_cells() -> None:
    shuffled = TRIALS.sample(frac=1, random_state=3)
    expected = summarise(TRIALS, ["scale", "bits"]).set_index("cell").sort_index()
    found = summarise(shuffled, ["scale", "bits"]).set_index("cell").sort_index()
    pd.testing.assert_frame_equal(found, expected, rtol=1e-12)


def test_statistics_of_a_random_cell() -> None:
    row = summarise(TRIALS, ["scale", "bits"]).iloc[0]
    chips = np.array([0.8, 0.9, 0.7, 0.85])
    assert row["mean"] == pytest.approx(0.8125)
    assert row["std"] == pytest.approx(np.std(chips, ddof=1))
    assert (row["mean"], row["mean_low"], row["mean_high"]) == estimates.mean(chips)
    assert (row["std"], row["std_low"], row["std_high"]) == estimates.standard_deviation(chips)
    assert (row["min"], row["median"], row["max"]) == pytest.approx((0.7, 0.825, 0.9))
    assert (row["q05"], row["q95"]) == pytest.approx((0.715, 0.8925))


def test_a_cell_without_randomness_is_exact() -> None:
    row = summarise(TRIALS, ["scale", "bits"], deterministic={"a", "c"}).set_index("cell").loc["a"]
    assert (row[["std", "std_low", "std_high"]] == 0).all()
    assert (row[["mean", "mean_low", "mean_high", "min", "q05", "median", "q95", "max"]] == 0.985).all()


def test_a_random_cell_with_one_trial_has_no_spread() -> None:
    row = summarise(TRIALS, ["scale", "bits"], deterministic={"a", "c"}).set_index("cell").loc["d"]
    assert row[["std", "mean_low", "mean_high", "std_low", "std_high"]].isna().all()
    assert (row[["mean", "min", "q05", "median", "q95", "max"]] == 0.5).all()


def test_trials_of_a_cell_without_randomness_must_agree() -> None:
    with pytest.raises(StoreError, match=r"cell b: it has no randomness.* 4 trials range from 0\.700000 to 0\.9"):
        summarise(TRIALS, ["scale", "bits"], deterministic=["b"])


def test_published_values_stand_beside_their_cells() -> None:
    summary = summarise(TRIALS, ["scale", "bits"], published={"c": 0.9841, "b": 0.7, "not run yet": 0.5})
    assert list(summary.columns) == [*COLUMNS, "published"]
    assert summary["published"].dtype == "Float64"
    assert summary["published"].isna().tolist() == [False, True, False, True]
    assert summary["published"].dropna().tolist() == [0.7, 0.9841]


def test_published_may_be_empty() -> None:
    assert summarise(TRIALS, ["scale", "bits"], published={})["published"].isna().all()


def test_models_are_kept_apart() -> None:
    other = TRIALS.assign(model="other.h5")
    summary = summarise(pd.concat([TRIALS, other]), ["scale", "bits"])
    assert summary["model"].tolist() == ["net.h5"] * 4 + ["other.h5"] * 4


def test_the_number_of_images_is_missing_where_trials_differ_in_it() -> None:
    mixed = pd.concat([TRIALS, trials_of(("noise", "b", 0.1, None, [400]), n_images=500)])
    summary = summarise(mixed, ["scale", "bits"])
    assert summary["n_images"].isna().tolist() == [True, False, False, False]


def test_no_trials_give_no_rows() -> None:
    summary = summarise(TRIALS.iloc[:0], ["scale", "bits"], published={})
    assert list(summary.columns) == [*COLUMNS, "published"]
    assert summary.empty


def test_trials_are_left_as_they_were() -> None:
    before = TRIALS.copy(deep=True)
    summarise(TRIALS, ["scale", "bits"], deterministic=["a"], published={"b": 0.7})
    pd.testing.assert_frame_equal(TRIALS, before)


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(0, 1000), min_size=1, max_size=12), min_size=1, max_size=5))
def test_counts_means_and_spreads_are_those_of_pandas(counts: list[list[int]]) -> None:
    trials = trials_of(*(("noise", f"cell {i}", float(i), None, chips) for i, chips in enumerate(counts)))
    summary = summarise(trials, ["scale", "bits"])
    grouped = trials.groupby("cell", sort=False)["accuracy"]
    assert summary["trials"].tolist() == grouped.size().tolist()
    np.testing.assert_allclose(summary["mean"], grouped.mean(), rtol=1e-12)
    np.testing.assert_allclose(summary["std"], grouped.std(ddof=1), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(summary["q05"], grouped.quantile(0.05), rtol=1e-12)

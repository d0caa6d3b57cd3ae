"""Trainings and chips as a table, from trials."""

import numpy as np
import pandas as pd
import pytest

from sweep.reporting.summary import components
from sweep.statistics import estimates
from sweep.statistics.variance_components import Components, decompose
from tests.statistics.test_variance_components import simulated

COLUMNS = ["family", "scale", "bits", "networks", "chips", "left_out", *Components._fields]


def trials_of(*groups: tuple[str, float | None, int | None, dict[str, dict[int, float]]]) -> pd.DataFrame:
    """Trials from (family, scale, bits, {model: {seed: accuracy}})."""
    rows = [
        (model, family, f"{model}/{family}/{scale}/{bits}", scale, bits, seed, 1000, accuracy)
        for family, scale, bits, models in groups
        for model, chips in models.items()
        for seed, accuracy in chips.items()
    ]
    names = ["model", "family", "cell", "scale", "bits", "seed", "n_images", "accuracy"]
    return pd.DataFrame(rows, columns=names).astype({"scale": "Float64", "bits": "Int64"})


def test_one_row_per_perturbation_over_all_models() -> None:
    rng = np.random.default_rng(1)
    tables = [simulated(rng, 3, 4, 0.02, 0.03, 0.01) for _ in range(2)]
    models = [
        {f"net{i}": dict(zip(range(10, 14), row, strict=True)) for i, row in enumerate(table)} for table in tables
    ]
    exact = {f"net{i}": {10: 0.9 + i / 100} for i in range(3)}
    trials = trials_of(
        ("noise", 0.1, None, models[0]), ("noise", 0.0, None, exact), ("bits", None, 4, models[1])
    ).sample(frac=1, random_state=2)
    before = trials.copy(deep=True)
    found = components(trials, ["scale", "bits"], {f"net{i}/noise/0.0/None" for i in range(3)})
    pd.testing.assert_frame_equal(trials, before)
    assert list(found.columns) == COLUMNS
    assert (found["scale"].dtype, found["bits"].dtype) == ("Float64", "Int64")
    found = found.sort_values(["family", "scale"]).reset_index(drop=True)
    assert found["family"].tolist() == ["bits", "noise", "noise"]
    assert found["networks"].tolist() == [3, 3, 3]
    assert found["chips"].tolist() == [4, 1, 4]
    assert found["left_out"].tolist() == [0, 0, 0]
    for row, table in ((0, tables[1]), (2, tables[0])):
        np.testing.assert_allclose(found.loc[row, list(Components._fields[:-1])].to_list(), decompose(table)[:-1])
    only = found.loc[1]
    assert (only["std_chips"], only["std_interaction"], only["truncated"]) == (0, 0, "")
    assert tuple(only[["mean", "mean_low", "mean_high"]]) == estimates.mean([0.9, 0.91, 0.92])
    assert only["std_trainings"] == pytest.approx(0.01)


def test_seeds_that_some_networks_lack_are_left_out_and_counted() -> None:
    complete = {"a": {0: 0.8, 1: 0.7, 2: 0.6}, "b": {0: 0.9, 1: 0.85, 2: 0.7}}
    more = {"a": complete["a"] | {3: 0.1, 4: 0.1}, "b": complete["b"] | {7: 0.2}}
    one = components(trials_of(("noise", 0.1, None, complete)), ["scale"])
    other = components(trials_of(("noise", 0.1, None, more)), ["scale"])
    assert (other["chips"][0], other["left_out"][0]) == (3, 3)
    pd.testing.assert_frame_equal(one.drop(columns="left_out"), other.drop(columns="left_out"))


def test_without_a_common_seed_nothing_is_said() -> None:
    found = components(trials_of(("noise", 0.1, None, {"a": {0: 0.8}, "b": {1: 0.9}})), ["scale"]).iloc[0]
    assert (found["networks"], found["chips"], found["left_out"]) == (2, 0, 2)
    assert np.isnan(found[list(Components._fields[:-1])].to_numpy(dtype=float)).all()


def test_no_trials_give_no_rows() -> None:
    assert components(trials_of(), ["scale", "bits"]).empty
    assert list(components(trials_of(), ["scale", "bits"]).columns) == COLUMNS


def test_two_trials_of_one_seed_are_refused() -> None:
    trials = trials_of(("noise", 0.1, None, {"a": {0: 0.8}}))
    with pytest.raises(ValueError, match="duplicate"):
        components(pd.concat([trials, trials]), ["scale"])

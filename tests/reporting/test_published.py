"""Published values and laws as tables, from trials."""

import numpy as np
import pandas as pd
import pytest

from sweep.reporting.published import compare_families, fits, percentiles, table_of
from sweep.statistics.likelihood_ratio import compare
from sweep.statistics.published import fit

RNG = np.random.default_rng(0)
CHIP = RNG.standard_normal((200, 1))
CHIPS = 0.8 + 0.05 * (0.95 * CHIP + np.sqrt(1 - 0.95**2) * RNG.standard_normal((200, 3))) - [0, 0.1, 0.2]


def trials() -> pd.DataFrame:
    """A family with a clean cell and three random ones; the last lacks ten chips."""
    rows = [("m", "noise", "m/0", 0.0, 0, 0.9)]
    for level in range(3):
        chips = CHIPS[: 190 if level == 2 else 200, level]
        rows += [("m", "noise", f"m/{level + 1}", 0.1 * (level + 1), seed, a) for seed, a in enumerate(chips)]
    return pd.DataFrame(rows, columns=["model", "family", "cell", "scale", "seed", "accuracy"])


PUBLISHED = {"m/0": 0.91, "m/3": 0.55, "m/1": 0.9, "m/9": 0.5}


def test_percentiles_of_a_run() -> None:
    table = percentiles(trials(), ["scale"], PUBLISHED, {"m/0"})
    assert table["cell"].tolist() == ["m/0", "m/1", "m/3"]
    assert table["scale"].tolist() == pytest.approx([0, 0.1, 0.3])
    assert table["trials"].tolist() == [1, 200, 190]
    assert table["difference"].tolist() == pytest.approx((table["published"] - table["mean"]).tolist())
    assert table.loc[0, ["percentile", "percentile_low", "percentile_high"]].isna().all()
    assert table.loc[1, "percentile"] == np.mean(CHIPS[:, 0] < 0.9)
    assert table.loc[2, "percentile_low"] < table.loc[2, "percentile"] < table.loc[2, "percentile_high"]


def test_no_published_cell_gives_an_empty_table() -> None:
    assert percentiles(trials(), ["scale"], {}).empty
    assert fits(trials(), {}).empty


def test_fits_of_a_run_take_the_chips_that_all_cells_have() -> None:
    table = fits(trials(), PUBLISHED, {"m/0"})
    assert table[["model", "family"]].to_numpy().tolist() == [["m", "noise"]]
    assert table.loc[0, "chips"] == 190
    assert table.loc[0, "levels"] == 2
    assert tuple(table.iloc[0, 2:]) == fit(CHIPS[:190][:, [0, 2]], [0.9, 0.55])
    assert list(table_of(trials(), PUBLISHED, {"m/0"}).columns) == ["m/1", "m/3"]
    assert fits(trials().query("cell == 'm/0'"), PUBLISHED, {"m/0"}).empty


def test_families_are_compared_where_both_have_a_published_value() -> None:
    rows = []
    for family, table in (("a", CHIPS[:, :2]), ("b", CHIPS[:, 1:])):
        rows.append(("m", family, f"{family}0", 0.0, 0, 0.98))
        rows += [("m", family, f"{family}{k + 1}", k + 1.0, seed, x)
                 for k in range(2) for seed, x in enumerate(table[:, k])]  # fmt: skip
    trials = pd.DataFrame(rows, columns=["model", "family", "cell", "scale", "seed", "accuracy"])
    published = {"a0": 0.98, "b0": 0.98, "a1": 0.88, "b1": 0.88, "a2": 0.6, "b2": 0.6}
    table = compare_families(trials, ["scale"], ("a", "b"), published, {"a0", "b0"})
    assert table["draws"].tolist() == ["independent", "common"]
    assert tuple(table.iloc[0, 2:]) == pytest.approx(
        tuple(compare(CHIPS[:, :2], CHIPS[:, 1:], [0.88, 0.6])), nan_ok=True
    )
    assert table["levels"].tolist() == [2, 2]
    one = compare_families(trials, ["scale"], ("a", "b"), {**published, "b2": 0.7}, {"a0", "b0"})
    assert one["levels"].tolist() == [1, 1]
    with pytest.raises(ValueError, match="no value that a and b both have"):
        compare_families(trials, ["scale"], ("a", "b"), {"a1": 0.88}, {"a0", "b0"})

"""Two laws before a published table."""

import numpy as np
import pytest
from scipy import stats

from sweep.statistics.likelihood_ratio import compare

MEANS = np.array([0.9, 0.7])


def chips(shift: float, n: int = 300, seed: int = 0, same: float = 0.9) -> np.ndarray:
    """On the logit scale normal, of standard deviation 0.5; shape (n, 2)."""
    rng = np.random.default_rng(seed)
    scores = np.sqrt(same) * rng.standard_normal((n, 1)) + np.sqrt(1 - same) * rng.standard_normal((n, 2))
    return 1 / (1 + np.exp(-(np.log(MEANS / (1 - MEANS)) - shift + 0.5 * scores)))


FIRST, SECOND = chips(0), chips(0.8, seed=1)


def log_ratio(table: np.ndarray) -> float:
    """Of the true laws, levels independent."""
    logits = np.log(table / (1 - table)) - np.log(MEANS / (1 - MEANS))
    return float(np.sum(stats.norm.logpdf(logits, 0, 0.5) - stats.norm.logpdf(logits, -0.8, 0.5)))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.7, 1.0])
def test_the_ratio_and_its_probability_are_near_those_of_the_true_laws(share: float) -> None:
    table = 1 / (1 + np.exp(-(np.log(MEANS / (1 - MEANS)) - 0.8 * share)))
    expected = log_ratio(table)
    found = compare(FIRST, SECOND, table)
    assert abs(found.log_ratio - expected) < max(3 * found.error, 0.3)
    assert found.probability == pytest.approx(1 / (1 + np.exp(-expected)), abs=0.1)
    assert found.probability_low < found.probability < found.probability_high
    # Two levels, each 1.6 standard deviations apart: half of 1.6 · √2 to either side.
    assert found.wrong == pytest.approx(stats.norm.cdf(-0.8 * np.sqrt(2)), abs=0.03)
    assert found.levels == 2


def test_the_order_of_the_laws_only_turns_the_answer() -> None:
    table = MEANS - [0.01, 0.05]
    one, other = compare(FIRST, SECOND, table), compare(SECOND, FIRST, table)
    assert other.log_ratio == pytest.approx(-one.log_ratio)
    assert other.probability == pytest.approx(1 - one.probability, abs=0.02)
    assert other.under_second == pytest.approx(one.under_first, abs=0.03)


def test_the_standard_error_is_that_of_other_chips() -> None:
    table = MEANS - [0.01, 0.05]
    again = [compare(chips(0, seed=2 * k), chips(0.8, seed=2 * k + 1), table) for k in range(40)]
    assert np.std([c.log_ratio for c in again]) == pytest.approx(np.mean([c.error for c in again]), rel=0.35)


def test_a_table_from_one_chip_says_less_than_one_from_two() -> None:
    table = FIRST[np.argsort(FIRST[:, 0])[150]]
    alone, together = compare(FIRST, SECOND, table), compare(FIRST, SECOND, table, common=True)
    assert together.wrong > alone.wrong
    assert np.isnan(together.error)
    assert 0.5 < together.probability < 1


def test_laws_far_apart_leave_no_doubt_and_no_overflow() -> None:
    far = chips(8, seed=1)
    found = compare(FIRST, far, MEANS)
    assert found.probability > 0.99
    assert found.wrong == 0
    assert found.under_second == 0


def test_equal_chips_and_perfect_accuracies_are_no_trouble() -> None:
    flat = np.column_stack([np.full(20, 0.9), np.full(20, 1.0)])
    found = compare(flat, flat, [0.9, 1.0])
    assert found.log_ratio == pytest.approx(0)
    assert found.probability == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("first", "second", "published"),
    [
        (FIRST, SECOND, [0.5]),
        (FIRST[:4], SECOND, MEANS),
        (FIRST, SECOND[:, 0], MEANS),
        (FIRST[:, :0], SECOND[:, :0], []),
    ],
)
def test_shapes_that_do_not_agree_are_refused(first: np.ndarray, second: np.ndarray, published: list[float]) -> None:
    with pytest.raises(ValueError, match=r"expected \(chips, levels\)"):
        compare(first, second, published)

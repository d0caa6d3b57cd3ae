"""A small part of the simulations behind docs/statistics.md: intervals hold about as often as they should."""

from collections.abc import Callable, Iterator

import pytest
from scipy import stats

from tests.statistics import coverage

FALSE_ALARM = 1e-5
"""Of one check, were the method right; seeds are fixed, so that a check which passes passes always."""


@pytest.mark.parametrize(
    ("simulation", "studies", "expected"),
    [
        (lambda n: coverage.cells(n, sizes=(20, 100)), 300, (0.93, 0.975)),
        (lambda n: coverage.differences(n, sizes=(20,)), 300, (0.94, 0.96)),
        (lambda n: coverage.inversions(n, sizes=(20,)), 60, (0.93, 0.98)),
    ],
    ids=["one cell", "differences", "inversions"],
)
def test_intervals_hold_what_they_should(
    simulation: Callable[[int], Iterator[coverage.Row]], studies: int, expected: tuple[float, float]
) -> None:
    for name, law, n, share in simulation(studies):
        fewest = stats.binom.ppf(FALSE_ALARM, studies, expected[0]) / studies
        most = stats.binom.ppf(1 - FALSE_ALARM, studies, expected[1]) / studies
        assert fewest <= share <= most, (name, law, n)


def test_only_intervals_on_new_images_hold_on_new_images() -> None:
    found = {(name, law): share for name, law, _, share in coverage.images(150, sizes=(20,))}
    fewest = stats.binom.ppf(FALSE_ALARM, 150, 0.95) / 150
    for law in ("luck 0", "luck 0.5", "luck 2"):
        assert found["mean on new images", law] >= fewest
    assert found["this set's mean interval, about new images", "luck 0"] < fewest


def test_a_table_of_our_own_law_is_seldom_refused() -> None:
    for name, _, n, share in coverage.false_alarms(200, sizes=(100,)):
        assert share <= stats.binom.ppf(1 - FALSE_ALARM, 200, 0.05) / 200, (name, n)


def test_a_verdict_is_right_as_often_as_it_says() -> None:
    rows = [share for *_, share in coverage.verdicts(150, sizes=(100,))]
    for studies, said, right in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
        count = round(studies * 150)
        if count:
            assert round(right * count) >= stats.binom.ppf(FALSE_ALARM, count, said - 0.05)

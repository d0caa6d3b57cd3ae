"""The confidence of an answer: by simulation, with searches that are as wrong as can be."""

from types import SimpleNamespace

import numpy as np
import pytest

from sweep.search import confirmation
from sweep.search.confirmation import confirm
from sweep.statistics.estimates import Estimate
from sweep.statistics.margins import margin

SPREAD = 0.02
CHIPS = 400


class Simulated:
    """A goal and a search whose settings have these true margins and costs; chips share most of their luck."""

    def __init__(self, truth: dict[tuple[int, ...], float], seed: int, confidence: float, error: float = 0.001):
        self.truth, self.rng = truth, np.random.default_rng(seed)
        self.budget = SimpleNamespace(confidence=confidence, drop=1.0, quantile=None)
        self.chips = dict.fromkeys(truth, 128)
        self.found = {s: m + error * self.rng.standard_normal() for s, m in truth.items()}
        self.error = error
        self.luck: dict[int, np.ndarray] = {}
        self.asked: list[tuple[tuple[int, ...], int]] = []

    def cell(self, setting: tuple[int, ...]) -> tuple[int, ...]:
        return setting

    def margin(self, setting: tuple[int, ...]) -> tuple[float, float]:
        return self.found[setting], self.error

    def cost(self, setting: tuple[int, ...]) -> float:
        return setting[0]

    def front(self) -> list[tuple[int, ...]]:
        found, best = [], -np.inf
        for setting in sorted(self.truth):
            if self.found[setting] > best:
                found.append(setting)
                best = self.found[setting]
        return found

    def best(self) -> tuple[int, ...] | None:
        return min((s for s in self.truth if self.found[s] >= self.error), default=None)

    def nearest(self) -> tuple[int, ...]:
        return max(self.truth, key=lambda s: self.found[s])

    def chips_for(self, *_: object) -> int:
        return CHIPS

    def fresh(self, setting: tuple[int, ...], chips: int, number: int, doubt: float) -> Estimate:
        self.asked.append((setting, number))
        if number not in self.luck:
            self.luck[number] = self.rng.normal(0, SPREAD, chips)
        own = self.rng.normal(0, SPREAD / 3, chips)
        return margin(self.truth[setting] + self.luck[number] + own, doubt=doubt)


def confirmed(one: Simulated) -> confirmation.Confirmed:
    return confirm(one, one, one, lambda _: None)  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [0.001, 0.0005])
@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_answers_miss_the_budget_no_more_often_than_was_said(confidence: float, error: float):
    """All settings but the costliest are below the limit by next to nothing: each that passes is a mistake."""
    truth = {(k,): -1e-6 for k in range(6)} | {(9,): 0.0015}
    found = [confirmed(Simulated(truth, seed, confidence, error)) for seed in range(1500)]
    wrong = np.mean([one.passed and truth[one.setting] < 0 for one in found])
    doubt = 1 - confidence
    assert wrong <= doubt + 3 * np.sqrt(doubt * confidence / 1500)
    assert any(one.passed for one in found)


def test_none_that_keeps_the_budget_means_none_passes():
    truth = {(k,): -0.0005 * (6 - k) for k in range(6)}
    found = [confirmed(Simulated(truth, seed, 0.95)) for seed in range(400)]
    assert np.mean([one.passed for one in found]) <= 0.05
    nothing = next(one for one in found if not one.passed)
    assert nothing.margin.low < 0


def test_the_cheapest_that_clearly_keeps_the_budget_is_found():
    truth = {(1,): -0.02, (2,): -0.004, (3,): 0.008, (4,): 0.02}
    found = [confirmed(Simulated(truth, seed, 0.95)) for seed in range(200)]
    assert {one.setting for one in found} == {(3,)}
    assert all(one.passed and one.margin.low > 0 for one in found)


def test_each_round_has_chips_of_its_own_and_half_the_doubt():
    one = Simulated({(1,): 0.001, (2,): 0.0012, (3,): 0.02}, 0, 0.95, error=1e-9)
    one.found = {(1,): 0.01, (2,): 0.012, (3,): 0.02}  # the search is mistaken about the two cheaper ones
    one.truth |= {(1,): -0.02, (2,): -0.02}
    found = confirmed(one)
    assert found.passed
    assert found.setting == (3,)
    assert found.doubt == pytest.approx(0.05 / 8)
    assert one.asked == [((1,), 0), ((2,), 1), ((3,), 2)]

"""What is proposed: against enumeration, quadrature, and surfaces that are known."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from sweep.search.surrogate import Surrogate, front, improvement, logit, pool, total_costs

COSTS = ((5.0, 3.0, 1.0), (50.0, 30.0, 10.0), (8.0, 2.0, 0.0))
EFFECTS = [np.array([0.0, 0.2, 1.0]), np.array([0.0, 0.1, 2.0]), np.array([0.0, 0.5, 0.6])]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_the_front_is_what_nothing_beats(points: list[tuple[int, int]]):
    costs, values = np.array(points, float).T
    chosen = front(costs, values).tolist()
    for k, (cost, value) in enumerate(points):
        beaten = any((c <= cost and v >= value) and (c, v) != (cost, value) for c, v in points)
        if not beaten:
            assert (cost, value) in {points[j] for j in chosen}
        else:
            assert k not in chosen


def test_of_few_settings_all_are_looked_at_and_of_many_those_that_lose_least():
    every = pool(EFFECTS, COSTS)
    assert sorted(map(tuple, every.tolist())) == sorted(itertools.product(range(3), repeat=3))
    layers = 12
    rng = np.random.default_rng(0)
    effects = [np.sort(rng.random(4)) for _ in range(layers)]
    costs = [tuple(np.sort(rng.random(4))[::-1]) for _ in range(layers)]
    few = pool(effects, costs, most=2000)
    assert len(few) <= 4 * 2000
    loss = sum(effect[few[:, k]] for k, effect in enumerate(effects))
    cost = total_costs(few, costs)
    # By dynamic programming over whole thousandths of cost: the least loss of each.
    units = [np.ceil(1000 * np.array(own)).astype(int) for own in costs]
    least = np.full(1000 * layers + layers + 1, np.inf)
    least[0] = 0
    for unit, effect in zip(units, effects, strict=True):
        new = np.full_like(least, np.inf)
        for u, e in zip(unit, effect, strict=True):
            new[u:] = np.minimum(new[u:], least[: len(least) - u] + e)
        least = new
    for budget in (3.0, 5.0, 8.0):
        assert loss[cost <= budget].min() <= least[: int(1000 * budget)].min() + 0.03


def test_improvement_is_the_mean_of_what_is_above():
    for mean, deviation, over in [(0.9, 0.05, 0.92), (0.5, 0.2, 0.4), (0.1, 0.01, 0.2)]:
        law = stats.norm(mean, deviation)
        wanted = integrate.quad(lambda v, o=over, law=law: (v - o) * law.pdf(v), over, mean + 12 * deviation)[0]
        assert improvement(np.array([mean]), np.array([deviation]), np.array([over]))[0] == pytest.approx(
            wanted, abs=1e-9
        )


def test_what_was_measured_is_known_and_tells_of_its_neighbours():
    settings = pool(EFFECTS, COSTS)
    additive = 2.0 - sum(effect[settings[:, k]] for k, effect in enumerate(EFFECTS))
    truth = additive - 0.3 * (settings > 0).prod(axis=1) * additive  # all layers together lose more
    model = Surrogate(EFFECTS, 2.0)
    seen = [tuple(row) for row in settings[::2].tolist()]
    model.fit(seen, truth[::2], np.full(len(seen), 1e-3))
    mean, error = model.predict(settings)
    assert np.abs(mean - truth)[::2].max() < 0.1
    assert error[::2].max() < error[1::2].min()
    assert np.abs(mean - truth).max() < np.abs(additive - truth).max() / 2
    assert (np.abs(mean - truth) < 3 * error).mean() > 0.85


def test_accuracies_beyond_the_ends_have_logits():
    assert np.isfinite(logit([-0.2, 0.0, 1.0, 1.2])).all()
    assert logit([0.5])[0] == 0

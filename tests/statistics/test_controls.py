"""Controls of a chip's draw: mean 0 whatever the gradients and the factors are, and the same in any company."""

import numpy as np
import pytest
from scipy import stats

from sweep.statistics.controls import ERROR_UNIT, RIDGE, controls, directions, factors, features
from sweep.statistics.precision import PILOT, chips_for, precise_mean, uncontrolled

RNG = np.random.default_rng(5)
WEIGHTS, PAIRS, CHIPS = 300, 7, 20_000
GRADIENTS = RNG.standard_t(3, (PAIRS, WEIGHTS)).astype(np.float16)
STDS = RNG.uniform(0, 1, WEIGHTS) * (RNG.random(WEIGHTS) < 0.9)
LAWS = {"normal": RNG.standard_normal, "uniform": lambda shape: (2 * RNG.random(shape) - 1) * 3**0.5}


def whole(errors: np.ndarray) -> np.ndarray:
    return np.rint(errors / ERROR_UNIT).astype(np.float32)


@pytest.mark.parametrize("law", LAWS)
def test_features_have_mean_0_and_are_what_the_formula_says(law: str):
    errors = LAWS[law]((CHIPS, WEIGHTS))
    found = features(directions(GRADIENTS, STDS), whole(errors))
    z = stats.norm.isf(1e-6)
    assert (np.abs(found.mean(axis=0)) < z * found.std(axis=0) / CHIPS**0.5).all()
    along = GRADIENTS.astype(float) * STDS
    u = errors @ along.T / np.linalg.norm(along, axis=1)
    assert np.corrcoef(found[:, 0], u[:, 0])[0, 1] > 0.999
    assert np.abs(found[:, :PAIRS] - u).std() < 0.03  # directions are rounded, and are directions still
    assert np.abs(found[:, PAIRS:] - (found[:, :PAIRS] ** 2 - 1)).max() < 2**-15


@pytest.mark.parametrize("weights", [WEIGHTS, 5000])
def test_features_are_the_same_to_the_last_bit_in_any_order_and_company(weights: int):
    gradients, errors = RNG.standard_normal((50, weights)), whole(RNG.standard_normal((64, weights)))
    along, turned = directions(gradients, np.ones(weights)), RNG.permutation(weights)
    found = features(along, errors)
    other = (np.ascontiguousarray(along[0][:, turned]), along[1])
    assert (features(other, np.ascontiguousarray(errors[:, turned])) == found).all()
    for k in (0, 63):
        assert (features(along, errors[k : k + 1]) == found[k]).all()
    by = factors(found, found[:, 0] - found[:, 60] / 2)
    alone = [controls(found[k : k + 1], by)[0] for k in range(64)]
    assert (controls(found, by) == alone).all()
    assert by.any()


def test_what_is_no_direction_takes_nothing_off():
    found = features(directions(np.stack([np.zeros(WEIGHTS), np.ones(WEIGHTS)]), STDS), whole(np.ones((3, WEIGHTS))))
    assert not found[:, [0, 2]].any()
    assert found[:, [1, 3]].all()


def test_factors_are_those_of_ridge_regression_and_none_where_they_do_not_help():
    found = RNG.standard_normal((200, 12))
    values = 0.8 + 0.05 * found[:, 3] - 0.02 * found[:, 7] + 0.01 * RNG.standard_normal(200)
    more = np.concatenate([found, RIDGE**0.5 * np.eye(12)])
    expected = np.linalg.lstsq(more, np.append(values - values.mean(), np.zeros(12)), rcond=None)[0]
    assert np.abs(factors(found, values) - expected).max() < 2**-24
    assert factors(found, RNG.standard_normal(200)).shape == (0,)
    assert factors(found, np.full(200, 0.9)).shape == (0,)


def test_no_stage_goes_beyond_the_chips_that_are_without():
    values = 0.8 + 0.06 * stats.zscore(np.random.default_rng(0).normal(size=30_000))
    border = uncontrolled(values)
    assert border == uncontrolled(values[:PILOT]) is not None
    assert uncontrolled(values[: PILOT - 1]) is None
    assert 500 < border < 800  # (1.97 · 0.06/0.005)² · 1.1 = 615, by the first 256
    for half in (0.004, 0.001):
        for there, wanted in ((0, PILOT), (255, PILOT), (256, border), (border - 1, border)):
            assert chips_for(values[:there], half) == wanted
        assert chips_for(values[:border], half) >= min(2 * border, 1.02 * (1.96 * 0.055 / half) ** 2)
    assert chips_for(values[:256], 0.005) <= border  # a coarse mean needs no others
    assert chips_for(values[:300], 0.02, least=2000) == border  # whatever the least is


@pytest.mark.parametrize("left", [0.1, 0.4, 1.2])
def test_intervals_hold_and_chips_suffice_where_those_behind_have_another_variance(left: float):
    rng, half, studies = np.random.default_rng(3), 0.002, 1500
    held, widths, counts = 0, [], []
    for _ in range(studies):
        values = 0.8 - 0.04 * (rng.gamma(4, 0.5, 5000) - 2)  # std 0.04, skewness -1
        border = uncontrolled(values)
        values[border:] = 0.8 + (values[border:] - 0.8) * left**0.5
        count = chips_for(values, half)
        found = precise_mean(values[:count])
        held += found.low <= 0.8 <= found.high
        widths.append((found.high - found.low) / 2)
        counts.append(count)
    assert stats.binom.ppf(1e-6, studies, 0.94) <= held <= stats.binom.ppf(1 - 1e-6, studies, 0.96)
    assert max(widths) <= half
    # n² = (1.96/half)² · (border + (n - border) · left) · 0.04²
    border, weight = np.mean([max(PILOT, 1.1 * 1.97**2 * 64)]), (1.96 * 0.04 / half) ** 2
    best = weight * left / 2 + ((weight * left / 2) ** 2 + weight * border * (1 - left)) ** 0.5
    assert max(best, 2 * border) <= np.mean(counts) * 1.02 <= 1.1 * max(best, 2 * border)

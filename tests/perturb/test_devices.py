"""Devices against direct simulations of their formulas, in float64 and with draws of their own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.errors import InputError
from sweep.networks.variables import Variable
from sweep.perturb.base import Transform
from sweep.perturb.devices import ConductanceNoise, ConductanceOverTime, Drift, PhaseChangeMemory, normal_points

W = np.random.default_rng(0).normal(0, 0.3, (3, 3, 4, 8)).astype(np.float32)
W[0, 0, 0, 0] = 0
TIMES = {"25 s": 25.0, "1 hour": 3600.0, "1 day": 86400.0, "1 year": 3.156e7}
TARGETS = np.array([0.0, 0.001, 0.01, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0])
DRAWS = 200_000


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([2, seed, 0, 0])))


def apply(transform: Transform, w: np.ndarray = W, seed: int = 0) -> np.ndarray:
    return transform.apply(w, Variable(0, "k", "k", 0, "Conv2D", w.shape, True, (w.ndim - 1,)), generator(seed))


def resolve(transform: Transform, w: np.ndarray = W):
    return transform.resolve(w, Variable(0, "k", "k", 0, "Conv2D", w.shape, True, (w.ndim - 1,)))


def pcm_device(g_target, t, draws, programming=True, drift=True, read=True):
    """One device in µS, now and just after programming, as the sources have it; 25 µS is the largest."""
    x_programming, x_drift, x_read = draws
    r = g_target / 25.0
    g_programmed = g_target
    if programming:
        g_programmed = g_target + (0.26348 + 1.9650 * r - 1.1731 * r * r) * x_programming
        g_programmed = np.where(g_programmed < 0, 0, g_programmed)
    g_drifted = g_programmed
    if drift:
        log_r = np.log(np.where(r < 1e-7, 1e-7, r))
        mu = np.minimum(np.maximum(-0.0155 * log_r + 0.0244, 0.049), 0.1)
        spread = np.minimum(np.maximum(-0.0125 * log_r - 0.0059, 0.008), 0.045)
        g_drifted = g_programmed * ((t + 20.0) / 20.0) ** -np.abs(mu + spread * x_drift)
    if not read:
        return g_drifted, g_programmed
    q = 0.0088 / np.maximum((g_programmed / 25.0) ** 0.65, 1e-3)
    sigma = g_drifted * np.minimum(q, 0.2) * np.sqrt(np.log((t + 20.0 + 250e-9) / (2 * 250e-9)))
    g = g_drifted + sigma * x_read
    return np.where(g < 0, 0, g), g_programmed


def deviations(got: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Differences of mean and of standard deviation of two samples (n, k), in standard errors; (2, k)."""
    found = []
    for sample in (got, expected):
        mean = sample.mean(0)
        centred = sample - mean
        std = np.sqrt((centred**2).mean(0))
        fourth = (centred**4).mean(0)
        with np.errstate(invalid="ignore", divide="ignore"):
            errors = std / np.sqrt(len(sample)), np.sqrt((fourth - std**4) / len(sample)) / (2 * std)
        found.append(((mean, std), errors))
    out = []
    for k in range(2):
        difference = np.abs(found[0][0][k] - found[1][0][k])
        error = np.hypot(found[0][1][k], found[1][1][k])
        out.append(np.where(difference == 0, 0, difference / np.where(error > 0, error, 1e-12)))
    return np.array(out)


@pytest.mark.parametrize("opposite", ["reset", "programmed"])
@pytest.mark.parametrize("time", TIMES.values(), ids=TIMES)
def test_pcm_agrees_with_a_direct_simulation(time: float, opposite: str):
    """Mean and standard deviation of the weight at 12 targets; 200,000 draws each way, within 4 standard errors.

    24 figures a case: a false alarm at 4 standard errors has a chance of 0.15 % with other seeds.
    """
    signs = np.where(np.arange(len(TARGETS)) % 2 == 0, 1, -1)
    weights = np.broadcast_to((0.4 * signs * TARGETS).astype(np.float32), (DRAWS, len(TARGETS)))
    got = apply(PhaseChangeMemory(time=time, opposite=opposite), weights, seed=1).astype(np.float64)
    rng = np.random.default_rng(7)
    expected = np.empty((DRAWS, len(TARGETS)))
    for k, r in enumerate(TARGETS):
        g = pcm_device(np.full(DRAWS, 25.0 * r), time, rng.standard_normal((3, DRAWS)))[0]
        if opposite == "programmed":
            g = g - pcm_device(np.zeros(DRAWS), time, rng.standard_normal((3, DRAWS)))[0]
        elif r == 0:
            g = np.zeros(DRAWS)
        expected[:, k] = 0.4 * signs[k] * g / 25.0
    assert deviations(got, expected).max() < 4


@pytest.mark.parametrize(
    "off", [(), ("programming",), ("drift",), ("read",), ("programming", "read"), ("drift", "read")]
)
@pytest.mark.parametrize("time", [0.0, 1e5])
def test_pcm_equals_the_formulas_on_the_documented_draws(off: tuple[str, ...], time: float):
    """Three standard normal calls, always all of them: programming, drift, read; then those of the opposite device."""
    switches = {name: name not in off for name in ("programming", "drift", "read")}
    top = float(np.abs(W).max())
    rng = generator()
    first, second = ([rng.standard_normal(W.shape, dtype=np.float32) for _ in range(3)] for _ in range(2))
    g = pcm_device(25.0 * np.abs(W) / top, time, first, **switches)[0] / 25
    unused = pcm_device(np.zeros(W.shape), time, second, **switches)[0] / 25
    got = apply(PhaseChangeMemory(time=time, **switches))
    np.testing.assert_allclose(got, np.sign(W) * g * top, rtol=2e-5, atol=2e-7)
    if len(off) < 2 or time > 0:
        got = apply(PhaseChangeMemory(time=time, opposite="programmed", **switches))
        expected = np.where(W < 0, -1, 1) * (g - unused) * top
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-7)


def test_global_compensation_restores_the_mean_conductance():
    top = float(np.abs(W).max())
    rng = generator()
    draws = [rng.standard_normal(W.shape, dtype=np.float32) for _ in range(3)]
    now, before = pcm_device(25.0 * np.abs(W) / top, 3.156e7, draws)
    used = W != 0
    factor = before[used].sum() / now[used].sum()
    assert factor > 1.5
    plain, restored = (apply(PhaseChangeMemory(time=3.156e7, compensation=c)) for c in ("none", "global"))
    np.testing.assert_allclose(restored, plain * factor, rtol=1e-4)
    just_programmed = apply(PhaseChangeMemory(time=3.156e7, drift=False, read=False))
    assert np.abs(restored).mean() == pytest.approx(np.abs(just_programmed).mean(), rel=1e-5)


def test_pcm_drifts_down_with_time_and_zero_stays():
    means = [np.abs(apply(PhaseChangeMemory(time=t, read=False))).mean() for t in (0, *TIMES.values())]
    assert means == sorted(means, reverse=True)
    assert len(set(means)) == len(means)
    assert apply(PhaseChangeMemory(time=1e5))[0, 0, 0, 0] == 0
    assert apply(PhaseChangeMemory(time=1e5, opposite="programmed"))[0, 0, 0, 0] != 0


TABLE = [[2.0, 0.5], [10.0, 1.5], [30.0, 1.0]]


def test_conductance_noise_equals_the_definition():
    """Device by device: the interpolation, the clipping at 0 and the way back are written out."""
    top = float(np.abs(W).max())
    got = apply(ConductanceNoise(table=TABLE, scale=1.3)).ravel()
    rng = generator()
    plus, minus = (rng.standard_normal(W.shape, dtype=np.float32).ravel() for _ in range(2))

    def device(w: float, xi: float) -> float:
        g = 2.0 + 28.0 * max(w, 0.0) / top
        sigma = 0.5 + (g - 2) / 8 * 1.0 if g <= 10 else 1.5 - (g - 10) / 20 * 0.5
        return max(g + 1.3 * sigma * xi, 0.0)

    expected = [(device(w, a) - device(-w, b)) * top / 28 for w, a, b in zip(W.ravel(), plus, minus, strict=True)]
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-6)


def test_conductance_noise_moments():
    """Mean and standard deviation at 12 targets against normals cut at 0; 200,000 draws, within 4 standard errors."""
    table = [[1.0, 2.0], [5.0, 1.0], [20.0, 3.0]]
    weights = np.broadcast_to((0.4 * TARGETS).astype(np.float32), (DRAWS, len(TARGETS)))
    got = apply(ConductanceNoise(table=table), weights, seed=3).astype(np.float64)
    rng = np.random.default_rng(8)
    plus = 1 + 19 * TARGETS
    sigma = np.where(plus < 5, 2 - (plus - 1) / 4, 1 + (plus - 5) * 2 / 15)
    one = np.maximum(plus + sigma * rng.standard_normal((DRAWS, len(TARGETS))), 0)
    other = np.maximum(1 + 2 * rng.standard_normal((DRAWS, len(TARGETS))), 0)
    assert deviations(got, (one - other) * 0.4 / 19).max() < 4


def test_conductance_noise_with_another_off_state_and_a_mean_equals_the_definition():
    """Below the table σ and μ are those of its first point; the range is 30/8 to 30."""
    top = float(np.abs(W).max())
    mean = [[5.0, -0.2], [30.0, -2.0]]
    got = apply(ConductanceNoise(table=TABLE, scale=1.3, on_off=8, mean=mean)).ravel()
    rng, low = generator(), 30 / 8
    plus, minus = (rng.standard_normal(W.shape, dtype=np.float32).ravel() for _ in range(2))

    def device(w: float, xi: float) -> float:
        g = low + (30 - low) * max(w, 0.0) / top
        sigma = 0.5 + (g - 2) / 8 * 1.0 if g <= 10 else 1.5 - (g - 10) / 20 * 0.5
        return max(g - 0.2 - max(g - 5, 0) / 25 * 1.8 + 1.3 * sigma * xi, 0.0)

    unit = top / (30 - low)
    expected = [(device(w, a) - device(-w, b)) * unit for w, a, b in zip(W.ravel(), plus, minus, strict=True)]
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-6)
    same = apply(ConductanceNoise(table=TABLE, scale=1.3, on_off=15))
    assert np.array_equal(same, apply(ConductanceNoise(table=TABLE, scale=1.3))), "30 / 2"


def test_a_smaller_on_off_ratio_makes_more_of_the_same_noise():
    """Of equal σ at all conductances, and far from 0, the error is √2 σ · max|W| / (g_max − g_min)."""
    for ratio in (2.0, 4.0, 1e6):
        transform = ConductanceNoise(table=[[0.0, 0.01], [10.0, 0.01]], on_off=ratio)
        found = transform.resolve(W, Variable(0, "k", "k", 0, "Dense", W.shape, True, (3,))).sigma
        expected = np.sqrt(2) * 0.01 * np.abs(W).max() / (10 - 10 / ratio)
        assert found == pytest.approx(expected, rel=0.02 if ratio < 10 else 0.4)


def test_a_mean_error_is_no_identity_and_needs_no_seeds_alone():
    off = ConductanceNoise(table=TABLE, scale=0, mean=[[2, 0.5], [30, -3]])
    assert not off.is_identity
    assert not off.random
    assert not np.array_equal(apply(off), W)
    assert ConductanceNoise(table=TABLE, scale=0, mean=[[2, 0], [30, 0]]).is_identity
    with pytest.raises(InputError, match="on_off: 1 leaves no range"):
        ConductanceNoise(table=TABLE, on_off=1)


LATER = [[2.0, 2.0], [30.0, 4.0]]
SURFACE = [[10.0, TABLE], [1000.0, LATER]]


def test_conductance_over_time_is_the_table_of_each_time_and_linear_in_its_logarithm_between():
    for time, table in ((10.0, TABLE), (1000.0, LATER)):
        got = apply(ConductanceOverTime(time=time, sigma=SURFACE))
        np.testing.assert_allclose(got, apply(ConductanceNoise(table=table)), rtol=1e-6, atol=1e-7)
    share = 0.25  # of the way from 10 s to 1000 s, in logarithms
    between = [[2.0, 0.75 * 0.5 + 0.25 * 2], [10.0, 0.75 * 1.5 + 0.25 * (2 + 8 / 14)], [30.0, 0.75 * 1 + 0.25 * 4]]
    mean = [[1.0, [[2.0, 0.0], [30.0, 0.0]]], [10.0**4, [[2.0, -1.0], [30.0, -3.0]]]]
    shift = [[g, (1 + 2 * share) / 4 * end] for g, end in ((2.0, -1.0), (30.0, -3.0))]  # 10^1.5 of 1 to 10^4
    got = apply(ConductanceOverTime(time=10 ** (1 + 2 * share), sigma=SURFACE, mean=mean))
    np.testing.assert_allclose(got, apply(ConductanceNoise(table=between, mean=shift)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"time": 1.0}, "time: 1 s is not between the times of sigma, 10 and 1000 s"),
        ({"time": 2000.0}, "time: 2000 s is not between"),
        ({"time": 0.0, "sigma": [[0.0, TABLE], [1.0, TABLE]]}, "sigma: times are above 0"),
        ({"time": 20.0, "mean": [[100.0, TABLE], [200.0, TABLE]]}, "between the times of mean, 100 and 200 s"),
        (
            {"time": 20.0, "sigma": [[10.0, TABLE], [1000.0, [[2.0, 1.0], [29.0, 1.0]]]]},
            "differ in their first or last",
        ),
        ({"time": 20.0, "sigma": [[10.0, TABLE], [5.0, TABLE]]}, "two or more, the first numbers ascending"),
        ({"time": 20.0, "sigma": TABLE}, "a number and a list of points|a list of points"),
    ],
)
def test_surfaces_that_are_wrong(given: dict, message: str):
    with pytest.raises(InputError, match=message):
        ConductanceOverTime(**{"sigma": SURFACE, **given})


def test_conductance_noise_refuses_negative_figures():
    with pytest.raises(InputError) as caught:
        ConductanceNoise(table=[[-1, 0.1], [2, -0.1]])
    assert caught.value.problems == ("conductance_noise: table: conductances and standard deviations are at least 0",)
    with pytest.raises(InputError, match="two or more, the first numbers ascending"):
        ConductanceNoise(table=[[1, 0.1], [1, 0.1]])


@given(time=st.floats(0, 1e9), nu=st.floats(0, 0.2), t0=st.floats(1e-3, 1e3))
def test_drift_of_equal_devices_is_the_power_law(time: float, nu: float, t0: float):
    transform = Drift(time=time, nu=nu, t0=t0)
    assert not transform.random
    np.testing.assert_allclose(apply(transform), W * ((time + t0) / t0) ** -nu, rtol=1e-5)


def test_drift_with_a_spread():
    got = apply(Drift(time=1e6, nu=0.06, nu_std=0.02))
    draw = generator().standard_normal(W.shape, dtype=np.float32).astype(np.float64)
    np.testing.assert_allclose(got, W * (1e6 / 20 + 1) ** -(0.06 + 0.02 * draw), rtol=1e-5)


def test_quadrature_has_the_moments_of_the_normal_law():
    points, chances = normal_points(12)
    moments = [float(points**k @ chances) for k in range(9)]
    np.testing.assert_allclose(moments, [1, 0, 1, 0, 3, 0, 15, 0, 105], atol=1e-10)


@pytest.mark.parametrize(
    "transform",
    [
        PhaseChangeMemory(time=25.0),
        PhaseChangeMemory(time=3.156e7),
        PhaseChangeMemory(time=3600.0, opposite="programmed"),
        PhaseChangeMemory(time=3.156e7, compensation="global"),
        PhaseChangeMemory(time=86400.0, programming=False),
        Drift(time=1e6, nu_std=0.03),
        *[{"table": table, "scale": scale} for table in (TABLE, [[0, 0.2], [4, 3]]) for scale in (0.5, 4)],
    ],
    ids=repr,
)
def test_resolved_sigma_is_the_spread_of_the_draws(transform: Transform | dict):
    """Within 3 % of the standard deviation between 2,000 seeds, root mean square over the weights."""
    made = ConductanceNoise(**transform) if isinstance(transform, dict) else transform
    rng, variable = generator(9), Variable(0, "k", "k", 0, "Conv2D", W.shape, True, (3,))
    draws = np.stack([made.apply(W, variable, rng) for _ in range(2000)]).astype(np.float64)
    assert resolve(made).sigma == pytest.approx(np.sqrt(np.mean(draws.var(0, ddof=1))), rel=0.03)

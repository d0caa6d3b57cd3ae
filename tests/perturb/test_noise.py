"""Noise on weights against the documented stream and formulas, written out again here with numpy alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sweep.errors import InputError
from sweep.networks.variables import Variable
from sweep.perturb import REGISTRY, perturb
from sweep.perturb.basis import BASES
from sweep.perturb.noise import Gaussian, LogNormal, Uniform, UniformSymmetric

SHAPES = {1: (3, 3, 4, 8), 2: (8,), 4: (5, 6)}
VARIABLES = [
    Variable(0, "stem/bias", "stem", 0, "Conv2D", (4,), False, (0,)),
    Variable(1, "conv/kernel", "conv", 1, "Conv2D", SHAPES[1], True, (3,)),
    Variable(2, "conv/bias", "conv", 1, "Conv2D", SHAPES[2], False, (0,)),
    Variable(3, "norm/gamma", "norm", 2, "BatchNormalization", (8,), False, (0,)),
    Variable(4, "fc/kernel", "fc", 3, "Dense", SHAPES[4], True, (1,)),
]
WEIGHTS = [np.random.default_rng(i).normal(0, 0.3, v.shape).astype(np.float32) for i, v in enumerate(VARIABLES)]


def documented_stream(root_seed: int, seed: int, t: int, i: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([root_seed, seed, t, i])))


def unit(basis: str, w: np.ndarray) -> np.ndarray:
    last = w.shape[-1]
    per_channel = np.abs(w.reshape(-1, last)).max(axis=0)
    return {
        "absolute": np.float32(1),
        "weight": np.abs(w),
        "layer_max": np.abs(w).max(),
        "layer_std": np.sqrt(np.mean((w.astype(np.float64) - w.astype(np.float64).mean()) ** 2)),
        "layer_range": w.max() - w.min(),
        "channel_max": per_channel,
        "inverse": np.array([0 if v == 0 else np.abs(w).max() / (abs(v) / np.abs(w).max()) for v in w.ravel()]).reshape(
            w.shape
        ),
    }[basis]


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("op", ["gaussian", "uniform", "uniform_symmetric"])
def test_equals_the_formula_on_the_documented_stream(op: str, basis: str):
    transform = REGISTRY[op](scale=0.07, basis=basis)
    got = perturb(WEIGHTS, VARIABLES, [Uniform(scale=0), transform], root_seed=5, seed=12)
    for i, w in enumerate(WEIGHTS):
        if i not in SHAPES or i == 2:
            assert got[i] is w
            continue
        rng = documented_stream(5, 12, 1, i)
        if op == "gaussian":
            draw = rng.standard_normal(w.shape, dtype=np.float32)
        elif op == "uniform":
            draw = rng.random(w.shape, dtype=np.float32)
        else:
            draw = 2 * rng.random(w.shape, dtype=np.float32) - 1
        expected = w + np.float32(0.07) * draw * np.asarray(unit(basis, w), np.float32)
        assert got[i].dtype == np.float32
        np.testing.assert_allclose(got[i], expected, rtol=1e-6 if basis == "inverse" else 0, atol=1e-7)
        if basis == "absolute":
            assert np.array_equal(got[i], w + np.float32(0.07) * draw)


def test_levels_share_their_draws_and_transforms_do_not():
    low, high = (perturb(WEIGHTS, VARIABLES, [Gaussian(scale=s)], 0, 3)[1] for s in (0.01, 0.02))
    np.testing.assert_allclose((high - WEIGHTS[1]), 2 * (low - WEIGHTS[1]), atol=1e-6)
    twice = perturb(WEIGHTS, VARIABLES, [Gaussian(scale=0.01), Gaussian(scale=0.01)], 0, 3)[1]
    assert not np.allclose(twice - WEIGHTS[1], 2 * (low - WEIGHTS[1]), atol=1e-4)


@pytest.mark.parametrize("op", ["gaussian", "uniform", "uniform_symmetric", "log_normal"])
def test_zero_scale_is_the_identity_and_needs_no_seeds(op: str):
    transform = REGISTRY[op](scale=0)
    assert not transform.random
    for got, w in zip(perturb(WEIGHTS, VARIABLES, [transform], 0, 1), WEIGHTS, strict=True):
        assert np.array_equal(got, w)


def test_laws():
    """One Kolmogorov-Smirnov test a law on 200,000 draws; fixed seed, false-alarm rate 0.001 each."""
    zero = [np.zeros((400, 500), np.float32)]
    variable = [Variable(0, "k/kernel", "k", 0, "Dense", (400, 500), True, (1,))]
    laws = {
        Gaussian(scale=0.5): stats.norm(0, 0.5),
        Uniform(scale=0.5): stats.uniform(0, 0.5),
        UniformSymmetric(scale=0.5): stats.uniform(-0.5, 1.0),
    }
    for transform, law in laws.items():
        draws = perturb(zero, variable, [transform], 0, 0)[0].ravel()
        assert stats.kstest(draws, law.cdf).pvalue > 0.001


@given(
    scale=st.floats(0, 10, width=32),
    seed=st.integers(0, 2**40),
    op=st.sampled_from(["uniform", "uniform_symmetric"]),
)
def test_uniform_noise_stays_in_its_range(scale: float, seed: int, op: str):
    moved = perturb(WEIGHTS, VARIABLES, [REGISTRY[op](scale=scale)], 0, seed)[4] - WEIGHTS[4]
    slack = 1e-6 * (1 + scale)
    assert moved.max() <= scale + slack
    assert moved.min() >= (0 if op == "uniform" else -scale) - slack


def test_wrong_parameters_are_all_named():
    with pytest.raises(InputError) as caught:
        Gaussian(scale=-1, basis="sigma")
    assert caught.value.problems == (
        "gaussian: scale: -1 is out of range; valid is a finite number of at least 0",
        "gaussian: basis: 'sigma' is not valid; choose one of " + ", ".join(BASES),
    )


@pytest.mark.parametrize(
    ("basis", "error"),
    [
        ("layer_max", lambda g, noise: noise),
        ("weight", lambda g, noise: g * noise),
        ("inverse", lambda g, noise: np.divide(noise, g, out=np.zeros_like(g), where=g != 0)),
    ],
)
def test_crosssims_generic_devices(basis: str, error):
    """g + error on conductances normalised to their maximum, normal and uniform: (u − ½)·α is scale α/2."""
    w = WEIGHTS[1].copy()
    w[0, 0] = 0
    alpha, largest = 0.05, np.abs(w).max().astype(np.float64)
    g = np.abs(w) / largest
    normal = documented_stream(0, 7, 0, 1).standard_normal(w.shape, dtype=np.float32).astype(np.float64)
    uniform = documented_stream(0, 7, 0, 1).random(w.shape, dtype=np.float32).astype(np.float64) - 0.5
    for transform, draw in (
        (Gaussian(scale=alpha, basis=basis), normal),
        (
            UniformSymmetric(scale=alpha / 2, basis=basis),
            uniform,
        ),
    ):
        got = transform.apply(w, VARIABLES[1], documented_stream(0, 7, 0, 1))
        np.testing.assert_allclose(got, w + error(g, alpha * draw) * largest, rtol=2e-6, atol=1e-6)
        assert np.array_equal(got[0, 0], w[0, 0]) or basis == "layer_max"


@given(small=st.floats(0, 2.0**-70, width=32), scale=st.floats(0, 100, width=32))
def test_inverse_noise_is_finite(small: float, scale: float):
    w = np.array([[small, -small, 0, 1]], np.float32)
    variable = Variable(0, "k/kernel", "k", 0, "Dense", w.shape, True, (1,))
    moved = Gaussian(scale=scale, basis="inverse").apply(w, variable, documented_stream(0, 0, 0, 0))
    assert np.all(np.isfinite(moved))
    assert moved[0, 2] == 0


@pytest.mark.parametrize("preserving", [False, True])
def test_log_normal_equals_the_formula(preserving: bool):
    w = WEIGHTS[1].astype(np.float64)
    for scale in (0.1, 0.7):
        got = perturb(WEIGHTS, VARIABLES, [LogNormal(scale=scale, mean_preserving=preserving)], 0, 5)[1]
        draw = documented_stream(0, 5, 0, 1).standard_normal(w.shape, dtype=np.float32).astype(np.float64)
        factor = np.exp(scale * draw) / (np.exp(scale**2 / 2) if preserving else 1)
        np.testing.assert_allclose(got, w * factor, rtol=1e-5)
        assert np.array_equal(np.sign(got), np.sign(w))


def test_log_normal_law():
    """K-S test of the logarithm, and the mean within 4 standard errors; 200,000 draws."""
    ones = np.ones((400, 500), np.float32)
    variable = Variable(0, "k/kernel", "k", 0, "Dense", ones.shape, True, (1,))
    for preserving, mean in (False, np.exp(0.3**2 / 2)), (True, 1.0):
        transform = LogNormal(scale=0.3, mean_preserving=preserving)
        draws = transform.apply(ones, variable, documented_stream(0, 0, 0, 0)).ravel().astype(np.float64)
        law = stats.norm(-(0.3**2) / 2 if preserving else 0, 0.3)
        assert stats.kstest(np.log(draws), law.cdf).pvalue > 0.001
        assert abs(draws.mean() - mean) < 4 * draws.std() / np.sqrt(draws.size)


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("op", ["gaussian", "uniform", "uniform_symmetric", "log_normal"])
def test_resolved_sigma_is_the_spread_of_the_draws(op: str, basis: str):
    """The standard deviation between 4,000 seeds, root mean square over the weights, within 4 standard errors."""
    w, variable = WEIGHTS[4], VARIABLES[4]
    if op == "log_normal":
        transform = LogNormal(scale=0.2, mean_preserving=basis == "weight")
    else:
        transform = REGISTRY[op](scale=0.2, basis=basis)
    rng = documented_stream(0, 0, 0, 0)
    draws = np.stack([transform.apply(w, variable, rng) for _ in range(4000)]).astype(np.float64)
    variance = np.var(draws, axis=0, ddof=1)
    square = (draws - draws.mean(0)) ** 2
    error = np.sqrt(np.sum(square.var(0) / 4000)) / w.size
    assert abs(transform.resolve(w, variable).sigma ** 2 - variance.mean()) < 4 * error


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("op", ["gaussian", "uniform", "uniform_symmetric"])
def test_the_law_of_the_error_is_that_of_the_draws(op: str, basis: str):
    """For each weight by itself, over chips."""
    transform, w = REGISTRY[op](scale=0.2, basis=basis), WEIGHTS[4]
    rng = np.random.default_rng(3)
    errors = np.array([transform.apply(w, VARIABLES[4], rng) - w for _ in range(4000)], np.float64)
    law = transform.error_law(w, VARIABLES[4])
    mean, std = np.broadcast_to(law.mean, w.shape), np.broadcast_to(law.std, w.shape)
    # Standard errors of means and standard deviations; thirty weights, each within 4.5.
    assert (np.abs(errors.mean(axis=0) - mean) < 4.5 * std / np.sqrt(4000) + 1e-6).all()
    assert (np.abs(errors.std(axis=0) / std - 1) < 4.5 * np.sqrt((law.kurtosis + 2) / 4 / 4000) + 1e-4).all()
    scaled = ((errors - errors.mean(axis=0)) / errors.std(axis=0)).ravel()
    assert stats.kurtosis(scaled) == pytest.approx(law.kurtosis, abs=4.5 * np.sqrt(24 / scaled.size))


def test_errors_that_depend_on_the_weight_s_sign_have_no_law_here():
    assert LogNormal(scale=0.3).error_law(WEIGHTS[4], VARIABLES[4]) is None

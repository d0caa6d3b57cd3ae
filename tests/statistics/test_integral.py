"""The probability of a right decision over the last layer's errors, against adaptive quadrature and simulation."""

import numpy as np
import pytest
from scipy import integrate, stats

from sweep.statistics.integral import probability_right

RNG = np.random.default_rng(5)


def by_quadrature(m: np.ndarray, s: np.ndarray, c: int) -> float:
    """∫ φ(z; m_c, s_c) Π Φ((z - m_k)/s_k) dz, over the standard deviations that matter."""
    rest = np.arange(len(m)) != c

    def density(z: float) -> float:
        return stats.norm.pdf(z, m[c], s[c]) * np.prod(stats.norm.cdf((z - m[rest]) / s[rest]))

    marks = sorted(z for z in m if abs(z - m[c]) < 8 * s[c])
    return integrate.quad(density, m[c] - 9 * s[c], m[c] + 9 * s[c], points=marks, limit=400, epsabs=1e-11)[0]


@pytest.mark.parametrize("spread", [(1, 1), (0.5, 2), (0.1, 5)], ids=["alike", "unlike", "very unlike"])
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_normal_logits(classes: int, spread: tuple[float, float]):
    m = RNG.normal(0, 2, (60, classes))
    s = np.exp(RNG.uniform(*np.log(spread), (60, classes)))
    c = RNG.integers(0, classes, 60)
    found = probability_right(m, s, c)
    expected = np.array([by_quadrature(*row) for row in zip(m, s, c, strict=True)])
    assert np.abs(found - expected).max() < 1e-4
    assert abs((found - expected).mean()) < 2e-6


def test_decisions_that_are_certain():
    means = [[9, 0, 0], [0, 9, 0], [5, 5, 0], [0, 0, 1e30]]
    found = probability_right(means, np.full((4, 3), [1e-3, 1e-3, 1]), [0, 0, 0, 2])
    assert found.tolist() == pytest.approx([1, 0, 0.5, 1], abs=1e-4)


def test_a_single_logit_decides_by_its_threshold():
    found = probability_right([[0.5], [0.5], [-1.0]], [[1.0], [2.0], [0.5]], [1, 0, 1], threshold=0.25)
    expected = [stats.norm.cdf(0.25), stats.norm.cdf(-0.125), stats.norm.cdf(-2.5)]
    assert found.tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("terms", [16, 60])
def test_sums_of_uniform_errors(terms: int):
    features = np.maximum(RNG.normal(0, 1, (12, 2 * terms)), 0)
    weights = RNG.normal(0, 0.15, (2 * terms, 4))
    m = features @ weights
    square, fourth = (features**2).sum(1), (features**4).sum(1)
    s = np.sqrt(square / 12)[:, None] * np.ones(4)
    c = m.argsort(1)[:, -2]
    right = np.zeros(12)
    for _ in range(150):
        errors = RNG.random((400, 2 * terms, 4)) - 0.5
        right += ((features @ (weights + errors)).argmax(-1) == c).sum(0)
    share = right / 60_000
    error = np.sqrt(share * (1 - share) / 60_000)
    found = probability_right(m, s, c, -1.2 * fourth[:, None] / square[:, None] ** 2)
    assert np.abs((found - share) / error).max() < 4
    assert abs((found - share).mean()) < 3 * np.sqrt((error**2).mean() / 12)

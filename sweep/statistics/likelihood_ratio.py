"""Which of two laws a published table fits better, and how surely."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from sweep.statistics.estimates import UPPER, Floats

TABLES = 4000
"""Tables drawn from each law to learn what a likelihood ratio is worth."""

_EDGE = 1e-4  # accuracies nearer to 0 or 1 are taken as this near, for their logit
_STEPS = 50  # of Newton's method; it takes about ten


class Comparison(NamedTuple):
    """Two laws before a published table.

    Attributes:
        log_ratio: natural logarithm of the ratio of likelihoods, first to second.
        error: its standard error, as the densities are estimated from so many chips; nan with `common`.
        probability: that the first law made the table, if one of the two did and both were equally likely before.
        probability_low, probability_high: the same 1.96 errors down and up; nan with `common`.
        under_first: share of tables from the first law that speak for it no more than this one does.
        under_second: share of tables from the second law that speak for the first at least as much.
        wrong: share of tables, half from each law, that speak for the wrong law.
        levels: published values compared.
    """

    log_ratio: float
    error: float
    probability: float
    probability_low: float
    probability_high: float
    under_first: float
    under_second: float
    wrong: float
    levels: int


def compare(
    first: ArrayLike, second: ArrayLike, published: ArrayLike, common: bool = False, seed: int = 0
) -> Comparison:
    """Compare two laws by the likelihood of a published table, one draw at each level.

    The density of each law at each level is estimated from its chips on the logit scale: Gaussian kernels with
    Silverman's bandwidth (Silverman 1986, Density Estimation, eq. 3.31), and for one chip in n + 1 a Cauchy law about
    the median, as kernels have no tails. Levels are multiplied as independent; with `common`, where one chip gave the
    whole table, they are joined by a Gaussian copula with the correlation of the chips' normal scores. Read that only
    where `published.fit` does not refuse the table for both laws.

    Such a ratio is no probability: densities are estimates. So tables are drawn from the chips of either law (left
    out of the density in turn), their ratios taken, and a logistic curve fitted to which law made them (Platt 1999,
    Probabilistic outputs for support vector machines). That curve gives `probability`. Chips and tables are those of
    one trained network; how another training would have fared is not in it.

    Args:
        first, second: accuracies, fractions; shapes (chips, levels), chips of either in any number from 5.
        published: shape (levels,).
        common: whether one chip gave the whole table.
        seed: of the draws.

    Raises:
        ValueError: shapes that do not agree, no level, or fewer than five chips.
    """
    table = np.asarray(published, dtype=np.float64)
    laws = []
    for name, law in (("first", first), ("second", second)):
        chips = np.asarray(law, dtype=np.float64)
        if chips.ndim != 2 or table.shape != chips.shape[1:] or table.size == 0 or len(chips) < 5:
            raise ValueError(
                f"{name}: expected (chips, levels) with five chips or more for {table.size} published values, "
                f"one or more; got {chips.shape}"
            )
        laws.append(_Law(chips, common))
    rng = np.random.default_rng(seed)
    drawn = [_ratios(laws[0], laws[1], law, rng) for law in laws]
    logits = _logit(table)
    log_ratio = float((laws[0].log_density(logits[None]) - laws[1].log_density(logits[None]))[0])
    error = np.nan if common else float(np.hypot(laws[0].error(logits), laws[1].error(logits)))
    intercept, slope = _logistic(*drawn)
    reach = special.ndtri(UPPER) * error
    probability, low, high = special.expit(intercept + slope * (log_ratio + np.array([0, -reach, reach]))).tolist()
    wrong = (np.mean(drawn[0] < 0) + np.mean(drawn[1] > 0)) / 2
    return Comparison(
        log_ratio,
        error,
        probability,
        low,
        high,
        float(np.mean(drawn[0] <= log_ratio)),
        float(np.mean(drawn[1] >= log_ratio)),
        float(wrong),
        table.size,
    )


class _Law:
    """The density of tables, estimated from chips."""

    def __init__(self, accuracies: Floats, common: bool) -> None:
        self.logits = _logit(accuracies)
        self.common = common
        n = len(accuracies)
        quarter, self.centre, three = np.quantile(self.logits, [0.25, 0.5, 0.75], axis=0)
        std = self.logits.std(axis=0, ddof=1)
        robust = (three - quarter) / 1.349
        self.width = np.maximum(np.where(robust > 0, np.minimum(std, robust), std), 1e-6)
        self.bandwidth = 0.9 * self.width * n**-0.2
        scores = special.ndtri((self.logits.argsort(axis=0).argsort(axis=0) + 0.5) / n)
        spread = scores.T @ scores / n
        scale = np.sqrt(np.diag(spread))
        self.correlation = (spread / np.outer(scale, scale) + 1e-3 * np.eye(len(scale))) / (1 + 1e-3)

    def log_density(self, logits: Floats, own: bool = False) -> Floats:
        """Of tables, shape (tables, levels) → (tables,); with `own`, of the chips themselves, each left out in turn."""
        log_densities, scores = self.marginals(logits, own)
        return np.asarray(log_densities.sum(axis=1) + self.dependence(scores), dtype=np.float64)

    def marginals(self, logits: Floats, own: bool = False) -> tuple[Floats, Floats]:
        """Log densities and normal scores at each level; shapes as given."""
        densities, shares = np.empty_like(logits), np.empty_like(logits)
        n = len(self.logits) - own
        for level, (h, centre, width) in enumerate(zip(self.bandwidth, self.centre, self.width, strict=True)):
            away = (logits[:, level, None] - self.logits[None, :, level]) / h
            kernels, below = np.exp(-(away**2) / 2) / np.sqrt(2 * np.pi) / h, special.ndtr(away)
            if own:
                np.fill_diagonal(kernels, 0)
                np.fill_diagonal(below, 0)
            tail = (logits[:, level] - centre) / width
            densities[:, level] = (kernels.sum(axis=1) + 1 / (np.pi * width * (1 + tail**2))) / (n + 1)
            shares[:, level] = (below.sum(axis=1) + 0.5 + np.arctan(tail) / np.pi) / (n + 1)
        return np.log(densities), np.asarray(special.ndtri(shares), dtype=np.float64)

    def error(self, logits: Floats) -> float:
        """Standard error of the log density of one table, levels taken as independent; shape (levels,)."""
        kernels = np.exp(-(((logits - self.logits) / self.bandwidth) ** 2) / 2) / np.sqrt(2 * np.pi) / self.bandwidth
        log_densities, _ = self.marginals(logits[None])
        influence = np.sum(kernels / np.exp(log_densities), axis=1)
        return float(influence.std(ddof=1) / np.sqrt(len(kernels)))

    def dependence(self, scores: Floats) -> Floats:
        """Log density of the Gaussian copula, (tables, levels) → (tables,); 0 where levels are independent."""
        if not self.common:
            return np.zeros(len(scores))
        solved = np.linalg.solve(self.correlation, scores.T).T
        _, log_determinant = np.linalg.slogdet(self.correlation)
        return np.asarray((np.sum(scores * (scores - solved), axis=1) - log_determinant) / 2, dtype=np.float64)


def _ratios(first: _Law, second: _Law, truth: _Law, rng: np.random.Generator) -> Floats:
    """Log ratios of tables that one of the laws made."""
    chips = truth.logits
    if truth.common:
        return first.log_density(chips, first is truth) - second.log_density(chips, second is truth)
    single = first.marginals(chips, first is truth)[0] - second.marginals(chips, second is truth)[0]
    drawn = rng.integers(len(chips), size=(TABLES, chips.shape[1]))
    return np.asarray(np.take_along_axis(single, drawn, axis=0).sum(axis=1), dtype=np.float64)


def _logistic(first: Floats, second: Floats) -> tuple[float, float]:
    """Intercept and slope of the probability of the first law given the ratio, both laws weighing the same.

    Platt's targets, short of 0 and 1, keep the slope finite where the laws never overlap.
    """
    x = np.concatenate([first, second])
    weight = np.concatenate([np.full(len(law), 0.5 / len(law)) for law in (first, second)])
    target = np.concatenate([np.full(len(first), (len(first) + 1) / (len(first) + 2)),
                             np.full(len(second), 1 / (len(second) + 2))])  # fmt: skip
    design = np.stack([np.ones_like(x), x])
    beta = np.zeros(2)
    scale = max(float(np.abs(x).max()), 1e-9)
    design[1] /= scale
    for _ in range(_STEPS):
        chance = special.expit(beta @ design)
        gradient = design @ (weight * (target - chance))
        curvature = (design * (weight * chance * (1 - chance))) @ design.T + 1e-12 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        step *= min(1, 2 / max(float(np.abs(step).max()), 1e-300))
        beta += step
        if np.abs(step).max() < 1e-10:
            break
    return float(beta[0]), float(beta[1] / scale)


def _logit(accuracies: Floats) -> Floats:
    return np.asarray(special.logit(np.clip(accuracies, _EDGE, 1 - _EDGE)), dtype=np.float64)

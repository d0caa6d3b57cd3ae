"""How much of the spread lies between trainings of a network, and how much between chips.

For studies whose models are several trainings of one network, as in Joshi et al. 2020, Nature Communications 11:2473
(10 trainings × 100 chips). Trials with the same seed share their draws whatever the model, so that trainings and
chips are crossed: every network is seen on the same chips.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special  # not stats, which takes a second to import

from sweep.statistics import estimates
from sweep.statistics.estimates import CONFIDENCE, WIDEST, Floats


class Components(NamedTuple):
    """Where the spread of accuracies comes from; fractions, nan where the data cannot tell.

    Attributes:
        mean, mean_low, mean_high: over all trainings and all chips, with a 95 % interval.
        std_trainings, std_trainings_low, std_trainings_high: between trainings, on chips at large; 95 % interval.
        std_chips: between chips, over trainings at large: what a chip does to all networks alike.
        std_interaction: what is left: how one chip suits one network.
        truncated: the components whose estimated variance was negative, and is given as 0.
    """

    mean: float
    mean_low: float
    mean_high: float
    std_trainings: float
    std_trainings_low: float
    std_trainings_high: float
    std_chips: float
    std_interaction: float
    truncated: tuple[str, ...] = ()


def decompose(accuracies: ArrayLike, exact: bool = False, bounded: bool = True) -> Components:
    """The components of the spread of one perturbation: two-way crossed random effects, one trial a combination.

    The model is y_ij = μ + T_i + C_j + R_ij with independent effects of training i = 1…a, chip j = 1…n and their
    interaction. The estimates are those of the analysis of variance (Searle, Casella & McCulloch 1992, Variance
    Components, chapter 4): with the mean squares of trainings, chips and interaction, σ_R² = MS_R,
    σ_T² = (MS_T − MS_R)/n, σ_C² = (MS_C − MS_R)/a, negative ones taken as 0.

    The mean's variance is σ_T²/a + σ_C²/n + σ_R²/(a·n), a sum of mean squares; its interval is Student's t on the
    logit scale, as in `statistics.mean`, with Satterthwaite's degrees of freedom (Satterthwaite 1946, Biometrics
    Bulletin 2, 110-114). That of σ_T is the modified large-sample interval of a difference of mean squares (Ting,
    Burdick, Graybill, Jeyaratnam & Lu 1990, Journal of Statistical Computation and Simulation 35, 135-143), which
    takes effects as normal.

    Share of intervals that held the truth, in %, over 10,000 draws of normal effects about 0.75 (standard error 0.2):

    ========  =====  ====================  ====  ====
    networks  chips  σ_T, σ_C, σ_R         mean   σ_T
    ========  =====  ====================  ====  ====
          10    100  .01,  .04,  .02       94.6  94.8
          10    100  .002, .04,  .02       95.0  95.1
          10     30  .02,  .03,  .01       94.9  95.3
          10     30  .03,  .003, .02       94.9  95.4
          10     20  .001, .03,  .03       95.3  94.9
           5     50  .005, .04,  .02       95.1  94.7
           3     10  .02,  .02,  .01       94.0  94.9
    ========  =====  ====================  ====  ====

    Args:
        accuracies: fractions in [0, 1], shape (networks, chips).
        exact: a perturbation without randomness, whose chips are all alike: only trainings differ.
        bounded: whether values are fractions; else the interval of the mean is on their own scale.

    Returns:
        With one network, or one chip, the components cannot be told apart: only the mean is there. Accuracies
        that are all equal give zeros and intervals of no width: no difference was seen.

    Raises:
        ValueError: not two axes, or values that are not fractions.
    """
    table = estimates.fractions(accuracies) if bounded else np.asarray(accuracies, dtype=np.float64)
    if table.ndim != 2:
        raise ValueError(f"accuracies: expected two axes, (networks, chips); got shape {table.shape}")
    if exact:
        of_networks = table[:, 0]
        spread = estimates.standard_deviation(of_networks, bounded)
        return Components(*estimates.mean(of_networks, bounded), *spread, 0.0, 0.0)
    a, n = table.shape
    centre = float(table.mean()) if table.size else np.nan
    if a < 2 or n < 2:
        return Components(centre, *(np.nan,) * 7)
    least = estimates.rounding(table, bounded)
    if np.ptp(table) < least:
        return Components(centre, centre, centre, 0, 0, 0, 0, 0)

    networks, chips = table.mean(axis=1), table.mean(axis=0)
    rest = table - networks[:, None] - chips + centre
    squares = n * networks.var(ddof=1), a * chips.var(ddof=1), np.sum(rest**2) / ((a - 1) * (n - 1))
    ms_t, ms_c, ms_r = (float(square) for square in squares)
    variances = {"trainings": (ms_t - ms_r) / n, "chips": (ms_c - ms_r) / a}
    std = {name: float(np.sqrt(max(variance, 0))) for name, variance in variances.items()}
    low, high = _interval_of_mean(centre, np.array([max(ms_t, ms_r), max(ms_c, ms_r), ms_r]), a, n, bounded)
    return Components(
        centre,
        low,
        high,
        std["trainings"],
        *_interval_of_trainings(ms_t, ms_r, a, n, WIDEST if bounded else np.inf),
        std["chips"],
        float(np.sqrt(ms_r)),
        tuple(name for name, variance in variances.items() if variance < -(least**2)),
    )


def _interval_of_mean(centre: float, squares: Floats, a: int, n: int, bounded: bool) -> tuple[float, float]:
    """The 95 % interval of the mean from the mean squares of trainings, chips and interaction."""
    signs, degrees = np.array([1, 1, -1]), np.array([a - 1, n - 1, (a - 1) * (n - 1)])
    total = np.sum(signs * squares)
    freedom = total**2 / np.sum(squares**2 / degrees)
    error = float(np.sqrt(total / (a * n)))
    if not bounded:
        return centre - estimates.student(freedom) * error, centre + estimates.student(freedom) * error
    return estimates.logit_interval(centre, estimates.student(freedom) * (error / (centre * (1 - centre))))


def _interval_of_trainings(ms_t: float, ms_r: float, a: int, n: int, widest: float) -> tuple[float, float]:
    """The 95 % interval of σ_T.

    In the notation of Burdick & Graybill 1992, Confidence Intervals on Variance Components: n1 and n2 degrees of
    freedom, upper and lower points of χ²/ν and of F.
    """
    n1, n2, tail = a - 1, (a - 1) * (n - 1), (1 - CONFIDENCE) / 2
    top1, top2 = special.chdtri(n1, tail) / n1, special.chdtri(n2, tail) / n2
    end1, end2 = special.chdtri(n1, 1 - tail) / n1, special.chdtri(n2, 1 - tail) / n2
    top, end = special.fdtri(n1, n2, 1 - tail), special.fdtri(n1, n2, tail)
    g1, h2 = 1 - 1 / top1, 1 / end2 - 1
    g12 = ((top - 1) ** 2 - (g1 * top) ** 2 - h2**2) / top
    h1, g2 = 1 / end1 - 1, 1 - 1 / top2
    h12 = ((1 - end) ** 2 - (h1 * end) ** 2 - g2**2) / end
    below = (g1 * ms_t) ** 2 + (h2 * ms_r) ** 2 + g12 * ms_t * ms_r
    above = (h1 * ms_t) ** 2 + (g2 * ms_r) ** 2 + h12 * ms_t * ms_r
    limits = (ms_t - ms_r + np.array([-1, 1]) * np.sqrt(np.maximum([below, above], 0))) / n
    low, high = np.sqrt(np.maximum(limits, 0))
    return float(low), float(min(high, max(widest, low)))

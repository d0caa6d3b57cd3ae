"""How often the intervals hold what they should, and the tests raise a false alarm: by simulation.

`python -m tests.statistics.coverage` runs the 2,000 studies (10,000 for one cell's intervals) behind
docs/statistics.md, about half an hour, or fewer:
`python -m tests.statistics.coverage 200`.
"""

import functools
import sys
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from sweep.statistics import estimates
from sweep.statistics.differences import difference
from sweep.statistics.estimates import Floats
from sweep.statistics.inversion import equivalent_levels, thresholds
from sweep.statistics.likelihood_ratio import compare
from sweep.statistics.monotone import Curve, furthest
from sweep.statistics.published import fit, percentile

Row = tuple[str, str, int, float]

TOP = 0.985
"""No chip passes the clean network: accuracies are betas on [0, TOP]."""

LAWS = {0.04: (0.97, 0.008), 0.10: (0.797, 0.08), 0.16: (0.53, 0.11)}
"""Noise level → mean and standard deviation over chips: three cells of the article's Gaussian noise."""

GAUSSIAN = [(0.970, 0.0069), (0.939, 0.0227), (0.877, 0.0490), (0.835, 0.0629), (0.789, 0.0752), (0.518, 0.1011)]
UNIFORM = [(0.963, 0.0053), (0.903, 0.0203), (0.795, 0.0409), (0.738, 0.0493), (0.680, 0.0575), (0.384, 0.0754)]
"""The six noise levels of the article's table, as measured under either law."""

SIZES = (20, 100, 1000)
SAME_CHIP = 0.95
"""Correlation of one chip's normal scores at two levels."""


def beta(mean: float, std: float, top: float = TOP) -> tuple[float, float]:
    """Parameters of a beta on [0, top] with this mean and standard deviation."""
    centre, spread = mean / top, std / top
    size = centre * (1 - centre) / spread**2 - 1
    return centre * size, (1 - centre) * size


@functools.cache
def quantile_function(mean: float, std: float) -> Callable[[Floats], Floats]:
    """Normal scores → accuracies, by a fine table (the exact inverse is slow)."""
    grid = np.linspace(-6, 6, 4001)
    table = TOP * special.betaincinv(*beta(mean, std), special.ndtr(grid))
    return lambda scores: np.interp(scores, grid, table)


def chips_at(laws: list[tuple[float, float]], n: int, rng: np.random.Generator, same: float = SAME_CHIP) -> Floats:
    """n chips at several levels; shape (n, levels)."""
    scores = np.sqrt(same) * rng.standard_normal((n, 1)) + np.sqrt(1 - same) * rng.standard_normal((n, len(laws)))
    return np.stack([quantile_function(*law)(scores[:, k]) for k, law in enumerate(laws)], axis=1)


def cells(studies: int, sizes: tuple[int, ...] = SIZES, seed: int = 0) -> Iterator[Row]:
    """Intervals of one cell."""
    for number, (level, (mean, std)) in enumerate(LAWS.items()):
        a, b = beta(mean, std)
        truth = {p: TOP * float(stats.beta.ppf(p, a, b)) for p in (0.05, 0.2, 0.5, 0.95)}
        estimators: list[tuple[str, Callable[..., estimates.Estimate], tuple[float, ...], float]] = [
            ("mean", estimates.mean, (), mean),
            ("standard deviation", estimates.standard_deviation, (), std),
            ("5 % quantile", estimates.quantile, (0.05,), truth[0.05]),
            ("median", estimates.quantile, (0.5,), truth[0.5]),
            ("95 % quantile", estimates.quantile, (0.95,), truth[0.95]),
            ("percentile of the median", percentile, (truth[0.5],), 0.5),
            ("percentile of the 20 % quantile", percentile, (truth[0.2],), 0.2),
            ("percentile of the 5 % quantile", percentile, (truth[0.05],), 0.05),
        ]
        for n in sizes:
            draws = TOP * np.random.default_rng([seed, n, number]).beta(a, b, (studies, n))
            for name, estimator, arguments, value in estimators:
                found = [estimator(draw, *arguments) for draw in draws]
                held = [not (e.low > value or e.high < value) for e in found]  # a missing limit rules nothing out
                yield name, f"noise {level:g}", n, float(np.mean(held))


def differences(studies: int, sizes: tuple[int, ...] = SIZES, seed: int = 1) -> Iterator[Row]:
    """Two neighbouring cells, chips shared and not."""
    laws = GAUSSIAN[:2]
    value = laws[0][0] - laws[1][0]
    for n in sizes:
        rng = np.random.default_rng([seed, n])
        for name, apart in (("difference, paired", 0), ("difference, unpaired", n)):
            held = []
            for _ in range(studies):
                chips = chips_at(laws, n, rng, SAME_CHIP if apart == 0 else 0)
                found = difference(chips[:, 0], chips[:, 1], (np.arange(n), np.arange(n) + apart))
                held.append(found.low <= value <= found.high)
            yield name, "noise 0.04 - 0.06", n, float(np.mean(held))


def curve(chips: Floats, levels: list[float]) -> Curve:
    """Chips, (n, levels), behind a clean level of accuracy TOP."""
    accuracies = np.vstack([np.full(len(chips), TOP), chips.T])
    exact = np.array([True] + [False] * len(levels))
    return Curve(np.array([0, *levels]), np.arange(len(chips)), accuracies, exact)


def inversions(studies: int, sizes: tuple[int, ...] = SIZES, seed: int = 2) -> Iterator[Row]:
    """Thresholds and equivalence, the error of interpolation apart: the truth is interpolated too."""
    levels = [0.04, 0.06, 0.08, 0.09, 0.10, 0.16]
    axis, means = np.array([0, *levels]), np.array([TOP, *(mean for mean, _ in GAUSSIAN)])
    low = np.array([TOP, *(TOP * float(stats.beta.ppf(0.05, *beta(*law))) for law in GAUSSIAN)])
    drops = [0.03, 0.15]
    bits, coarse = np.array([1.0, 2.0]), np.array([0.65, 0.90])
    rounding = Curve(bits, np.array([], dtype=np.int64), coarse[:, None], np.array([True, True]))
    truth = {
        "threshold of the mean": [float(furthest(axis, means, TOP - drop)[0]) for drop in drops],
        "threshold of the 5 % quantile": [float(furthest(axis, low, TOP - drop)[0]) for drop in drops],
        "equivalent noise": [float(furthest(axis**2, means, target)[0]) ** 0.5 for target in coarse[::-1]],
    }
    for n in sizes:
        rng = np.random.default_rng([seed, n])
        held: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in truth}
        for _ in range(studies):
            noise = curve(chips_at(GAUSSIAN, n, rng), levels)
            for name, quantile in (("threshold of the mean", None), ("threshold of the 5 % quantile", 0.05)):
                pairs = zip(thresholds(noise, TOP, drops, quantile), truth[name], strict=True)
                held[name].append(np.array([not (t.level_low > true or t.level_high < true) for t, true in pairs]))
            found = equivalent_levels(noise, rounding, seed=0)
            true = np.array(truth["equivalent noise"])
            held["equivalent noise"].append((found.level_low <= true) & (found.level_high >= true))
        for name, values in held.items():
            yield name, "six levels", n, float(np.mean(values))


def images(studies: int, sizes: tuple[int, ...] = (20, 100), m: int = 1000, seed: int = 3) -> Iterator[Row]:
    """Chips of ability N(1.8, 0.15²) on images of difficulty N(0, 1), with noise of their own for each pair."""
    for noise in (0.0, 0.5, 2.0):
        scale = np.sqrt(1 + noise**2)
        centre, width = 1.8 * np.sqrt(1 + noise**2), 0.15
        mean = float(special.ndtr(centre / np.sqrt(scale**2 + width**2)))
        for n in sizes:
            rng = np.random.default_rng([seed, n])
            held = []
            for _ in range(studies):
                ability, difficulty = centre + width * rng.standard_normal((n, 1)), rng.standard_normal(m)
                luck = noise * rng.standard_normal((n, m), dtype=np.float32) if noise else 0
                accuracies = (ability + luck > difficulty).mean(axis=1)
                found = estimates.mean(accuracies), estimates.on_new_images(accuracies, m)
                held.append([interval.low <= mean <= interval.high for interval in found])
            names = ("this set's mean interval, about new images", "mean on new images")
            for name, share in zip(names, np.mean(held, axis=0), strict=True):
                yield name, f"luck {noise:g}", n, float(share)


def false_alarms(studies: int, sizes: tuple[int, ...] = SIZES, seed: int = 4) -> Iterator[Row]:
    """Share of p-values up to 5 %, of tables that our own law made in either way."""
    for n in sizes:
        rng = np.random.default_rng([seed, n])
        low = []
        for _ in range(studies):
            chips = chips_at(GAUSSIAN, n, rng)
            alone = chips_at(GAUSSIAN, 1, rng, same=0)[0]
            together = chips_at(GAUSSIAN, 1, rng)[0]
            low.append((fit(chips, alone).independent <= 0.05, fit(chips, together).common <= 0.05))
        for name, share in zip(("independent", "common"), np.mean(low, axis=0), strict=True):
            yield f"false alarms at 5 %, {name}", "six levels", n, float(share)


def verdicts(studies: int, sizes: tuple[int, ...] = (20, 100), seed: int = 5) -> Iterator[Row]:
    """Where the first law is said to have made a table with a probability in a range: how often it did."""
    for n in sizes:
        rng = np.random.default_rng([seed, n])
        said, was = np.empty(studies), np.empty(studies, dtype=bool)
        for study in range(studies):
            first, second = chips_at(GAUSSIAN, n, rng), chips_at(UNIFORM, n, rng)
            was[study] = rng.random() < 0.5
            table = chips_at(GAUSSIAN if was[study] else UNIFORM, 1, rng, same=0)[0]
            said[study] = compare(first, second, table).probability
        sure, right = np.maximum(said, 1 - said), (said > 0.5) == was
        for low, high in ((0.5, 0.7), (0.7, 0.9), (0.9, 0.99), (0.99, 1.01)):
            within = (low <= sure) & (sure < high)
            name = f"verdict said {low:.0%} to {min(high, 1):.0%} sure: share of studies"
            yield name, "six levels", n, float(np.mean(within))
            yield f"  mean said ({low:.0%} up)", "six levels", n, float(sure[within].mean()) if within.any() else np.nan
            yield f"  right ({low:.0%} up)", "six levels", n, float(right[within].mean()) if within.any() else np.nan


def main(studies: int) -> None:
    """Print every coverage, in %."""
    for simulation, times in (
        (cells, 5),
        (differences, 1),
        (inversions, 1),
        (images, 1),
        (false_alarms, 1),
        (verdicts, 1),
    ):
        for name, law, n, share in simulation(times * studies):
            print(f"{name:45} {law:20} {n:5} {100 * share:6.1f}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)

"""Arrays in, numbers with their uncertainty out: everything here needs NumPy and SciPy alone."""

from sweep.statistics.differences import Difference, difference
from sweep.statistics.estimates import (
    CONFIDENCE,
    Estimate,
    mean,
    on_new_images,
    quantile,
    quantiles,
    standard_deviation,
    wilson,
)
from sweep.statistics.inversion import Claims, Equivalents, Threshold, check_claims, equivalent_levels, thresholds
from sweep.statistics.likelihood_ratio import Comparison, compare
from sweep.statistics.monotone import Curve, curve_of
from sweep.statistics.published import Fit, fit, percentile
from sweep.statistics.variance_components import Components, decompose

__all__ = [
    "CONFIDENCE",
    "Claims",
    "Comparison",
    "Components",
    "Curve",
    "Difference",
    "Equivalents",
    "Estimate",
    "Fit",
    "Threshold",
    "check_claims",
    "compare",
    "curve_of",
    "decompose",
    "difference",
    "equivalent_levels",
    "fit",
    "mean",
    "on_new_images",
    "percentile",
    "quantile",
    "quantiles",
    "standard_deviation",
    "thresholds",
    "wilson",
]

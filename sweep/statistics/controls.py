"""Control variates of a chip's draw: what its weights' errors do to first and second order, taken off its estimate.

With g the gradient of a margin with respect to weights, s the standard deviations of their errors and ξ a chip's errors
in units of s, u = (g∘s)·ξ/|g∘s| has mean 0 and variance 1, whatever g is. So u and u² - 1 may be taken off an estimate
with any factors that were found without it, and the mean stays what it is.

All that a control is computed of is in whole numbers, and no sum of them needs more than the 24 bits of float32 or the
53 of float64 that are taken for it: it is the same in any order, on every machine, whichever chips go together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sweep.statistics.estimates import Floats

MOST_WEIGHTS = 2**17  # before the last layer: with more, gradients take more room and time than they are worth
RIDGE = 150.0
"""Chips of no information that are added where factors are fitted: with 256 the best of 25 to 400, by 5 %."""
WORTH = 0.9
"""Of the variance of estimates: where controls leave more, by chips left out one by one, there are none."""
ERROR_UNIT = 2.0**-7  # of errors, in standard deviations
_VARIANCE = 1 + ERROR_UNIT**2 / 12  # of errors that are rounded to it (Sheppard 1898)
_COARSE = 16.0  # root mean square of a direction's whole numbers
_SINGLE = 2**12  # weights, up to which products of directions and errors are below 2²⁴: 16 · 1.5 · 2⁷ a weight
_FINE, _FEATURE, _FACTOR = 2.0**15, 2.0**16, 2.0**24

Real = NDArray[np.float32] | Floats
Along = tuple[Real, Floats]


def directions(gradients: NDArray[np.floating], stds: Floats) -> Along:
    """Along which a chip's errors are measured.

    Args:
        gradients: (P, F), on any scale; float16 will do.
        stds: (F,) of the errors, on any scale; 0 for weights that are left out.

    Returns:
        (P, F) whole numbers, (P,) their lengths; 0 for gradients that are no direction.
    """
    along = gradients.astype(np.float64) * stds
    largest = np.abs(along).max(axis=1, keepdims=True, initial=0.0)
    fine = np.rint(along / np.where(largest > 0, largest, 1.0) * _FINE)
    lengths = np.sqrt(np.einsum("pf,pf->p", fine, fine))[:, None]
    whole = np.rint(fine * (_COARSE * np.sqrt(fine.shape[1]) / np.where(lengths > 0, lengths, np.inf)))
    kind = np.float32 if fine.shape[1] <= _SINGLE else np.float64
    return whole.astype(kind), np.sqrt(np.einsum("pf,pf->p", whole, whole))


def features(along: Along, errors: Real) -> Floats:
    """Of chips: u, and u² - 1, of each direction; their mean is 0.

    Args:
        along: of `directions`.
        errors: (T, F) ξ in whole `ERROR_UNIT`s.

    Returns:
        (T, 2 P), multiples of 2⁻¹⁶.
    """
    whole, lengths = along
    there = lengths > 0
    scale = _FEATURE * ERROR_UNIT / np.sqrt(_VARIANCE) / np.where(there, lengths, np.inf)
    product = np.matmul(errors.astype(whole.dtype, copy=False), whole.T)
    linear = np.rint(product.astype(np.float64) * scale)
    square = np.rint(linear**2 / _FEATURE - _FEATURE) * there
    return np.concatenate([linear, square], axis=1) / _FEATURE


def factors(found: Floats, values: Floats) -> Floats:
    """By which features are taken off the estimates of other chips: ridge regression.

    Args:
        found: (n, 2 P) `features` of chips.
        values: (n,) their estimates.

    Returns:
        (2 P,); (0,) where it is not worth it.
    """
    n, wanted = len(values), values - values.mean()
    table = found.T @ found + RIDGE * np.eye(found.shape[1])
    fitted = np.linalg.solve(table, found.T @ wanted)
    held = np.einsum("nf,fn->n", found, np.linalg.solve(table, found.T))
    left = (wanted - found @ fitted) / np.maximum(1 - held - 1 / n, 1 / n)  # each by the others
    if not np.mean(left**2) < WORTH * np.mean(wanted**2):
        return np.zeros(0)
    return np.asarray(np.rint(fitted * _FACTOR) / _FACTOR)


def controls(found: Floats, by: Floats) -> Floats:
    """(T,) what is taken off the estimates of chips with these `features` (T, 2 P), by `factors` (2 P,)."""
    return found @ by

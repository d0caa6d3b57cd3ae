"""The probability that a network decides rightly, over the errors of its last layer's weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from sweep.statistics.estimates import Floats

STEP = 0.7  # of the trapezoidal rule, in standard deviations of the sharpest law
_REACH = 5.5  # standard deviations to either side
_FINE, _END = 4096, 6  # entries to a unit of the table of Φ, and where it ends
_SURE = 5.5  # standard deviations of a difference from which on one class is never taken for another: 2e-8
_GRID = np.arange(-_END * _FINE, _END * _FINE + 1) / _FINE
_NORMAL = special.ndtr(_GRID).astype(np.float32)
_FOURTH = (_GRID**3 - 3 * _GRID) * np.exp(-(_GRID**2) / 2) / math.sqrt(2 * math.pi) / 24
_FOURTH = _FOURTH.astype(np.float32)
_OVER = 2.0**24  # places beyond the table that can still be added to
_FEW = 4  # rivals up to which the others are left out
_PART = 256  # images at a time: what they take stays in the processor's cache


def probability_right(
    means: ArrayLike, stds: ArrayLike, labels: ArrayLike, kurtosis: ArrayLike = 0.0, threshold: float | None = None
) -> Floats:
    """P(the label's logit is the largest), for independent logits.

    With z_k = m_k + s_k t_k and t_k of density φ, it is ∫ φ(t) Π_{k≠c} Φ((m_c + s_c t - m_k)/s_k) dt, by the
    trapezoidal rule, which converges exponentially for such integrands (Trefethen & Weideman 2014, SIAM Review 56,
    385-458); with one other class that can win, Φ of their difference. Where t_k is a sum of many independent errors
    that are not normal, its law is taken by the Edgeworth series to the fourth cumulant, φ(t)(1 + κ/24 He₄(t)) (Hall
    1992, The Bootstrap and Edgeworth Expansion, section 2.4).

    Args:
        means: m, (n, classes); a single column is that of class 1, which is decided for above the threshold.
        stds: s, (n, classes), above 0.
        labels: c, (n,).
        kurtosis: κ, the excess kurtosis of t, (n, classes) or what broadcasts to that; 0 for the normal law.
        threshold: of a single logit; None with several.

    Returns:
        (n,) probabilities, within [0, 1].
    """
    m, s = np.asarray(means, np.float64), np.asarray(stds, np.float64)
    own = np.asarray(labels, np.int64)
    kappa = np.broadcast_to(np.asarray(kurtosis, np.float64), m.shape)
    if m.shape[1] == 1:
        sign = np.where(own == 1, 1.0, -1.0)
        at = _places(sign * (m[:, 0] - (threshold or 0.0)) / s[:, 0])
        return np.clip(_below(at, kappa[:, 0]), 0, 1).astype(np.float64)
    rows = np.arange(len(m))
    centre, scale, bend = m[rows, own], s[rows, own], kappa[rows, own]
    distance = (centre[:, None] - m) / np.hypot(scale[:, None], s)
    distance[rows, own] = np.inf
    rivals = (distance < _SURE).sum(axis=1)
    found = np.where(rivals == 0, 1.0, 0.0)
    rivals[distance.min(axis=1) < -_SURE] = 0
    many = min(_FEW, m.shape[1] - 1)
    for least, most, count in ((1, 1, 1), (2, many, many), (many + 1, m.shape[1], m.shape[1])):
        every = np.flatnonzero((rivals >= least) & (rivals <= most))
        for part in np.split(every, range(_PART, len(every), _PART)):
            if not len(part):
                continue
            law = centre[part], scale[part], bend[part]
            if count == m.shape[1]:  # the label's own is no rival: it is put out of the way
                rest = m[part]
                rest[np.arange(len(part)), own[part]] = -np.inf
                found[part] = _of_several(*law, rest, s[part], kappa[part])
                continue
            nearest = np.argpartition(distance[part], count - 1, axis=1)[:, :count]
            few = part[:, None], nearest
            if count == 1:
                found[part] = _of_two(*law, *(x[few][:, 0] for x in (m, s, kappa)))
            else:
                found[part] = _of_several(*law, m[few], s[few], kappa[few])
    return np.clip(found, 0, 1)


def _of_two(centre: Floats, scale: Floats, kappa: Floats, rest: Floats, spread: Floats, bend: Floats) -> Floats:
    """P(the label's logit is above one other), by the law of their difference."""
    variance = scale**2 + spread**2
    of_difference = (kappa * scale**4 + bend * spread**4) / variance**2
    return _below(_places((centre - rest) / np.sqrt(variance)), of_difference).astype(np.float64)


def _of_several(centre: Floats, scale: Floats, kappa: Floats, rest: Floats, spread: Floats, bend: Floats) -> Floats:
    """P(the label's logit is above several others), (n,) of the label and (n, others)."""
    ratio = scale[:, None] / spread
    levels = np.ceil(np.log2(np.maximum(ratio.max(axis=1), 1.0))).astype(int)
    found = np.empty(len(centre))
    for halvings in range(levels.min(), levels.max() + 1):
        rows = levels == halvings
        if not rows.any():
            continue
        nodes = np.arange(-_REACH, _REACH + STEP / 4, STEP / 2**halvings)
        share = np.exp(-(nodes**2) / 2)
        if kappa.any():
            share = share * (1 + kappa[rows, None] / 24 * (nodes**4 - 6 * nodes**2 + 3))
        # ((m_c + s_c t) - m_k) / s_k in entries of the table, (others, n, nodes)
        away = (centre[rows, None] - rest[rows]) / spread[rows] * _FINE + (_END * _FINE + 0.5)
        at = (ratio[rows].T * _FINE).astype(np.float32)[:, :, None] * nodes.astype(np.float32)
        at += np.minimum(away.T, _OVER).astype(np.float32)[:, :, None]
        below = np.multiply.reduce(_below(at, bend[rows].T[:, :, None]), axis=0)
        found[rows] = (below * share).sum(axis=-1) / share.sum(axis=-1)
    return found


def _places(x: Floats) -> Floats:
    return np.clip(x, -_END, _END) * _FINE + (_END * _FINE + 0.5)


def _below(places: NDArray[np.floating[Any]], kappa: Floats) -> NDArray[np.float32]:
    """The distribution function Φ(x) - κ/24 He₃(x) φ(x), from tables, at x that are given as places in them.

    The nearest entry is off by up to 5e-5, to either side by chance: by 1e-8 on average over a hundred images.
    """
    entries = places.astype(np.int32)  # towards 0; what lies outside is taken for the ends
    below = np.take(_NORMAL, entries, mode="clip")
    if kappa.any():
        below = below - kappa.astype(np.float32) * np.take(_FOURTH, entries, mode="clip")
    return below

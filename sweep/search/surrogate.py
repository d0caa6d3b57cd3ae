"""What settings that were not evaluated probably lose, by those that were."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import special

from sweep.search.costs import Costs
from sweep.search.space import Setting
from sweep.statistics.estimates import Floats

Ints = npt.NDArray[np.int64]
MOST = 20_000  # settings that are looked at
REACH = 1.0  # logits of layers' losses over which one setting tells of another
OWN, NUGGET = 0.3, 0.02  # of what is left of a setting no other tells: this part, and so many logits at least
LEAST, LARGEST = 0.002, 0.998  # accuracies between which logits are taken


def logit(accuracy: npt.ArrayLike) -> Floats:
    """Of accuracies, those near the ends and beyond as at the ends."""
    return np.asarray(special.logit(np.clip(accuracy, LEAST, LARGEST)))


class Surrogate:
    """Accuracies of settings: each layer takes its own from the logit, and where that is wrong, as its neighbours say.

    What layers lose together is not what they lose alone; the residual is kriged over the layers' losses (Sacks, Welch,
    Mitchell & Wynn 1989, Statistical Science 4, 409-423), with an exponential covariance.
    """

    def __init__(self, effects: Sequence[Floats], base: float) -> None:
        """`effects` are what each option of each layer loses alone, in logits; `base` is the logit without any."""
        self._effects, self._base = effects, base

    def fit(self, settings: Sequence[Setting], logits: Floats, errors: Floats) -> None:
        """Take in what was measured, in logits with standard errors; (m,) each."""
        self._at = self._losses(np.array(settings))
        self._residual = logits - self._additive(self._at)
        together = np.count_nonzero(self._at, axis=1) > 1  # of one layer alone, nothing is left
        told = self._residual[together] if together.any() else self._residual
        self._scale = max(float(np.sqrt(np.mean(told**2))), NUGGET)
        self._own = NUGGET**2 + (OWN * self._scale) ** 2
        self._among = self._like(self._at, self._at) + np.diag(errors**2 + self._own)
        self._weights = np.linalg.solve(self._among, self._residual)

    def predict(self, settings: Ints) -> tuple[Floats, Floats]:
        """Logits of settings (p, layers), and their standard deviations; (p,) each."""
        at = self._losses(settings)
        like = self._like(at, self._at)
        known = np.einsum("pm,mp->p", like, np.linalg.solve(self._among, like.T))
        left = np.sqrt(np.maximum(self._scale**2 - known, 0) + self._own)
        return self._additive(at) + like @ self._weights, left

    def _losses(self, settings: Ints) -> Floats:
        return np.stack([effect[settings[:, k]] for k, effect in enumerate(self._effects)], axis=1)

    def _additive(self, losses: Floats) -> Floats:
        return np.asarray(self._base - losses.sum(axis=1))

    def _like(self, first: Floats, second: Floats) -> Floats:
        apart = np.zeros((len(first), len(second)))
        for k in range(first.shape[1]):
            apart += np.abs(first[:, k, None] - second[None, :, k])
        return np.asarray(self._scale**2 * np.exp(-apart / REACH))


def pool(effects: Sequence[Floats], costs: Costs, most: int = MOST) -> Ints:
    """The settings that may be worth a look: all, or of too many those that lose least at each cost; (p, layers).

    Layer by layer; of settings of about the same cost so far, the few that lose least by layers alone are kept.
    """
    found: Ints = np.zeros((1, 0), np.int64)
    total, loss = np.zeros(1), np.zeros(1)
    for effect, own in zip(effects, costs, strict=True):
        options = np.arange(len(own))
        found = np.column_stack([np.repeat(found, len(own), axis=0), np.tile(options, len(found))])
        total = (total[:, None] + np.array(own)).ravel()
        loss = (loss[:, None] + np.asarray(effect)).ravel()
        if len(found) > most:
            bins = np.floor((total - total.min()) / max(np.ptp(total), 1e-300) * (most // 8 - 1)).astype(np.int64)
            order = np.lexsort((loss, bins))
            rank = np.arange(len(order)) - np.searchsorted(bins[order], bins[order])
            kept = np.sort(order[rank < 8])
            found, total, loss = found[kept], total[kept], loss[kept]
    return found


def total_costs(settings: Ints, costs: Costs) -> Floats:
    """(p,) of settings (p, layers)."""
    return np.asarray(sum(np.array(own)[settings[:, k]] for k, own in enumerate(costs)), np.float64)


def front(costs: Floats, accuracies: Floats) -> Ints:
    """Which points nothing beats that costs as much or less: by rising cost, each more accurate than those before."""
    order = np.lexsort((-accuracies, costs))
    best = np.maximum.accumulate(accuracies[order])
    first = np.concatenate([[True], best[1:] > best[:-1]])
    return np.asarray(order[first])


def improvement(mean: Floats, deviation: Floats, over: Floats) -> Floats:
    """How much a normal variable is expected to be above a value, counting nothing below it (Mockus 1975)."""
    z = (mean - over) / deviation
    return np.asarray(deviation * (z * special.ndtr(z) + np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)))

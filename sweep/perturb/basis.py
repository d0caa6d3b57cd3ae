"""What a noise level is relative to: the field uses all of these under the one word σ."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from sweep.networks.variables import Variable
from sweep.perturb.base import Array

UNITS = {
    "absolute": "weight units",
    "weight": "× |w|",
    "layer_max": "× max |W| of the layer",
    "layer_std": "× standard deviation of the layer",
    "layer_range": "× range of the layer",
    "channel_max": "× max |W| of the channel",
    "inverse": "× max |W|² / |w|",
}
BASES = tuple(UNITS)
_KEPT, _SMALL = 64, 2**16  # units that are kept at most, and values of such a weight
_kept: OrderedDict[tuple[str, int, tuple[int, ...]], tuple[Array, Array]] = OrderedDict()
INVERSE_LIMIT = 2.0**64  # keeps level × draw finite for a weight next to 0


def unit(basis: str, weight: Array, variable: Variable) -> Array:
    """The unit of a noise level, as a float32 array that broadcasts against `weight`.

    `absolute`: 1. `weight`: |w|. `layer_max`: max |W|. `layer_std`: the standard deviation of W. `layer_range`: max W −
    min W. `channel_max`: max |W| over each output channel. `inverse`: max|W|² / |w|, 0 where w = 0; at most 2^64. Who
    means which is in the catalogue, under `gaussian`.

    That of small weights that cannot be written to, as the clean network's, is kept for the next trial.
    """
    if basis == "absolute":
        return np.float32(1)  # type: ignore[return-value]
    if weight.flags.writeable or weight.size > _SMALL:
        return _unit(basis, weight, variable)
    key = basis, id(weight), variable.channel_axes
    if key not in _kept:
        while len(_kept) >= _KEPT:
            _kept.popitem(last=False)
        found = _unit(basis, weight, variable)
        found.flags.writeable = False
        _kept[key] = weight, found  # the weight lives on, or another could get its id
    return _kept[key][1]


def _unit(basis: str, weight: Array, variable: Variable) -> Array:
    if basis == "weight":
        return np.asarray(np.abs(weight))
    if basis == "layer_max":
        return np.asarray(np.max(np.abs(weight)), np.float32)
    if basis == "layer_std":
        return np.asarray(np.std(weight, dtype=np.float64), np.float32)
    if basis == "layer_range":
        return np.asarray(np.max(weight) - np.min(weight), np.float32)
    if basis == "channel_max":
        return np.asarray(np.max(np.abs(weight), axis=within(weight, variable), keepdims=True), np.float32)
    if basis == "inverse":
        size = np.abs(weight).astype(np.float64)
        inverse = np.max(size) ** 2 / np.where(size > 0, size, np.inf)
        return np.asarray(np.minimum(inverse, INVERSE_LIMIT), np.float32)
    raise ValueError(f"no basis {basis!r}")


def within(weight: npt.NDArray[np.floating], variable: Variable) -> tuple[int, ...]:
    """The axes that run inside one output channel."""
    return tuple(a for a in range(weight.ndim) if a not in variable.channel_axes)


def root_mean_square(values: npt.NDArray[np.floating]) -> float:
    """√(mean of squares), in float64."""
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))

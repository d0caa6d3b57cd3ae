"""What a noise level is relative to: the field uses all of these under the one word σ."""

from __future__ import annotations

import numpy as np

from sweep.networks.variables import Variable
from sweep.perturb.base import Array

BASES = ("absolute", "weight", "layer_max", "layer_std", "layer_range", "channel_max")


def resolve(basis: str, weight: Array, variable: Variable) -> Array:
    """The unit of a noise level, as a float32 array that broadcasts against `weight`.

    `absolute`: 1. `weight`: |w| (NeuroSim; CrossSim's "proportional"). `layer_max`: max |W| (aihwkit's default).
    `layer_std`: the standard deviation of W. `layer_range`: max W − min W. `channel_max`: max |W| over each
    output channel (aihwkit-lightning).
    """
    if basis == "absolute":
        return np.float32(1)  # type: ignore[return-value]
    if basis == "weight":
        return np.abs(weight)
    if basis == "layer_max":
        return np.asarray(np.max(np.abs(weight)), np.float32)
    if basis == "layer_std":
        return np.asarray(np.std(weight, dtype=np.float64), np.float32)
    if basis == "layer_range":
        return np.asarray(np.max(weight) - np.min(weight), np.float32)
    if basis == "channel_max":
        within = tuple(a for a in range(weight.ndim) if a not in variable.channel_axes)
        return np.asarray(np.max(np.abs(weight), axis=within, keepdims=True), np.float32)
    raise ValueError(f"no basis {basis!r}")

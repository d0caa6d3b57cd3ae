"""From a network's output to the class it decides for."""

from __future__ import annotations

import numpy as np


def decide(scores: np.ndarray, threshold: float | None) -> np.ndarray:
    """The decided classes.

    Args:
        scores: (..., outputs), what the network puts out.
        threshold: None takes the largest output (the first of equal ones, as `numpy.argmax` does); a number
            decides 1 where the single output lies above it and 0 elsewhere.

    Returns:
        (...,) int64.
    """
    classes: np.ndarray = np.argmax(scores, axis=-1) if threshold is None else scores[..., 0] > threshold
    return classes.astype(np.int64)

"""From a network's output to the class it decides for."""

from __future__ import annotations

import numpy as np

from sweep.texts import percent

_SURE = 3  # standard errors above chance
_LESS = 0.005  # than expected, at most
_FAR = 0.05  # of the way from chance to all right, at least


def chance(labels: np.ndarray, outputs: int) -> float:
    """The accuracy, a fraction, of one that knows no image: by lot, or always the most frequent label."""
    frequent = float(np.bincount(labels).max() / len(labels))
    return max(frequent, 1 / max(outputs, 2))


def is_near_chance(accuracy: float, images: int, by_chance: float) -> bool:
    """Whether an accuracy on so many images is not clearly above that by chance; all are fractions."""
    error = float(np.sqrt(by_chance * (1 - by_chance) / images))
    return accuracy < by_chance + max(_SURE * error, _FAR * (1 - by_chance))


def chance_warning(model: str, accuracy: float, by_chance: float) -> str:
    """What to tell of a clean network whose accuracy is near chance."""
    return (
        f"{model}: the clean network is right about {percent(accuracy, 1)} % of the images, near chance "
        f"({percent(by_chance, 1)} %): are the images what it was trained on (`rescale`), and the labels its classes?"
    )


def shortfall(model: str, accuracy: float, expected: float) -> str:
    """What is wrong with a clean network of less accuracy than expected, both fractions; empty where nothing is."""
    if accuracy >= expected - _LESS:
        return ""
    return (
        f"{model}: the clean network is right about {percent(accuracy)} % of the images, and {percent(expected)} % are "
        "expected: are the images what it was trained on (`rescale`), and the labels its classes?"
    )


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

"""Seeds to named random streams: the draws of a trial depend on four integers and on nothing else."""

from __future__ import annotations

import numpy as np

FIRST_SAMPLED = 1_000_000_000
"""The first seed of the chips that serve the mean alone, and see a sample of the images; those below see all."""
PILOTS = 2_000_000_000
"""The first seed of the chips that tell how to draw such samples, and are in no result."""
STEPS = 3_000_000_000
"""The first seed of what the steps of a training draw; so no network is trained on chips on which it is measured."""
SEARCHED = 4_000_000_000
"""The first seed of the chips on which a search decides."""
CONFIRMED = 4_100_000_000
"""The first seed of the chips that confirm its answer, and took no part in it."""
_OF_IMAGES = 2**32  # no transform has that position


def stream(root_seed: int, seed: int, transform: int, variable: int) -> np.random.Generator:
    """The generator for one variable under one transform of one trial.

    Args:
        root_seed: the study's root seed, >= 0.
        seed: the Monte-Carlo index of the draw, >= 0.
        transform: position of the transform in its perturbation, from 0.
        variable: index of the variable in `model.weights`.

    Philox is counter-based (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), and
    SeedSequence mixes the four integers so that neighbouring ones give independent streams.
    """
    sequence = np.random.SeedSequence([root_seed, seed, transform, variable])
    return np.random.Generator(np.random.Philox(sequence))


def epoch_stream(root_seed: int, epoch: int) -> np.random.Generator:
    """The generator for the order of the images in one epoch of a training, counted from 0."""
    return stream(root_seed, STEPS + epoch, _OF_IMAGES, 0)


def image_stream(root_seed: int, seed: int) -> np.random.Generator:
    """The generator for the images that one chip sees, the same in all cells."""
    return stream(root_seed, seed, _OF_IMAGES, 0)

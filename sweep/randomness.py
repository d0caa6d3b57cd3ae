"""Seeds to named random streams: the draws of a trial depend on four integers and on nothing else."""

from __future__ import annotations

import numpy as np


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

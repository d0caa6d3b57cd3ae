"""Seeds to named random streams: the draws of a trial depend on four integers and on nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np

from sweep.draws.machine import Entropy, draw, law_of

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
_LARGE = 2**14  # numbers, from which on machine code gains more than it costs to tell NumPy where the stream stands


class Stream(np.random.Generator):
    """NumPy's generator of a stream, whose large draws are made by machine code: the same, at the same place behind."""

    def __init__(self, bit_generator: np.random.BitGenerator, entropy: Entropy | None = None) -> None:
        """Without `entropy`, of which a generator was made that is at its beginning, NumPy makes all draws."""
        super().__init__(bit_generator)
        self._entropy = entropy

    def standard_normal(self, *given: Any, **named: Any) -> Any:
        """As NumPy's."""
        return self._large("standard_normal", given, named)

    def random(self, *given: Any, **named: Any) -> Any:
        """As NumPy's."""
        return self._large("random", given, named)

    def _large(self, name: str, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        law = law_of(name, given, tuple(named.items()))
        if self._entropy is not None and law is not None and np.prod(given[0], dtype=np.float64) >= _LARGE:
            at = self._place(self._entropy)
            drawn = None if at is None else draw(self._entropy, at, law, given[0])
            if drawn is not None:
                self._stand(drawn[1])
                return drawn[0]
        return getattr(super(), name)(*given, **named)

    def _place(self, entropy: Entropy) -> int | None:
        """Words of 32 bits that were taken; None where that does not say all, as between two halves of 64 bits."""
        state: dict[str, Any] = dict(self.bit_generator.state)
        key, (block, *above) = np.random.SeedSequence(entropy).generate_state(2, np.uint64), state["state"]["counter"]
        half, left = int(state["has_uint32"]), 4 - int(state["buffer_pos"])
        if any(above) or block >= 2**60 or (state["state"]["key"] != key).any():
            return None
        if half and (left == 4 or state["uinteger"] != int(state["buffer"][3 - left]) >> 32):
            return None
        return 8 * int(block) - 2 * left - half

    def _stand(self, words: int) -> None:
        """Behind so many words; at least one."""
        block = (words - 1) // 8
        state: dict[str, Any] = dict(self.bit_generator.state)
        state["state"]["counter"] = np.array([block, 0, 0, 0], np.uint64)
        state |= {"buffer_pos": 4, "has_uint32": 0}
        self.bit_generator.state = state
        super().random(words - 8 * block, dtype=np.float32)


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
    entropy = root_seed, seed, transform, variable
    return Stream(np.random.Philox(np.random.SeedSequence(entropy)), entropy)


def epoch_stream(root_seed: int, epoch: int) -> np.random.Generator:
    """The generator for the order of the images in one epoch of a training, counted from 0."""
    return stream(root_seed, STEPS + epoch, _OF_IMAGES, 0)


def image_stream(root_seed: int, seed: int) -> np.random.Generator:
    """The generator for the images that one chip sees, the same in all cells."""
    return stream(root_seed, seed, _OF_IMAGES, 0)

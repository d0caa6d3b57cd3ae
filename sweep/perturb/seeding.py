"""Where the streams of many seeds begin, computed for all of them at once: NumPy's `SeedSequence`, an array at a time.

One stream costs NumPy as much time as a thousand draws. The hash is O'Neill's `seed_seq_fe`
(https://www.pcg-random.org/posts/developing-a-seed_seq-alternative.html), as in numpy/random/bit_generator.pyx, which
NumPy promises not to change.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_POOL = 4  # words of 32 bits
_MASK = 2**32 - 1
_INIT_A, _MULT_A = 0x43B0D7E5, 0x931E8875
_INIT_B, _MULT_B = 0x8B51F9DD, 0x58F38DED
_MIX_L, _MIX_R = np.uint32(0xCA01F9DD), np.uint32(0x4973F715)
_Words = npt.NDArray[np.uint32]


class _Hash:
    """A multiplicative hash whose constant changes at every call."""

    def __init__(self, initial: int, factor: int) -> None:
        self._constant, self._factor = initial, factor

    def __call__(self, words: _Words) -> _Words:
        words = words ^ np.uint32(self._constant)
        self._constant = self._constant * self._factor & _MASK
        words = words * np.uint32(self._constant)
        return words ^ (words >> np.uint32(16))


def keys(entropy: Sequence[int | _Words]) -> npt.NDArray[np.uint64]:
    """The keys (n, 2) of ``Philox(SeedSequence(entropy))``.

    Args:
        entropy: whole numbers, 0 or more; some of them uint32 arrays (n,), for n generators.
    """
    words: list[_Words] = []
    for number in entropy:
        if isinstance(number, np.ndarray):
            words.append(number)
            continue
        words.append(np.array([number & _MASK], np.uint32))
        while number := number >> 32:
            words.append(np.array([number & _MASK], np.uint32))
    begin = _Hash(_INIT_A, _MULT_A)
    nothing = np.zeros(1, np.uint32)
    pool = [begin(words[k] if k < len(words) else nothing) for k in range(_POOL)]
    for source in range(_POOL):
        for to in (k for k in range(_POOL) if k != source):
            pool[to] = _mix(pool[to], begin(pool[source]))
    for word in words[_POOL:]:
        pool = [_mix(mixed, begin(word)) for mixed in pool]
    end = _Hash(_INIT_B, _MULT_B)
    state = np.stack(np.broadcast_arrays(*[end(word) for word in pool]), axis=-1).astype(np.uint64)
    return state[:, 0::2] | state[:, 1::2] << np.uint64(32)


def _mix(x: _Words, y: _Words) -> _Words:
    words: _Words = _MIX_L * x - _MIX_R * y
    return words ^ (words >> np.uint32(16))

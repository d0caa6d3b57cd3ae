"""Draws in machine code: those of NumPy's `Generator(Philox(SeedSequence(four numbers)))`, bit for bit, in less time.

NumPy makes one number after the other, and a new stream costs it as much as a thousand of them. Here a call sets up
the stream and makes many at a time. It is compiled once a process has drawn so much that this pays, and used if it
gives what NumPy gives, the tail of the normal law included, for which it asks the C library that NumPy asks. Elsewhere
NumPy draws: nobody can tell from the numbers.
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

ENOUGH = 2**22
"""Numbers that NumPy draws in a process before: in the time of making the machine code."""
PROOF = 2**17
"""Normal numbers that are compared with NumPy's, of which some 40 are of the tail and 900 others need `exp`."""
Entropy = tuple[int, int, int, int]
Draw = Callable[..., int]
_WORDS = {"normal": 1, "uniform": 1, "double": 2}
_KINDS: dict[str, type[np.floating[Any]]] = {"normal": np.float32, "uniform": np.float32, "double": np.float64}
_spent = 0


def law_of(name: str, given: tuple[Any, ...], named: tuple[tuple[str, Any], ...]) -> str | None:
    """The law that a call to a method of a generator asks for, if there is machine code for it.

    Args:
        name: of the method.
        given: its arguments: the shape.
        named: those with names: the type of the numbers.
    """
    if len(given) != 1 or not _is_shape(given[0]):
        return None
    if named == (("dtype", np.float32),):
        return {"standard_normal": "normal", "random": "uniform"}.get(name)
    return "double" if name == "random" and not named else None


def _is_shape(shape: Any) -> bool:
    return type(shape) is tuple and all(type(n) is int and n >= 0 for n in shape)


def draw(
    entropy: Entropy, at: int, law: str, shape: tuple[int, ...]
) -> tuple[npt.NDArray[np.floating[Any]], int] | None:
    """Numbers from a stream, and how many words of 32 bits are taken from it then.

    Args:
        entropy: the four numbers of the stream.
        at: how many words were taken from it before.
        law: as of `law_of`.
        shape: of the numbers.

    Returns:
        None where NumPy is to draw them.
    """
    global _spent
    size = math.prod(shape)
    if _spent < ENOUGH:
        _spent += size
        return None
    made = laws()
    if made is None or max(entropy) >= 2**32 or at % _WORDS[law]:
        return None
    numbers = np.empty(shape, _KINDS[law])
    if not size:
        return numbers, at
    address = ctypes.addressof(ctypes.c_char.from_buffer(numbers.data))  # in a third of the time of numbers.ctypes.data
    return numbers, made[law](*entropy, at, address, size)


@cache
def laws() -> dict[str, Draw] | None:
    """The laws in machine code, as of `laws.assembly_of`; None where it cannot be made, or is not NumPy's."""
    try:
        made = _made()
    except (ImportError, AttributeError, OSError, RuntimeError):  # no LLVM here, or no such functions
        return None
    return made if made and _is_numpys(made) else None


def _made() -> dict[str, Draw] | None:
    from numpy.random import _generator

    from sweep.assembly import compile_assembly, lanes
    from sweep.draws.laws import assembly_of

    if sys.byteorder != "little":
        return None
    numpys = ctypes.CDLL(_generator.__file__)  # knows the functions of the libraries that it was linked with
    exp, log1pf = (ctypes.cast(function, ctypes.c_void_p).value or 0 for function in (numpys.exp, numpys.log1pf))
    engine = compile_assembly(assembly_of(lanes(), exp, log1pf))
    kinds = [*[ctypes.c_uint32] * 4, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64]
    found: dict[str, Draw] = {}
    for law in _WORDS:
        function = ctypes.CFUNCTYPE(ctypes.c_int64, *kinds)(engine.get_function_address(law))
        function.engine = engine  # type: ignore[attr-defined]  # the machine code lives as long as its engine
        found[law] = function
    return found


def _is_numpys(made: dict[str, Draw]) -> bool:
    """Whether each law gives what NumPy gives, bit for bit, in two calls one after the other."""
    entropy, size = (0, 1, 2, 3), PROOF // 2
    for law, draw_all in made.items():
        numpys = np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))
        at = 0
        for _ in range(2):
            method = numpys.standard_normal if law == "normal" else numpys.random
            expected = method(size, dtype=_KINDS[law])
            numbers = np.empty(size, _KINDS[law])
            at = draw_all(*entropy, at, numbers.ctypes.data, size)
            if numbers.tobytes() != expected.tobytes():
                return False
    return True

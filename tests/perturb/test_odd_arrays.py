"""Arrays that are seldom: of a single value, tiny, with channels of zeros, of half precision."""

from __future__ import annotations

import numpy as np
import pytest

from sweep.networks.variables import Variable, numbers_of
from sweep.perturb.devices import ConductanceNoise
from sweep.perturb.faults import Float32BitFlip
from sweep.perturb.levels import PowerOfTwo
from sweep.perturb.noise import Gaussian
from sweep.randomness import stream


def variable(*shape: int) -> Variable:
    return Variable(0, "w", "w", 0, "Dense", shape, True, tuple(range(len(shape)))[-1:])


def test_a_scalar_is_its_own_unit():
    weight = np.asarray(-2.0, np.float32)
    weight.flags.writeable = False
    found = Gaussian(scale=0.5, basis="weight").apply(weight, variable(), stream(0, 1, 0, 0))
    assert found == np.float32(-2 + 0.5 * 2 * stream(0, 1, 0, 0).standard_normal((), dtype=np.float32))


@pytest.mark.parametrize("largest", [1e-30, 1e-37, 1e-38])
def test_conductances_of_tiny_weights_are_those_of_large_ones(largest: float):
    """But for the unit."""
    weight = np.random.default_rng(1).uniform(-1, 1, (8, 4)).astype(np.float32)
    weight[0, 0] = 1
    transform = ConductanceNoise(scale=0.5, table=((0.0, 0.2), (25.0, 1.0)))
    (big, _), (small, _) = (transform.targets(w)[0] for w in (weight, (weight * np.float32(largest))))
    np.testing.assert_allclose(small, big, rtol=1e-4, atol=1e-3)


def test_a_channel_of_zeros_has_no_level():
    weight = np.array([[0.0, 0.0078], [0.0, 0.003]], np.float32)
    known = PowerOfTwo(bits=4, per="channel").resolve(weight, variable(2, 2))
    assert (known.low, known.high) == (-(2.0**-7), 2.0**-7)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_numbers_of_half_precision_are_float32_to_transforms(kind: str):
    import ml_dtypes

    halves = np.arange(6).reshape(2, 3).astype(kind if kind == "float16" else ml_dtypes.bfloat16)
    found = numbers_of(halves)
    assert found.dtype == np.float32
    flipped = Float32BitFlip(rate=0.5).apply(found, variable(2, 3), stream(0, 1, 0, 0))
    assert flipped.shape == (2, 3)
    assert numbers_of(np.arange(3)).dtype == np.int64

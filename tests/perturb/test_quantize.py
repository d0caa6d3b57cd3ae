import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sweep.errors import InputError
from sweep.networks.variables import Variable
from sweep.perturb import perturb
from sweep.perturb.quantize import FixedPoint

weights = hnp.arrays(
    np.float32,
    hnp.array_shapes(max_dims=2, max_side=6),
    elements=st.floats(-8, 8, width=32, allow_subnormal=False),
)


def quantized(w: np.ndarray, bits: int) -> np.ndarray:
    variable = Variable(0, "k/kernel", "k", 0, "Dense", w.shape, True, (w.ndim - 1,))
    return perturb([w], [variable], [FixedPoint(bits=bits)], 0, 0)[0]


@given(w=weights, bits=st.integers(0, 16))
def test_equals_the_article(w: np.ndarray, bits: int):
    assert np.array_equal(quantized(w, bits), np.rint(w * 2**bits) / 2**bits)


@given(w=weights, bits=st.integers(0, 64))
def test_is_idempotent_symmetric_and_close(w: np.ndarray, bits: int):
    q = quantized(w, bits)
    assert q.dtype == np.float32
    assert np.array_equal(quantized(q, bits), q)
    assert np.array_equal(quantized(-w, bits), -q)
    assert np.all(np.abs(q.astype(np.float64) - w) <= 2.0 ** -(bits + 1))


def test_ties_go_to_the_even_neighbour():
    assert quantized(np.float32([0.5, 1.5, -0.5, -1.5]), 0).tolist() == [0, 2, 0, -2]


def test_32_bits_keep_the_weights():
    w = np.random.default_rng(0).normal(0, 0.3, 1000).astype(np.float32)
    assert np.abs(quantized(w, 32) - w).max() <= 2.0**-33


@pytest.mark.parametrize("bits", [-1, 65, 2.5, "8", True])
def test_refuses_other_bits(bits: object):
    with pytest.raises(InputError, match="whole number from 0 to 64"):
        FixedPoint(bits=bits)

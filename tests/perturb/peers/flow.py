"""The data flow: what a layer hands on, or takes in."""

from typing import Any

import numpy as np

from sweep.perturb import REGISTRY
from sweep.perturb.flow_faults import Share
from sweep.perturb.tiles import Sums, split
from sweep.preparation.sites import STREAMS
from tests.perturb.peers.checks import LIMIT, generator, many, peer, same_law, same_values

Array = np.ndarray
X = (1.5 * np.random.default_rng(5).standard_normal((200, 8))).astype(np.float32)
TIES = (np.arange(-9, 10, dtype=np.float32) / 2 / 8)[:, None]  # of step 1/8


def rounded(op: str, x: Array, sample: Array | None = None, **parameters: Any) -> Array:
    """The levels that our transform gives the engine, applied as its first lines say, in float64."""
    offset, step, lowest, highest = REGISTRY[op](**parameters).levels(sample).array().astype(np.float64)
    return np.clip(np.rint((x - offset) / step), lowest, highest) * step + offset


@peer("activation_fixed_point", "QKeras `QActivation`")
def qactivation() -> None:
    """qkeras/quantizers.py, quantized_bits with alpha = 1."""
    m, b = 1, 3
    for x in (X, TIES):
        theirs = np.clip(np.rint(x * 2**b), -(2 ** (m + b)), 2 ** (m + b) - 1) / 2**b
        within = (x >= -(2.0**m)) & (x <= 2.0**m - 2.0**-b)
        same_values(rounded("activation_fixed_point", x, bits=b)[within], theirs[within])
    beyond = np.abs(X) > 2
    assert (rounded("activation_fixed_point", X, bits=b) != np.clip(X, -2, 1.875))[beyond].any()


@peer("activation_fixed_point", "Brevitas `Int8ActPerTensorFixedPoint`")
def brevitas_fixed() -> None:
    """brevitas/quant/fixed_point.py: AbsPercentile by its order statistic, scale a power of two over 128."""
    ordered = np.sort(np.abs(X), axis=None)
    p = ordered[int(np.floor(0.99999 * X.size + 0.5)) - 1]
    m = int(np.ceil(np.log2(p)))
    scale = 2.0**m / 128
    theirs = np.clip(np.rint(X / scale), -128, 127) * scale
    inside = np.abs(X) < 127 * scale
    same_values(rounded("activation_fixed_point", X, bits=7 - m)[inside], theirs[inside])


@peer("activation_affine", "Brevitas `ShiftedUint8ActPerTensorFloat`")
def brevitas_shifted() -> None:
    """brevitas/core/stats/stats_op.py, PercentileInterval: order statistics ceil(0.00001 n) and round(0.99999 n)."""
    sample = np.random.default_rng(6).standard_normal(300_001).astype(np.float32)
    ordered = np.sort(sample)
    n = sample.size
    low, high = ordered[int(np.ceil(1e-5 * n)) - 1], ordered[int(np.floor(0.99999 * n + 0.5)) - 1]
    scale = (high - min(low, 0)) / 255
    zero = np.rint(-min(low, 0) / scale)
    levels = REGISTRY["activation_affine"](bits=8, range="percentile", percentile=99.999).levels(sample)
    assert abs(levels.step / scale - 1) < 0.02  # the order statistics next to it
    assert abs(-levels.lowest - zero) <= 2
    assert levels.highest - levels.lowest == 255


@peer("adc", "CrossSim `QuantizerADC`")
def crosssim_adc() -> None:
    """simulator/circuits/adc/quantizer_adc.py."""
    for bits, low, high in ((3, -1.0, 2.0), (8, 0.0, 3.0)):
        scale = (2**bits - 1) / (high - low)
        theirs = np.rint((np.clip(X.astype(np.float64), low, high) - low) * scale) / scale + low
        same_values(rounded("adc", X, bits=bits, low=low, high=high), theirs, ulps=2)


def aihwkit_converter(x: Array, res: float, bound: float) -> Array:
    """simulator/tiles/analog_mvm.py with tiles/utils.py, UniformQuantize: rounded, then clipped."""
    step = res * 2 * bound
    return np.clip(np.rint(x / step) * step, -bound, bound)


def check_symmetric(op: str) -> None:
    bits, bound = 4, 1.4
    half = 2 ** (bits - 1)
    theirs = aihwkit_converter(X.astype(np.float64), 1 / (2**bits - 2), bound)
    mine = rounded(op, X, bits=bits, low=-bound * half / (half - 1), high=bound)
    lowest = np.isclose(mine, -bound * half / (half - 1))
    assert 0 < lowest.sum() < X.size / 4
    same_values(mine[~lowest], theirs[~lowest], ulps=4)
    same_values(theirs[lowest], np.full(lowest.sum(), -bound), ulps=4)


@peer("adc", "aihwkit `forward.out_res`")
def aihwkit_adc() -> None:
    check_symmetric("adc")


@peer("dac", "aihwkit `forward.inp_res`")
def aihwkit_dac() -> None:
    check_symmetric("dac")


@peer("adc", "NeuroSim `ADCprecision`")
def neurosim_adc() -> None:
    """utee/wage_quantizer.py, LinearQuantizeOut."""
    x, bits = X.astype(np.float64), 4
    low, high = x.min(), x.max()
    step = (high - low) / 2**bits
    theirs = np.clip(np.floor((x - low) / step), 0, 2**bits - 1) * step + low
    assert abs((theirs - x).mean() / step + 0.5) < 0.05
    assert theirs.max() < high - 0.9 * step
    mine = rounded("adc", X, bits=bits, low=float(low), high=float(high))
    assert abs((mine - x).mean()) < 0.05 * step


@peer("adc", "MemTorch `ADC_resolution`")
def memtorch_adc() -> None:
    """memtorch/cpp/quantize.h, det_integral and linear_quantize: floor(x / step + 0.5)."""
    bits = 5
    exponent = np.ceil(np.log2(np.abs(X).max() + 1e-12))
    step = 2.0 ** (1 - bits + exponent)
    half = 2 ** (bits - 1)
    theirs = np.clip(np.floor(X / step + 0.5), -half, half - 1) * step
    low, high = -(2.0**exponent), 2.0**exponent - 2.0 ** (exponent + 1 - bits)
    same_values(rounded("adc", X, bits=bits, low=low, high=high), theirs, ulps=1)
    assert np.floor(TIES * 8 + 0.5).tolist() != np.rint(TIES * 8).tolist()


@peer("dac", "CrossSim `QuantizerDAC`")
def crosssim_dac() -> None:
    """simulator/circuits/dac/quantizer_dac.py."""
    for low in (-1.0, 0.0):
        scale = (2**4 - 1) / (1 - low)
        theirs = np.rint((np.clip(X.astype(np.float64), low, 1) - low) * scale) / scale + low
        same_values(rounded("dac", X, bits=4, low=low, high=1), theirs, ulps=2)


@peer("dac", "NeuroSim `wl_input`")
def neurosim_input() -> None:
    """modules/quantization_cpu_np_infer.py: inputs of 0 to 1 as rint((2^b - 1) x)."""
    x = np.clip(np.abs(X), 0, 1).astype(np.float64)
    same_values(rounded("dac", x, bits=6, low=0, high=1), np.rint(63 * x) / 63, ulps=1)


def in_arrays(x: Array, matrix: Array, sums: Sums | None = None, **parameters: Any) -> Array:
    """What our transform makes of the product of a dense layer, as its first lines say, in float64."""
    transform = REGISTRY["tile_adc"](**parameters)
    cut = np.cumsum(split(len(matrix), transform.rows))[:-1]
    widths = transform.widths(matrix.shape[1])
    levels = transform.array(transform.levels(sums, len(cut) + 1, widths)).astype(np.float64).repeat(widths, axis=2)
    found = []
    parts = zip(np.split(x, cut, axis=1), np.split(matrix, cut), np.moveaxis(levels, 1, 0), strict=True)
    for inputs, weights, (step, lowest, highest) in parts:
        found.append(np.clip(np.rint(inputs @ weights / step), lowest, highest) * step)
    return np.sum(found, axis=0)


INPUTS = np.random.default_rng(8).uniform(-1, 1, (300, 24))
MATRIX = np.random.default_rng(9).uniform(-1, 1, (24, 9))


@peer("tile_adc", "aihwkit `mapping.max_input_size`", "aihwkit `forward.out_res`")
def aihwkit_arrays() -> None:
    """simulator/tiles/array.py, get_split_sizes and forward."""
    bits, bound, most = 5, 1.3, 7
    count = (24 + most - 1) // most
    base, extra = divmod(24, count)
    total, begin = np.zeros((300, 9)), 0
    for k in range(count):
        end = begin + base + (k < extra)
        total += aihwkit_converter(INPUTS[:, begin:end] @ MATRIX[begin:end], 1 / (2**bits - 2), bound)
        begin = end
    assert begin == 24
    mine = in_arrays(INPUTS, MATRIX, rows=most, columns=4, bits=bits, range="bound", bound=bound)
    same_values(mine, total, ulps=8)
    assert np.abs(mine - INPUTS @ MATRIX).max() > 0.1


@peer("tile_adc", "CrossSim `SignMagnitudeADC`", "CrossSim `ADCRangeLimits.MAX`")
def crosssim_arrays() -> None:
    """simulator/circuits/adc/quantizer_adc.py, iadc.py (set_limits), cores/analog_core.py (partitions)."""
    nothing = np.zeros((3, 9), np.float32)
    worst = Sums(nothing, nothing, np.full((3, 9), 8, np.float32), nothing[None])  # rows · 1 · 1
    for bound, given in ((1.3, {"range": "bound", "bound": 1.3}), (8.0, {"range": "full", "sums": worst})):
        scale = (2**6 - 2) / (2 * bound)
        total = np.zeros((300, 9))
        for begin in range(0, 24, 8):
            sums = INPUTS[:, begin : begin + 8] @ MATRIX[begin : begin + 8]
            total += np.rint((np.clip(sums, -bound, bound) + bound) * scale) / scale - bound
        same_values(in_arrays(INPUTS, MATRIX, rows=8, columns=3, bits=6, **given), total, ulps=8)


def noisy(scale: float) -> Array:
    """What our transform adds to an activation of 0, as the engine draws it."""
    from sweep.engine.sites import Noise
    from sweep.randomness import stream

    sigma = REGISTRY["activation_noise"](scale=scale).sigma(None)
    return Noise(sigma, lambda: stream(0, 0, 0, STREAMS + 1)).take(40_000, (6, 4)).astype(np.float64)


@peer("activation_noise", "aihwkit `forward.out_noise`")
def out_noise() -> None:
    """simulator/tiles/analog_mvm.py, _finalize_output."""
    zero, rng = many(np.zeros((6, 4), np.float32))
    same_law(noisy(0.06), zero + 0.06 * rng.standard_normal(zero.shape))


@peer("activation_noise", "MRFI `NormalDisturb`")
def mrfi_noise() -> None:
    """mrfi/error_mode.py."""
    zero, rng = many(np.zeros((6, 4), np.float32))
    same_law(noisy(0.3), rng.standard_normal(zero.shape) * 0.3 + 0 + zero)


def flips(size: int, images: int, op: str = "activation_bit_flip", **parameters: Any) -> Array:
    """(images, size) masks of our transform on one layer."""
    transform = REGISTRY[op](**parameters)
    share = Share(size, 0, size)
    failing = transform.failing(share, generator(1), generator(2))
    return transform.masks(images, share, failing).astype(np.int64)


@peer("activation_bit_flip", "PyTorchFI `random_neuron_single_bit_flip_inj`")
def pytorchfi_flip() -> None:
    """pytorchfi/neuron_error_models.py, _flip_bit_signed: a code cut off, one of its 8 bits flipped."""
    found = flips(12, 40_000, bits=8, faults=1)
    assert (np.count_nonzero(found, axis=1) == 1).all()
    shares = np.array([(found == 1 << bit).any(axis=1).mean() for bit in range(8)])
    assert np.abs(shares - 1 / 8).max() < LIMIT * np.sqrt(1 / 8 / 40_000)
    largest, value, bit = 2.0, 0.83, 4
    code = int(value / largest * 128)
    theirs = (code ^ (1 << bit)) / 128 * largest
    levels = REGISTRY["activation_bit_flip"](bits=8, faults=1).levels(np.float32([-largest, largest]))
    ours = levels.values((int(np.rint(value / levels.step) - levels.lowest) ^ (1 << bit)) + levels.lowest)
    assert abs(abs(theirs - value) - 2**bit * largest / 128) < largest / 128
    assert abs(abs(ours - value) - 2**bit * levels.step) < levels.step


@peer("activation_bit_flip", "MRFI `IntRandomBitFlip`")
def mrfi_flip() -> None:
    """mrfi/quantization.py, then mrfi/error_mode.py, on what a ReLU gives."""
    x, bits = np.maximum(X, 0).astype(np.float64), 4
    step = x.max() / (2**bits - 1)  # dynamic_range / (2^(bit_width - 1) - 1)
    codes = np.rint(x / step).astype(np.int64)
    levels = REGISTRY["activation_bit_flip"](bits=bits, rate=0.1).levels(np.maximum(X, 0))
    for bit in range(bits):
        mine = levels.values((np.clip(np.rint(x / levels.step), 0, 15).astype(np.int64)) ^ (1 << bit))
        same_values(mine, (codes ^ (1 << bit)) * step, ulps=4)
    assert ((codes ^ -(1 << bits)) * step).min() < 0 <= levels.values(np.arange(16)).min(), "their sign bit"


@peer("activation_stuck_at", "TensorFI2 `zeros`")
def tensorfi_zeros() -> None:
    """src/tensorfi2.py: floor(Amount · n / 100) values of a layer's output."""
    w, rng = many()
    hit = np.argsort(rng.random((len(w), w[0].size)), axis=1).reshape(w.shape) < int(np.floor(25 * w[0].size / 100))
    transform, share = REGISTRY["activation_stuck_at"](rate=0.25), Share(w.size, 0, w.size)
    own = generator(1)
    values = transform.stuck(share, (0.0, 0.0), transform.failing(share, own, generator(2)), own).reshape(w.shape)
    same_law(np.where(np.isnan(values), w, values), np.where(hit, 0.0, w))

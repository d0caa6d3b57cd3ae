"""Quantizers of weights."""

import ml_dtypes
import numpy as np
import tensorflow as tf

from tests.perturb.peers.checks import MAX, W, drawn, many, ours, peer, same_law, same_values

Array = np.ndarray
WIDE = (2.5 * np.random.default_rng(3).standard_normal((40, 4))).astype(np.float32)  # beyond 4 at times
TIES = np.array([[0.5, -0.5, 1.5, -1.5], [2.5, -2.5, 3.5, 7.0]], np.float32)  # of step 1, with 4 bits


def away(x: Array) -> Array:
    """To whole numbers, ties away from 0: C's roundf."""
    return np.sign(x) * np.floor(np.abs(x) + 0.5)


@peer("fixed_point", "qtorch `fixed_point_quantize`")
def qtorch_nearest() -> None:
    """qtorch/quant/quant_cpu/sim_helper.cpp: nearbyint(ldexp(a, fl) + 0.5 - 0.5), whose ties are even."""
    for weight in (WIDE, TIES):
        for fraction in (0, 3):
            theirs = np.ldexp(np.rint(np.ldexp(weight, fraction)), -fraction)
            same_values(ours("fixed_point", weight, bits=fraction), theirs)


def quantized_bits(x: Array, bits: int, integer: int) -> Array:
    """qkeras/quantizers.py, quantized_bits with alpha = 1."""
    m = 2.0 ** (bits - 1)
    p = x * m / 2.0**integer
    return 2.0**integer * np.clip(np.rint(p), -m, m - 1) / m


@peer("fixed_point_saturating", "QKeras `quantized_bits(alpha=1)`")
def qkeras_bits() -> None:
    for m, b in ((0, 3), (2, 3), (2, 0)):
        for weight in (WIDE, TIES, W):
            mine = ours("fixed_point_saturating", weight, bits=b, integer_bits=m)
            same_values(mine, quantized_bits(weight, 1 + m + b, m))


@peer("fixed_point_saturating", "HLS `ap_fixed`")
def hls() -> None:
    """AP_RND_CONV: ties to even; AP_SAT: saturates in two's complement. By default floor, and wrapped round."""
    codes = np.clip(np.rint(WIDE * 8), -32, 31)
    same_values(ours("fixed_point_saturating", WIDE, bits=3, integer_bits=2), codes / 8)
    default = (np.floor(WIDE * 8) + 32) % 64 - 32
    assert (codes != default).any()


@peer("fixed_point_saturating", "GoldenEye `num_fixed_pt`")
def goldeneye_fixed() -> None:
    """src/num_sys_class.py calls qtorch's fixed_point_quantize, whose default is stochastic rounding."""
    w, rng = many(np.clip(4 * W, -1.5, 1.5))
    theirs = np.clip(np.rint(w * 8 + rng.random(w.shape) - 0.5), -8, 7) / 8
    mine = drawn("fixed_point_saturating", np.clip(4 * W, -1.5, 1.5), bits=3, rounding="stochastic")
    same_law(mine, theirs)


@peer("fixed_point_saturating", "Brevitas `Int8WeightPerTensorFixedPoint`")
def brevitas_fixed() -> None:
    """brevitas/quant/fixed_point.py: a power of two for a scale, narrow range."""
    for weight in (W, 4 * W):
        m = int(np.ceil(np.log2(np.abs(weight).max())))
        scale = 2.0**m / 128
        theirs = np.clip(np.rint(weight / scale), -127, 127) * scale
        same_values(ours("fixed_point_saturating", weight, bits=7 - m, integer_bits=m), theirs)


def brevitas(weight: Array, bits: int, axis: int | None) -> Array:
    """brevitas/quant/scaled_int.py: float32 scale of the largest magnitude, narrow range."""
    top = np.float32(2 ** (bits - 1) - 1)
    scale = np.abs(weight).max(axis=axis, keepdims=True) / top
    return np.clip(np.rint(weight / scale), -top, top) * scale


@peer("symmetric", "Brevitas `Int8WeightPerTensorFloat`")
def brevitas_tensor() -> None:
    same_values(ours("symmetric", bits=8), brevitas(W, 8, None), ulps=1)


@peer("symmetric", "Brevitas `Int8WeightPerChannelFloat`")
def brevitas_channel() -> None:
    same_values(ours("symmetric", bits=8, per="channel"), brevitas(W, 8, 0), ulps=1)


@peer("symmetric", "MRFI `SymmericQuantization`")
def mrfi() -> None:
    """mrfi/quantization.py: there and back, in float32."""
    for bits in (4, 8):
        limit, largest = np.float32(2 ** (bits - 1) - 1), np.float32(MAX)
        codes = np.rint(np.clip((W + largest) * (2 * limit / (2 * largest)) - limit, -limit, limit))
        same_values(ours("symmetric", bits=bits), (codes + limit) * (2 * largest / (2 * limit)) - largest, ulps=4)


@peer("symmetric", "aihwkit `WeightModifierType.DISCRETIZE`")
def discretize() -> None:
    """simulator/tiles/utils.py, UniformQuantize, and rpucuda/weight_modifier.cpp with utility_functions.h."""
    for bits in (4, 8):
        top = 2 ** (bits - 1) - 1
        step = 1 / (2**bits - 2) * 2 * MAX
        same_values(ours("symmetric", bits=bits), np.rint(W / step) * step, ulps=2)
        same_values(ours("symmetric", bits=bits), MAX * away(W / MAX * top) / top, ulps=2)
    same_values(ours("symmetric", TIES, bits=4), [[0, 0, 2, -2], [2, -2, 4, 7]])
    same_values(away(TIES), [[1, -1, 2, -2], [3, -3, 4, 7]])


@peer("symmetric", "aihwkit-lightning `WeightModifierType.DISCRETIZE`")
def lightning_discretize() -> None:
    """nn/modules/torch_utils/quant_utils.py: a step of 2 · max / n_states, clipped to ± n_states / 2."""
    for per, axis in (("tensor", None), ("channel", 0)):
        for bits in (4, 8):
            states = 2**bits - 2
            step = 2 * np.abs(W).max(axis=axis, keepdims=True) / np.float32(states)
            theirs = np.rint(np.clip(W / step, -states / 2, states / 2)) * step
            same_values(ours("symmetric", bits=bits, per=per), theirs, ulps=1)


@peer("symmetric", 'QKeras `quantized_bits(alpha="auto")`')
def qkeras_auto() -> None:
    """qkeras/quantizers.py, quantized_bits: the scale is that of the channel's largest weight; nothing is fitted."""
    for bits in (4, 8):
        levels = (2 ** (bits - 1) - 1) * 2
        scale = np.abs(W).max(axis=0, keepdims=True) * 2 / np.float32(levels)
        codes = np.minimum(np.floor(np.abs(W) / scale + 0.5), levels / 2)
        same_values(ours("symmetric", bits=bits, per="channel"), np.sign(W) * codes * scale, ulps=1)


def shifted(weight: Array, bits: int, axis: int | None) -> Array:
    """brevitas/quant/shifted_scaled_int.py: zero point from the smallest weight."""
    low = np.minimum(weight.min(axis=axis, keepdims=True), 0)
    top = 2**bits - 1
    scale = (weight.max(axis=axis, keepdims=True) - low) / np.float32(top)
    zero = np.clip(np.rint(-low / scale), 0, top)
    return (np.clip(np.rint(weight / scale) + zero, 0, top) - zero) * scale


@peer("affine", "Brevitas `ShiftedUint8WeightPerTensorFloat`")
def shifted_tensor() -> None:
    same_values(ours("affine", bits=8), shifted(W, 8, None), ulps=1)


@peer("affine", "Brevitas `ShiftedUint8WeightPerChannelFloat`")
def shifted_channel() -> None:
    same_values(ours("affine", bits=8, per="channel"), shifted(W, 8, 0), ulps=1)


@peer("affine", "TensorFlow `fake_quant_with_min_max_vars`")
def fake_quant() -> None:
    """The program itself."""
    for bits in (4, 8):
        low, high = min(0.0, float(W.min())), max(0.0, float(W.max()))
        theirs = tf.quantization.fake_quant_with_min_max_vars(W, low, high, num_bits=bits).numpy()
        same_values(ours("affine", bits=bits), theirs, ulps=4)


@peer("conductance_states", "MemTorch `apply_finite_conductance_states`")
def memtorch_states() -> None:
    """memtorch/cpp/quantize.h: the nearest of linspace(1 / r_off, 1 / r_on, n), on both devices of a pair."""
    low, high, n = 0.1, 1.0, 6
    levels = np.linspace(low, high, n)
    pair = [low + np.maximum(side, 0).astype(np.float64) / MAX * (high - low) for side in (W, -W)]
    found = [levels[np.abs(g[..., None] - levels).argmin(axis=-1)] for g in pair]
    same_values(ours("conductance_states", states=n), (found[0] - found[1]) / (high - low) * MAX, ulps=2)


@peer("conductance_states", "CrossSim `cell_bits`")
def crosssim_states() -> None:
    """simulator/devices/idevice.py and cores/balanced_core.py."""
    for r in (0.0, 0.1):
        for bits in (2, 3):
            least, scale = 2.0 ** -(bits + 1), (2**bits - 1) / (1 - r)
            found = []
            for side in (W / MAX, -W / MAX):
                g = np.where(side >= least, r + (1 - r) * side, r)
                found.append(np.rint((g - r) * scale) / scale + r)
            theirs = (found[0] - found[1]) / (1 - r) * MAX
            same_values(ours("conductance_states", states=2**bits), theirs, ulps=2)


@peer("conductance_states", "NeuroSim `cellBit`")
def neurosim_cells() -> None:
    """modules/quantization_cpu_np_infer.py without noise: cells put together are the code, however it is cut."""
    w = np.linspace(-1, 1, 501)
    for cell_bits in (1, 2, 4):
        code = left = np.rint((2**8 - 1) / 2 * (w + 1))
        together = np.zeros_like(w)
        for k in range(8 // cell_bits):
            rest = np.fmod(left, 2**cell_bits)
            left = np.rint((left - rest) / 2**cell_bits)
            together += rest * 2.0 ** (cell_bits * k)
        assert (together == code).all()
    levels = np.unique(2 * code / 255 - 1)
    assert len(levels) == 2**8
    assert 0 not in levels


@peer("binary", 'QKeras `binary(alpha="auto")`')
def qkeras_binary() -> None:
    """Least squares on signs: the mean magnitude of the channel; the sign of 0 is +."""
    sign = np.where(W < 0, -1, 1)
    scale = (W * sign).mean(axis=0, keepdims=True) / (sign * sign).mean(axis=0, keepdims=True)
    same_values(ours("binary", per="channel"), scale * sign, ulps=2)


@peer("binary", "Larq `MagnitudeAwareSign`")
def larq_magnitude() -> None:
    """larq/quantizers.py; larq/math.py: the sign of 0 is +."""
    same_values(ours("binary", per="channel"), np.abs(W).mean(axis=0) * np.where(W < 0, -1, 1), ulps=2)


@peer("binary", "Larq `SteSign`")
def larq_sign() -> None:
    same_values(np.sign(ours("binary")), np.where(W < 0, -1, 1))


@peer("binary", "Brevitas `SignedBinaryWeightPerTensorConst`")
def brevitas_binary() -> None:
    """brevitas/quant/binary.py: scaling_const = 0.1."""
    same_values(0.1 * np.sign(ours("binary")), np.where(W >= 0, 0.1, -0.1), ulps=1)


@peer("ternary", "Larq `SteTern(ternary_weight_networks=True)`")
def larq_ternary() -> None:
    threshold = 0.7 * np.abs(W).sum() / W.size
    same_values(np.sign(ours("ternary")), np.sign(np.sign(W + threshold) + np.sign(W - threshold)))


@peer("ternary", 'QKeras `ternary(alpha="auto")`')
def qkeras_ternary() -> None:
    """qkeras/quantizers.py: tf.round(x / scale) is not 0 from half a scale on, five times."""
    scale = 2 * np.abs(W).max(axis=0, keepdims=True) / 3
    for _ in range(5):
        beyond = np.abs(scale * np.rint(W / scale)) >= scale / 2
        before, scale = scale, (np.abs(W) * beyond).sum(axis=0, keepdims=True) / beyond.sum(axis=0, keepdims=True)
    same_values(beyond, np.abs(W) > before / 2)  # half the magnitude of the round before
    theirs = scale * beyond * np.sign(W)
    magnitudes = np.where(beyond, np.abs(W), 0).sum(axis=0) / beyond.sum(axis=0)
    same_values(np.abs(theirs).max(axis=0), magnitudes, ulps=2)  # the mean of those beyond, as here
    assert (np.sign(theirs) != np.sign(ours("ternary", per="channel"))).any()


@peer("ternary", "QKeras `ternary()`")
def qkeras_plain_ternary() -> None:
    """Threshold and magnitude, on weights whose own threshold is 0.33 within rounding: the same choice."""
    theirs = (np.abs(W) >= 0.33) * np.sign(W)
    scaled = W * np.float32(0.33 / (0.7 * np.abs(W).mean(dtype=np.float64)))
    same_values(np.sign(ours("ternary", scaled)), (np.abs(scaled) >= 0.33) * np.sign(scaled))
    assert set(np.unique(theirs)) == {-1, 0, 1}


@peer("ternary", "Brevitas `SignedTernaryWeightPerTensorConst`")
def brevitas_ternary() -> None:
    """brevitas/quant/ternary.py: two bits, narrow, scaling_const = 0.1."""
    theirs = np.clip(np.rint(W / 0.1), -1, 1) * 0.1
    same_values(theirs, np.where(np.abs(W) > 0.05, 0.1, 0) * np.sign(W), ulps=1)
    scaled = W * np.float32(0.05 / (0.7 * np.abs(W).mean(dtype=np.float64)))
    same_values(0.1 * np.sign(ours("ternary", scaled)), np.clip(np.rint(scaled / 0.1), -1, 1) * 0.1, ulps=1)


@peer("power_of_two", "QKeras `quantized_po2`")
def po2() -> None:
    """qkeras/quantizers.py, _get_min_max_exponents and _clip_power_of_two."""
    weight, bits = (W * 20).astype(np.float32), 5
    size = np.abs(weight)
    lowest, highest = -(2 ** (bits - 2)), 2 ** (bits - 2) - 1
    exponents = np.clip(np.rint(np.log2(np.maximum(size, 1e-7))), lowest, highest)
    theirs = np.where(weight < 0, -1, 1) * 2.0**exponents
    mine = ours("power_of_two", weight, bits=bits)
    part = size / 2.0 ** np.floor(np.log2(np.maximum(size, 1e-7)))
    ends = np.abs(mine[mine != 0])
    within = (size >= ends.min()) & (size <= ends.max()) & (size >= 2.0**lowest) & (size <= 2.0**highest)
    between = (part >= 2**0.5) & (part < 1.5)
    assert (within & between).any()
    same_values(mine[within & ~between], theirs[within & ~between])
    same_values(2 * np.abs(mine[within & between]), np.abs(theirs[within & between]))
    assert theirs[0, 0] != 0 == mine[0, 0]
    small = 2.0 ** np.clip(np.rint(np.log2(np.maximum(np.minimum(size, 0.5), 1e-7))), -(2 ** (bits - 1)), 2**4 - 1)
    assert small.max() == 0.5  # with max_value = 0.5
    assert small.min() == 2.0**-16


@peer("floating", "GoldenEye `num_fp16`")
def goldeneye_half() -> None:
    """src/num_sys_class.py: tensor.to(torch.float16)."""
    same_values(ours("floating", WIDE, format="float16"), WIDE.astype(np.float16))
    large = np.array([[65519.0, 65520.0]], np.float32)
    with np.errstate(over="ignore"):
        assert large.astype(np.float16).tolist() == [[65504, np.inf]]
    same_values(ours("floating", large, format="float16"), [[65504, 65504]])


@peer("floating", "GoldenEye `num_bfloat16`")
def goldeneye_bfloat() -> None:
    """The nearest number with the upper 16 bits of a float32, ties to even."""
    bits = WIDE.view(np.uint32)
    theirs = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    same_values(ours("floating", WIDE, format="bfloat16"), theirs)
    assert np.isinf(np.float32(3.4e38).astype(ml_dtypes.bfloat16))
    assert np.isfinite(ours("floating", np.full((1, 1), 3.4e38, np.float32), format="bfloat16")).all()


@peer("floating", "GoldenEye `num_float_n`")
def goldeneye_float() -> None:
    """qtorch/quant/quant_cpu: the largest stored exponent is 2^(exp - 1) + 127, with a full mantissa."""
    exponent_bits, mantissa_bits = 4, 3
    largest = 2.0 ** (2 ** (exponent_bits - 1)) * (2 - 2.0**-mantissa_bits)
    assert largest == 480
    assert ours("floating", np.full((1, 1), 480, np.float32), format="float8_e4m3").item() == 448


@peer("floating", "Brevitas `Fp8e4m3OCPWeightPerTensorFloat`")
def brevitas_float8() -> None:
    """brevitas/quant/float_quant_ocp.py: a scale that takes the largest weight to the format's largest number."""
    for name, largest, mantissa, lowest in (("float8_e4m3", 448, 3, -6), ("float8_e5m2", 57344, 2, -14)):
        scale = np.float32(MAX) / np.float32(largest)
        x = (W / scale).astype(np.float64)
        exponent = np.maximum(np.floor(np.log2(np.maximum(np.abs(x), 1e-30))), lowest)
        step = 2.0 ** (exponent - mantissa)
        theirs = np.clip(np.rint(x / step) * step, -largest, largest) * scale
        same_values(ours("floating", W / scale, format=name) * scale, theirs, ulps=1)

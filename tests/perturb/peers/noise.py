"""Noise on weights, and devices."""

import numpy as np

from tests.perturb.peers.checks import DRAWS, MAX, W, drawn, many, other_law, peer, same_law, std

Array = np.ndarray
ON_OFF = 0.1  # CrossSim's default R_min / R_max


def crosssim(error: str, alpha: float, r: float, uniform: bool = False) -> Array:
    """A balanced, one-sided core: simulator/cores/balanced_core.py, devices/generic_device.py and devices/device.py."""
    w, rng = many()
    g = w / MAX
    read = []
    for side in (np.maximum(g, 0), np.maximum(-g, 0)):
        target = r + (1 - r) * side
        draw = (rng.random(w.shape) - 0.5) * alpha if uniform else rng.normal(0, alpha, w.shape)
        factor = {"independent": 1.0, "proportional": target}.get(error)
        if factor is None:
            factor = np.divide(1, target, out=np.zeros_like(target), where=target > 0)
        read.append(np.maximum(target + factor * draw, 0))
    return (read[0] - read[1]) / (1 - r) * MAX


def table(curve: Array, g: Array) -> list[list[float]]:
    return [[float(x), float(y)] for x, y in zip(g, curve, strict=True)]


@peer("gaussian", "CrossSim `NormalIndependentDevice`", basis="layer_max")
def independent_is_layer_max_with_the_pair_and_the_on_off_ratio() -> None:
    theirs = crosssim("independent", 0.03, ON_OFF)
    same_law(drawn("gaussian", basis="layer_max", scale=0.03 * 2**0.5 / 0.9), theirs)
    other_law(drawn("gaussian", basis="layer_max", scale=0.03), theirs)
    stronger = std(crosssim("independent", 0.05, ON_OFF)).mean()
    assert abs(0.05 * 2**0.5 / 0.9 - 0.0786) < 5e-5
    assert abs(0.0786 * MAX / stronger - 1.01) < 0.005
    clipped = crosssim("independent", 0.05, 0.0)
    far = np.abs(W) > 0.25 * MAX  # the used device is not clipped there
    assert np.abs(std(clipped)[far] / (0.05 * MAX) - 1.16).max() < 0.02
    shrunk = (np.abs(W) - np.abs(clipped.mean(axis=0)))[far] / (0.05 * MAX)
    assert np.abs(shrunk - 0.40).max() < 0.03


@peer("conductance_noise", "CrossSim `NormalIndependentDevice`")
def independent_is_a_flat_table() -> None:
    for r in (ON_OFF, 0.0):
        points = [[r, 0.05], [1, 0.05]]
        same_law(drawn("conductance_noise", table=points), crosssim("independent", 0.05, r))


@peer("gaussian", "CrossSim `NormalProportionalDevice`", basis="weight")
def proportional_is_weight_without_off_current() -> None:
    same_law(drawn("gaussian", basis="weight", scale=0.3), crosssim("proportional", 0.3, 0.0))
    theirs = crosssim("proportional", 0.3, ON_OFF)
    other_law(drawn("gaussian", basis="weight", scale=0.3), theirs)
    assert abs(std(theirs)[0, 0] / (2**0.5 * 0.3 / 9 * MAX) - 1) < 0.03  # w = 0: both devices are off


@peer("conductance_noise", "CrossSim `NormalProportionalDevice`")
def proportional_is_a_rising_table() -> None:
    for r in (ON_OFF, 0.0):
        points = [[r, 0.3 * r], [1, 0.3]]
        same_law(drawn("conductance_noise", table=points), crosssim("proportional", 0.3, r))


@peer("gaussian", "CrossSim `NormalInverseProportionalDevice`", basis="inverse")
def inverse_is_inverse_where_nothing_is_clipped() -> None:
    alpha = 0.01
    mine, theirs = drawn("gaussian", basis="inverse", scale=alpha), crosssim("inverse", alpha, 0.0)
    large = np.abs(W) >= 2 * alpha**0.5 * MAX
    assert 0 < large.sum() < W.size
    same_law(mine, theirs, large)
    other_law(mine, theirs)
    g = ON_OFF + 0.9 * np.abs(W) / MAX
    expected = alpha * np.sqrt(1 / g**2 + 1 / ON_OFF**2) / 0.9 * MAX
    found = std(crosssim("inverse", alpha / 10, ON_OFF)) * 10  # a tenth: unclipped
    assert np.abs(found / expected - 1).max() < 0.02


@peer("gaussian", "aihwkit `WeightModifierType.ADD_NORMAL`", basis="layer_max")
def add_normal() -> None:
    """rpucuda/weight_modifier.cpp, AddNormal; amax is the largest weight, or assumed_wmax."""
    for amax, options in ((MAX, {"basis": "layer_max", "scale": 0.05}), (1.0, {"basis": "absolute", "scale": 0.05})):
        w, rng = many()
        same_law(drawn("gaussian", **options), w + 0.05 * amax * rng.standard_normal(w.shape))


@peer("gaussian", "aihwkit `WeightModifierType.MULT_NORMAL`", basis="weight")
def mult_normal() -> None:
    """rpucuda/weight_modifier.cpp, MultNormal, and simulator/tiles/torch_tile.py."""
    w, rng = many()
    same_law(drawn("gaussian", basis="weight", scale=0.3 * MAX), w + w * (0.3 * MAX) * rng.standard_normal(w.shape))
    same_law(drawn("gaussian", basis="weight", scale=0.3), w + w * 0.3 * rng.standard_normal(w.shape))


@peer("gaussian", "aihwkit-lightning `WeightModifierType.ADD_NORMAL_PER_CHANNEL`", basis="channel_max")
def add_normal_per_channel() -> None:
    """nn/modules/torch_utils/torch_linear.py, modify_weight, whose rows are our columns."""
    w, rng = many()
    theirs = np.swapaxes(w, 1, 2)
    theirs = theirs + 0.05 * np.abs(W.T).max(axis=1, keepdims=True) * rng.standard_normal(theirs.shape)
    same_law(drawn("gaussian", basis="channel_max", scale=0.05), np.swapaxes(theirs, 1, 2))


@peer("gaussian", "MRFI `NormalDisturb`", basis="absolute")
def normal_disturb() -> None:
    """mrfi/error_mode.py."""
    w, rng = many()
    same_law(drawn("gaussian", scale=0.05), rng.standard_normal(w.shape) * 0.05 + 0 + w)


@peer("uniform", "MRFI `UniformDisturb`")
def uniform_disturb() -> None:
    w, rng = many()
    same_law(drawn("uniform", scale=0.2), rng.random(w.shape) * 0.2 + 0 + w)


@peer("uniform_symmetric", "MRFI `UniformDisturb`")
def uniform_disturb_both_ways() -> None:
    w, rng = many()
    same_law(drawn("uniform_symmetric", scale=0.2), rng.random(w.shape) * 0.4 - 0.2 + w)


@peer("uniform_symmetric", "CrossSim `UniformIndependentDevice`")
def uniform_independent() -> None:
    theirs = crosssim("independent", 0.2, ON_OFF, uniform=True)
    mine = drawn("uniform_symmetric", basis="layer_max", scale=0.2 / (2**0.5 * 0.9))
    same_law(mine, theirs)

    def flatness(sample: Array) -> float:
        z = (sample - sample.mean(axis=0)) / sample.std(axis=0)
        return float((z**4).mean())

    assert abs(flatness(mine) - 1.8) < 0.02  # of a uniform law
    assert abs(flatness(theirs) - 2.4) < 0.02  # of a triangular one


@peer("uniform_symmetric", "CrossSim `UniformProportionalDevice`")
def uniform_proportional() -> None:
    theirs = crosssim("proportional", 0.3, 0.0, uniform=True)
    same_law(drawn("uniform_symmetric", basis="weight", scale=0.15), theirs)
    other_law(drawn("uniform_symmetric", basis="weight", scale=0.15), crosssim("proportional", 0.3, ON_OFF, True))


@peer("uniform_symmetric", "CrossSim `UniformInverseProportionalDevice`")
def uniform_inverse() -> None:
    alpha = 0.02
    mine = drawn("uniform_symmetric", basis="inverse", scale=alpha / 2)
    theirs = crosssim("inverse", alpha, 0.0, uniform=True)
    large = np.abs(W) >= (alpha / 2) ** 0.5 * MAX
    assert 0 < large.sum() < W.size
    same_law(mine, theirs, large)
    other_law(mine, theirs)


LOW, HIGH = 10.0, 100.0  # a range of conductances


def xbtorch(w: Array, error: Array, clipped: bool) -> Array:
    """A pair of devices as src/xbtorch/deployment/base.py writes and reads them; `error` (2, ...) in conductances."""
    read = []
    for k, side in enumerate((np.maximum(w, 0), np.maximum(-w, 0))):
        g = LOW + side / MAX * (HIGH - LOW) + error[k]
        read.append(np.clip(g, LOW, HIGH) if clipped else g)
    return (read[0] - read[1]) / (HIGH - LOW) * MAX


@peer("gaussian", "xbtorch `write_noise`")
def write_noise() -> None:
    w, rng = many()
    n = 4.0
    error = rng.standard_normal((2, *w.shape)) * n
    same_law(drawn("gaussian", basis="layer_max", scale=2**0.5 * n / (HIGH - LOW)), xbtorch(w, error, clipped=False))
    ends = np.where(np.abs(w) > 1e-3, np.sign(w) * MAX, 0)  # its default, encode_simple_binary
    theirs = xbtorch(ends, error, clipped=True)
    unit = n / (HIGH - LOW) * MAX
    assert np.abs(std(theirs) / unit - 0.826).max() < 0.02
    shrunk = (np.abs(ends[0]) - np.abs(theirs.mean(axis=0)))[W != 0] / unit
    assert np.abs(shrunk - 0.798).max() < 0.03


@peer("uniform_symmetric", "xbtorch `read_noise`")
def read_noise() -> None:
    w, rng = many()
    n = 4.0
    error = rng.uniform(-n, n, (2, *w.shape))
    mine = drawn("uniform_symmetric", basis="layer_max", scale=2**0.5 * n / (HIGH - LOW))
    same_law(mine, xbtorch(w, error, clipped=False))
    other_law(mine, xbtorch(w, error, clipped=True))


@peer("gaussian", "NeuroSim `vari`")
def variation_of_cells() -> None:
    """modules/quantization_cpu_np_infer.py one cell of 10 bits a weight, a reference column."""
    w, rng = many((W / MAX).astype(np.float32))
    ratio, vari, codes = 10, 0.1, 2**10 - 1
    lower = 1 / ratio
    code = np.rint(codes / 2 * (w + 1))
    cell = (1 - lower) * code + codes * lower
    cell = cell + cell * rng.normal(0, vari, w.shape)
    read = (cell - codes * (1 + lower) / 2) * 2 / (1 - 1 / ratio) / codes
    assert np.abs(read.mean(axis=0) - w[0]).max() < 5 * 0.3 / DRAWS**0.5 + 1e-3
    assert np.abs(std(read) / (vari * (1 + w[0] + 2 / (ratio - 1))) - 1).max() < 0.02


@peer("conductance_noise", "CrossSim `RRAMMilo`")
def milo() -> None:
    """simulator/devices/custom/RRAM_Milo.py: a straight line of the conductance in µS."""
    w, rng = many()
    low, high = 50.0, 225.0
    read = []
    for side in (np.maximum(w, 0), np.maximum(-w, 0)):
        g = low + side / MAX * (high - low)
        read.append(np.maximum(g + np.maximum(-0.009107 * g + 4.782321, 0) * rng.standard_normal(g.shape), 0))
    theirs = (read[0] - read[1]) / (high - low) * MAX
    same_law(drawn("conductance_noise", table=[[50, 4.326971], [225, 2.733246]]), theirs)


def of_pair(sigma: np.polynomial.Polynomial, high: float, low: float = 0.0) -> tuple[Array, Array]:
    """A pair whose devices err by a polynomial of the conductance: theirs, and ours with 101 points of it."""
    w, rng = many()
    read = []
    for side in (np.maximum(w, 0), np.maximum(-w, 0)):
        g = low + side / MAX * (high - low)
        read.append(np.maximum(g + np.maximum(sigma(g), 0) * rng.standard_normal(g.shape), 0))
    g = np.linspace(low, high, 101)
    return (read[0] - read[1]) / (high - low) * MAX, drawn("conductance_noise", table=table(sigma(g), g))


@peer("conductance_noise", "CrossSim `RRAMWan`")
def wan() -> None:
    """simulator/devices/custom/RRAM_Wan.py."""
    same_law(*of_pair(np.polynomial.Polynomial([1.053, 2.374e-1, -1.167e-2, 1.536e-4]), 39.26, 1.0))


JOSHI = np.polynomial.Polynomial([0.28638599, 0.07585724, -0.00178767])


@peer("conductance_noise", "CrossSim `PCMJoshi`")
def joshi() -> None:
    """simulator/devices/custom/PCM_Joshi.py."""
    same_law(*of_pair(JOSHI, 25.0))


@peer("pcm", "CrossSim `PCMJoshi`")
def joshi_as_pcm() -> None:
    theirs = of_pair(JOSHI, 25.0)[0]
    mine = drawn("pcm", time=0, drift=False, read=False, opposite="programmed")
    assert abs(1 - 0.26348 / JOSHI(0) - 0.08) < 0.005
    assert abs(1 - (0.26348 + 1.9650 - 1.1731) / JOSHI(25.0) - 0.01) < 0.005
    ratio = std(mine) / std(theirs)
    assert 0.9 < ratio.min() < ratio.max() < 1.01


@peer("conductance_noise", "aihwkit `ReRamWan2022NoiseModel`")
def reram() -> None:
    """aihwkit/inference/noise/reram.py: coefficients of g / g_max in µS, whatever g_max is."""
    fit = np.polynomial.Polynomial([0.348, 16.030, -43.853, 45.393, -16.815])
    theirs, mine = of_pair(fit(np.polynomial.Polynomial([0, 1 / 40])), 40.0)
    same_law(mine, theirs)
    by_default = of_pair(fit(np.polynomial.Polynomial([0, 1 / 25])), 25.0)[0]
    used = np.abs(W) > 0.25 * MAX
    assert np.abs(std(by_default)[used] / std(theirs)[used] - 1.6).max() < 0.05


@peer("conductance_over_time", "aihwkit `ReRamWan2022NoiseModel`")
def reram_after_a_day() -> None:
    """The same file: one polynomial each for a second, a day and two days."""
    day, r = 86400.0, np.linspace(0, 1, 101)
    fits = {
        1.0: [0.348, 16.030, -43.853, 45.393, -16.815],
        day: [0.701, 22.086, -50.773, 47.095, -16.458],
        2 * day: [0.782, 20.274, -43.507, 37.062, -11.934],
    }
    sigma = [[t, table(np.polynomial.Polynomial(fit)(r), 40 * r)] for t, fit in fits.items()]
    theirs = of_pair(np.polynomial.Polynomial(fits[day])(np.polynomial.Polynomial([0, 1 / 40])), 40.0)[0]
    same_law(drawn("conductance_over_time", time=day, sigma=sigma), theirs)
    other_law(drawn("conductance_over_time", time=1.0, sigma=sigma), theirs)


@peer("conductance_noise", "aihwkit `WeightModifierType.POLY`")
def poly() -> None:
    """rpucuda/weight_modifier.cpp, Poly: one draw a weight."""
    fit = np.polynomial.Polynomial([0.0, 0.2, -0.1])
    w, rng = many()
    theirs = w + MAX * 0.5 * fit(np.abs(w) / MAX) * rng.standard_normal(w.shape)
    r = np.linspace(0, 1, 101)
    same_law(drawn("conductance_noise", table=table(0.5 * fit(r), r)), theirs)
    noisy = w + MAX * 0.5 * (fit + 0.05)(np.abs(w) / MAX) * rng.standard_normal(w.shape)
    other_law(drawn("conductance_noise", table=table(0.5 * (fit + 0.05)(r), r)), noisy)


@peer("drift", "MemTorch `model_conductance_drift`")
def memtorch_drift() -> None:
    """memtorch/bh/nonideality/endurance_retention_models/conductance_drift.py, on both crossbars of a pair."""
    x, initial, nu = 3600.0, 2.0, 0.1
    pair = [np.maximum(side.astype(np.float64), 0) + 0.1 for side in (W, -W)]
    theirs = [g * (x / initial) ** -nu for g in pair]
    mine = drawn("drift", time=x - initial, t0=initial, nu=nu)
    assert np.abs(mine - (theirs[0] - theirs[1])).max() < 1e-6


@peer("drift", "xbtorch `drift_coefficient`")
def xbtorch_drift() -> None:
    """src/xbtorch/deployment/base.py, apply_conductance_drift."""
    w, rng = many()

    def drifted(low: float) -> Array:
        read = []
        for side in (np.maximum(w, 0), np.maximum(-w, 0)):
            g = low + side / MAX * (100 - low)
            g = g * (1000.0 / 1.0) ** -rng.normal(0.05, 0.01, g.shape)
            read.append(np.clip(g, low, 100))
        return (read[0] - read[1]) / (100 - low) * MAX

    mine = drawn("drift", time=999, t0=1, nu=0.05, nu_std=0.01)
    same_law(mine, drifted(0.0))
    other_law(mine, drifted(10.0))
    assert (drifted(50.0)[:, np.abs(W) < 0.2 * MAX] == 0).mean() > 0.99


def aihwkit_pcm(t_inference: float, seed: int = 5) -> Array:
    """aihwkit/inference/noise/pcm.py on a SinglePairConductanceConverter with g_max = 25 µS: at t = 0 and now."""
    w, _ = many()
    rng = np.random.default_rng(seed)
    found = []
    for side in (np.maximum(w, 0), np.maximum(-w, 0)):
        target = side / MAX * 25
        r = target / 25
        programmed = target + (0.26348 + 1.9650 * r - 1.1731 * r**2) * rng.standard_normal(r.shape)
        programmed = np.maximum(programmed, 0)
        log = np.log(np.maximum(r, 1e-7))
        mean, spread = np.clip(-0.0155 * log + 0.0244, 0.049, 0.1), np.clip(-0.0125 * log - 0.0059, 0.008, 0.045)
        nu = np.abs(mean + spread * rng.standard_normal(r.shape))
        t = t_inference + 20.0
        now = programmed * (t / 20.0) ** -nu
        quality = np.minimum(0.0088 / np.maximum((programmed / 25) ** 0.65, 1e-3), 0.2)
        error = quality * np.sqrt(np.log((t + 250e-9) / (2 * 250e-9)))
        now = np.maximum(now + now * error * rng.standard_normal(r.shape), 0)
        found.append((programmed, now))
    (a, b), (c, d) = found
    return np.stack([a - c, b - d]) / 25 * MAX


@peer("pcm", "aihwkit `PCMLikeNoiseModel`")
def pcm() -> None:
    for t in (25.0, 86_400.0):
        theirs = aihwkit_pcm(t)[1]
        same_law(drawn("pcm", time=t, opposite="programmed"), theirs)
        other_law(drawn("pcm", time=t), theirs)  # the default, reset


@peer("pcm", "aihwkit `GlobalDriftCompensation`")
def global_compensation() -> None:
    """aihwkit/inference/compensation/drift.py: mean absolute response to unit inputs, then over now, at least 1e-4."""
    before, now = aihwkit_pcm(86_400.0)
    factor = max(np.abs(before).mean(), 1e-4) / max(np.abs(now).mean(), 1e-4)
    same_law(drawn("pcm", time=86_400, opposite="programmed", compensation="global"), factor * now)

"""Device physics: drift, noise that depends on the conductance, phase-change memory as fitted to measured devices."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sweep.networks.variables import Variable
from sweep.perturb.base import Array, Random, Resolved, Surface, Table, noise_level, parameter, register
from sweep.perturb.basis import root_mean_square
from sweep.perturb.grid import Doubles

CHAPTER = "Devices"  # of the catalogue

G_MAX = np.float32(25)  # µS: what max|W| is programmed to
SINCE_READ = "Time since the first reading"
T0 = 20.0  # s from programming to the first reading
T_READ = 250e-9  # s that a reading takes
Draws = Sequence[npt.ArrayLike]  # for programming, drift and read


def normal_points(count: int) -> tuple[Doubles, Doubles]:
    """Gauss-Hermite points ξ and weights, which sum to 1, for means over ξ ~ N(0, 1)."""
    points, weights = np.polynomial.hermite_e.hermegauss(count)
    return points, weights / np.sum(weights)


@register("drift")
@dataclass(frozen=True, kw_only=True)
class Drift(Random):
    """w · ((t + t0) / t0)^(−ν), ν = nu + nu_std · ξ, ξ ~ N(0, 1), with t = time.

    t seconds after the first reading, which was t0 seconds after programming: the identity at t = 0. ν differs between
    devices and is not clipped; with nu_std = 0 all weights shrink by one factor. One draw a weight.

    Source: Boybat et al., "Impact of conductance drift on multi-PCM synaptic architectures", NVMTS 2018: G(t) =
    G(t0) · (t/t0)^(−ν), with t counted from programming.

    Peers:

    - MemTorch `model_conductance_drift`: t0 = initial_time, time = x − initial_time, nu = drift_coefficient.
    - xbtorch `drift_coefficient`: nu, with nu_std = drift_variation, t0 = drift_t0, time = retention_time − drift_t0,
      for g_min = 0, where only weights that grow are clipped. With g_min > 0 a device stops at g_min: w is 0 then. ν is
      drawn anew for each read.
    """

    time: float = parameter(
        "seconds since the first reading", minimum=0.0, identity=0.0, label=SINCE_READ, unit="s", spacing="log"
    )
    nu: float = parameter("mean drift exponent", default=0.05)
    nu_std: float = parameter("standard deviation of the drift exponent between devices", minimum=0.0, default=0.0)
    t0: float = parameter("seconds from programming to the first reading", minimum=1e-9, default=20.0)

    @property
    def random(self) -> bool:
        return self.nu_std > 0 and self.time > 0

    @property
    def _log_time(self) -> float:
        return math.log1p(self.time / self.t0)

    def apply(self, weight: Array, variable: Variable, generator: np.random.Generator) -> Array:  # noqa: ARG002
        """Draws nothing where all devices drift alike."""
        exponent = np.full(weight.shape, self.nu, np.float32)
        if self.random:
            exponent += np.float32(self.nu_std) * generator.standard_normal(weight.shape, dtype=np.float32)
        return np.asarray(weight * np.exp(np.float32(-self._log_time) * exponent), np.float32)

    def resolve(self, weight: Array, variable: Variable) -> Resolved:  # noqa: ARG002
        """The factor is log-normal."""
        spread = (self._log_time * self.nu_std) ** 2
        factor = math.exp(-self._log_time * self.nu + spread / 2) * math.sqrt(math.expm1(spread))
        return Resolved(sigma=factor * root_mean_square(weight))


@dataclass(frozen=True, kw_only=True)
class Pair(Random):
    """Differential pairs of noisy devices, whose errors are known as curves over conductance."""

    scale: float = noise_level("factor on the standard deviations", default=1.0)
    on_off: float | None = parameter(
        "g_max / g_min, above 1; without it that of the table's ends",
        minimum=1.0,
        default=None,
        label="On/off ratio",
        spacing="log",
        worse="low",
    )

    @property
    @abstractmethod
    def measured(self) -> Table:
        """[g, σ] points from g_min, but for `on_off`, to g_max."""

    @property
    @abstractmethod
    def shifts(self) -> Table | None:
        """[g, μ] points; None for 0."""

    def joint_problems(self) -> list[str]:
        problems = []
        if any(n < 0 for point in self.measured for n in point):
            problems.append("table: conductances and standard deviations are at least 0")
        if self.on_off == 1:
            problems.append("on_off: 1 leaves no range between g_min and g_max; it must be above")
        return problems

    @property
    def is_identity(self) -> bool:
        return super().is_identity and not self._is_shifted

    @property
    def random(self) -> bool:
        return self.scale > 0 and any(sigma > 0 for _, sigma in self.measured)

    @property
    def _is_shifted(self) -> bool:
        return any(shift != 0 for _, shift in self.shifts or ())

    @property
    def ends(self) -> tuple[float, float]:
        """g_min and g_max."""
        g_min, g_max = self.measured[0][0], self.measured[-1][0]
        return g_min if self.on_off is None else g_max / self.on_off, g_max

    def targets(self, weight: Array) -> tuple[tuple[Array, Array], np.float32]:
        """The conductances of g₊ and g₋, float32, and how much weight one unit of conductance is."""
        g_min, g_max = self.ends
        largest = float(np.max(np.abs(weight)))
        per_weight = (g_max - g_min) / largest if largest > 0 else 0
        slope = np.float32(per_weight) if per_weight < float(np.finfo(np.float32).max) else np.float64(per_weight)
        pair = [
            np.asarray(np.float32(g_min) + slope * np.maximum(side, np.float32(0)), np.float32)
            for side in (weight, -weight)
        ]
        return (pair[0], pair[1]), np.float32(largest / (g_max - g_min))

    def error(self, target: Array, draw: npt.ArrayLike) -> Array:
        """max(0, target + error) − target."""
        error = np.float32(self.scale) * _at(self.measured, target) * np.asarray(draw, np.float32)
        if self.shifts is not None:
            error = error + _at(self.shifts, target)
        return np.asarray(np.maximum(error, -target))

    def apply(self, weight: Array, variable: Variable, generator: np.random.Generator) -> Array:  # noqa: ARG002
        pair, unit = self.targets(weight)
        plus, minus = (self.error(g, generator.standard_normal(weight.shape, dtype=np.float32)) for g in pair)
        return np.asarray(weight + (plus - minus) * unit, np.float32)

    def resolve(self, weight: Array, variable: Variable) -> Resolved:  # noqa: ARG002
        """By quadrature over ξ: the root mean square over the weights, to about 1 %."""
        draws, chances = normal_points(40)
        pair, unit = self.targets(weight)
        known = np.linspace(*self.ends, 257, dtype=np.float32)
        mean, square = (self.error(known[:, None], draws).astype(np.float64) ** power @ chances for power in (1, 2))
        variance = sum(np.mean(np.interp(target, known, square - mean**2)) for target in pair)
        return Resolved(sigma=float(unit * np.sqrt(variance)))


@register("conductance_noise")
@dataclass(frozen=True, kw_only=True)
class ConductanceNoise(Pair):
    """(g₊ − g₋) · max|W| / (g_max − g_min), each g = max(0, target + scale · σ(target) · ξ), ξ ~ N(0, 1).

    The table gives σ(g) as points [g, σ], g ascending, in any unit of conductance; between them σ is linear. Its first
    g is g_min, the off state, its last g_max. |w| is the target g_min + |w| · (g_max − g_min) / max|W| of one device of
    a differential pair, g₊ for w > 0 and g₋ for w < 0; the other's target is g_min, and so are both for w = 0. Both
    devices are noisy. Two draws a weight, in this order: for g₊ and for g₋. Evaluated as w plus the two errors, so that
    scale 0 is the identity.

    With on_off, g_min is g_max / on_off, whatever the table's first g: the same devices programmed down to another off
    state, with the σ that they have there; below the table σ is that of its first point. The smaller the ratio, the
    less of the range is left to a weight, and the more its noise counts. With `mean`, points [g, μ] likewise, each g is
    max(0, target + μ(target) + scale · σ(target) · ξ): what devices miss on average, at scale 0 too.

    Source: the measured state-dependent errors of CrossSim, `simulator/devices/custom` (Milo et al., IRPS 2021; Wan et
    al., Nature 2022), here as a table.

    Peers, whose curves are given as points:

    - CrossSim `NormalIndependentDevice`: table [[r, α], [1, α]], r = R_min/R_max (0.1 by default), exactly.
    - CrossSim `NormalProportionalDevice`: table [[r, α r], [1, α]], exactly.
    - CrossSim `RRAMMilo`: table [[50, 4.326971], [225, 2.733246]] for 50 to 225 µS, exactly.
    - CrossSim `RRAMWan`: σ = 1.053 + 0.2374 g − 0.01167 g² + 0.0001536 g³, in µS, up to 39.26 µS.
    - CrossSim `PCMJoshi`: σ = 0.28638599 + 0.07585724 g − 0.00178767 g², in µS, up to 25 µS.
    - aihwkit `ReRamWan2022NoiseModel`: after one second, σ = 0.348 + 16.03 r − 43.853 r² + 45.393 r³ − 16.815 r⁴ µS, r
      = g / g_max, with g_max = 40 µS. By default g_max is 25 µS, and σ in µS stays as it is: 1.6 times the relative
      error.
    - aihwkit `WeightModifierType.POLY`: points (r, std_dev · polynomial of r), r = |w| / max|W|, where the polynomial
      is 0 at 0 and small: there one draw a weight, without a pair and without clipping.
    """

    table: Table = parameter("[conductance, standard deviation] points, from g_min to g_max")  # noqa: RUF009
    mean: Table | None = parameter("[conductance, mean error] points; without it 0", default=None)  # noqa: RUF009

    @property
    def measured(self) -> Table:
        return self.table

    @property
    def shifts(self) -> Table | None:
        return self.mean


@register("conductance_over_time")
@dataclass(frozen=True, kw_only=True)
class ConductanceOverTime(Pair):
    """As `conductance_noise`, each g = max(0, target + μ(target, t) + scale · σ(target, t) · ξ), with t = time.

    `sigma` and `mean` are what was measured at some times: tables [t, [[g, σ], …]] and [t, [[g, μ], …]], t in seconds,
    above 0 and ascending; two times or more, all tables of `sigma` from the same g_min to the same g_max. Between two
    times both are linear in log t. Beyond them nothing is known: such a time is refused, and so is one beyond those of
    `mean`. A chip has the same ξ at all times: a device that is high stays so.

    Source: measured states over time, as aihwkit has them, `src/aihwkit/inference/noise/reram.py`; linear in log t as
    the mean and the spread of conductive-metal-oxide devices in the same file.

    Peers, whose curves are given as points:

    - aihwkit `ReRamWan2022NoiseModel`: at its three times, exactly; σ after a day = 0.701 + 22.086 r − 50.773 r² +
      47.095 r³ − 16.458 r⁴ µS, r = g / g_max, with g_max = 40 µS. It has no others, and draws ξ anew for each.
    """

    time: float = parameter(
        "seconds after programming", minimum=0.0, label="Time after programming", unit="s", spacing="log"
    )
    sigma: Surface = parameter("[time, [conductance, standard deviation] points]")  # noqa: RUF009
    mean: Surface | None = parameter("[time, [conductance, mean error] points]; without it 0", default=None)  # noqa: RUF009

    def joint_problems(self) -> list[str]:
        problems = []
        for name, surface in (("sigma", self.sigma), ("mean", self.mean)):
            if surface is None:
                continue
            first, last = surface[0][0], surface[-1][0]
            if first <= 0:
                problems.append(f"{name}: times are above 0")
            elif not first <= self.time <= last:
                problems.append(f"time: {self.time:g} s is not between the times of {name}, {first:g} and {last:g} s")
        if len({(table[0][0], table[-1][0]) for _, table in self.sigma}) > 1:
            problems.append("sigma: the tables differ in their first or last conductance")
        if any(n < 0 for _, table in self.sigma for point in table for n in point):
            problems.append("sigma: conductances and standard deviations are at least 0")
        return problems or super().joint_problems()

    @property
    def measured(self) -> Table:
        return _at_time(self.sigma, self.time)

    @property
    def shifts(self) -> Table | None:
        return None if self.mean is None else _at_time(self.mean, self.time)


def _at(curve: Table, conductance: Array) -> Array:
    """The values of a curve, float32: linear between its points, and beyond them as at the ends."""
    known = np.array(curve)
    return np.asarray(np.interp(conductance, known[:, 0], known[:, 1]), np.float32)


def _at_time(surface: Surface, time: float) -> Table:
    """The curve at a time between those of a surface, at all conductances that a table of it has."""
    conductances = sorted({g for _, table in surface for g, _ in table})
    points = [np.array(table) for _, table in surface]
    known = [np.interp(conductances, table[:, 0], table[:, 1]) for table in points]
    logs = [math.log(t) for t, _ in surface]
    found = [float(np.interp(math.log(time), logs, values)) for values in np.transpose(known)]
    return tuple(zip(conductances, found, strict=True))


@register("pcm")
@dataclass(frozen=True, kw_only=True)
class PhaseChangeMemory(Random):
    """sign(w) · g · max|W| / g_max, with g the conductance, t = time after programming, of a target of r · g_max.

    r = |w| / max|W|; t in seconds; g_max = 25 µS. With ξ ~ N(0, 1), drawn anew in each line:

    - programming: g_p = max(0, r · g_max + (0.26348 + 1.9650 r − 1.1731 r²) ξ), in µS
    - drift: g_d = g_p · ((t + t0) / t0)^(−ν), t0 = 20 s, ν = |μ + s ξ|, μ = clip(−0.0155 ln r + 0.0244, 0.049, 0.1),
      s = clip(−0.0125 ln r − 0.0059, 0.008, 0.045), r at least 1e-7
    - read: g = max(0, g_d + g_d · Q · √ln((t + t0 + t_r) / (2 t_r)) · ξ), t_r = 250 ns,
      Q = min(0.0088 / max((g_p / g_max)^0.65, 0.001), 0.2)

    The weight is a differential pair: w > 0 on one device, w < 0 on the other. With opposite `reset` the device that
    is not used, and both for w = 0, are at exactly 0. With opposite `programmed` it is programmed to target 0, with all
    three noises of its own, and the weight is the difference of the two.

    Compensation `global` multiplies all weights of the array by mean|w_p| / mean|w|: w_p just after programming (g_p,
    without read noise), w now. For a linear layer this equals a digital factor on its output.

    Draws, always all, so that switching one off leaves the others as they are: programming, drift and read, each one
    call in the variable's shape; with opposite `programmed`, three more for the opposite devices.

    Source: aihwkit, `src/aihwkit/inference/noise/pcm.py`; Nandakumar et al., ICECS 2019; Joshi et al., Nature
    Communications 11:2473, 2020 (also for the compensation).

    Peers:

    - aihwkit `PCMLikeNoiseModel`: opposite = "programmed", exactly: both devices of a pair are programmed, the unused
      one to 0 with the noise of that state, 0.263 µS upwards. The default here, reset, has it at exactly 0: on the
      shipped network (400 chips) that is 0.07 points more accuracy from 25 s to a day, 0.10 after a year, ± 0.01 and
      0.02.
    - aihwkit `GlobalDriftCompensation`: compensation = "global", where the responses are read through ideal converters.
    - CrossSim `PCMJoshi`: programming alone, both devices, by another fit of the same figure: drift = false, read =
      false, opposite = "programmed" has 8 % less noise at 0 and 1 % less at g_max; exact as `conductance_noise`.
    """

    time: float = parameter(
        "seconds after programming", minimum=0.0, label="Time after programming", unit="s", spacing="log"
    )
    programming: bool = parameter("whether there is programming noise", default=True)
    drift: bool = parameter("whether conductances drift", default=True)
    read: bool = parameter("whether there is read noise", default=True)
    opposite: str = parameter(
        "reset: the unused device of a pair is at 0; programmed: it is programmed to 0, with noise",
        choices=("reset", "programmed"),
        default="reset",
    )
    compensation: str = parameter("of drift", choices=("none", "global"), default="none")

    @property
    def random(self) -> bool:
        return self.programming or self.read or (self.drift and self.time > 0)

    def conductances(self, target: Array, draws: Draws) -> tuple[Array, Array]:
        """Just after programming, and now; float32, in units of g_max. `target` is r; the arrays broadcast."""
        xi_programming, xi_drift, xi_read = (np.asarray(draw, np.float32) for draw in draws)
        programmed = target
        if self.programming:
            sigma = (0.26348 + 1.9650 * target - 1.1731 * target**2) / G_MAX
            programmed = np.maximum(target + sigma * xi_programming, np.float32(0))
        now = programmed
        if self.drift:
            log = np.log(np.maximum(target, np.float32(1e-7)))
            mu = np.clip(-0.0155 * log + 0.0244, 0.049, 0.1)
            spread = np.clip(-0.0125 * log - 0.0059, 0.008, 0.045)
            now = now * np.exp(np.float32(-math.log1p(self.time / T0)) * np.abs(mu + spread * xi_drift))
        if self.read:
            quality = np.minimum(0.0088 / np.maximum(programmed**0.65, 1e-3), 0.2)
            accumulated = np.float32(math.sqrt(math.log((self.time + T0 + T_READ) / (2 * T_READ))))
            now = np.maximum(now + now * quality * accumulated * xi_read, np.float32(0))
        return programmed, now

    def apply(self, weight: Array, variable: Variable, generator: np.random.Generator) -> Array:  # noqa: ARG002
        """Arrays that are all 0 stay 0: they leave no scale."""
        largest = np.max(np.abs(weight))
        if largest == 0 or not self.random:
            return weight.copy()
        target = np.abs(weight) / largest
        before, now = self.conductances(target, _draw(weight.shape, generator))
        if self.opposite == "programmed":
            unused = self.conductances(np.zeros_like(target), _draw(weight.shape, generator))
            before, now = before - unused[0], now - unused[1]
        else:
            before, now = (np.where(target > 0, g, np.float32(0)) for g in (before, now))
        scale = np.copysign(largest, weight)
        if self.compensation == "global" and np.any(now):
            scale = scale * np.float32(_mean(before) / _mean(now))
        return np.asarray(scale * now, np.float32)

    def resolve(self, weight: Array, variable: Variable) -> Resolved:  # noqa: ARG002
        """By quadrature over the draws: the root mean square over the weights, to a few percent."""
        largest = float(np.max(np.abs(weight)))
        if largest == 0 or not self.random:
            return Resolved(sigma=0.0)
        grid = np.linspace(0, 1, 33, dtype=np.float32) ** 2
        known = self._moments(grid)
        target = np.abs(weight) / np.float32(largest)
        before, now, variance = (np.where(target > 0, np.interp(target, grid, values), 0) for values in known)
        if self.opposite == "programmed":
            unused = known[:, 0]
            before, now = before - unused[0], now - unused[1]
            variance = np.interp(target, grid, known[2]) + unused[2]
        factor = np.mean(before) / np.mean(now) if self.compensation == "global" else 1.0
        return Resolved(sigma=float(largest * factor * np.sqrt(np.mean(variance))))

    def _moments(self, target: Array) -> Doubles:
        """(3, targets): mean just after programming, mean and variance now, in units of g_max and g_max²."""
        (x, p), (y, q), (z, r) = normal_points(24), normal_points(12), normal_points(12)
        draws = (x[:, None, None], y[:, None], z)
        shape = (target.size, x.size, y.size, z.size)
        before, now = (np.broadcast_to(g, shape) for g in self.conductances(target[:, None, None, None], draws))
        values = np.stack([before, now, np.square(now)], dtype=np.float64)
        means = np.einsum("vgxyz,x,y,z->vg", values, p, q, r)
        means[2] = np.maximum(means[2] - means[1] ** 2, 0)
        return np.asarray(means)


def _draw(shape: tuple[int, ...], generator: np.random.Generator) -> Draws:
    return [generator.standard_normal(shape, dtype=np.float32) for _ in range(3)]


def _mean(values: Array) -> float:
    return float(np.mean(np.abs(values), dtype=np.float64))

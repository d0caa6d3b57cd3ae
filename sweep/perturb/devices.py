"""Device physics: drift, and noise that depends on the conductance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sweep.networks.variables import Variable
from sweep.perturb.base import Array, Random, Resolved, Table, noise_level, parameter, register
from sweep.perturb.basis import root_mean_square
from sweep.perturb.grid import Doubles

CHAPTER = "Devices"  # of the catalogue


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
        "seconds since the first reading",
        minimum=0.0,
        label="Time since the first reading",
        unit="s",
        spacing="log",
        identity=0.0,
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


@register("conductance_noise")
@dataclass(frozen=True, kw_only=True)
class ConductanceNoise(Random):
    """(g₊ − g₋) · max|W| / (g_max − g_min), each g = max(0, target + scale · σ(target) · ξ), ξ ~ N(0, 1).

    The table gives σ(g) as points [g, σ], g ascending, in any unit of conductance; between them σ is linear. Its first
    g is g_min, the off state, its last g_max. |w| is the target g_min + |w| · (g_max − g_min) / max|W| of one device of
    a differential pair, g₊ for w > 0 and g₋ for w < 0; the other's target is g_min, and so are both for w = 0. Both
    devices are noisy. Two draws a weight, in this order: for g₊ and for g₋. Evaluated as w plus the two errors, so that
    scale 0 is the identity.

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
    scale: float = noise_level("factor on the standard deviations", default=1.0)

    def joint_problems(self) -> list[str]:
        """Nothing in the table is negative."""
        if any(n < 0 for point in self.table for n in point):
            return ["table: conductances and standard deviations are at least 0"]
        return []

    @property
    def random(self) -> bool:
        return self.scale > 0 and any(sigma > 0 for _, sigma in self.table)

    def targets(self, weight: Array) -> tuple[tuple[Array, Array], np.float32]:
        """The conductances of g₊ and g₋, float32, and how much weight one unit of conductance is."""
        g_min, g_max = self.table[0][0], self.table[-1][0]
        largest = float(np.max(np.abs(weight)))
        slope = np.float32((g_max - g_min) / largest if largest > 0 else 0)
        pair = [np.float32(g_min) + slope * np.maximum(side, np.float32(0)) for side in (weight, -weight)]
        return (pair[0], pair[1]), np.float32(largest / (g_max - g_min))

    def error(self, target: Array, draw: npt.ArrayLike) -> Array:
        """max(0, target + noise) − target."""
        known = np.array(self.table)
        sigma = np.interp(target, known[:, 0], known[:, 1]).astype(np.float32)
        return np.asarray(np.maximum(np.float32(self.scale) * sigma * np.asarray(draw, np.float32), -target))

    def apply(self, weight: Array, variable: Variable, generator: np.random.Generator) -> Array:  # noqa: ARG002
        """Two standard normal draws a weight, in the variable's own shape."""
        pair, unit = self.targets(weight)
        plus, minus = (self.error(g, generator.standard_normal(weight.shape, dtype=np.float32)) for g in pair)
        return np.asarray(weight + (plus - minus) * unit, np.float32)

    def resolve(self, weight: Array, variable: Variable) -> Resolved:  # noqa: ARG002
        """By quadrature over ξ: the root mean square over the weights, to about 1 %."""
        draws, chances = normal_points(40)
        pair, unit = self.targets(weight)
        known = np.linspace(self.table[0][0], self.table[-1][0], 257, dtype=np.float32)
        mean, square = (self.error(known[:, None], draws).astype(np.float64) ** power @ chances for power in (1, 2))
        variance = sum(np.mean(np.interp(target, known, square - mean**2)) for target in pair)
        return Resolved(sigma=float(unit * np.sqrt(variance)))

"""Quantizers of weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sweep.networks.variables import Variable
from sweep.perturb.base import Array, Transform, parameter, register


@register("fixed_point")
@dataclass(frozen=True, kw_only=True)
class FixedPoint(Transform):
    """rint(w · 2^b) / 2^b with b = bits fractional bits: step 2^−b, no clipping, ties to even.

    Source: the code of the article "CNN训练MNIST数据集tenflow2(中)".
    """

    bits: int = parameter("fractional bits", minimum=0, maximum=64)

    @property
    def random(self) -> bool:
        """Never."""
        return False

    def apply(self, weight: Array, variable: Variable, generator: np.random.Generator) -> Array:  # noqa: ARG002
        """Exact in float32: scaling by a power of two loses nothing."""
        return np.ldexp(np.rint(np.ldexp(weight, self.bits)), -self.bits)

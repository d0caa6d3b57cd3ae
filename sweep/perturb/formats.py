"""Floating-point formats of few bits."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

from sweep.networks.variables import Variable
from sweep.perturb.base import Array, Resolved, Transform, parameter, register

CHAPTER = "Quantizers of weights"  # of the catalogue

FORMATS = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float8_e4m3": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
}


@register("floating")
@dataclass(frozen=True, kw_only=True)
class Floating(Transform):
    """The number of the format nearest to clip(w, −largest, largest), ties to even, with largest = the format's.

    Largest finite numbers: float16 65504, bfloat16 3.3895e38, float8_e4m3 448, float8_e5m2 57344. Weights beyond them
    saturate (the saturating mode of the OCP specification). Subnormal numbers are kept. float8_e4m3 is the "fn"
    variant, without infinities. No scale is applied: float8 suits weights of about 0.01 and more.

    Source: IEEE 754-2019 (float16); the OCP 8-bit floating point specification, revision 1.0 (float8); ml_dtypes.

    Peers:

    - GoldenEye `num_fp16`: format float16; from 65520 on infinity, where this saturates.
    - GoldenEye `num_bfloat16`: format bfloat16; infinity beyond the range, where this saturates.
    - GoldenEye `num_float_n`: rounds stochastically and keeps no exponent for NaN: 4 + 3 bits reach 480, where
      float8_e4m3 ends at 448. No equal here.
    - Brevitas `Fp8e4m3OCPWeightPerTensorFloat`: float8_e4m3 of w · 448 / max|W|, scaled back; its e5m2 with 57344.
    """

    format: str = parameter("number format", choices=tuple(FORMATS))

    @property
    def random(self) -> bool:
        return False

    @property
    def largest(self) -> np.float32:
        """The format's largest finite number."""
        return np.float32(ml_dtypes.finfo(FORMATS[self.format]).max)  # type: ignore[no-untyped-call]

    def apply(self, weight: Array, variable: Variable, generator: np.random.Generator) -> Array:  # noqa: ARG002
        clipped = np.clip(weight, -self.largest, self.largest)
        return clipped.astype(FORMATS[self.format]).astype(np.float32)

    def resolve(self, weight: Array, variable: Variable) -> Resolved:  # noqa: ARG002
        """The range, and the share of the weights beyond it; there is no one step."""
        beyond = float(np.mean(np.abs(weight) > self.largest))
        return Resolved(low=-float(self.largest), high=float(self.largest), saturated=beyond)

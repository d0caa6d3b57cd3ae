"""Imperfections of stored weights."""

# Importing registers them, in the order of the catalogue.
from sweep.perturb import noise, quantize, levels, faults, devices  # isort: skip
from sweep.perturb.base import REGISTRY, Random, Transform, noise_level, parameter, register
from sweep.perturb.dataflow import ActivationNoise, Rounding
from sweep.perturb.flow_faults import ActivationBitFlip, ActivationStuckAt
from sweep.perturb.grid import Levels
from sweep.perturb.measured import Measured
from sweep.perturb.noise import Additive
from sweep.perturb.perturbation import perturb
from sweep.perturb.selection import select
from sweep.perturb.tiles import TileADC

__all__ = [
    "REGISTRY",
    "ActivationBitFlip",
    "ActivationNoise",
    "ActivationStuckAt",
    "Additive",
    "Levels",
    "Measured",
    "Random",
    "Rounding",
    "TileADC",
    "Transform",
    "devices",
    "faults",
    "levels",
    "noise",
    "noise_level",
    "parameter",
    "perturb",
    "quantize",
    "register",
    "select",
]

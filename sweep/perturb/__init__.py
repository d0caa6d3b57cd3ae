"""Imperfections of stored weights."""

from sweep.perturb import devices, faults, formats, levels, noise, pcm, quantize  # importing registers them
from sweep.perturb.base import REGISTRY, Transform, parameter, register
from sweep.perturb.dataflow import ActivationNoise, Rounding
from sweep.perturb.grid import Levels
from sweep.perturb.perturbation import perturb
from sweep.perturb.selection import select

__all__ = [
    "REGISTRY",
    "ActivationNoise",
    "Levels",
    "Rounding",
    "Transform",
    "devices",
    "faults",
    "formats",
    "levels",
    "noise",
    "parameter",
    "pcm",
    "perturb",
    "quantize",
    "register",
    "select",
]

"""Imperfections of stored weights."""

from sweep.perturb import noise, quantize  # importing registers them
from sweep.perturb.base import REGISTRY, Transform, parameter, register
from sweep.perturb.perturbation import perturb
from sweep.perturb.selection import select

__all__ = ["REGISTRY", "Transform", "noise", "parameter", "perturb", "quantize", "register", "select"]

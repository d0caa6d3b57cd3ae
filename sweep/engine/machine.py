"""What the processor of this machine is called, and how wide it computes."""

from __future__ import annotations

import os
import platform
from pathlib import Path

WIDTHS = {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX", "asimd": "NEON"}  # widest first, as Linux calls them
SETTINGS = ("TF_ENABLE_ONEDNN_OPTS", "ONEDNN_MAX_CPU_ISA")
_CPUINFO = Path("/proc/cpuinfo")


def width() -> str:
    """On what it depends here in which order TensorFlow sums, and so which way it rounds.

    The widest vector instructions, whether there are those (VNNI) by which TensorFlow switches oneDNN on by itself, and
    the settings that override either.
    """
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        lines = []
    flags = {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split()}
    widest = next((name for flag, name in WIDTHS.items() if flag in flags), platform.machine())
    neural = " VNNI" if {"avx512_vnni", "avx_vnni"} & flags else ""
    return ", ".join([f"{widest}{neural}", *(f"{name}={os.environ[name]}" for name in SETTINGS if name in os.environ)])


def processor() -> str:
    """The model of the processor, as Linux has it; elsewhere what Python knows."""
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()

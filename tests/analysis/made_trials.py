"""Trials made by hand."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd


def trials(cells: Sequence[tuple[str, str, dict[str, Any], Sequence[float]]], images: int = 10_000) -> pd.DataFrame:
    """One row per accuracy of (model, family, swept parameters, accuracies), with the columns of a run."""
    names = list(dict.fromkeys(name for _, _, swept, _ in cells for name in swept))
    rows = []
    for model, family, swept, accuracies in cells:
        text = [f"{name}={value}" if isinstance(value, str) else f"{name}={value:g}" for name, value in swept.items()]
        cell = "/".join([model, family, ",".join(text)])
        for seed, accuracy in enumerate(accuracies):
            row = {"model": model, "family": family, "cell": cell, **dict.fromkeys(names), **swept, "seed": seed}
            rows.append({**row, "n_images": images, "n_correct": round(accuracy * images), "accuracy": accuracy})
    return pd.DataFrame(rows).astype({"n_images": np.int32})


def article(chips: int = 40, models: Sequence[str] = ("net",)) -> pd.DataFrame:
    """Two noise families and one of bits, with realistic numbers."""
    rng = np.random.default_rng(5)
    laws = {
        "gaussian": {0.04: (0.97, 0.008), 0.1: (0.797, 0.08), 0.16: (0.53, 0.11)},
        "uniform": {0.04: (0.963, 0.007), 0.1: (0.668, 0.056), 0.16: (0.39, 0.071)},
    }
    cells: list[tuple[str, str, dict[str, Any], Sequence[float]]] = []
    for model in models:
        for family, levels in laws.items():
            cells.append((model, family, {"scale": 0.0}, [0.9843]))
            for scale, (mean, std) in levels.items():
                accuracies = np.rint(rng.normal(mean, std, chips).clip(0, 1) * 10_000) / 10_000
                cells.append((model, family, {"scale": scale}, accuracies.tolist()))
        for bits, accuracy in {32: 0.9843, 8: 0.9847, 3: 0.9671, 1: 0.304}.items():
            cells.append((model, "fixed-point", {"bits": bits}, [accuracy]))
    return trials(cells)

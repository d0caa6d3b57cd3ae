"""Runs of chips that saw a few images, whose truth is known: chip and image decide by a law in closed form.

Chip c with ability a_c ~ N(μ, σ²) is right about image i of difficulty d_i where a_c + e_ci > d_i, with e_ci ~ N(0, 1)
drawn anew for each pair. So P(right about i) = Φ((μ - d_i)/√(σ² + 1)).
"""

from __future__ import annotations

from functools import cached_property
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special

from sweep.randomness import FIRST_SAMPLED
from sweep.reporting.run import Run
from sweep.statistics import sampling
from sweep.study.study import Study

IMAGES, HALF = 1500, 16
DIFFICULTY = np.random.default_rng(0).normal(-2.0, 1.0, IMAGES)
SPREAD = 0.25
"""Of abilities: the standard deviation σ."""
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(40)


def mean_of(ability: float) -> float:
    """The mean accuracy over all chips of mean ability μ."""
    return float(special.ndtr((ability - DIFFICULTY) / np.hypot(SPREAD, 1)).mean())


def std_of(ability: float) -> float:
    """The standard deviation between chips: of what ability decides, and of the draws of single images."""
    shares = special.ndtr(ability + SPREAD * _NODES[:, None] - DIFFICULTY)
    weights = _WEIGHTS / _WEIGHTS.sum()
    of_ability = weights @ (shares.mean(axis=1) - mean_of(ability)) ** 2
    of_draws = weights @ (shares * (1 - shares)).sum(axis=1) / IMAGES**2
    return float(np.sqrt(of_ability + of_draws))


class Chips(NamedTuple):
    """What sampled chips say; (n,) each."""

    correct: np.ndarray
    estimate: np.ndarray
    apart: np.ndarray


def chips_of(ability: float, seeds: int, number: int) -> Chips:
    """Sampled chips of a cell, with the package's own design from pilot chips; abilities depend on the seed alone."""
    rng = np.random.default_rng([7, number])
    bounds = sampling.edges(IMAGES)
    order = np.argsort(-DIFFICULTY, kind="stable")
    pilot = rng.standard_normal((8, IMAGES)) + ability + SPREAD * rng.standard_normal((8, 1)) > DIFFICULTY
    right = np.add.reduceat(pilot[:, order].sum(axis=0), bounds[:-1])
    plan = sampling.design(-DIFFICULTY, right, 8 * np.diff(bounds), HALF)
    begin = np.random.default_rng(3)
    sample = sampling.draw(plan, np.array([sampling.starts(begin) for _ in range(seeds)]))
    abilities = ability + SPREAD * np.random.default_rng(4).standard_normal(seeds)
    # One draw for each pair of chip and image: an image in both halves is decided alike.
    shares = special.ndtr(abilities[:, None] - DIFFICULTY[sample.images.reshape(seeds, -1)])
    decided = np.empty(shares.shape, bool)
    luck = rng.random(shares.shape)
    for chip, images in enumerate(sample.images.reshape(seeds, -1)):
        first = {image: at for at, image in reversed(list(enumerate(images)))}
        luck[chip] = luck[chip][[first[image] for image in images]]
    decided = luck < shares
    halves = decided.reshape(seeds, 2, HALF)
    return Chips(decided.sum(axis=1), *sampling.estimates_of(sample, halves))


def counts_of(ability: float, seeds: int, number: int) -> np.ndarray:
    """Right decisions of chips that see all images."""
    rng = np.random.default_rng([8, number])
    abilities = ability + SPREAD * np.random.default_rng(5).standard_normal((seeds, 1))
    return (abilities + rng.standard_normal((seeds, IMAGES)) > DIFFICULTY).sum(axis=1)


STUDY = Study.from_dict(
    {
        "name": "sampled",
        "model": "net.h5",
        "dataset": "data.npz",
        "seeds": 30,
        "precision": 0.5,
        "family": [
            {
                "name": "gaussian",
                "perturb": [{"op": "gaussian", "scale": [0.05, 0.1, 0.2]}],
                "published": [{"scale": 0.1, "accuracy": 0.9}],
            },
            {"name": "rounded", "perturb": [{"op": "fixed_point", "bits": [8, 3, 2]}]},
            {
                "name": "layers",
                "sensitivity": ["conv1", "fc"],
                "perturb": [{"op": "gaussian", "basis": "layer_std", "scale": [0.1, 0.2]}],
            },
            {
                "name": "both",
                "perturb": [{"op": "gaussian", "scale": [0.05, 0.2]}, {"op": "fixed_point", "bits": [8, 4]}],
            },
        ],
    }
)
ABILITIES = {0.05: 0.9, 0.1: 0.4, 0.2: -0.6}
CLEAN = 1.2
ROUNDED = {8: 0.95, 3: 0.85, 2: 0.6}
"""Accuracies without randomness."""


def ability_of(scale: float) -> float:
    return ABILITIES[scale]


def trials_of(study: Study = STUDY, whole: int = 30, sampled: int = 400, control: bool = False) -> pd.DataFrame:
    """Trials as a run folder gives them; the sampled chips of the level 0.2 are twice as many."""
    parts = []
    for number, cell in enumerate(study.cells):
        if cell.random:
            ability = ability_of(float(str(cell.values.get("scale"))))
            found = chips_of(ability, sampled * (2 if ability < 0 else 1), number) if sampled else None
            counted = counts_of(ability, whole, number)
        else:
            share = ROUNDED.get(cell.values.get("bits"), mean_of(CLEAN))  # type: ignore[call-overload]
            found, counted = None, np.array([round(share * IMAGES)])
        part = {"seed": np.arange(len(counted)), "n_images": IMAGES, "n_correct": counted, "seconds": 0.5}
        parts.append(pd.DataFrame({"model": cell.model, "family": cell.family, "cell": cell.id, **part}))
        if found is not None:
            few = {"seed": FIRST_SAMPLED + np.arange(len(found.estimate)), "n_images": 2 * HALF, "seconds": 0.001}
            said = {"n_correct": found.correct, "estimate": found.estimate, "half_difference": found.apart}
            held = np.random.default_rng(number).normal(0, 0.01, len(found.estimate)) if control else np.nan
            keys = {"model": cell.model, "family": cell.family, "cell": cell.id}
            parts.append(pd.DataFrame({**keys, **few, **said, "control": held}))
        for part in parts[-2:]:
            if (part["cell"] == cell.id).all():
                for name in study.columns:
                    part[name] = cell.values.get(name)
    frame = pd.concat([part.astype({"n_correct": "int64"}) for part in parts], ignore_index=True)
    for name in ("estimate", "half_difference", "control"):
        frame[name] = frame[name].astype("float64") if name in frame else np.nan
    kinds = {float: "float64", int: "Int64", str: "object"}
    frame = frame.astype({name: kinds[kind] for name, kind in study.columns.items()})
    host = {"host": "host", "device": "CPU", "engine": "plain"}
    return frame.assign(accuracy=frame["n_correct"] / frame["n_images"], n_nonfinite=0, **host)


class SampledRun(Run):
    """A run whose trials are given."""

    def __init__(self, trials: pd.DataFrame, study: Study = STUDY) -> None:
        manifest = {"started": "2026-01-02T03:04:05+00:00", "study_digest": "ab" * 32, "shards": [{}]}
        self.study = study
        self._measure = study.measure_called(study.main)
        self._summarised = None
        self.store = SimpleNamespace(  # type: ignore[assignment]
            manifest=manifest, folder=SimpleNamespace(uri="run"), trials=lambda _: trials, shards={}
        )

    @cached_property
    def cells(self) -> pd.DataFrame:
        return self.summary().set_index("cell")

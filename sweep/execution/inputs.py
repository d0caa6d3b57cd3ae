"""A study's inputs: found, read, and checked against each other, before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sweep.errors import InputError
from sweep.execution.worker import ModelFile
from sweep.networks.datasets import Dataset, load_dataset
from sweep.perturb.selection import select
from sweep.study import Study, digest


def locate(place: str, study_file: str) -> Path:
    """A path of a study file: relative to the current directory or, failing that, to the study's repository.

    The repository is the nearest folder above the study file that holds `.git` or `pyproject.toml`. Raises
    InputError naming every place looked at.
    """
    here = Path(place).expanduser()
    places = [here.absolute()]
    for folder in Path(study_file).absolute().parents:
        if (folder / ".git").exists() or (folder / "pyproject.toml").exists():
            places.append(folder / here)
            break
    for candidate in places:
        if candidate.exists():
            return candidate
    looked = " or ".join(str(p) for p in dict.fromkeys(places))
    raise InputError(f"{place}: no such file (looked for {looked})")


@dataclass(frozen=True)
class Prepared:
    """A study whose every input has been read and checked."""

    study: Study
    models: Mapping[str, ModelFile]
    dataset: Dataset
    identity: dict[str, Any]

    @property
    def digest(self) -> str:
        """Digest of all that the results depend on."""
        return digest(self.identity)


def prepare(study: Study) -> Prepared:
    """Load models and dataset, and check that they fit each other and the study; InputError names all problems."""
    problems: list[str] = []
    found: dict[str, Path] = {}
    for key, place in [("dataset", study.dataset), *((f"model {m}", p) for m, p in study.models.items())]:
        try:
            found[key] = locate(place, study.source)
        except InputError as error:
            problems += [f"{study.source}: {key.split()[0]}: {problem}" for problem in error.problems]
    dataset = None
    if "dataset" in found:
        try:
            dataset = load_dataset(found["dataset"])
        except InputError as error:
            problems += [f"{study.source}: dataset: {problem}" for problem in error.problems]
    models = {}
    for label in study.models:
        if f"model {label}" not in found:
            continue
        try:
            models[label] = _read_model(study, label, found[f"model {label}"], dataset)
        except InputError as error:
            problems += error.problems
    if problems or dataset is None:
        raise InputError(dict.fromkeys(problems))
    digests = {"dataset": dataset.digest, **{f"model {m}": f.digest for m, f in models.items()}}
    return Prepared(study, models, dataset, study.identity(digests))


def _read_model(study: Study, label: str, path: Path, dataset: Dataset | None) -> ModelFile:
    from sweep.networks.loading import check_fit, load_network

    try:
        network = load_network(path)
    except InputError as error:
        raise InputError(f"{study.source}: model: {problem}" for problem in error.problems) from None
    problems = [f"{study.source}: model: {path}: {p}" for p in (check_fit(network, dataset) if dataset else [])]
    for i, family in enumerate(study.family):
        for position, transform in enumerate(family.cells(label)[0].transforms):
            try:
                select(network.variables, transform.layers)
            except InputError as error:
                at = f"family[{i}].perturb[{position}].layers"
                problems += [f"{study.source}: {at}: {problem} ({label})" for problem in error.problems]
    if problems:
        raise InputError(problems)
    content = np.frombuffer(path.read_bytes(), np.uint8)
    return ModelFile(content, path.suffix, network.digest)

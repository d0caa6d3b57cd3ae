"""The files that a study names: found, read, and checked against each other and the layers that it selects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.data.datasets import RESCALES, Dataset, load_dataset
from sweep.errors import InputError
from sweep.networks.checks.safety import SUFFIXES
from sweep.networks.feeding import rescale_of
from sweep.networks.loading import Network, check_fit, load_network
from sweep.perturb.base import Selection, Transform
from sweep.perturb.dataflow import DataFlow
from sweep.perturb.selection import select, select_layers
from sweep.study.paths import locate, matching
from sweep.study.study import Parsed, labelled


@dataclass(frozen=True)
class Files:
    """What could be read of a study's files.

    Attributes:
        models: paths by label, with what globs stand for.
        found: their paths, as `dataset` and `model LABEL`.
        dataset: the test set, or None.
        networks: by label.
        problems: what is wrong with the others, and with the layers that the study selects.
    """

    models: Mapping[str, str]
    found: Mapping[str, Path]
    dataset: Dataset | None
    networks: Mapping[str, Network]
    problems: Sequence[str]


def read_files(named: Parsed, trust: bool) -> Files:
    """Read what a study names, whatever is wrong with its file, and look for the layers it selects."""
    found: dict[str, Path] = {}
    problems: list[str] = []
    models = labelled(_expand(named, problems))
    wanted = [("dataset", named.dataset)] if named.dataset is not None else []
    for key, path in [*wanted, *((f"model {label}", path) for label, path in models.items())]:
        try:
            found[key] = locate(path, named.source)
        except InputError as error:
            problems += [f"{key.split()[0]}: {problem}" for problem in error.problems]
    images = None
    if "dataset" in found:
        try:
            images = load_dataset(found["dataset"])
        except InputError as error:
            problems += [f"dataset: {problem}" for problem in error.problems]
    networks = {}
    for label in models:
        file = found.get(f"model {label}")
        if file is None:
            continue
        try:
            networks[label] = network = load_network(file, trust)
        except InputError as error:
            problems += [f"model: {problem}" for problem in error.problems]
            continue
        if images is not None:
            problems += [f"model: {file}: {problem}" for problem in check_fit(network, images)]
            problems += [f"{problem} ({label})" for problem in _unfed(network, images, named.rescale)]
        problems += [f"{problem} ({label})" for problem in _unmatched(named, network)]
    return Files(models, found, images, networks, [f"{named.source}: {problem}" for problem in problems])


def _expand(named: Parsed, problems: list[str]) -> list[str]:
    """The paths, with the files that globs among them name; globs that name none, or one again, are `problems`."""
    paths: list[str] = []
    for written in named.models:
        if not any(c in written for c in "*?["):
            paths.append(written)
            continue
        matches = [path for path in matching(written, named.source) if path.suffix in SUFFIXES]
        if not matches:
            problems.append(f"model: {written!r} matches no file ({', '.join(SUFFIXES)})")
        paths += [_shown(path) for path in matches]
    problems += [f"model: {path!r} is listed twice" for path in dict.fromkeys(p for p in paths if paths.count(p) > 1)]
    return list(dict.fromkeys(paths))


def _unmatched(named: Parsed, network: Network) -> list[str]:
    """Selections that match no layer of a network."""
    found = (
        f"{at}: {problem}" for at, transform, layers in named.layers for problem in _missed(transform, layers, network)
    )
    return list(dict.fromkeys(found))


def _unfed(network: Network, dataset: Dataset, rescale: Any) -> Sequence[str]:
    """Why it is not known how the images reach a network; another mistake of `rescale` is told elsewhere."""
    if rescale not in (None, *RESCALES):
        return ()
    try:
        rescale_of(network, dataset, rescale)
    except InputError as error:
        return error.problems
    return ()


def _missed(transform: type[Transform], layers: Selection, network: Network) -> Sequence[str]:
    try:
        if issubclass(transform, DataFlow):
            select_layers(network.layers, layers, transform.side)
        else:
            select(network.variables, layers)
    except InputError as error:
        return error.problems
    return ()


def _shown(path: Path) -> str:
    """A path as a study would write it: relative to the current directory where that is shorter."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)

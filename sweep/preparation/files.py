"""The files that a study names: found, read, and checked against each other and the layers that it selects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.data.datasets import RESCALES, Dataset, load_dataset
from sweep.errors import InputError
from sweep.networks.feeding import rescale_of
from sweep.networks.loading import SUFFIXES, Network, check_fit, load_network
from sweep.perturb.base import REGISTRY, Selection
from sweep.perturb.dataflow import DataFlow
from sweep.perturb.selection import select, select_layers
from sweep.study.checks import as_list, layers_problems
from sweep.study.paths import locate, matching


@dataclass(frozen=True)
class Files:
    """What could be read of a study's files.

    Attributes:
        found: their paths, as `dataset` and `model LABEL`.
        dataset: the test set, or None.
        networks: by label.
        problems: what is wrong with the others, and with the layers that the study selects.
    """

    found: Mapping[str, Path]
    dataset: Dataset | None
    networks: Mapping[str, Network]
    problems: Sequence[str]


def read_files(models: Mapping[str, str], tables: Mapping[str, Any], source: str, trust: bool) -> Files:
    """Read the dataset of a study's tables and models, given by label, and look for the layers that families select.

    Of what stands in the tables of the file `source`, only this is taken; what else may be wrong with it does not
    matter.
    """
    named, families = tables.get("dataset"), tables.get("family", [])
    dataset = named if isinstance(named, str) and named else None
    rescale = tables.get("rescale")
    found: dict[str, Path] = {}
    problems: list[str] = []
    wanted = [("dataset", dataset)] if dataset is not None else []
    for key, path in [*wanted, *((f"model {label}", path) for label, path in models.items())]:
        try:
            found[key] = locate(path, source)
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
            problems += [f"{problem} ({label})" for problem in _unfed(network, images, rescale)]
        problems += [f"{problem} ({label})" for problem in _unmatched(families, network)]
    return Files(found, images, networks, [f"{source}: {problem}" for problem in problems])


def expand(models: Iterable[str], source: str, problems: list[str]) -> list[str]:
    """The paths, with the files that globs among them name; globs that name none are added to `problems`."""
    paths: list[str] = []
    for written in models:
        if not any(c in written for c in "*?["):
            paths.append(written)
            continue
        matches = [path for path in matching(written, source) if path.suffix in SUFFIXES]
        if not matches:
            problems.append(f"{source}: model: {written!r} matches no file ({', '.join(SUFFIXES)})")
        paths += [_shown(path) for path in matches]
    return paths


def _unmatched(families: Any, network: Network) -> list[str]:
    """Selections that match no layer of a network; tables that make no sense are passed over."""
    problems = []
    for i, family in enumerate(as_list(families)):
        if not isinstance(family, Mapping):
            continue
        one_by_one = family.get("sensitivity")
        for position, table in enumerate(as_list(family.get("perturb", []))):
            if not isinstance(table, Mapping) or not isinstance(table.get("op"), str) or table["op"] not in REGISTRY:
                continue
            at, selections = f"family[{i}].perturb[{position}].layers", [table.get("layers", "*")]
            if isinstance(one_by_one, list | tuple) and one_by_one:
                at, selections = f"family[{i}].sensitivity", list(one_by_one)
            for layers in selections:
                if not layers_problems(layers, at):
                    chosen = tuple(layers) if isinstance(layers, list | tuple) else layers
                    problems += [f"{at}: {problem}" for problem in _missed(table["op"], chosen, network)]
    return list(dict.fromkeys(problems))


def _unfed(network: Network, dataset: Dataset, rescale: Any) -> Sequence[str]:
    """Why it is not known how the images reach a network; another mistake of `rescale` is told elsewhere."""
    if rescale is not None and rescale not in RESCALES:
        return ()
    try:
        rescale_of(network, dataset, rescale)
    except InputError as error:
        return error.problems
    return ()


def _missed(op: str, layers: Selection, network: Network) -> Sequence[str]:
    transform = REGISTRY[op]
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

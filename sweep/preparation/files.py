"""The files that a study names: found, read, and checked against each other and the layers that it selects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sweep.data.datasets import RESCALES, Dataset, load_dataset
from sweep.errors import collected
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
    networks: dict[str, Network] = {}
    problems: list[str] = []
    models = labelled(_expand(named, problems))
    wanted = [("dataset", named.dataset)] if named.dataset is not None else []
    for key, path in [*wanted, *((f"model {label}", path) for label, path in models.items())]:
        with collected(problems, f"{key.split()[0]}: "):
            found[key] = locate(path, named.source)
    images: Dataset | None = None
    if "dataset" in found:
        with collected(problems, "dataset: "):
            images = load_dataset(found["dataset"])
    for label in models:
        file = found.get(f"model {label}")
        if file:
            with collected(problems, "model: "):
                networks[label] = load_network(file, trust)
        if label not in networks:
            continue
        network = networks[label]
        if images is not None:
            problems += [f"model: {file}: {problem}" for problem in check_fit(network, images, named.measures)]
            if named.rescale in (None, *RESCALES):  # what else it may be is told elsewhere
                with collected(problems, after=f" ({label})"):
                    rescale_of(network, images, named.rescale)
        missed: list[str] = []
        for at, transform, layers in named.layers:
            with collected(missed, f"{at}: ", f" ({label})"):
                layers_of(network, transform, layers)
        problems += dict.fromkeys(missed)
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


def layers_of(network: Network, transform: type[Transform], layers: Selection) -> list[str]:
    """Names of the layers on which a transform with this selection acts; raises InputError as `select`."""
    if issubclass(transform, DataFlow):
        return [layer.layer for layer in select_layers(network.layers, layers, transform.side)]
    return [network.variables[i].layer for i in select(network.variables, layers)]


def _shown(path: Path) -> str:
    """A path as a study would write it: relative to the current directory where that is shorter."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)

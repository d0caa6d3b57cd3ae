"""The files that a study names: found, read, and checked against each other and the layers that it selects."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sweep.data.datasets import RESCALES, Dataset, load_dataset
from sweep.data.formats.functions import has_run
from sweep.data.formats.stored import OF_NONE, Wanted
from sweep.data.inputs import fields_of
from sweep.errors import InputError, collected
from sweep.files import function_in
from sweep.networks.checks.safety import SUFFIXES
from sweep.networks.code import Code
from sweep.networks.ends import Ends
from sweep.networks.feeding import rescale_of
from sweep.networks.loading import Network, check_fit, check_order, check_shape, load_network, load_network_bytes
from sweep.perturb.base import KERNELS, Selection, Transform
from sweep.perturb.dataflow import DataFlow
from sweep.perturb.selection import select, select_layers
from sweep.study.family import subject
from sweep.study.models import Named, code_for, in_memory, labelled, written
from sweep.study.paths import in_run_folder, locate, locate_data, matching
from sweep.study.sets import key_of, sets_labelled
from sweep.study.study import Parsed

T = TypeVar("T")


@dataclass(frozen=True)
class Files:
    """What could be read of a study's files.

    Attributes:
        models: by label, with what globs stand for.
        sets: the paths of test sets by label, likewise.
        found: the paths of their files, as `dataset` (of several `dataset LABEL`) and `model LABEL`; models in memory
            have none.
        datasets: the test sets that could be read, by label.
        wanted: what was read of them, for a further set of images.
        networks: by label.
        problems: what is wrong with the others, and with the layers that the study selects.
    """

    models: Mapping[str, Named]
    sets: Mapping[str, str]
    found: Mapping[str, Path]
    datasets: Mapping[str, Dataset]
    wanted: Wanted
    networks: Mapping[str, Network]
    problems: Sequence[str]


def read_files(named: Parsed, trust: bool) -> Files:
    """Read what a study names, whatever is wrong with its file, and look for the layers it selects."""
    found: dict[str, Path] = {}
    networks: dict[str, Network] = {}
    problems: list[str] = []
    models = labelled(_models(named, problems))
    sets = sets_labelled(_sets(named, problems))
    data = [("dataset", key_of(label), path) for label, path in sets.items()]
    if (calibration := named.data.get("calibration")) is not None:
        data.append(("calibration", "calibration", calibration))
    for said, key, path in data:
        with collected(problems, f"{said}: "):
            found[key] = _allowed(locate_data(path, named.source), named)
    broken: dict[str, list[str]] = {label: [] for label in models}
    for label, model in models.items():
        if (path := written(model)) not in named.memory:
            with collected(problems, "model: "):
                if in_memory(path):
                    raise InputError(f"{path} is in no file; give the model again: sweep.run(Study(model=…))")
                found[f"model {label}"] = locate(path, named.source)
        if named.code is not None and (path in named.memory or f"model {label}" in found):
            with collected(broken[label], "model: "):
                code = code_for(model, named.custom_objects, named.code)
                ends = Ends(named.data.get("output"))
                networks[label] = _loaded(found.get(f"model {label}") or model, named.memory, trust, code, ends)
    datasets: dict[str, Dataset] = {}
    wanted = _wanted(named, networks.values())
    for label in sets:
        if key_of(label) in found:
            with collected(problems, "dataset: "):
                datasets[label] = load_dataset(found[key_of(label)], wanted, named.data.get("labels"))
    for label in models:
        problems += broken[label]
        if label not in networks:
            continue
        network, file = networks[label], found.get(f"model {label}") or written(models[label])
        for dataset, images in datasets.items():
            on = f" ({dataset})" if dataset else ""
            fit = not check_shape(network, images)
            if fit:
                with collected(problems, f"model: {file}: ", on):
                    networks[label] = network = network.sized(images)
            problems += [f"model: {file}: {problem}{on}" for problem in check_fit(network, images, named.measures)]
            order = check_order(network, images, "labels" in named.data)
            problems += [f"labels: {problem} ({subject(label, dataset)})" for problem in order]
            known = fit or not (network.inputs or fields_of(images.images))
            if known and named.rescale in (None, *RESCALES):  # what else it may be is told elsewhere
                with collected(problems, after=f" ({subject(label, dataset)})"):
                    rescale_of(network, images, named.rescale)
        missed: list[str] = []
        for (at, table_at), transform, layers, which in named.layers:
            with collected(missed, f"{table_at}.variables: ", f" ({label})"):
                if which != KERNELS:
                    select(network.variables, "*", which)
                with collected(missed, f"{at}: ", f" ({label})"):
                    layers_of(network, transform, layers, which)
        problems += dict.fromkeys(missed)
    problems = [f"{named.source}: {problem}" for problem in problems]
    return Files(models, sets, found, datasets, wanted, networks, problems)


def _allowed(path: Path, named: Parsed) -> Path:
    """The path; InputError where it names code that only its author said is to run."""
    function, register = function_in(path), named.study.register if named.study else None
    if (
        function
        and in_run_folder(named.source)
        and not (register and register.trusted)
        and not has_run(Path(function[0]))
    ):
        raise InputError(
            f"{path} is code, and {named.source} lies in a run folder, whose code runs only with --trust-plugins; "
            "or run your own study"
        )
    return path


def _channels(networks: Iterable[Network]) -> int | None:
    """Of the images that all networks take, where that is clear."""
    found = {network.input_shape[-1] if len(network.input_shape) == 3 else None for network in networks}
    return found.pop() if len(found) == 1 else None


def _wanted(named: Parsed, networks: Collection[Network]) -> Wanted:
    """What of the dataset is read: of a function's labels of several outputs, those of the one that is scored."""
    x = named.data.get("x")
    if isinstance(x, list | tuple | Mapping) and len(x) == 1:
        x = next(iter(x.values() if isinstance(x, Mapping) else x))
    places = {network.output[1] for network in networks if network.output}
    name = named.data.get("output")
    output = (name, places.pop() if len(places) == 1 else OF_NONE) if name and places else None
    return Wanted(x=x, y=named.data.get("y"), channels=_channels(networks), output=output)


def _loaded(file: Path | Named, memory: Mapping[str, bytes], trust: bool, code: Code, ends: Ends) -> Network:
    if isinstance(file, Path):
        return load_network(file, trust, code, ends)
    return load_network_bytes(memory[written(file)], ".keras", trust, code, shown=written(file), ends=ends)


def _models(named: Parsed, problems: list[str]) -> list[Named]:
    """The networks, with the files that globs among them name; globs that name none, or one again, are `problems`."""

    def stands_for(model: Named) -> list[Named]:
        if not isinstance(model, str) or in_memory(model) or not _is_glob(model):
            return [model]
        matches = [path for path in matching(model, named.source) if path.suffix in SUFFIXES]
        if not matches:
            problems.append(f"model: {model!r} matches no file ({', '.join(SUFFIXES)})")
        return [_shown(path) for path in matches]

    return _once("model", named.models, stands_for, problems)


def _sets(named: Parsed, problems: list[str]) -> list[str]:
    """The test sets, likewise; a path of a file that is there is no glob."""

    def stands_for(place: str) -> list[str]:
        if not _is_glob(place):
            return [place]
        with contextlib.suppress(InputError):
            locate_data(place, named.source)
            return [place]
        matches = matching(place, named.source)
        if not matches:
            problems.append(f"dataset: {place!r} matches no file")
        return [_shown(path) for path in matches]

    return _once("dataset", named.datasets, stands_for, problems)


def _is_glob(place: str) -> bool:
    return any(c in place for c in "*?[")


def _once(key: str, named: Sequence[T], stands_for: Callable[[T], list[T]], problems: list[str]) -> list[T]:
    paths = [path for one in named for path in stands_for(one)]
    once = [path for i, path in enumerate(paths) if path not in paths[:i]]
    problems += [f"{key}: {path!r} is listed twice" for path in once if paths.count(path) > 1]
    return once


def layers_of(network: Network, transform: type[Transform], layers: Selection, which: Selection) -> list[str]:
    """Names of the layers on which a transform with these selections acts; raises InputError as `select`."""
    if issubclass(transform, DataFlow):
        return [layer.layer for layer in select_layers(network.layers, layers, transform.side)]
    return [network.variables[i].layer for i in select(network.variables, layers, which)]


def _shown(path: Path) -> str:
    """A path as a study would write it: relative to the current directory where that is shorter."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)

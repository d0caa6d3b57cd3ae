"""The files that a study names: found, read, and checked against each other and the layers that it selects."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
from sweep.study.models import Named, code_for, in_memory, labelled, written
from sweep.study.paths import in_run_folder, locate, locate_data, matching
from sweep.study.study import Parsed


@dataclass(frozen=True)
class Files:
    """What could be read of a study's files.

    Attributes:
        models: by label, with what globs stand for.
        found: the paths of their files, as `dataset` and `model LABEL`; models in memory have none.
        dataset: the test set, or None.
        wanted: what was read of it, for a further set of images.
        networks: by label.
        problems: what is wrong with the others, and with the layers that the study selects.
    """

    models: Mapping[str, Named]
    found: Mapping[str, Path]
    dataset: Dataset | None
    wanted: Wanted
    networks: Mapping[str, Network]
    problems: Sequence[str]


def read_files(named: Parsed, trust: bool) -> Files:
    """Read what a study names, whatever is wrong with its file, and look for the layers it selects."""
    found: dict[str, Path] = {}
    networks: dict[str, Network] = {}
    problems: list[str] = []
    models = labelled(_expand(named, problems))
    calibration = named.data.get("calibration")
    data = [(key, path) for key, path in (("dataset", named.dataset), ("calibration", calibration)) if path is not None]
    for key, path in data:
        with collected(problems, f"{key}: "):
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
    images: Dataset | None = None
    wanted = _wanted(named, networks.values())
    if "dataset" in found:
        with collected(problems, "dataset: "):
            images = load_dataset(found["dataset"], wanted, named.data.get("labels"))
    for label in models:
        problems += broken[label]
        if label not in networks:
            continue
        network, file = networks[label], found.get(f"model {label}") or written(models[label])
        if images is not None:
            problems += [f"model: {file}: {problem}" for problem in check_fit(network, images, named.measures)]
            order = check_order(network, images, "labels" in named.data)
            problems += [f"labels: {problem} ({label})" for problem in order]
            fit = not check_shape(network, images)
            if fit:
                networks[label] = network.sized(images)
            known = fit or not (network.inputs or fields_of(images.images))
            if known and named.rescale in (None, *RESCALES):  # what else it may be is told elsewhere
                with collected(problems, after=f" ({label})"):
                    rescale_of(network, images, named.rescale)
        missed: list[str] = []
        for (at, table_at), transform, layers, which in named.layers:
            with collected(missed, f"{table_at}.variables: ", f" ({label})"):
                if which != KERNELS:
                    select(network.variables, "*", which)
                with collected(missed, f"{at}: ", f" ({label})"):
                    layers_of(network, transform, layers, which)
        problems += dict.fromkeys(missed)
    return Files(models, found, images, wanted, networks, [f"{named.source}: {problem}" for problem in problems])


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


def _expand(named: Parsed, problems: list[str]) -> list[Named]:
    """The paths, with the files that globs among them name; globs that name none, or one again, are `problems`."""
    paths: list[Named] = []
    for model in named.models:
        if not isinstance(model, str) or in_memory(model) or not any(c in model for c in "*?["):
            paths.append(model)
            continue
        matches = [path for path in matching(model, named.source) if path.suffix in SUFFIXES]
        if not matches:
            problems.append(f"model: {model!r} matches no file ({', '.join(SUFFIXES)})")
        paths += [_shown(path) for path in matches]
    once = [model for i, model in enumerate(paths) if model not in paths[:i]]
    problems += [f"model: {model!r} is listed twice" for model in once if paths.count(model) > 1]
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

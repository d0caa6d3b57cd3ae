"""A study's inputs: found, read, and checked against each other, before anything is computed."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sweep.data.datasets import Dataset, are_the_same, load_dataset
from sweep.data.decisions import chance
from sweep.data.labels import mapping
from sweep.data.measures import decided_at_a_border
from sweep.errors import InputError, collected
from sweep.networks.code import NONE, Code
from sweep.networks.ends import ONE, Ends
from sweep.networks.feeding import DEFAULT, fed, feed, rescale_of
from sweep.networks.forms import suffix_of
from sweep.networks.inspection import LOGITS, MIXED, SIGMOID
from sweep.networks.loading import Network, check_shape, task_of
from sweep.networks.variables import statistics_in
from sweep.perturb.dataflow import DataFlow
from sweep.perturb.perturbation import of_weights
from sweep.perturb.selection import selected
from sweep.preparation.chips import recalibration_of
from sweep.preparation.files import Files, layers_of, read_files
from sweep.preparation.measured import chip_digests, chips_said, with_chips
from sweep.preparation.sites import Flow, Placed, place, sites_of
from sweep.study.family import CALIBRATION_IMAGES, CLEAN, PER_LAYER, Family, subject
from sweep.study.models import code_for, written
from sweep.study.sets import key_of
from sweep.study.study import Parsed, Study, digest


@dataclass(frozen=True)
class ModelFile:
    """A network as it travels.

    Attributes:
        content: the file's bytes as a uint8 array, which workers read without a copy.
        suffix: by which Keras knows its form.
        digest: of the file, and of the code where there is some.
        code: of the user's own, which is run before it is loaded.
        ends: what was said of its inputs and outputs.
    """

    content: npt.NDArray[np.uint8]
    suffix: str
    digest: str
    code: Code = NONE
    ends: Ends = ONE

    @property
    def key(self) -> str:
        """By which the network is known among all; see `Network.key`."""
        return self.ends.key(self.digest)


@dataclass(frozen=True)
class Prepared:
    """A study whose every input has been read and checked.

    Attributes:
        study: with globs and "per-layer" written out.
        models: by label.
        datasets: the test sets by label, which is empty of the only one.
        identity: all that the results depend on.
        flow: what acts on the data flow, by cell.
        networks: the models, loaded.
        trusted: whether the model files were loaded unchecked.
        calibration: the first training images, where ranges or statistics may be calibrated on them.
    """

    study: Study
    models: Mapping[str, ModelFile]
    datasets: Mapping[str, Dataset]
    identity: dict[str, Any]
    flow: Flow
    networks: Mapping[str, Network]
    trusted: bool = False
    calibration: Dataset | None = None

    @property
    def dataset(self) -> Dataset:
        """The only test set, or the first of several."""
        return next(iter(self.datasets.values()))

    @cached_property
    def sizes(self) -> dict[str, int]:
        """How many images the test set of each cell has, by the cell's id."""
        return {cell.id: len(self.datasets[cell.dataset]) for cell in self.study.cells}

    @property
    def chance(self) -> dict[str, float]:
        """The accuracy by chance of models whose outputs are classes, by label; of several test sets on each."""
        return {
            subject(label, name): chance(dataset.labels, network.outputs)
            for label, network in self.networks.items()
            for name, dataset in self.datasets.items()
            if not task_of(network, dataset).no_classes
        }

    def fed(self) -> list[str]:
        """What goes into the networks and what they are asked for, a line for those of which the same is true."""
        found = []
        for name, dataset in self.datasets.items():
            lines: dict[str, list[str]] = {}
            head, labels = f"{name}: {len(dataset):,} " if name else "", _said(dataset)
            for label, network in self.networks.items():
                text = f"{head}{fed(network, dataset, self.study.rescale)}; {labels}, {_outputs(network)}"
                text += f"; in floats: {network.quantized}" if network.quantized else ""
                lines.setdefault(text, []).append(label)
            found += [text if len(lines) == 1 else f"{text} ({', '.join(of)})" for text, of in lines.items()]
        if self.calibration is not None and _calibrated(self.study):
            of = f" of {next(iter(self.datasets))}" if len(self.datasets) > 1 else ""
            of = f" in {self.study.calibration}" if self.study.calibration else of
            found.append(f"for ranges and statistics the first {len(self.calibration):,} training images{of}")
        return found

    def chips(self) -> list[str]:
        """What files of chips there are, a line for each set."""
        return chips_said(self.study, self.networks)

    @property
    def digest(self) -> str:
        """Digest of all that the results depend on."""
        return digest(self.identity)


def prepare(study: Study | Parsed, trust: bool = False) -> Prepared:
    """Load models and dataset, and check that they fit each other and the study; InputError names all problems.

    Of a file that has mistakes already, too. With `trust`, model files are not looked into before Keras loads them, and
    may bring code of their own.
    """
    parsed = study.parsed() if isinstance(study, Study) else study
    found, training = parsed.study, None
    files = read_files(parsed, trust)
    problems = [*parsed.problems, *files.problems]
    if found is not None and next(iter(files.sets), None) in files.datasets:
        training = _training_images(found, files, problems)
    if problems or found is None:
        raise InputError(dict.fromkeys(problems))
    paths, sets = list(files.models.values()), list(files.sets.values())  # what globs stand for
    study = found if paths == list(found.models.values()) else found.but(model=paths)
    study = study if sets == list(study.datasets.values()) else study.but(dataset=sets)
    problems = [f"{study.source}: {problem}" for problem in _unsteady(study, files.networks, files.datasets)]
    if problems:
        raise InputError(problems)
    study = with_layers(study, files.networks)
    in_files = any(t.in_files for family in study.family for choices in family.choices for t in choices)
    if in_files:
        study = with_chips(study, files.networks)
    problems = list(dict.fromkeys([*misfits(study, files.networks), *_not_recalibrated(study, files.networks)]))
    if problems:
        raise InputError(problems)
    flow: dict[str, tuple[Placed, ...]] = {}
    for (label, network), (name, dataset) in itertools.product(files.networks.items(), files.datasets.items()):
        cells = [cell for cell in study.cells if (cell.model, cell.dataset) == (label, name)]
        with collected(problems, f"{study.source}: ", f" ({subject(label, name)})"):
            flow.update(place(cells, network, (dataset, training), study.rescale))
    most = max(CALIBRATION_IMAGES, *(family.recalibrated for family in study.family))
    calibration = None if training is None else training.first(most)
    problems += _unfit_for_recalibration(study, files.networks, flow, calibration)
    if problems:
        raise InputError(dict.fromkeys(problems))
    models = {}
    for label, network in files.networks.items():
        content = parsed.memory.get(written(files.models[label]))
        code = code_for(files.models[label], parsed.custom_objects, parsed.code or {})
        models[label] = _model_file(files.found.get(f"model {label}"), content, network, code)
    digests = {key_of(name): dataset.digest for name, dataset in files.datasets.items()}
    digests |= {f"model {m}": f.digest for m, f in models.items()}
    if training is not None and _calibrated(study) and training.digest != digests.get(key_of("")):
        digests["calibration"] = training.digest
    if in_files:
        digests |= chip_digests(study)
    identity = study.identity(digests)
    rescales = {
        subject(label, name): rescale_of(network, dataset, study.rescale)
        for label, network in files.networks.items()
        for name, dataset in files.datasets.items()
    }
    if special := {label: rescale for label, rescale in rescales.items() if rescale not in (None, DEFAULT)}:
        identity["rescale"] = special
    if outputs := {label: n.output[0] for label, n in files.networks.items() if n.output}:
        identity["outputs"] = outputs
    if matrices := {label: own for label, n in files.networks.items() if (own := _own_matrices(n))}:
        identity["matrices of own layers"] = matrices
    return Prepared(study, models, files.datasets, identity, flow, files.networks, trust, calibration)


def _own_matrices(network: Network) -> list[str]:
    """Variables that count as kernels though they are not called so."""
    return [v.path for v in network.variables if v.kernel and not v.path.endswith(("kernel", "embeddings"))]


_steady: set[tuple[object, ...]] = set()  # networks whose scores were found to be their own, with their data


def _unsteady(study: Study, networks: Mapping[str, Network], datasets: Mapping[str, Dataset]) -> Iterator[str]:
    """Networks whose scores are not a function of their image alone; asked once a process."""
    from sweep.engine.proof import IMAGES, inference_problem

    for (label, network), dataset in itertools.product(networks.items(), datasets.values()):
        key = (network.key, dataset.digest, study.rescale, *study.measures)
        if key in _steady:
            continue
        images = feed(network, dataset.first(IMAGES), study.rescale)
        problem = inference_problem(network, images) or _unclear(study, network, dataset, images)
        if problem:
            yield f"model: {written(study.models[label])}: {problem}"
        else:
            _steady.add(key)


def _unclear(study: Study, network: Network, dataset: Dataset, images: npt.NDArray[np.float32]) -> str:
    """Why it cannot be told where a score decides, which is at 0.5 for probabilities and at 0 for logits; else empty.

    Where the last operation does not tell, scores of all images in 0 to 1 may be either.
    """
    from sweep.engine.proof import predict

    if network.end in (SIGMOID, LOGITS) or not {*study.measures} & decided_at_a_border(task_of(network, dataset)):
        return ""
    scores = predict(network, images)
    if network.end != MIXED and not ((scores >= 0) & (scores <= 1)).all():
        return ""
    return (
        "its scores may be probabilities or logits, which its last operations do not tell; end it in a layer with "
        'activation="sigmoid" or, of logits, without an activation'
    )


def own_clean(study: Study) -> Iterator[str]:
    """Problems of a study with a family called `clean` that perturbs."""
    for i, family in enumerate(study.family):
        if family.name == CLEAN:
            cells = family.cells("")
            if len(cells) > 1 or not all(cell.is_clean for cell in cells):
                yield (
                    f"{study.source}: family[{i}].name: {CLEAN!r} is the family of the unperturbed network, which "
                    "every study evaluates; give this one another name"
                )


def with_layers(study: Study, networks: Mapping[str, Network]) -> Study:
    """The study with "per-layer" families over the names of the layers that they reach, the same in all networks."""
    families = []
    for i, family in enumerate(study.family):
        if family.sensitivity == PER_LAYER:
            names = {label: _reached_layers(family, label, network) for label, network in networks.items()}
            first = next(iter(names.values()))
            if any(found != first for found in names.values()):
                raise InputError(f"{study.source}: family[{i}].sensitivity: the models differ in their layers: {names}")
            family = dataclasses.replace(family, sensitivity=first)
        families.append(family)
    return study.but(family=families)


def misfits(study: Study, networks: Mapping[str, Network]) -> Iterator[str]:
    """What the transforms of cells cannot do in these networks, though each selects something there by itself."""
    for i, family in enumerate(study.family):
        for label, network in networks.items():
            every = (found for cell in family.cells(label) for found in of_weights(cell.transforms))
            for t, transform in dict.fromkeys(every):
                at = f"{study.source}: family[{i}].{'sensitivity' if family.sensitivity else f'perturb[{t}]'}: "
                problems: list[str] = []
                with collected(problems, at, f" ({label})"):
                    chosen = [network.variables[k] for k in selected(network.variables, transform)]
                    if problem := transform.misfit(chosen):
                        raise InputError(problem)
                yield from problems


def _not_recalibrated(study: Study, networks: Mapping[str, Network]) -> Iterator[str]:
    """Families that are to be recalibrated, in networks where nothing can be."""
    for i, family in enumerate(study.family):
        for label, network in networks.items():
            if family.recalibrate and not statistics_in(network.variables):
                where = f"{study.source}: family[{i}].recalibrate"
                yield f"{where}: {label} has no batch normalisation, whose statistics could be taken anew; leave it out"


def _unfit_for_recalibration(
    study: Study, networks: Mapping[str, Network], flow: Flow, calibration: Dataset | None
) -> Iterator[str]:
    """Families likewise, whose networks turn out not to be such that statistics are known."""
    for i, family in enumerate(study.family):
        for label, network in networks.items() if family.recalibrate else ():
            problems: list[str] = []
            own = [cell for cell in study.cells if (cell.model, cell.family) == (label, family.name)]
            cells = {sites_of(flow.get(cell.id, ())): cell for cell in own}
            with collected(problems, f"{study.source}: family[{i}].recalibrate: ", f" ({label})"):
                for cell in cells.values():
                    made = recalibration_of(cell, network, flow.get(cell.id, ()), calibration, study.rescale)
                    if made and not flow.get(cell.id) and (problem := made.problem()):
                        raise InputError(f"cannot be done here: {problem}")
            yield from problems


def _reached_layers(family: Family, label: str, network: Network) -> list[str]:
    transforms = family.cells(label)[0].transforms
    return list(dict.fromkeys(name for t in transforms for name in layers_of(network, type(t), t.layers, t.variables)))


def _training_images(study: Study, files: Files, problems: list[str]) -> Dataset | None:
    """The training images, if a transform of the data flow may want to know what it acts on, or chips are recalibrated.

    Of several test sets, those of the first, unless the study names others. Where they cannot be read, this joins the
    problems if one must know, or if the study names them.
    """
    every = (t for family in study.family for choices in family.choices for t in choices)
    wanting, place = _calibrated(study), files.found.get("calibration")
    if place is None and not wanting and not any(isinstance(t, DataFlow) for t in every):
        return None
    key, split = ("calibration", "calibration") if place else ("dataset", "train")
    first = files.found[key_of(next(iter(files.sets)))]
    after = f"; {wanting} training images" if wanting else ""
    found: list[str] = []
    with collected(found, f"{study.source}: {key}: ", after):
        x = files.wanted.x if place or files.wanted.several else None
        wanted = replace(files.wanted, x=x, y=None, split=split, labelled=False)
        training = load_dataset(place or first, wanted)
        if wrong := [p for network in files.networks.values() for p in check_shape(network, training)]:
            raise InputError(dict.fromkeys(wrong))
        if place and any(are_the_same(training, test) for test in files.datasets.values()):
            raise InputError(
                f"{place}: what is read there are the images of the test set; name training images that lie "
                "elsewhere, or a function that returns them"
            )
        return training
    problems += found if wanting or place else []
    return None


def _calibrated(study: Study) -> str | None:
    """What first depends on training images, in words that they follow."""
    every = (t for family in study.family for choices in family.choices for t in choices)
    found = [f"{t.op} calibrates on" for t in every if isinstance(t, DataFlow) and t.calibrated]
    found += ["recalibrate takes statistics of" for family in study.family if family.recalibrate]
    return next(iter(found), None)


def _said(dataset: Dataset) -> str:
    """The labels, in words."""
    if not len(dataset.labels):
        return "targets as stored"
    if dataset.classes:
        return f"labels {mapping(dataset.classes)}"
    return f"labels 0 to {dataset.labels.max()}"


def _outputs(network: Network) -> str:
    at = network.positions
    return f"{network.outputs // at} outputs at each of {at:,} positions" if at else f"{network.outputs} outputs"


def _model_file(path: Path | None, content: bytes | None, network: Network, code: Code) -> ModelFile:
    """A file, or the `content` of a model in memory."""
    if path is not None:
        content = path.read_bytes()
    assert content is not None
    if code.digest(hashlib.sha256(content).hexdigest()) != network.digest:
        raise InputError(f"{path}: was written to while it was being read; run again")
    suffix = suffix_of(path) if path else ".keras"
    return ModelFile(np.frombuffer(content, np.uint8), suffix, network.digest, code, network.ends)

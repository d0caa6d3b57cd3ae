"""Trained networks: read from a Keras file without running code from it, described, and checked."""

from __future__ import annotations

import contextlib
import hashlib
import math
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.data import positions
from sweep.data.datasets import Dataset, fits, image_shape
from sweep.data.inputs import fields_of
from sweep.data.labels import are_several, no_classes, remedy
from sweep.data.measure import Task
from sweep.data.measures import ACCURACY, fitting, is_own, measure_of
from sweep.errors import InputError
from sweep.files import copy_file, file_digest, reason, require_file
from sweep.networks import quantized
from sweep.networks.backend import import_keras, names_anew, quiet_advice
from sweep.networks.checks.safety import MAX_FILE, check_model_file, variables_within
from sweep.networks.code import NONE, Code
from sweep.networks.ends import (
    ONE,
    Ends,
    Input,
    Shape,
    as_one,
    has_positions,
    misfits,
    position_of,
    shapes_in,
    written,
)
from sweep.networks.forms import refusal, suffix_of
from sweep.networks.graphs import as_graph
from sweep.networks.inspection import (
    beginning_of,
    end_of,
    ends_in_sigmoid,
    of_output,
    threshold_of,
)
from sweep.networks.keras2 import without_leftovers
from sweep.networks.variables import Layer, Variable, input_at

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Network:
    """A trained network; one of several inputs or outputs in the form of one with one of each (`sweep.networks.ends`).

    Attributes:
        model: the Keras model, not compiled.
        digest: SHA-256 of its file, in hex; with code of a user's own, of that and the file.
        variables: one per entry of `model.weights`, in that order.
        input_shape: shape of one image; None where any size will do.
        outputs: width of the output: the number of classes, or 1 for a single score; with `positions`, of all of them.
        positions: of an image at which there are scores, such as its pixels or words; 0 where there is one row of them.
        threshold: where a single score decides for class 1 (0.5 behind a sigmoid, 0 for a logit); None with
            several outputs, of which the largest decides, and with positions.
        layers: the images, then every layer, in order.
        input_dtype: type of its input, such as "float32" or "uint8".
        scaling: the layer with which it rescales images by itself, before any weight; empty for none.
        lookup: the layer that takes its input for indices, such as an Embedding; empty for none.
        sigmoid: whether it ends in a sigmoid.
        places: the axes of positions, such as (height, width).
        end: what its scores are, of the words of `sweep.networks.inspection`, such as "sigmoid" or "unknown".
        inputs: where its file has several, these; else none. `input_shape` is then that of all their values.
        ends: what was said of them.
        several: the model with all of them.
        quantized: what Keras quantized and is computed in floats, in words; empty for nothing.
    """

    model: keras.Model
    digest: str
    variables: tuple[Variable, ...]
    input_shape: tuple[int | None, ...]
    outputs: int
    threshold: float | None
    layers: tuple[Layer, ...] = ()
    input_dtype: str = "float32"
    scaling: str = ""
    lookup: str = ""
    sigmoid: bool = False
    inputs: tuple[Input, ...] = ()
    ends: Ends = ONE
    several: keras.Model | None = None
    quantized: str = ""
    positions: int = 0
    places: tuple[int, ...] = ()
    end: str = ""

    @property
    def file_model(self) -> keras.Model:
        """The model with the inputs and outputs of its file."""
        return self.several or self.model

    @property
    def sizes(self) -> Sequence[Shape]:
        """Of what an image has for each of several inputs."""
        return self.ends.sizes or [one.shape for one in self.inputs]

    @property
    def output(self) -> tuple[str, int] | None:
        """Name and position of the output that is scored, where there are several."""
        if self.several is None or self.ends.output is None:
            return None
        return self.ends.output, position_of(self.several, self.ends.output)[0]

    @property
    def key(self) -> str:
        """See `Ends.key`."""
        return self.ends.key(self.digest)

    def sized(self, dataset: Dataset) -> Network:
        """The network for what its inputs have in this dataset, which fits, where that decides on its form.

        That is where several inputs, or one of a network with scores at positions, take any size.
        """
        open_ended = not self.outputs or any(None in one.shape for one in self.inputs)
        if self.ends.sizes or not open_ended:
            return self
        single = [image_shape(dataset.images.shape, self.input_shape)] if not self.inputs else []
        sizes = tuple(single or shapes_in(self.inputs, dataset))
        found = network_of(self.file_model, self.digest, Ends(self.ends.output, sizes))
        if not found.outputs:
            shape = written(found.model.outputs[0].shape)
            raise InputError(
                f"the model's output has shape {shape} even for images of {', '.join(map(written, sizes))}"
            )
        return replace(found, quantized=self.quantized)


def load_network(path: str | Path, trust: bool = False, code: Code = NONE, ends: Ends = ONE) -> Network:
    """Reads a network from a .keras or .h5 file, of Keras 2 or 3; Python code stored in the file is refused.

    What Keras 2 left in a file without meaning (see `sweep.networks.keras2`) is passed over, and a slash in its
    layers' names becomes a line, since Keras 3 has none; the digest is that of the file as it lies there.

    Args:
        path: the file. It is looked into before Keras sees it (see `sweep.networks.checks.safety`).
        trust: skip that, and let code stored in the file run; only for files that are as safe as a program of yours.
        code: of the user's own: the layers and functions that the file may name, or what builds the network of which
            the file has the weights.
        ends: what is said of its inputs and outputs.

    Raises:
        InputError: the file is missing, could do more than be a network, is not one that Keras can load, or holds a
            model of which the output that is scored does not have the shape (images, outputs), or is not named.
    """
    path = Path(path)
    with contextlib.suppress(OSError, ValueError):  # of a path that cannot be used, which is told below
        if path.is_dir():
            raise InputError(f"{path}: {refusal(path)}")
    other = refusal(require_file(path))
    if other:
        raise InputError(f"{path}: {other}")
    if trust:
        return _load(path, str(path), file_digest(path), None, code, ends)
    # What is checked and what Keras reads is one copy of our own: nobody can exchange the file in between.
    with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
        copy = copy_file(path, Path(folder) / f"network{suffix_of(path)}", MAX_FILE)
        return _load(copy, str(path), file_digest(copy), _checked(copy, str(path), code), code, ends)


def load_network_bytes(
    content: bytes, suffix: str, trust: bool = False, code: Code = NONE, shown: str = "", ends: Ends = ONE
) -> Network:
    """As `load_network`, from the bytes of a file of this suffix, as workers receive them; errors call it `shown`."""
    # Keras reads from named files only; the folder is private to this user, and gone afterwards.
    with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
        path = Path(folder) / f"network{suffix}"
        path.write_bytes(content)
        shown = shown or f"network ({suffix})"
        stored = None if trust else _checked(path, shown, code)
        return _load(path, shown, hashlib.sha256(content).hexdigest(), stored, code, ends)


def task_of(network: Network, dataset: Dataset) -> Task:
    """What the network and the dataset give measures to go by."""
    labels = int(dataset.labels.max()) + 1 if dataset.labels.size else 0
    targets = 0 if dataset.targets is None else math.prod(dataset.targets.shape[1:])
    held, beyond = "", labels > max(network.outputs, 2)
    if not labels and dataset.targets is not None:
        held = "the images themselves" if dataset.targets is dataset.images else no_classes(dataset.targets)
    said = remedy(dataset.labels, network.outputs) if beyond else ""
    values = 0 if fields_of(dataset.images) else math.prod(dataset.images.shape[1:])
    several = not labels and targets == network.outputs > 1 and dataset.targets is not dataset.images
    several = several and are_several(dataset.targets)
    return Task(network.outputs, labels, targets, values, network.sigmoid, several, held, said, network.positions)


def check_fit(network: Network, dataset: Dataset, measures: Sequence[str] = (ACCURACY.name,)) -> list[str]:
    """Why the network cannot be scored on the dataset by these measures, in words; empty when it can."""
    problems = check_shape(network, dataset)
    task = task_of(network, dataset)
    named = {name: measure_of(name).no_fit(task) for name in measures if not is_own(name)}
    for why in dict.fromkeys(filter(None, named.values())):
        names = [name for name, other in named.items() if other == why]
        valid = fitting(task) if ACCURACY.no_fit(task) else ()
        what = "" if names == [ACCURACY.name] else f"measures: {', '.join(names)}: "
        instead = f'; write measures = ["{valid[0]}"], or others of {", ".join(valid)}' if valid else ""
        problems.append(f"{what}{why}{instead}")
    if not problems and network.positions and any(measure_of(n).at_positions for n in measures if not is_own(n)):
        assert dataset.targets is not None
        wrong = _misplaced(network, dataset) or positions.problem_of(
            dataset.targets, network.positions, network.outputs // network.positions
        )
        if wrong:
            problems.append(f"measures: {', '.join(measures)}: {wrong}")
    return problems


def _misplaced(network: Network, dataset: Dataset) -> str:
    """Why labels of positions cannot be those of the network's by their axes, in words; empty where they can."""
    assert dataset.targets is not None
    if dataset.targets is dataset.images:
        return "the labels are the images themselves; these measures take numbers of classes"
    have, classes = dataset.targets.shape[1:], network.outputs // network.positions
    valid = [(*network.places,), (*network.places, classes), (network.positions,), (network.outputs,)]
    if [n for n in have if n > 1] in [[n for n in one if n > 1] for one in valid]:
        return ""
    return f"labels have the axes {written(have)}, and the positions of an image {written(network.places)}"


def check_shape(network: Network, dataset: Dataset) -> list[str]:
    """Why the images cannot go into the network, in words, a line for each of several inputs; empty when they can."""
    if network.inputs or fields_of(dataset.images):
        problems, sizes = misfits(network.inputs, dataset), network.ends.sizes
        if not problems and sizes and (own := tuple(shapes_in(network.inputs, dataset))) != sizes:
            first, here = (", ".join(map(written, shapes)) for shapes in (sizes, own))
            return [f"the inputs take any size, and have {first} in the first test set but {here} here; give them one"]
        return problems
    if fits(dataset.images.shape, network.input_shape):
        return []
    have = written(dataset.images.shape[1:])
    return [f"the network takes images of shape {written(network.input_shape)}, the dataset has {have}"]


def check_order(network: Network, dataset: Dataset, said: bool) -> list[str]:
    """Why names of classes cannot be the network's, in words; empty when they can, or there are none.

    Those that the user `said` may be fewer than the network's classes; of names in sorted order, all must be there.
    """
    expected, names = max(network.outputs, 2), dataset.classes
    if not names or not len(dataset.labels) or len(names) == expected or (said and len(names) < expected):
        return []
    if said:
        return [f"{len(names)} are given, and the network has {expected} classes"]
    return [
        f"are missing: the dataset has {len(names)} different ones and the network {expected} classes, so sorted order "
        f"is not theirs; say which is class 0, 1, …: labels = [{', '.join(map(repr, names[:3]))}, …]"
    ]


def _checked(path: Path, shown: str, code: Code) -> int:
    return check_model_file(path, shown, code.objects(), weights=code.build is not None)


def _load(path: Path, shown: str, digest: str, stored: int | None, code: Code, ends: Ends) -> Network:
    """The network; `stored` is the size of its tensors where the file was checked, None for one that is trusted."""
    within = contextlib.nullcontext() if stored is None else variables_within(stored)
    with names_anew():
        model = _built(path, shown, code) if code.build else _read(path, shown, code, within, safe=stored is not None)
    try:
        with quiet_advice():
            model = as_graph(model)
    except Exception as error:  # Keras raises whatever its many parts raise
        raise InputError(f"{shown}: not a network that can be evaluated: {_told(error)}") from error
    problems = _shape_problems(model, ends)
    if problems:
        raise InputError(f"{shown}: {problem}" for problem in problems)
    try:
        network = network_of(quantized.in_floats(model), code.digest(digest), ends)
        return replace(network, quantized=quantized.described(model))
    except Exception as error:  # likewise, where several inputs become one, or integers floats
        raise InputError(f"{shown}: not a network that can be evaluated: {_told(error)}") from error


def network_of(model: keras.Model, digest: str = "", ends: Ends = ONE) -> Network:
    """A model described, of which the output that is scored has the shape (images, outputs)."""
    output, _ = position_of(model, ends.output)
    variables, layers = of_output(model, output)
    inputs = [
        Input(str(x.name), tuple(x.shape[1:]), str(x.dtype), *beginning_of(model, number))
        for number, x in enumerate(model.inputs)
    ]
    in_a_row, several = has_positions(model, output), len(inputs) > 1
    whole = len(inputs) == len(model.outputs) == 1 and not in_a_row
    form, taken = model, inputs[0]
    sizes: Sequence[Shape] = ends.sizes or [one.shape for one in inputs]
    known = not any(None in size for size in sizes)
    if not whole and (known or not several):
        form = as_one(model, sizes, output, in_a_row)
    if several:
        taken = Input("", tuple(form.inputs[0].shape[1:]) if known else (None,))
        layers = (*(input_at(k, one.name) for k, one in enumerate(inputs) if not one.whole), *layers[1:])
    elif in_a_row:
        taken = replace(taken, shape=tuple(form.inputs[0].shape[1:]))
    outputs = int(model.outputs[output].shape[-1])
    row, rest = (int(form.outputs[0].shape[1] or 0), form.outputs[0].shape[2:]) if in_a_row else (outputs, ())
    row = 0 if rest else row  # sizes are not known yet
    positions = 0 if row == outputs else row // outputs
    return Network(
        model=form,
        digest=digest,
        variables=variables,
        layers=layers,
        input_shape=taken.shape,
        outputs=row,
        threshold=None if positions or not row else threshold_of(model, output),
        input_dtype=taken.dtype,
        scaling=taken.scaling,
        lookup=taken.lookup,
        sigmoid=bool(ends_in_sigmoid(model, output)),
        inputs=tuple(inputs) if several else (),
        ends=ONE if whole else ends,
        several=None if whole else model,
        positions=positions,
        places=tuple(form.layers[-1].input.shape[1:-1]) if positions else (),
        end=end_of(model, output),
    )


def _read(path: Path, shown: str, code: Code, within: AbstractContextManager[None], safe: bool) -> keras.Model:
    """The model that a file holds."""
    keras = import_keras()
    with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
        try:
            readable = without_leftovers(path, Path(folder)) or path
        except InputError as error:
            raise InputError(f"{shown}: {error}") from None
        objects = code.objects()  # a scope, an empty one too, would hide that of a caller in Python
        own = keras.saving.custom_object_scope(objects) if objects else contextlib.nullcontext()
        try:
            with quiet_advice(), own, within:
                return keras.models.load_model(readable, compile=False, safe_mode=safe)
        except Exception as error:  # Keras raises whatever its many parts raise
            text = _told(error).replace(str(readable), shown)
            raise InputError(f"{shown}: not a model that Keras can load: {text}") from error


def _built(path: Path, shown: str, code: Code) -> keras.Model:
    """The model that a user's own function makes, with the weights that a file holds."""
    model = code.built()
    try:
        with quiet_advice():
            model.load_weights(path)
    except Exception as error:  # Keras raises whatever its many parts raise
        text = _told(error).replace(str(path), shown)
        raise InputError(f"{shown}: not the weights of what {(code.build or ((), ''))[1]}() builds: {text}") from error
    return model


def _told(error: Exception) -> str:
    # Around what a layer has to say, Keras prints all that is known of the layer.
    return reason(Exception(str(error).rpartition("Exception encountered: ")[2] or type(error).__name__))


def _shape_problems(model: keras.Model, ends: Ends) -> list[str]:
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    if not inputs or not outputs:
        return ["the model was saved without an input shape; build or call it once, then save it again"]
    problems = []
    fixed = [one.shape[0] for one in inputs if one.shape[0] is not None]
    if fixed:
        problems.append(
            f"the model takes batches of exactly {fixed[0]} images; build it with batch_size=None (and "
            "without stateful=True), give it the same weights, and save that"
        )
    texts = [one for one in inputs if not any(kind in str(one.dtype) for kind in ("float", "int", "bool"))]
    problems += [f"input {one.name} takes {one.dtype}; inputs are numbers" for one in texts]
    problems += filter(None, [quantized.refusal(model)])
    output, unnamed = position_of(model, ends.output)
    if unnamed:
        return [*problems, unnamed]
    scored = outputs[output]
    if len(scored.shape) < 2 or not scored.shape[-1]:
        shape = written(scored.shape)
        problems.append(f"the model's output has shape {shape}; it must be (images, outputs), or (images, …, outputs)")
    elif scored.shape[-1] == 1 and ends_in_sigmoid(model, output) is None:
        problems.append(
            "the model's single output is that of a subclassed model, and may be a probability or a logit; put what "
            "makes it behind the model, as in keras.Sequential([model, keras.layers.Activation('sigmoid')])"
        )
    return problems

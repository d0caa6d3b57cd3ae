"""The graph of a Keras model as a list of steps, and the part of it that perturbed weights reach."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from inspect import signature
from typing import Any

import keras
from keras import layers as kl
from keras import ops

from sweep.engine import tiles
from sweep.engine.sites import IDENTITY, Insert, Site
from sweep.engine.steps import Step, Tensor, Update, run_steps, train_steps
from sweep.networks.inspection import leaves_of

_FUNCTIONAL = type(keras.Model(inputs := keras.Input((1,)), inputs))
_LOOKS_UP = (kl.Embedding, kl.ReversibleEmbedding)
IDENTITIES = {  # at inference
    *(kl.Dropout, kl.SpatialDropout1D, kl.SpatialDropout2D, kl.SpatialDropout3D, kl.AlphaDropout),
    *(kl.GaussianNoise, kl.GaussianDropout, kl.ActivityRegularization, kl.Identity),
}
_WEIGHTLESS = (kl.ReLU, kl.LeakyReLU, kl.ELU, kl.Softmax)


class Unsupported(Exception):
    """A way of evaluating does not cover this network; the message names the layer and says why."""


class Graph:
    """A model cut in two: the prefix that no varied weight reaches, and the rest.

    Attributes:
        varied: the sorted indices into `model.weights`, and beyond them into the sites, in which trials differ.
        inserts: the sites as operations.
        steps: all of them, in order.
        input, output: slots of the model's input and output.
        shapes: of the activation in each slot, without the images.
        prefix, rest: the steps of both parts, in order.
        boundary: the slots that the rest reads and does not make.
    """

    def __init__(
        self,
        model: keras.Model,
        varied: Collection[int],
        sites: Sequence[Site] = (),
        size: tuple[int, ...] | None = None,
    ) -> None:
        """Walks the graph.

        Args:
            model: a built Sequential or Functional model, others nested in it or not, with one input and one
                output.
            varied: indices into `model.weights` of the variables that trials perturb, at least one; every site is
                added to them.
            sites: where transforms act on the data flow, in the order in which they act.
            size: shape of an image, for the shapes within a network that takes images of any size.

        Raises:
            Unsupported: another kind of model, or a site that is not part of it.
        """
        names = [layer.name for layer in leaves_of(model)] if sites else []
        self.inserts = [Insert(site, names[site.layer] if 0 <= site.layer < len(names) else "") for site in sites]
        everything = [*model.weights, *self.inserts]
        self.varied = tuple(sorted({*varied, *range(len(model.weights), len(everything))}))
        if not self.varied:
            raise ValueError("varied must name at least one weight")
        self._numbers = {id(variable): i for i, variable in enumerate(everything)}  # variables cannot be keys
        self._weights = model.weights
        self._variables = model.variables
        self.steps, self.input, self.output = _walk(model, self.inserts)
        self._input_dtype = model.inputs[0].dtype
        self.shapes = {self.input: tuple(model.inputs[0].shape[1:])}
        for step in self.steps:
            self.shapes.update(zip(step.outputs, step.shapes, strict=True))
        if size is None and _is_packed(model):
            size = tuple(model.inputs[0].shape[1:])
        if size is not None and any(None in shape for shape in self.shapes.values()):
            self._measure(size)
        self.prefix, self.rest = self._split()
        made = {slot for step in self.rest for slot in step.outputs}
        needed = [slot for step in self.rest for slot in step.inputs] + [self.output]
        self.boundary = tuple(sorted(set(needed) - made))

    def number(self, variable: Any) -> int:
        """The index of a variable of the model, or of a site, as in `varied`; -1 for another, such as a seed."""
        return self._numbers.get(id(variable), -1)

    def shape_of(self, number: int) -> tuple[int, ...]:
        """Shape of what a trial gives the variable, or the site for levels, of this number."""
        weights = len(self._weights)
        return tuple(self._weights[number].shape) if number < weights else IDENTITY.shape

    def check_rest(self) -> None:
        """Raise Unsupported where a layer of the rest is called or set up as no pass of many trials covers it."""
        unknown = next((slot for slot, shape in self.shapes.items() if None in shape), None)
        if unknown is not None:
            raise Unsupported("the network takes images of any size")
        masks = any(map(_makes_mask, self.steps))
        for step in self.rest:
            if step.arrays:
                raise Unsupported(f"{step} is read array by array")
            if step.masked or (masks and _heeds_mask(step)):
                raise Unsupported(f"{step} is given a mask")
            _check(step)

    @property
    def largest(self) -> int:
        """Values of the largest tensor that a pass makes of an image, where that is known."""
        own = [math.prod(n or 1 for n in shape) for shape in self.shapes.values()]
        for step in self.steps:
            if step.arrays:
                places = math.prod(n or 1 for n in step.shapes[0][:-1])
                own.append(places * max(tiles.values_at(step.operation, i.site) for i in step.arrays))
        return int(max(own))

    @property
    def has_prefix(self) -> bool:
        """False if the boundary is just the images, so that there is nothing to keep."""
        return self.boundary != (self.input,)

    def run_prefix(self, images: Tensor) -> tuple[Tensor, ...]:
        """The boundary (B, ...) of images (B, ...): what all trials share, to be kept and sliced along images."""
        slots = run_steps(self.prefix, self._begin(images), [], {})
        return tuple(slots[i] for i in self.boundary)

    def run(self, images: Tensor, values: Sequence[Tensor], update: Update | None = None) -> Tensor:
        """The plain forward pass: outputs (B, ...) for the values of `model.weights` and then of the sites.

        Without values for the sites, these let everything through; `update` may give variables others on the way.
        """
        mapping = list(zip(self._weights, values, strict=False))
        of_sites = values[len(mapping) :]
        inserted = dict(zip(self.inserts, of_sites, strict=True)) if of_sites else {}
        return run_steps(self.steps, self._begin(images), mapping, inserted, update)[self.output]

    def train(
        self, images: Tensor, values: Sequence[Tensor]
    ) -> tuple[Tensor, list[tuple[Any, Tensor]], Sequence[Tensor]]:
        """A forward pass of training, with values as for `run`.

        Returns outputs (B, ...); variables that layers gave another value, such as a moving mean, with that; and the
        losses that layers added.
        """
        mapping = list(zip(self._weights, values, strict=False))
        inserted = dict(zip(self.inserts, values[len(mapping) :], strict=True))
        slots, scope = train_steps(self.steps, self._begin(images), mapping, inserted)
        given = {id(variable): value for variable, value in mapping}
        found = ((v, scope.get_current_value(v)) for v in self._variables)
        changed = [(v, now) for v, now in found if now is not None and now is not given.get(id(v))]
        return slots[self.output], changed, scope.losses

    def taps(self, images: Tensor) -> list[Tensor]:
        """What the clean network hands to each site, for images (B, ...); (B, values) where it acts more than once.

        At sums, what `tiles.observe` says of them, and nothing for noise there, whose levels have a site of their own.
        """
        slots = run_steps(self.steps, self._begin(images), [], {})
        taps = []
        for insert in self.inserts:
            if insert.site.side == "sums":
                uses = [(step.operation, slots[step.inputs[0]], insert.site) for step in self._uses(insert)]
                none = ops.zeros((ops.shape(images)[0], 0))
                taps.append(none if insert.site.drawn else tiles.joined([tiles.observe(*use) for use in uses]))
                continue
            read = [slots[step.inputs[0]] for step in self._uses(insert)]
            if len(read) > 1:
                read = [ops.concatenate([ops.reshape(x, (ops.shape(x)[0], -1)) for x in read], 1)]
            taps += read
        return taps

    def shape_at(self, index: int) -> tuple[int, ...]:
        """Shape of what a trial gives the site of this number, without the images; Unsupported where it is not known.

        That of the activation; where the site acts more than once, because its layer is used several times or has
        several outputs, (values of all of them,).
        """
        insert = self.inserts[index]
        shapes = [step.shapes[0] for step in self._uses(insert)]
        if any(None in shape for shape in shapes):
            raise Unsupported(f"{insert.name} acts on activations of any size")
        if arrays := self.arrays_at(index):
            shapes = [(arrays[0], *shape) for shape in shapes]
        return shapes[0] if len(shapes) == 1 else (sum(map(math.prod, shapes)),)

    def arrays_at(self, index: int) -> tuple[int, int, int] | None:
        """Of the layer at whose sums the site of this number is: arrays along the rows, columns, groups; else None."""
        insert = self.inserts[index]
        if insert.site.side != "sums":
            return None
        layer = self._uses(insert)[0].operation
        return len(tiles.arrays_of(layer, insert.site)), tiles.columns_of(layer), tiles.groups_of(layer)

    def times(self, index: int) -> int:
        """How often the site of this number acts."""
        return len(self._uses(self.inserts[index]))

    def _measure(self, size: tuple[int, ...]) -> None:
        """Take the shapes that activations have for an image of this size."""
        slots = run_steps(self.steps, self._begin(ops.zeros((1, *size))), [], {})
        self.shapes = {slot: tuple(activation.shape[1:]) for slot, activation in slots.items()}
        self.steps = [replace(step, shapes=tuple(self.shapes[slot] for slot in step.outputs)) for step in self.steps]

    def _split(self) -> tuple[list[Step], list[Step]]:
        """Steps that no varied variable reaches, and the others."""
        reached: set[int] = set()
        prefix, rest = [], []
        for step in self.steps:
            own = {self.number(v) for v in (*getattr(step.operation, "weights", ()), *step.arrays)}
            if own.intersection(self.varied) or reached.intersection(step.inputs):
                reached.update(step.outputs)
                rest.append(step)
            else:
                prefix.append(step)
        return prefix, rest

    def _uses(self, insert: Insert) -> list[Step]:
        return [step for step in self.steps if step.operation is insert or insert in step.arrays]

    def _begin(self, images: Tensor) -> dict[int, Tensor]:
        return {self.input: ops.cast(images, self._input_dtype)}


def _walk(model: keras.Model, inserts: Sequence[Insert] = ()) -> tuple[list[Step], int, int]:
    """The steps of a model in order, models nested in it opened up; and the slots of its input and its output."""
    steps: list[Step] = []
    count = 0
    leaves = {id(leaf): position for position, leaf in enumerate(leaves_of(model))} if inserts else {}
    made_by_site: set[int] = set()

    def insert(slots: Sequence[int], tensors: Sequence[Any], layer: int | None, side: str) -> list[int]:
        """The slots after the sites at one side of a layer; masks and indices are no activations."""
        found = list(slots)
        for operation in inserts:
            if (operation.site.layer, operation.site.side) != (layer, side):
                continue
            for k, tensor in enumerate(tensors):
                if "float" not in tensor.dtype:
                    continue
                read, shape = found[k], tuple(tensor.shape[1:])
                found[k] = new_slots([operation])[0]
                made_by_site.add(found[k])
                steps.append(Step(operation, (read,), (found[k],), lambda values: (tuple(values), {}), (shape,)))
        return found

    def arrays(operation: Any, layer: int | None) -> tuple[Insert, ...]:
        """The sites at the sums of a layer; Unsupported where it has none."""
        found = tuple(i for i in inserts if (i.site.layer, i.site.side) == (layer, "sums"))
        if found and (problem := tiles.refusal(operation)):
            raise Unsupported(problem)
        return found

    def check_lookup(operation: Any, layer: int | None, read: Sequence[int]) -> None:
        """Raise Unsupported where a site changes the indices that a layer looks up."""
        text = f"layer {operation.name} ({type(operation).__name__}) takes indices, not values"
        if made_by_site.intersection(read):
            raise Unsupported(text)
        if any((i.site.layer, i.site.side) == (layer, "input") for i in inserts):
            raise Unsupported(f'{text}; leave it out: layers = "!{operation.name}"')

    def new_slots(tensors: Sequence[Any]) -> list[int]:
        nonlocal count
        count += len(tensors)
        return list(range(count - len(tensors), count))

    def open_model(inner: Any, inputs: Sequence[int]) -> list[int]:
        if type(inner) is keras.Sequential:
            inner = inner._functional
        slots = dict(zip(map(id, inner.inputs), inputs, strict=True))
        for depth in sorted(inner._nodes_by_depth, reverse=True):
            for node in inner._nodes_by_depth[depth]:
                if node.is_input or not all(id(x) in slots for x in node.input_tensors):
                    continue
                read = [slots[id(x)] for x in node.arguments.keras_tensors]
                operation = node.operation
                if inner is model and isinstance(operation, keras.Model):  # maybe of several inputs, packed into one
                    for k, x in enumerate(node.arguments.keras_tensors):
                        read[k] = insert([read[k]], [x], -2 - k, "output")[0]
                if type(operation) in (keras.Sequential, _FUNCTIONAL):
                    _check_arguments(operation, node.arguments.kwargs)
                    made = open_model(operation, read)
                else:
                    layer = leaves.get(id(operation))
                    if isinstance(operation, _LOOKS_UP) and not _is_reversed(node):
                        check_lookup(operation, layer, read)
                    read = insert(read, node.arguments.keras_tensors, layer, "input")
                    made = new_slots(node.outputs)
                    shapes = tuple(tuple(x.shape[1:]) for x in node.outputs)
                    own = arrays(operation, layer)
                    masked = _is_given_mask(node)
                    steps.append(Step(operation, tuple(read), tuple(made), _filler(node), shapes, masked, own))
                    made = insert(made, node.outputs, layer, "output")
                slots.update(zip(map(id, node.outputs), made, strict=True))
        return [slots[id(x)] for x in inner.outputs]

    if type(model) not in (keras.Sequential, _FUNCTIONAL):
        raise Unsupported(f"{model.name}: {type(model).__name__} is not a Sequential or Functional model")
    if not model.built or (type(model) is keras.Sequential and model._functional is None):
        raise Unsupported(f"{model.name}: the model is not built for a known input shape")
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise Unsupported(f"{model.name}: a model with one input and one output is wanted")
    start = new_slots(model.inputs)
    first = insert(start, model.inputs, -1, "output")
    output = open_model(model, first)[0]
    steps = _leading_to(output, steps)
    used = {step.operation for step in steps if isinstance(step.operation, Insert)}
    used.update(site for step in steps for site in step.arrays)
    missing = [operation.name for operation in inserts if operation not in used]
    if missing:
        own = [step.operation for step in steps if isinstance(step.operation, keras.Model)]
        inside = f"; what flows inside {own[0].name}, of the class {type(own[0]).__name__}, is not known" if own else ""
        raise Unsupported(f"{model.name}: {', '.join(missing)} is not part of the way to the output{inside}")
    return steps, start[0], output


def _is_packed(model: keras.Model) -> bool:
    """Whether a model is one of several inputs in the form of one with a single one, whose size is then known."""
    return any(
        isinstance(layer, keras.Model) and len(getattr(layer, "inputs", None) or ()) > 1 for layer in model.layers[:2]
    )


def _leading_to(output: int, steps: Sequence[Step]) -> list[Step]:
    """The steps on which a slot depends; others are of outputs that nobody reads."""
    needed, found = {output}, []
    for step in reversed(steps):
        if needed.intersection(step.outputs):
            found.append(step)
            needed.update(step.inputs)
    return found[::-1]


def _is_reversed(node: Any) -> bool:
    """Whether a layer that looks up indices is used the other way round, as a matrix on values."""
    return node.arguments.kwargs.get("reverse") is True or any(a is True for a in node.arguments.args)


def _filler(node: Any) -> Callable[[list[Any]], tuple[tuple[Any, ...], dict[str, Any]]]:
    """Puts values in place of the symbolic tensors with which a node of the graph was called."""
    keys = [id(x) for x in node.arguments.keras_tensors]
    return lambda values: node.arguments.fill_in(dict(zip(keys, values, strict=True)))


def _is_given_mask(node: Any) -> bool:
    """Whether a layer is called with a mask among its arguments."""
    return any("mask" in name and value is not None for name, value in node.arguments.kwargs.items())


def _makes_mask(step: Step) -> bool:
    """Whether the layer marks time steps, or elements of a sequence, as to be passed over by later layers."""
    layer = step.operation
    if isinstance(layer, kl.Masking) or getattr(layer, "mask_zero", False):
        return True
    own = isinstance(layer, keras.Layer) and not type(layer).__module__.startswith("keras.")
    return own and type(layer).compute_mask is not keras.Layer.compute_mask


def _heeds_mask(step: Step) -> bool:
    layer = step.operation
    return isinstance(layer, keras.Layer) and any("mask" in name for name in signature(layer.call).parameters)


def _check(step: Step) -> None:
    """Raises Unsupported for a step called or set up in a way that no evaluation of many trials covers."""
    operation = step.operation
    args, kwargs = step.fill([None] * len(step.inputs))
    _check_arguments(operation, kwargs)
    if any(not isinstance(a, int | float | str | None) for a in keras.tree.flatten(args)):
        raise Unsupported(f"{step} is called with constant arrays")
    if hasattr(operation, "strides") and not isinstance(getattr(operation, "padding", ""), str):
        raise Unsupported(f"{step} has a padding other than valid, same or causal")
    if getattr(operation, "data_format", "channels_last") == "channels_first":
        raise Unsupported(f"{step} has its channels first")
    if isinstance(operation, keras.Layer):
        policy = operation.dtype_policy
        if (policy.compute_dtype, policy.variable_dtype) != ("float32", "float32"):
            raise Unsupported(f"{step} works in {policy.name}, not in float32")
        if getattr(operation, "lora_enabled", False) or getattr(operation, "quantization_mode", None):
            raise Unsupported(f"{step} is quantized or has LoRA weights")
        activation = getattr(operation, "activation", None)
        if isinstance(activation, keras.Layer) and type(activation) not in _WEIGHTLESS:
            raise Unsupported(f"{step} has a layer as its activation function, which may have weights of its own")


def _says_nothing(value: Any) -> bool:
    """Whether an argument is none: a model of several inputs is given a list of no masks."""
    listed = isinstance(value, list | tuple | dict) and bool(value)
    return value is None or value is False or (listed and all(one is None for one in keras.tree.flatten(value)))


def _check_arguments(operation: Any, kwargs: Mapping[str, Any]) -> None:
    given = sorted(name for name, value in kwargs.items() if not _says_nothing(value))
    if given:
        raise Unsupported(f"layer {operation.name} ({type(operation).__name__}) is called with {', '.join(given)}")

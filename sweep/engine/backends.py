"""The backends that evaluate trials: one at a time, stacked, or as machine code; all give the scores of T trials."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from keras import ops

import sweep.assembly as assembly
from sweep.engine import near_ties, tensors
from sweep.engine.budget import Budget, piece_of, ranges
from sweep.engine.compiled.network import Blocks, CompiledNetwork, Seen
from sweep.engine.extremes import Extremes
from sweep.engine.graph import Graph, Unsupported
from sweep.engine.pieces import IMAGES_PER_STEP, Pieces, images_per_step, steps
from sweep.engine.proof import BATCH
from sweep.engine.sites import Drawn, Entry, Site
from sweep.engine.stacked.network import StackedNetwork
from sweep.engine.steps import Tensor
from sweep.networks.feeding import Fed
from sweep.networks.loading import Network
from sweep.perturb.base import Array

Scores = npt.NDArray[np.float32]
Images = npt.NDArray[np.int64]  # numbers of images in the dataset
PREFIX_BYTES = 256 * 1024**2  # kept at most of what no varied weight reaches

T = TypeVar("T")


class Forward(NamedTuple):
    """The plain pass of a network.

    Attributes:
        run: the compiled function of images and entries.
        graph: what it runs, where that is known.
        images_per_step: how many images to give it.
    """

    run: Any
    graph: Graph | None
    images_per_step: int


@dataclass(frozen=True)
class Subject:
    """What is evaluated.

    Attributes:
        network: a network.
        images: (n, ...) as it takes them, or what makes them.
        sites: where transforms act on its data flow.
        block: images that share their draws where weights are read anew; None for all.
        forward: its plain pass where that is made already; tracing one takes a deep network seconds.
        budget: room for images.
    """

    network: Network
    images: Array | Fed
    sites: tuple[Site, ...] = ()
    block: int | None = None
    forward: Forward | None = None
    budget: Budget = field(default_factory=Budget)

    def first(self, images: int) -> Subject:
        """The first so many images, of which all are held."""
        return replace(self, images=self.images[:images], budget=Budget())

    @property
    def step(self) -> int:
        """Images of a plain pass."""
        return self.forward.images_per_step if self.forward else IMAGES_PER_STEP

    def pieces(self, make: Callable[[list[Array]], T], step: int, graph: Graph | None = None) -> Pieces[T]:
        """The images as a backend reads them that takes so many at a time; see `Pieces`."""
        return Pieces(self.images, self.block, self.budget, make, (step, self.step), graph)

    @property
    def room(self) -> int:
        """How many images to make at a time."""
        return max(1, self.budget.piece // max(1, 4 * int(np.prod(self.images.shape[1:]))))

    @property
    def parts(self) -> list[range]:
        """All images, whatever their blocks, by what is made of them at a time."""
        return ranges(len(self.images), None, piece_of(min(len(self.images), self.room), (self.step,)))


class Backend(Protocol):
    """Evaluates one network on fixed images.

    Attributes:
        name: goes into the `engine` column.
        varied: indices into `model.weights`, and beyond them into the sites, of what `scores` takes, ascending.
        trials: how many trials to give `scores` at a time, at most.
        pieces: the images that `scores` takes in a call, block by block; all of a block where they can be held.
    """

    name: str
    varied: tuple[int, ...]
    trials: int

    @property
    def pieces(self) -> Sequence[range]:
        """See above."""

    def scores(self, entries: Sequence[Sequence[Entry]], piece: int = 0) -> Scores:
        """Outputs (T, images of the piece, outputs) for the T values of each varied entry."""


class Plain:
    """Keras's own forward pass, compiled once, with the weights as arguments: the reference of all others.

    Attributes:
        as_predict: whether its steps are the batches of `keras.Model.predict`.
    """

    name = "plain"
    trials = 1

    def __init__(self, subject: Subject, varied: Sequence[int]) -> None:
        model = subject.network.model
        self._first_site = len(model.weights)
        self.varied = (*sorted(varied), *range(self._first_site, self._first_site + len(subject.sites)))
        self._entries: list[Any] = [ops.convert_to_tensor(w) for w in model.get_weights()] + [None] * len(subject.sites)
        self._forward, graph, images_per_step = subject.forward or forward_of(subject)
        self.as_predict = images_per_step == BATCH
        noisy = [k for k, site in enumerate(subject.sites) if site.drawn]
        self._shapes = {self._first_site + k: graph.shape_at(k) for k in noisy} if graph else {}
        self._subject, self._images_per_step = subject, images_per_step

    @cached_property
    def _pieces(self) -> Pieces[list[Any]]:
        def make(tensors: list[Array]) -> list[Any]:
            return [ops.convert_to_tensor(step) for step in steps(tensors[0], self._images_per_step)]

        return self._subject.pieces(make, self._images_per_step)

    @property
    def pieces(self) -> Sequence[range]:
        return self._pieces.ranges

    def scores(self, entries: Sequence[Sequence[Entry]], piece: int = 0) -> Scores:
        trials = len(entries[0]) if entries else 1  # nothing varies: the clean network
        return np.stack([self._trial([e[t] for e in entries], self._pieces[piece]) for t in range(trials)])

    def see(self, trial: Sequence[Entry], images: Images | range) -> Scores:
        """Outputs (n, outputs) of a trial, of which all entries are given, on images (n,)."""
        size, of = self._images_per_step, self._subject.images
        if isinstance(images, range):
            own = (of[i : min(i + size, images.stop)] for i in range(images.start, images.stop, size))
        else:
            own = (of[few] for few in steps(images, size))
        return self._trial([trial[i] for i in self.varied], map(ops.convert_to_tensor, own))

    def _trial(self, varied: Sequence[Entry], batches: Iterable[Any]) -> Scores:
        entries = list(self._entries)
        for i, entry in zip(self.varied, varied, strict=True):
            entries[i] = entry if isinstance(entry, Drawn) else ops.convert_to_tensor(entry)
        scores = []
        for images in batches:
            values = [self._draw(i, e, len(images)) if isinstance(e, Drawn) else e for i, e in enumerate(entries)]
            scores.append(np.asarray(self._forward(images, values)))
        return np.concatenate(scores)

    def _draw(self, index: int, drawn: Drawn, images: int) -> Any:
        return ops.convert_to_tensor(drawn.take(images, self._shapes[index]))


class Settled(NamedTuple):
    """What a trial decides, as far as rounding cannot turn it.

    Attributes:
        classes: (n,) decisions; -1 where it could.
        scores: (k, outputs) of those images, in their order.
    """

    classes: Images
    scores: Scores


class Stacked:
    """Some trials in one pass, one pass after the other; see `stacked`."""

    name = "stacked"

    def __init__(
        self,
        subject: Subject,
        varied: Sequence[int],
        images_per_step: int,
        trials: int,
        passes: int = 1,
        products: bool = False,
    ) -> None:
        """Plans.

        Args:
            subject, varied: as of every backend.
            images_per_step, trials: of a pass.
            passes: in one call, which has as many times the trials.
            products: as of `Call`.
        """
        self.trials = trials * passes
        self._passes = passes
        self._network = StackedNetwork(subject.network.model, cut(subject, varied), subject.sites, products)
        self.varied = self._network.varied
        make = partial(_whole_steps, size=images_per_step)
        self._pieces = subject.pieces(make, images_per_step, self._network.graph)
        self.pieces: Sequence[range] = self._pieces.ranges
        self._forward = tensors.compile_function(self._run)
        self._settle = tensors.compile_function(near_ties.settle)

    def scores(self, entries: Sequence[Sequence[Entry]], piece: int = 0) -> Scores:
        """See `Backend`; fewer than T trials are filled up, so that no new shape is compiled."""
        parts = [self._in_order(np.asarray(scores)) for scores in self._raw(entries, piece)]
        return np.concatenate(parts, axis=1)[: len(entries[0])]

    def settled(self, entries: Sequence[Sequence[Entry]], piece: int, softmax: bool, tie: float) -> list[Settled]:
        """What each trial decides, where outputs are classes: as `scores`, of which few leave the device.

        Args:
            entries, piece: as for `scores`.
            softmax, tie: as for `near_ties.settled`.
        """
        limits = [ops.convert_to_tensor(x) for x in (np.float32(tie), np.bool_(softmax))]
        parts = [(raw, self._settle(raw, *limits)) for raw in self._raw(entries, piece)]  # all begun before one is read
        found = []
        for raw, codes in parts:
            classes = self._in_order(np.asarray(codes))
            trial, image = np.nonzero(classes < 0)
            places = self._places(codes.shape, trial, image)
            found.append((classes, np.split(_rows(raw, places), np.searchsorted(trial, range(1, self.trials)))))
        several = range(len(entries[0]))
        return [
            Settled(*(np.concatenate([of[t] for of in parts]) for parts in zip(*found, strict=True))) for t in several
        ]

    def _raw(self, entries: Sequence[Sequence[Entry]], piece: int) -> list[Tensor]:
        """Outputs (passes, S, T/passes, B, outputs) of the whole steps of images, and of what is left of these."""
        missing = self.trials - len(entries[0])
        full = [np.stack([*e, *[e[0]] * missing]) for e in _arrays(entries)]
        sets = [ops.convert_to_tensor(x.reshape(self._passes, -1, *x.shape[1:])) for x in full]
        return [self._forward(steps_of_a_size, sets) for steps_of_a_size in self._pieces[piece]]

    def _run(self, images: Sequence[Tensor], sets: Sequence[Tensor]) -> Tensor:
        def one(weights: Sequence[Tensor]) -> Tensor:
            return tensors.loop(lambda step: self._network.forward(step, weights), images)

        if self._passes == 1:
            return ops.expand_dims(one([x[0] for x in sets]), 0)
        return tensors.loop(one, sets)

    def _places(self, shape: tuple[int, ...], trial: Images, image: Images) -> Images:
        """Where images of trials stand among all of `_raw`, of this shape but for the outputs."""
        _, _, several, size = shape
        where = trial // several, image // size, trial % several, image % size
        return np.ravel_multi_index(where, shape)

    def _in_order(self, raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(passes, S, T/passes, B, ...) as (T, S·B, ...)."""
        ordered = np.moveaxis(raw, 1, 2)
        return ordered.reshape(self.trials, -1, *raw.shape[4:])


class Compiled:
    """Machine code for this processor; `beyond` and all else in `compiled`."""

    name = "compiled"
    trials = 8

    def __init__(self, subject: Subject, varied: Sequence[int], more: bool = True) -> None:
        """`more` as for `CompiledNetwork`."""
        self._network = CompiledNetwork(subject.network.model, cut(subject, varied), subject.sites, more)
        self.varied, self.beyond = self._network.varied, self._network.beyond
        self._subject = subject
        self._extremes = Extremes(subject.network.model, self.varied)

    def tune(self) -> None:
        """Find the fastest form of each kernel here."""
        self._network.tune()

    @cached_property
    def _pieces(self) -> Pieces[Blocks]:
        return self._subject.pieces(self._network.blocks, assembly.lanes(), self._network.graph)

    @property
    def pieces(self) -> Sequence[range]:
        return self._pieces.ranges

    def scores(self, entries: Sequence[Sequence[Entry]], piece: int = 0) -> Scores:
        return self._network.forward(self._pieces[piece], [np.stack(e) for e in _arrays(entries)])

    def rows(self, trials: Iterable[Sequence[Entry]], count: int) -> Array:
        """What differs between so many trials, each with all its entries: (T, floats), as `see` takes it."""
        entries = ([trial[i] for i in self.varied] for trial in trials)
        return self._network.rows(([e for e in given if not isinstance(e, Drawn)] for given in entries), count)

    def entries(self, clean: Sequence[Array], rows: Array, trial: int) -> list[Entry]:
        """All entries of the trial of this number, by the clean weights and `rows`."""
        entries: list[Entry] = [*clean, *[clean[0]] * len(self._subject.sites)]
        for i, value in self._network.values(rows[trial]).items():
            entries[i] = value
        return entries

    def see(self, rows: Array, images: Images) -> tuple[Seen, npt.NDArray[np.bool_]]:
        """What T trials make of images (T, n) of their own.

        Also (T,) whether they have no weights of which backends could make different things; see `extremes`.
        """
        safe, step = self._extremes.none_in(rows), len(rows)
        if isinstance(self._subject.images, Fed):
            step = max(1, self._subject.room // images.shape[1])
        found = []
        for first in range(0, len(rows), step):
            tensors, places = self._pieces.boundary_of(images[first : first + step])
            tensors = [np.ascontiguousarray(t, np.float32) for t in tensors]
            found.append(self._network.see(tensors, places, rows[first : first + step]))
        return found[0] if len(found) == 1 else Seen.of_all(found), safe

    @property
    def bytes_seen(self) -> int:
        """Memory that `see` takes for a trial, but for its images."""
        return 12 * (self._extremes.floats + self._network.floats)


def forward_of(subject: Subject) -> Forward:
    """The plain pass; traced once for any number of images, but with sites, whose noise has as many values as these.

    Raises Unsupported when there are sites, and the network is not one whose data flow is known.
    """
    model = subject.network.model
    try:
        graph = Graph(model, range(len(model.weights)), subject.sites, subject.images.shape[1:])
    except Unsupported:
        if subject.sites:
            raise
        graph = None
    if subject.sites and graph:
        return Forward(tensors.compile_function(graph.run), graph, images_per_step(graph))
    few = ops.convert_to_tensor(subject.images[:1])
    run = tensors.compile_batches(stateless(model), few, model.get_weights())
    return Forward(run, graph, images_per_step(graph))


def stateless(model: Any) -> Callable[[Tensor, Sequence[Tensor]], Tensor]:
    """The inference pass of a Keras model as a function of images and of the values of `model.weights`."""

    def forward(images: Tensor, weights: Sequence[Tensor]) -> Tensor:
        given = {id(v): w for v, w in zip(model.weights, weights, strict=True)}
        trainable = [given.get(id(v), v.value) for v in model.trainable_variables]
        other = [given.get(id(v), v.value) for v in model.non_trainable_variables]
        outputs, _ = model.stateless_call(trainable, other, images, training=False)
        return outputs

    return forward


def _arrays(entries: Sequence[Sequence[Entry]]) -> list[list[Array]]:
    """The entries of backends that are never given what is drawn: the evaluator takes the plain pass for it."""
    return [[value for value in trials if not isinstance(value, Drawn)] for trials in entries]


def _rows(raw: Tensor, places: Images) -> Scores:
    """(k, outputs) the scores (..., outputs) in these places among all; so many are read that few shapes compile."""
    size = 1 << max(5, (places.size - 1).bit_length())
    some = np.zeros(size, np.int32)
    some[: places.size] = places
    return np.asarray(ops.take(ops.reshape(raw, [-1, raw.shape[-1]]), some, axis=0))[: places.size]


def _whole_steps(block: Sequence[Array], size: int) -> list[list[Any]]:
    """Tensors (images, ...) cut into steps: as (steps, size, ...), and what is left as (1, fewer, ...)."""
    images = len(block[0])
    whole = images - images % size
    parts = [[x[:whole].reshape(-1, size, *x.shape[1:]) for x in block], [x[None, whole:] for x in block]]
    return [[ops.convert_to_tensor(x) for x in part] for part in parts if part[0].size]


def cut(subject: Subject, varied: Sequence[int]) -> tuple[int, ...]:
    """The variables to treat as varied: those that are, or all of them where the prefix is too large to keep.

    Raises Unsupported where no pass of many trials covers the network.
    """
    model = subject.network.model
    graph = Graph(model, varied, subject.sites)
    graph.check_rest()
    floats = len(subject.images) * sum(int(np.prod(graph.shapes[slot])) for slot in graph.boundary)
    if graph.has_prefix and 4 * floats > PREFIX_BYTES:
        return tuple(range(len(model.weights)))
    return tuple(varied)

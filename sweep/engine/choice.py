"""Which backend evaluates: proved against `keras.Model.predict`, measured for a share of the run's time, remembered."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from statistics import median
from typing import NamedTuple

import numpy as np
from keras import ops

from sweep.engine import near_ties, tensors
from sweep.engine.backends import Backend, Compiled, Plain, Scores, Stacked, Subject, cut, forward_of
from sweep.engine.graph import Graph, Unsupported
from sweep.engine.machine import processor
from sweep.engine.pieces import GPU_STEP_BYTES, steps
from sweep.engine.proof import BATCH, predict
from sweep.engine.remembered import recall, remember
from sweep.engine.sites import IDENTITY, Entry, Site
from sweep.engine.steps import Step
from sweep.errors import SweepError
from sweep.networks.backend import library
from sweep.perturb.base import Array
from sweep.version import VERSION

SAMPLE = 256  # images of the proof, and of measuring, at most
CPU_STACKS = ((16, 10), (4, 50))  # (trials, images) a pass that are tried
GPU_PASSES, GPU_WORK = 32, 2**36
"""Passes of a call on a GPU, at most, and the multiply-adds of a call that are enough to hide what it takes itself."""
SHARE = 0.1
"""Of the time that the run's trials take the plain way: what choosing another may take."""
SAMPLES = 300
"""Times the sample, at least, that a run has images to evaluate, where the sample is larger than a batch: the proof and
measuring one way take some twenty passes over it."""
GAIN = 0.9  # of the time of the plain way, that another takes at most to be chosen
HOPELESS = 1.3  # of it, from which on a way is not measured again
ROUNDS = 3  # of measuring, the ways in turn
LOWERING_SECONDS = 0.03  # for the machine code of a layer; 0.02 to 0.03 were seen
STACKING = 4.0  # times the tracing of the plain pass that a stacked one takes; 2 to 3 were seen
SMALL = 500_000
"""Multiply-adds an image and layer, above which no stack wins on a CPU: 1.5 times as fast as plain at 56,000 (the
article's CNN), 0.9 times at 2,000,000 (ResNet-20); docs/engine.md."""
KEPT = 0.7  # of the multiply-adds of the whole network: with fewer to do behind the prefix, any way may win by it

PLAIN = "plain"
Maker = Callable[[Subject, Sequence[int]], Backend]
Clock = Callable[[], float]


class Way(NamedTuple):
    """A backend that may be chosen: the name by which it is remembered, and the trials of a pass that is measured."""

    name: str
    make: Maker
    trials: int


MOST_SCORES = 4 << 20  # bytes, of a trial with scores at positions, that are not evaluated one trial at a time
HALF_PRECISION = 0.03  # how far many probabilities that are rounded to 8 or 11 bits sum up from 1


class Chosen(NamedTuple):
    """A choice.

    Attributes:
        make: the backend that is to evaluate.
        error: the largest difference from Keras's scores that a right backend had.
        complete: whether no way was left out for lack of trials.
        notes: what the user should know.
    """

    make: Maker
    error: float = 0.0
    complete: bool = True
    notes: tuple[str, ...] = ()


class Choice:
    """Chooses for one network and dataset.

    Attributes:
        subject: the network and all images, with its plain pass.
        softmax: whether its outputs are probabilities.
    """

    def __init__(self, subject: Subject, weights: list[Array], clock: Clock, exact: bool = True) -> None:
        """Traces the plain pass, and runs it once.

        Args:
            subject: the network, its images and sites.
            weights: the clean weights.
            clock: seconds.
            exact: whether decisions alone are asked for, which are the same by every way; else, and where there are
                sites, the first way that is right is taken, whatever the time it takes.
        """
        self._by_rule = bool(subject.sites) or not exact
        self._weights, self._clock = weights, clock
        begun = clock()
        self.subject = dataclasses.replace(subject, forward=forward_of(subject))
        self._first = self._passing(subject.images[:BATCH], weights)
        self._tracing = clock() - begun
        self.softmax = near_ties.is_softmax(self._first)
        self._seconds = math.nan  # of an image by the plain pass
        self._clean: Scores = np.zeros((0, self._first.shape[-1]), np.float32)  # by `predict`
        self._noise: dict[tuple[int, ...], list[Array]] = {}
        self._noisy_scores: dict[tuple[int, ...], Scores] = {}  # by `predict`, with that noise
        self._noise_passed = False

    def sums_to_one(self, classes: int) -> bool:
        """Whether the scores at each position, so many beside each other, are probabilities."""
        return near_ties.is_softmax(self._first.reshape(-1, classes), HALF_PRECISION)

    def choose(self, key: tuple[int, ...], block: int | None, trials: float, engine: str | None) -> Chosen:
        """How to evaluate trials that perturb these variables.

        The plain way, where there are too few trials for another to pay for its trial; one way that is asked for, where
        that can be and is right; the first that is right, where a rule has to choose; else the fastest, if it is
        clearly faster than the plain way.

        Args:
            key: the variables, ascending.
            block: as of `Subject`.
            trials: how many are to come, on all images.
            engine: the name of the way that is asked for, or None.

        Raises SweepError when the plain pass differs from `keras.Model.predict`.
        """
        work = math.inf if self._by_rule else trials * len(self.subject.images)
        size = min(_sample(work), len(self.subject.images))
        try:
            self._prove_plain(key, size)
            return self._choose(key, block, work, size, engine)
        finally:
            self._noise.clear()  # as large as the network

    def _choose(self, key: tuple[int, ...], block: int | None, work: float, size: int, engine: str | None) -> Chosen:
        sites = self.subject.sites
        by_rule = self._by_rule or engine is not None or tensors.device() == "GPU"  # whose time a sample does not tell
        if not key and not sites:
            return Chosen(Plain)
        if any(site.alone for site in sites):
            text = f"{_alone(sites)}: evaluating one trial at a time"
            return Chosen(Plain, notes=() if engine in (None, PLAIN) else (text,))
        if not _ways(engine):
            return Chosen(Plain)
        scores = 4 * self.subject.network.outputs * len(self.subject.images)
        if self.subject.network.positions and scores > MOST_SCORES:  # of which others hold those of many trials
            return Chosen(Plain)
        try:
            reach = cut(self.subject, key)
            graph = Graph(self.subject.network.model, reach, sites)
        except Unsupported as reason:
            return Chosen(Plain, notes=(_one_at_a_time(str(reason)),))
        ways = _ways(engine, graph, len(self.subject.images), more=not self._by_rule)
        facts = None if by_rule else self._facts(key, block)
        known = facts and recall(facts)
        if known is not None:
            ways = [way for way in ways if way.name == known]
        elif not by_rule:
            ways = [way for way in ways if not way.name.startswith("stacked") or _may_win(graph)]
        budget = SHARE * work * self._seconds if math.isfinite(work) and not engine else math.inf
        affordable = [way for way in ways if not self._cost(way, graph, size, known is not None) > budget]
        if not affordable:
            return Chosen(Plain, complete=not ways)
        return self._try(ways, key, graph, size, budget, facts, known is not None)

    def _try(
        self,
        ways: Sequence[Way],
        key: tuple[int, ...],
        graph: Graph,
        size: int,
        budget: float,
        facts: dict[str, object] | None,
        known: bool,
    ) -> Chosen:
        """The best of some ways; measured against the plain one where there are `facts` to remember it by."""
        sites = self.subject.sites
        reach = [number for number in graph.varied if number < len(self._weights)]
        sample = self.subject.first(size)
        levels = [IDENTITY] * len(sites)
        given: list[list[Entry]] = [[*weights, *levels] for weights in (self._weights, self._noise_of(key))]
        expected: Scores | None = None
        best, plain, name = math.inf if facts is None else GAIN, Plain(sample, key), PLAIN
        chosen = Chosen(Plain)
        refusal = ""
        for way in ways:
            if self._cost(way, graph, size, known) > budget:
                chosen = chosen._replace(complete=False)
                continue
            begun = self._clock()
            if expected is None:
                expected = self._expected(key, sample, plain, given)
            try:
                backend = way.make(sample, reach)
            except Unsupported as reason:
                refusal = str(reason)
                continue
            error = near_ties.difference(backend.scores(entries_of(given, backend)), expected, self.softmax)
            if error > near_ties.LARGEST_ERROR:
                text = f"{backend.name} evaluation differs from plain Keras here, and is not used"
                chosen = chosen._replace(notes=(*chosen.notes, text))
                continue
            chosen = chosen._replace(error=max(chosen.error, error))
            if self._by_rule or known or (facts is None and len(ways) == 1):
                chosen, name = chosen._replace(make=way.make), way.name
                break
            ratio = self._ratio(backend, plain, given, way.trials)
            if ratio <= best:
                best, name, chosen = ratio, way.name, chosen._replace(make=way.make)
            budget -= self._clock() - begun
            if name == Compiled.name:
                break  # a stacked pass would take seconds to compile, to lose by a factor
        if name == PLAIN and refusal:
            chosen = chosen._replace(notes=(*chosen.notes, _one_at_a_time(refusal)))
        if facts and not known and chosen.complete:
            remember(facts, name)
        return chosen

    def _cost(self, way: Way, graph: Graph, images: int, known: bool) -> float:
        """Seconds that it will probably take to make a way, prove it on so many images, and measure it if not `known`.

        The last two by what the plain pass has taken: what Keras expects, what no varied weight reaches, and rounds.
        """
        rounds = 0 if known else ROUNDS
        passes = 2 + rounds + (1 + rounds) * way.trials * _share(graph)
        layers = sum(bool(getattr(step.operation, "weights", ())) for step in graph.rest)
        making = LOWERING_SECONDS * layers if way.name == Compiled.name else STACKING * self._tracing
        return making + passes * images * self._seconds

    def _prove_plain(self, key: tuple[int, ...], size: int) -> None:
        """Raise SweepError unless the plain pass is `keras.Model.predict`, with the clean weights and noisy ones.

        What it is given makes no difference to the pass, so each is asked once; sites let everything through.
        """
        images = self.subject.images[:size]
        if len(self._clean) < len(images):
            self._clean = predict(self.subject.network, images)
            self._check(np.concatenate([self._first, self._passing(images[BATCH:], self._weights)]), self._clean)
        if key and not self._noise_passed:
            noisy = self._noise_of(key)
            begun = self._clock()
            scores = self._passing(images, noisy)
            self._seconds = (self._clock() - begun) / len(images)
            self._noisy_scores = {key: predict(self.subject.network, images, noisy)}
            self._check(scores, self._noisy_scores[key])
            self._noise_passed = True

    def _check(self, scores: Scores, expected: Scores) -> None:
        if near_ties.difference(scores, expected, self.softmax) > near_ties.LARGEST_ERROR:
            raise SweepError("evaluated as a function of its weights, the network differs from keras.Model.predict")

    def _expected(
        self, key: tuple[int, ...], sample: Subject, plain: Plain, given: Sequence[Sequence[Entry]]
    ) -> Scores:
        """Scores (2, n, outputs) of the clean and of the noisy weights on the sample, by Keras."""
        if self.subject.sites:
            return plain.scores(entries_of(given, plain))
        images = len(sample.images)
        noisy = self._noisy_scores.get(key, self._clean[:0])
        if len(noisy) < images:
            noisy = predict(sample.network, sample.images, self._noise_of(key))
            self._noisy_scores = {key: noisy}
        return np.stack([self._clean[:images], noisy[:images]])

    def _passing(self, images: Array, weights: Sequence[Array]) -> Scores:
        """Scores (n, outputs) by the plain pass, in the batches of `predict`."""
        assert self.subject.forward is not None
        run = self.subject.forward.run
        few = [ops.convert_to_tensor(batch) for batch in steps(images, BATCH)]
        return np.concatenate([np.asarray(run(batch, list(weights))) for batch in few]) if few else self._first[:0]

    def _ratio(self, backend: Backend, plain: Backend, given: Sequence[Sequence[Entry]], trials: int) -> float:
        """Time of a trial as a share of the plain way's: the median of some rounds, in each of which both run."""
        full = [given[k % len(given)] for k in range(trials)]
        ratios: list[float] = []
        while len(ratios) < ROUNDS and (not ratios or ratios[0] < HOPELESS):
            spent = []
            for way, some in ((plain, given[:1]), (backend, full)):
                values = entries_of(some, way)
                begun = self._clock()
                way.scores(values)
                spent.append((self._clock() - begun) / len(some))
            ratios.append(spent[1] / max(spent[0], 1e-9))
        return median(ratios)

    def _facts(self, key: tuple[int, ...], block: int | None) -> dict[str, object]:
        """What the fastest way depends on."""
        subject = self.subject
        packages = (library(), "keras", "numpy", "llvmlite")
        return {
            "network": subject.network.key,
            "varied": list(key),
            "block": block,
            "images": list(subject.images.shape),
            "versions": [VERSION, *(version(name) for name in packages)],
            "processor": processor(),
            "device": tensors.device(),
            "threads": list(tensors.threads()),
            "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", ""),
        }

    def noisy(self, key: tuple[int, ...]) -> list[Array]:
        """A perturbed network for the proof: noise of a tenth of each kernel's largest weight, of a tenth of others.

        So variances stay positive. What is 0 everywhere gets a noise of 0.1.
        """
        noise = np.random.default_rng(0)
        noisy = list(self._weights)
        for i in key:
            w = noisy[i]
            level = 0.1 * float(np.max(np.abs(w), initial=0))
            errors = noise.standard_normal(w.shape)
            if level == 0:
                level = 0.1
            elif not self.subject.network.variables[i].kernel:
                errors, level = np.clip(errors, -3, 3) * w, 0.1
            noisy[i] = (w + level * errors).astype(np.float32)
        return noisy

    def _noise_of(self, key: tuple[int, ...]) -> list[Array]:
        """As `noisy`, drawn once for a choice."""
        if key not in self._noise:
            self._noise = {key: self.noisy(key)}
        return self._noise[key]


def _alone(sites: Sequence[Site]) -> str:
    """What among these sites the plain pass alone covers, in words."""
    if any(site.side == "sums" for site in sites):
        return "layers are read array by array"
    noisy = {site.kind for site in sites if site.drawn} == {"noise"}
    return "noise on activations is drawn image by image" if noisy else "faults of activations"


def _sample(work: float) -> int:
    """How many images the proof has of so many to be evaluated: whole batches, at least one."""
    return max(BATCH, int(min(SAMPLE, work / SAMPLES)) // BATCH * BATCH)


def _ways(engine: str | None, graph: Graph | None = None, images: int = 0, more: bool = True) -> list[Way]:
    """What may be tried beside the plain way, where that is not what is asked for; `more` as for `CompiledNetwork`."""
    gpu = tensors.device() == "GPU"
    ways: list[Way] = []
    if engine in (None, Compiled.name) and not gpu:
        ways.append(Way(Compiled.name, Compiled if more else partial(Compiled, more=False), 2))
    if engine in (None, Stacked.name):
        ways += [_on_gpu(graph, images)] if gpu else [_stack(*sizes) for sizes in CPU_STACKS]
    return ways


def _stack(trials: int, images: int, passes: int = 1, products: bool = False) -> Way:
    make = partial(Stacked, images_per_step=images, trials=trials, passes=passes, products=products)
    return Way(f"stacked {trials}x{images}" + (f"x{passes}" if passes > 1 else ""), make, trials * passes)


def _on_gpu(graph: Graph | None, images: int) -> Way:
    """A trial in each pass, on as many images as there is room for, and passes that fill the card together.

    A pass of several trials was never faster there (docs/benchmarks.md): the images alone fill a card.
    """
    if graph is None:
        return _stack(1, 1)
    largest = max(4 * int(np.prod([n or 1 for n in shape])) for shape in graph.shapes.values())
    work = images * sum(map(_multiplications, graph.rest))
    passes = max(1, min(GPU_PASSES, GPU_WORK // max(1, work)))
    return _stack(1, max(1, min(images, GPU_STEP_BYTES // largest)), passes, products=True)


def _may_win(graph: Graph) -> bool:
    """Whether a stack of trials can be faster: on GPUs, behind a prefix that is kept, or where layers are small."""
    rest = [n for n in map(_multiplications, graph.rest) if n]
    return tensors.device() == "GPU" or not rest or _share(graph) < KEPT or sum(rest) / len(rest) < SMALL


def _share(graph: Graph) -> float:
    """Of a network's multiply-adds, what a trial repeats."""
    return sum(map(_multiplications, graph.rest)) / max(1, sum(map(_multiplications, graph.steps)))


def _multiplications(step: Step) -> int:
    """About how many a layer takes for an image: each weight of its matrices once for each place of its output."""
    shapes = [getattr(weight, "shape", ()) for weight in getattr(step.operation, "weights", ())]  # a site has none
    weights = sum(int(np.prod(shape)) for shape in shapes if len(shape) > 1)
    return weights * int(np.prod([n or 1 for n in step.shapes[0][:-1]]))


def _one_at_a_time(reason: str) -> str:
    return f"evaluating one trial at a time: {reason}"


def entries_of(trials: Sequence[Sequence[Entry]], backend: Backend) -> list[list[Entry]]:
    """What a backend takes of trials, of which all entries are given."""
    return [[trial[i] for trial in trials] for i in backend.varied]

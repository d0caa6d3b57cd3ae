"""A network and a dataset: sets of perturbed weights in, correct counts out, by the fastest backend that is right."""

from __future__ import annotations

import dataclasses
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from keras import ops

from sweep.data.datasets import Dataset
from sweep.data.decisions import decide
from sweep.engine import near_ties, tf_ops
from sweep.engine.backends import Backend, Compiled, Plain, Scores, Stacked, Subject, forward_of, steps
from sweep.engine.graph import Unsupported
from sweep.engine.proof import BATCH as PREDICT_BATCH
from sweep.engine.proof import predict
from sweep.engine.sites import IDENTITY, Entry, Noise, Site
from sweep.errors import SweepError
from sweep.networks.feeding import feed
from sweep.networks.loading import Network
from sweep.perturb.base import Array

SAMPLE = 256  # images of the proof and of autotuning
KEPT_BACKENDS = 4
CPU_STACKS = ((16, 10), (4, 50))  # (trials, images) a pass that autotuning tries
GPU_STACKS = ((64, 500),)
EXTREME = 1e12  # larger weights may overflow in one order of a sum and not in another

_Maker = Callable[[Subject, tuple[int, ...]], Backend]


class Count(NamedTuple):
    """Images of one trial: decided as labelled, and with a score that is no finite number (their decision is void)."""

    correct: int
    nonfinite: int


class Evaluator:
    """Evaluates one network on one dataset under any number of weight sets.

    For each set of perturbed variables it meets, it tries the backends on a sample of images: one that
    decides differently from `keras.Model.predict` is dropped with a note, the fastest of the others is used. Counts do
    not depend on the choice, nor on which trials share a pass: a decision within rounding is taken again exactly as
    `keras.Model.predict` takes it, in the same batch of images.

    With sites, where a value within rounding of the border between two levels can go to either, the backend is the
    first that is right, whatever the time it takes: a result does not depend on how busy a machine was.

    Attributes:
        weights: the clean weights, in the order of `model.weights`.
        images: how many there are.
        sites: where transforms act on the data flow.
        notes: what the user should know once, such as a layer that keeps a network from running stacked.
        ties: decisions within rounding so far.
    """

    def __init__(
        self,
        network: Network,
        dataset: Dataset,
        engine: str | None = None,
        sites: Sequence[Site] = (),
        rescale: str | None = None,
    ) -> None:
        self.network = network
        self.sites = tuple(sites)
        self.weights: list[Array] = [np.asarray(w) for w in network.model.get_weights()]
        self.notes: list[str] = []
        self.ties = 0
        self._engine = engine
        self._tie = near_ties.TIE
        self._labels = dataset.labels
        self.images = len(dataset)
        self._subject = Subject(network, feed(network, dataset, rescale), self.sites)
        self._passing = forward_of(self._subject)[0]
        few = ops.convert_to_tensor(self._subject.images[:PREDICT_BATCH])
        self._softmax = near_ties.is_softmax(np.asarray(self._passing(few, self.weights)))
        self._fallback: dict[tuple[tuple[int, ...], int | None], Backend] = {}
        self._backends: OrderedDict[tuple[tuple[int, ...], int | None], Backend] = OrderedDict()

    def backend(self, varied: Sequence[int], block: int | None = None) -> Backend:
        """How trials that perturb these variables are evaluated; chosen at the first call."""
        key = (tuple(sorted(varied)), block)
        if key not in self._backends:
            while len(self._backends) >= KEPT_BACKENDS:
                self._backends.popitem(last=False)
            subject = dataclasses.replace(self._subject, block=block)
            self._backends[key] = self._autotune(key[0])(subject, key[0])
        self._backends.move_to_end(key)
        return self._backends[key]

    def correct(self, trials: Sequence[Sequence[Entry]], varied: Sequence[int]) -> list[int]:
        """Numbers of images decided as labelled.

        Args:
            trials: for each trial its weights, in the order of `model.weights`, and then what it has for each site.
            varied: the variables in which a trial may differ from the clean network; empty for none.
        """
        return [count.correct for count in self.count([iter([trial]) for trial in trials], varied)]

    def count(
        self, trials: Sequence[Iterator[Sequence[Entry]]], varied: Sequence[int], block: int | None = None
    ) -> list[Count]:
        """As `correct`, for trials whose weights change from one block of so many images to the next.

        Each trial gives its entries block after block; with `block` None a single time, for all images.
        """
        backend = self.backend(varied, block)
        size = block or self.images
        correct, nonfinite = [0] * len(trials), [0] * len(trials)
        for start in range(0, len(trials), backend.trials):
            part = range(start, min(start + backend.trials, len(trials)))
            for number, first in enumerate(range(0, self.images, size)):
                images = slice(first, first + size)
                given = [next(trials[k]) for k in part]
                scores = backend.scores(_entries(given, backend), number)
                weights = [i for i in backend.varied if i < len(self.weights)]
                for k, trial, row in zip(part, given, scores, strict=True):
                    if backend.name != "plain" and _is_extreme([trial[i] for i in weights]):
                        plain = self._plain(varied, block)
                        row = plain.scores(_entries([trial], plain), number)[0]
                    right = self._decide(row, trial, images) == self._labels[images]
                    correct[k] += int(np.count_nonzero(right))
                    nonfinite[k] += int(np.count_nonzero(~np.isfinite(row).all(axis=-1)))
        return [Count(*pair) for pair in zip(correct, nonfinite, strict=True)]

    def _decide(self, scores: Scores, entries: Sequence[Entry], images: slice) -> npt.NDArray[np.int64]:
        decisions = decide(scores, self.network.threshold)
        arrays = [e for e in entries if not isinstance(e, Noise)]
        if len(arrays) < len(entries):
            return decisions
        close = near_ties.within_rounding(scores, self.network.threshold, self._softmax, self._tie)
        again = np.flatnonzero(close & (not self.sites))
        self.ties += len(again)
        tensors = [ops.convert_to_tensor(w) for w in arrays] if len(again) else []
        own = self._subject.images[images]
        for batch in np.unique(again // PREDICT_BATCH):
            few = ops.convert_to_tensor(own[batch * PREDICT_BATCH : (batch + 1) * PREDICT_BATCH])
            exact = decide(np.asarray(self._passing(few, tensors)), self.network.threshold)
            some = again[again // PREDICT_BATCH == batch]
            decisions[some] = exact[some % PREDICT_BATCH]
        return decisions

    def _plain(self, varied: Sequence[int], block: int | None) -> Backend:
        """For trials with weights so large that backends could differ."""
        key = tuple(sorted(varied)), block
        if key not in self._fallback:
            self._fallback = {key: Plain(dataclasses.replace(self._subject, block=block), key[0])}
        return self._fallback[key]

    def _autotune(self, key: tuple[int, ...]) -> _Maker:
        """The backend to use, by the proof at load and by autotuning."""
        sample = dataclasses.replace(self._subject, images=self._subject.images[:SAMPLE])
        given = [self.weights, self._noisy(key)]
        expected = np.stack([predict(self.network, sample.images, weights) for weights in given])
        self._check_plain(sample.images, given, expected)
        if not key and not self.sites:
            return Plain
        if any(site.kind == "noise" for site in self.sites):
            if self._engine not in (None, "plain"):
                self.notes.append("noise on activations is drawn image by image: evaluating one trial at a time")
            return Plain
        levels = [IDENTITY] * len(self.sites)
        trials: list[list[Entry]] = [[*weights, *levels] for weights in given]
        plain: Backend = Plain(sample, key)
        if self.sites:
            expected = plain.scores(_entries(trials, plain))
        best: tuple[float, _Maker] = (seconds_a_trial(plain, trials), Plain)
        refusal = ""
        for make in self._candidates():
            try:
                backend = make(sample, key)
            except Unsupported as reason:
                refusal = str(reason)
                continue
            error = near_ties.difference(backend.scores(_entries(trials, backend)), expected, self._softmax)
            if error > near_ties.LARGEST_ERROR:
                self.notes.append(f"{backend.name} evaluation differs from plain Keras here, and is not used")
                continue
            self._tie = max(self._tie, near_ties.MARGIN * error)
            if self.sites:
                return make
            best = min(best, (seconds_a_trial(backend, trials), make), key=lambda pair: pair[0])
            if backend.name == "compiled" and best[1] is make and self._engine is None:
                break  # a stacked pass would take seconds to compile, to lose by a factor
        if best[1] is Plain and refusal:
            self.notes.append(f"evaluating one trial at a time: {refusal}")
        return best[1]

    def _check_plain(self, images: Array, given: Sequence[Sequence[Array]], expected: Array) -> None:
        """Raise SweepError unless the plain pass, its sites letting everything through, is `keras.Model.predict`."""
        batches = [ops.convert_to_tensor(few) for few in steps(images, PREDICT_BATCH)]
        for weights, scores in zip(given, expected, strict=True):
            passing = np.concatenate([np.asarray(self._passing(few, list(weights))) for few in batches])
            if near_ties.difference(passing, scores, self._softmax) > near_ties.LARGEST_ERROR:
                raise SweepError("evaluated as a function of its weights, the network differs from keras.Model.predict")

    def _candidates(self) -> list[_Maker]:
        gpu = tf_ops.device() == "GPU"
        makers: list[_Maker] = []
        if self._engine in (None, "compiled") and not gpu:
            makers.append(Compiled)
        if self._engine in (None, "stacked"):
            for trials, images in GPU_STACKS if gpu else CPU_STACKS:
                makers.append(partial(Stacked, images_per_step=images, trials=trials))
        return makers

    def _noisy(self, key: tuple[int, ...]) -> list[Array]:
        """A perturbed network for the proof: noise of a tenth of each variable's largest weight."""
        noise = np.random.default_rng(0)
        noisy = list(self.weights)
        for i in key:
            w = noisy[i]
            level = 0.1 * float(np.max(np.abs(w), initial=0))
            noisy[i] = (w + level * noise.standard_normal(w.shape)).astype(np.float32)
        return noisy


def _is_extreme(entries: Sequence[Entry]) -> bool:
    """Whether a weight is not finite, or so large that a sum may overflow in one backend and not in another."""
    return any(isinstance(e, np.ndarray) and not (np.max(np.abs(e), initial=0) < EXTREME) for e in entries)


def _entries(trials: Sequence[Sequence[Entry]], backend: Backend) -> list[list[Entry]]:
    return [[trial[i] for trial in trials] for i in backend.varied]


def seconds_a_trial(backend: Backend, trials: Sequence[Sequence[Entry]]) -> float:
    """Seconds a trial of a full pass: the best of three after one that may compile."""
    full = _entries([trials[k % len(trials)] for k in range(backend.trials)], backend)
    backend.scores(full)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        backend.scores(full)
        times.append(time.perf_counter() - start)
    return min(times) / backend.trials

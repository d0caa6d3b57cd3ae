"""A network and a dataset: sets of perturbed weights in, correct counts out, in the fastest way that is right."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from sweep.engine import tf_ops, ties
from sweep.engine.graph import Unsupported
from sweep.engine.ways import Compiled, Plain, Scores, Stacked, Way, cut
from sweep.networks.datasets import Dataset, prepare_images
from sweep.networks.decisions import decide
from sweep.networks.loading import Network
from sweep.perturb.base import Array

IMAGES_PER_STEP = 500
SAMPLE = 256  # images of the proof and of the calibration
PREDICT_BATCH = 32  # images a step in `keras.Model.predict`: the last digit of a score depends on it
PREFIX_BYTES = 256 * 1024**2
KEPT_WAYS = 4
CPU_STACKS = ((16, 10), (4, 50))  # (trials, images) a pass that the calibration tries
GPU_STACKS = ((64, 500),)

_Maker = Callable[[Array, tuple[int, ...]], Way]


class Evaluator:
    """Evaluates one network on one dataset under any number of weight sets.

    For each set of perturbed variables it meets, it tries the ways of `ways` on a sample of images: one that
    decides differently from plain Keras is dropped with a note, the fastest of the others is used. Counts do not
    depend on the choice, nor on which trials share a pass: a decision within rounding is taken again exactly as
    `keras.Model.predict` takes it, in the same batch of images.

    Attributes:
        weights: the clean weights, in the order of `model.weights`.
        images: how many there are.
        notes: what the user should know once, such as a layer that keeps a network from running stacked.
        ties: decisions within rounding so far.
    """

    def __init__(self, network: Network, dataset: Dataset, engine: str | None = None) -> None:
        self.network = network
        self.weights: list[Array] = [np.asarray(w) for w in network.model.get_weights()]
        self.notes: list[str] = []
        self.ties = 0
        self._engine = engine
        self._tie = ties.TIE
        self._labels = dataset.labels
        self.images = len(dataset)
        self._images = prepare_images(dataset.images, network.input_shape)
        self._predict = tf_ops.compile_function(tf_ops.stateless(network.model))
        self._softmax = ties.is_softmax(
            np.asarray(self._predict(tf_ops.constant(self._images[:PREDICT_BATCH]), self.weights))
        )
        self._ways: OrderedDict[tuple[int, ...], Way] = OrderedDict()

    def way(self, varied: Sequence[int]) -> Way:
        """How trials that perturb these variables are evaluated; chosen at the first call."""
        key = tuple(sorted(varied))
        if key not in self._ways:
            while len(self._ways) >= KEPT_WAYS:
                self._ways.popitem(last=False)
            self._ways[key] = self._choose(key)
        self._ways.move_to_end(key)
        return self._ways[key]

    def correct(self, trials: Sequence[Sequence[Array]], varied: Sequence[int]) -> list[int]:
        """Numbers of images decided as labelled.

        Args:
            trials: for each trial its weights, in the order of `model.weights`.
            varied: the variables in which a trial may differ from the clean network; empty for none.
        """
        key = tuple(sorted(varied)) or (0,)
        way = self.way(key)
        counts: list[int] = []
        for start in range(0, len(trials), way.trials):
            part = trials[start : start + way.trials]
            scores = way.scores(_stack(part, way))
            for trial, row in zip(part, scores, strict=True):
                counts.append(int(np.count_nonzero(self._decide(row, trial) == self._labels)))
        return counts

    def _decide(self, scores: Scores, weights: Sequence[Array]) -> npt.NDArray[np.int64]:
        decisions = decide(scores, self.network.threshold)
        close = np.flatnonzero(ties.within_rounding(scores, self.network.threshold, self._softmax, self._tie))
        self.ties += len(close)
        tensors = [tf_ops.constant(w) for w in weights] if len(close) else []
        for batch in np.unique(close // PREDICT_BATCH):
            images = self._images[batch * PREDICT_BATCH : (batch + 1) * PREDICT_BATCH]
            exact = decide(np.asarray(self._predict(tf_ops.constant(images), tensors)), self.network.threshold)
            some = close[close // PREDICT_BATCH == batch]
            decisions[some] = exact[some % PREDICT_BATCH]
        return decisions

    def _choose(self, key: tuple[int, ...]) -> Way:
        sample = self._images[:SAMPLE]
        trials = [self.weights, self._noisy(key)]
        plain = self._make_plain(sample, key)
        expected = plain.scores(_stack(trials, plain))
        best: tuple[float, _Maker] = (_seconds(plain, trials), self._make_plain)
        refusal = ""
        for make in self._candidates():
            try:
                way = make(sample, key)
            except Unsupported as reason:
                refusal = str(reason)
                continue
            error = ties.difference(way.scores(_stack(trials, way)), expected, self._softmax)
            if error > ties.LARGEST_ERROR:
                self.notes.append(f"{way.name} evaluation differs from plain Keras here, and is not used")
                continue
            self._tie = max(self._tie, ties.MARGIN * error)
            best = min(best, (_seconds(way, trials), make), key=lambda pair: pair[0])
            if way.name == "compiled" and best[1] is make and self._engine is None:
                break  # a stacked pass would take seconds to compile, to lose by a factor
        way = best[1](self._images, key)
        if way.name == "plain" and refusal:
            self.notes.append(f"evaluating one trial at a time: {refusal}")
        return way

    def _candidates(self) -> list[_Maker]:
        gpu = tf_ops.device() == "GPU"
        makers: list[_Maker] = []
        if self._engine in (None, "compiled") and not gpu:
            makers.append(self._make_compiled)
        if self._engine in (None, "stacked"):
            for trials, images_per_step in GPU_STACKS if gpu else CPU_STACKS:
                makers.append(partial(self._make_stacked, trials=trials, images_per_step=images_per_step))
        return makers

    def _make_plain(self, images: Array, key: tuple[int, ...]) -> Way:
        return Plain(self.network, images, key, IMAGES_PER_STEP)

    def _make_compiled(self, images: Array, key: tuple[int, ...]) -> Way:
        return Compiled(self.network, images, self._cut(key), IMAGES_PER_STEP)

    def _make_stacked(self, images: Array, key: tuple[int, ...], trials: int, images_per_step: int) -> Way:
        return Stacked(self.network, images, self._cut(key), images_per_step, trials)

    def _cut(self, key: tuple[int, ...]) -> tuple[int, ...]:
        return cut(self.network, key, len(self._images), PREFIX_BYTES)

    def _noisy(self, key: tuple[int, ...]) -> list[Array]:
        """A perturbed network for the proof: noise of a tenth of each variable's largest weight."""
        noise = np.random.default_rng(0)
        noisy = list(self.weights)
        for i in key:
            w = noisy[i]
            level = 0.1 * float(np.max(np.abs(w), initial=0))
            noisy[i] = (w + level * noise.standard_normal(w.shape)).astype(np.float32)
        return noisy


def _stack(trials: Sequence[Sequence[Array]], way: Way) -> list[Array]:
    return [np.stack([trial[i] for trial in trials]) for i in way.varied]


def _seconds(way: Way, trials: Sequence[Sequence[Array]]) -> float:
    """Seconds a trial in a full pass: the best of three after one that may compile."""
    full = _stack([trials[k % len(trials)] for k in range(way.trials)], way)
    way.scores(full)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        way.scores(full)
        times.append(time.perf_counter() - start)
    return min(times) / way.trials

"""A network and a dataset: sets of perturbed weights in, correct counts out, by the fastest backend that is right."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
from keras import ops

from sweep.data.datasets import Dataset
from sweep.data.decisions import decide
from sweep.data.measure import Measure
from sweep.data.scoring import LOGITS, SIGMOID, SOFTMAX
from sweep.engine import near_ties, tensors
from sweep.engine.backends import Backend, Compiled, Plain, Scores, Settled, Stacked, Subject
from sweep.engine.budget import Budget
from sweep.engine.choice import SAMPLE, Choice, Chosen, Clock, entries_of
from sweep.engine.compiled.network import Seen
from sweep.engine.extremes import Extremes
from sweep.engine.graph import Unsupported
from sweep.engine.last_layer import Features, Law, Split, law_of, split
from sweep.engine.looks import Judged, Looks, look
from sweep.engine.proof import BATCH as PREDICT_BATCH
from sweep.engine.proof import predict
from sweep.engine.reported import Count, Reported, Tally
from sweep.engine.sites import Entry, Site
from sweep.engine.weight_errors import WeightErrors, weight_errors
from sweep.networks.feeding import Fed
from sweep.networks.loading import Network, task_of
from sweep.networks.variables import numbers_of
from sweep.perturb.base import Array, Transform

KEPT_BACKENDS = 4
GROWN = 2  # times the trials that were too few for another way to be tried, from which on it is


class Evaluator:
    """Evaluates one network on one dataset under any number of weight sets.

    For each set of perturbed variables it meets, it may try the backends on a sample of images: one that
    decides differently from `keras.Model.predict` is dropped with a note, the fastest of the others is used; see
    `choice`. Counts do not depend on the choice, nor on which trials share a pass: a decision within rounding is taken
    again exactly as `keras.Model.predict` takes it, in the same batch of images.

    With sites, where a value within rounding of the border between two levels can go to either, the backend is the
    first that is right, whatever the time it takes: a result does not depend on how busy a machine was.

    Attributes:
        weights: the clean weights, in the order of `model.weights`, not to be written to.
        images: how many there are.
        labels: (images,) of the dataset.
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
        measures: Sequence[Measure] = (),
        budget: Budget | None = None,
        clock: Clock = time.perf_counter,
    ) -> None:
        self.network = network
        self.sites = tuple(sites)
        self.weights: list[Array] = [numbers_of(w) for w in network.model.get_weights()]
        for weight in self.weights:
            weight.flags.writeable = False  # so that what is computed of them can be kept
        self.notes: list[str] = []
        self.ties = 0
        self._engine = engine
        self._tie = near_ties.TIE
        self.labels = dataset.labels
        self.images = len(dataset)
        exact = all(measure.exact for measure in measures)
        budget, fed = budget or Budget(), Fed(network, dataset, rescale)
        held = fed.stored or budget.holds(self, fed.nbytes)
        subject = Subject(network, fed[:] if held else fed, self.sites, budget=budget)
        self._choice = Choice(subject, self.weights, clock, exact)
        self._subject, self._softmax = self._choice.subject, self._choice.softmax
        assert self._subject.forward is not None
        self._passing: Callable[..., Any] = self._subject.forward.run
        task = task_of(network, dataset)
        self._has_classes = not task.no_classes
        itself = dataset.targets is dataset.images or (dataset.targets is None and task.reconstructs)
        targets = self._subject.images if itself else dataset.targets
        classes = network.outputs // network.positions if network.positions else 0
        softmax = self._choice.sums_to_one(classes) if classes else self._softmax
        kind = SOFTMAX if softmax else SIGMOID if network.sigmoid else LOGITS
        clean = partial(_clean_decisions, self._subject) if self._has_classes else None
        self._reported = Reported(tuple(measures), self.labels, targets, kind, clean, classes)
        # By variables, block and what was asked for; with the trials above which there is another choice.
        self._chosen: dict[tuple[tuple[int, ...], int | None, str | None], tuple[Chosen, float]] = {}
        self._cuts: dict[tuple[tuple[int, ...], int | None], Features | None] = {}
        self._fallback: dict[tuple[tuple[int, ...], int | None], Plain] = {}
        self._backends: OrderedDict[tuple[tuple[int, ...], int | None], Backend] = OrderedDict()

    def backend(self, varied: Sequence[int], block: int | None = None, trials: float | None = None) -> Backend:
        """How trials that perturb these variables are evaluated; chosen at the first call.

        Args:
            varied, block: as for `count`.
            trials: how many are to come, on all images: the more, the longer choosing may take. If it turns out to be
                many more, where these were too few to try anything, there is another choice. None for those known
                already, or if there are none, for any number.
        """
        key = (tuple(sorted(varied)), block)
        chosen, enough = self._chosen.get((*key, self._engine), (None, 0.0))
        if chosen is None or (trials is not None and trials > enough):
            trials = math.inf if trials is None else trials
            chosen = self._choice.choose(*key, trials, self._engine)
            self._chosen[*key, self._engine] = chosen, math.inf if chosen.complete else GROWN * trials
            self._tie = max(self._tie, near_ties.MARGIN * chosen.error)
            self.notes += chosen.notes
            self._backends.pop(key, None)
        if key not in self._backends:
            while len(self._backends) >= KEPT_BACKENDS:
                self._backends.popitem(last=False)
            self._backends[key] = chosen.make(dataclasses.replace(self._subject, block=block), key[0])
        self._backends.move_to_end(key)
        return self._backends[key]

    def correct(self, trials: Sequence[Sequence[Entry]], varied: Sequence[int]) -> list[int]:
        """Numbers of images decided as labelled, of a network whose outputs are classes.

        Args:
            trials: for each trial its weights, in the order of `model.weights`, and then what it has for each site.
            varied: the variables in which a trial may differ from the clean network; empty for none.
        """
        return [count.correct or 0 for count in self.count([iter([trial]) for trial in trials], varied)]

    def count(
        self, trials: Sequence[Iterator[Sequence[Entry]]], varied: Sequence[int], block: int | None = None
    ) -> list[Count]:
        """As `correct`, for trials whose weights change from one block of so many images to the next.

        Each trial gives its entries block after block; with `block` None a single time, for all images.
        """
        backend = self.backend(varied, block)
        extremes = Extremes(self.network.model, backend.varied)
        found: list[Count] = []
        kept = 4 * self.images * self.network.outputs if self._reported.measures else 0
        together = self._subject.budget.trials(kept, backend.trials)
        size = block or self.images
        in_batches = all(part.start % size % PREDICT_BATCH == 0 for part in backend.pieces)  # of `predict`, whole ones
        for start in range(0, len(trials), together):
            part = range(start, min(start + together, len(trials)))
            tallies = [Tally(bool(kept)) for _ in part]
            for number, images in enumerate(backend.pieces):
                if images.start % size == 0:
                    given = [next(trials[k]) for k in part]
                    extreme = [backend.name != "plain" and extremes.of(trial) for trial in given]
                scores = self._scores(backend, entries_of(given, backend), number)
                for tally, trial, wild, row in zip(tallies, given, extreme, scores, strict=True):
                    plain = backend if isinstance(backend, Plain) else None
                    if wild:
                        plain = self.plain(varied, block)
                        with tensors.on_cpu():  # sums overflow in one order and not in another
                            row = plain.see(trial, images)
                    same = in_batches and plain is not None and plain.as_predict and tensors.device() == "CPU"
                    self._take(tally, trial, row, np.arange(images.start, images.stop), block, same)
            found += [self._reported.count(tally) for tally in tallies]
        return found

    def _scores(self, backend: Backend, entries: list[list[Entry]], piece: int) -> Iterable[Scores | Settled]:
        """Of each trial its scores; from a GPU, what follows from them, where that is all that is asked for."""
        alone = self._has_classes and self.network.threshold is None and not self._reported.measures
        if alone and isinstance(backend, Stacked) and tensors.device() == "GPU":
            return backend.settled(entries, piece, self._softmax, self._tie)
        return backend.scores(entries, piece)

    def _take(
        self,
        tally: Tally,
        trial: Sequence[Entry],
        scores: Scores | Settled,
        images: npt.NDArray[np.int64],
        block: int | None,
        same: bool,
    ) -> None:
        """Take in the scores of a trial on these images; the `same` that `predict` gives need not be taken again."""
        if isinstance(scores, Settled):
            decisions, finite, close = self._settled(scores)
            self.take_again(decisions, close, trial, images, block)
            tally.take(scores.scores, finite, decisions, self.labels[images])
            return
        if not self._has_classes:
            tally.take(scores, np.asarray(np.isfinite(scores).all(axis=-1)))
            return
        decisions, finite, close = self.judged(scores)
        labels = self.labels[images]
        if self._reported.measures:
            scores = scores.copy()  # those that are taken again will stand in it
            for k in self._reported.top:
                close |= near_ties.rank_within_rounding(scores, labels, k, self._softmax, self._tie)
        if not same:
            self.take_again(decisions, close, trial, images, block, scores if self._reported.measures else None)
        tally.take(scores, finite, decisions, labels)

    def margins(
        self, entries: Sequence[Entry] = (), varied: Sequence[int] = (), block: int | None = None
    ) -> npt.NDArray[np.float32]:
        """How sure a network is of each label: (N,), the larger the surer, negative where it errs.

        The label's logit less the best other one; where a single output decides, its distance from the threshold, on
        the label's side. Not finite scores count as the least sure.

        Args:
            entries: weights, and what there is for each site; without any, the clean network, by
                `keras.Model.predict`.
            varied, block: as for `count`; all blocks have these entries.
        """
        threshold = self.network.threshold
        if entries:
            backend = self.backend(varied, block)
            if isinstance(backend, Compiled) and not backend.beyond:
                rows = backend.rows([entries], 1)
                parts = [np.arange(part.start, part.stop)[None] for part in self._subject.parts]
                seen = [backend.see(rows, part)[0].scores(np.ones(part.shape, bool)) for part in parts]
                scores = np.concatenate(seen)
            else:
                plain = backend if isinstance(backend, Plain) else self.plain(varied, block)
                scores = plain.see(entries, range(self.images))
        else:
            scores = predict(self.network, self._subject.images)
        if threshold is not None:
            margins = _distances(scores[:, 0], threshold) * np.where(self.labels == 1, 1, -1)
        else:
            logits = near_ties.logits(scores, self._softmax)
            own = np.take_along_axis(logits, self.labels[:, None], axis=-1)[:, 0]
            np.put_along_axis(logits, self.labels[:, None], -np.inf, axis=-1)
            with np.errstate(invalid="ignore"):  # infinity less infinity
                margins = own - logits.max(axis=-1)
        return np.where(np.isfinite(margins), margins, np.finfo(np.float32).min).astype(np.float32)

    def sees_by(self, varied: Sequence[int], block: int | None = None) -> str:
        """The name of the backend by which `see` evaluates: compiled where `count` does, plain elsewhere."""
        return "compiled" if isinstance(self.backend(varied, block), Compiled) else "plain"

    def see(
        self,
        trials: Iterable[Iterator[Sequence[Entry]]],
        images: npt.NDArray[np.int64],
        varied: Sequence[int],
        block: int | None = None,
        laws: Sequence[Law | None] = (),
    ) -> Looks:
        """Decisions of each trial on few images of its own, the same as `count` takes there; see `looks.look`."""
        return look(self, trials, images, varied, block, laws)

    def law(self, transforms: Sequence[Transform]) -> Law | None:
        """The law of the last layer's errors under a perturbation; None where it is not known, as with sites."""
        cut = None if self.sites else self._split
        return cut and law_of(cut, self.weights, self.network.variables, transforms)

    def weight_errors(self, transforms: Sequence[Transform]) -> WeightErrors | None:
        """The errors before the last layer, where that layer's law is known and theirs is, too; None elsewhere."""
        if self._split is None or self.law(transforms) is None:
            return None
        return weight_errors(self._split.numbers, self.weights, self.network.variables, transforms)

    @cached_property
    def _split(self) -> Split | None:
        return split(self.network)

    def _cut_ways(self) -> list[bool]:
        """Compiled or not, in order: the first that is right, whatever time it takes, so that features are the same."""
        return [True, False] if self._engine in (None, "compiled") and tensors.device() != "GPU" else [False]

    def cut(self, varied: Sequence[int], block: int | None) -> Features | None:
        """What evaluates the network cut before its last layer, if that gives what `keras.Model.predict` gives."""
        key = (tuple(sorted(varied)), block)
        if key not in self._cuts and self._split:
            sample = dataclasses.replace(self._subject.first(SAMPLE), block=block)
            given = [self.weights, self._choice.noisy(key[0])]
            images = np.broadcast_to(np.arange(len(sample.images)), (2, len(sample.images)))
            expected = np.stack([predict(self.network, sample.images, weights) for weights in given])
            found = None
            for compiled in self._cut_ways():
                try:
                    scores = Features(sample, self._split, varied, compiled).see(given, images)[0]
                except Unsupported:
                    continue
                error = near_ties.difference(scores, expected, self._softmax)
                if error <= near_ties.LARGEST_ERROR:
                    self._tie = max(self._tie, near_ties.MARGIN * error)
                    whole = dataclasses.replace(self._subject, block=block)
                    found = Features(whole, self._split, varied, compiled)
                    break
            self._cuts = {key: found}
        return self._cuts.get(key)

    def judge(self, seen: Seen, shape: tuple[int, ...]) -> Judged:
        """Decisions of (T, n), whether scores are finite, and whether the decision is within rounding."""
        threshold = self.network.threshold
        decisions, unsettled = np.zeros(shape, np.int64), np.ones(shape, bool)
        if seen.facts is not None and threshold is None and seen.softmax == self._softmax:
            best, second, lowest, choice, odd = seen.facts
            unsettled = ~(near_ties.settled(best, second, lowest, self._softmax, self._tie) & (odd == 0))
            decisions = np.where(unsettled, 0, choice).astype(np.int64)
        finite, close = np.ones(shape, bool), np.zeros(shape, bool)
        if unsettled.any():
            decisions[unsettled], finite[unsettled], close[unsettled] = self.judged(seen.scores(unsettled))
        return decisions, finite, close

    def _settled(self, found: Settled) -> Judged:
        """As `judged`, by what a GPU has settled and the scores of the other images."""
        decisions, others = found.classes.astype(np.int64), found.classes < 0
        finite, close = np.ones(others.shape, bool), np.zeros(others.shape, bool)
        decisions[others], finite[others], close[others] = self.judged(found.scores)
        return decisions, finite, close

    def judged(self, scores: Scores) -> Judged:
        """As `_judge`, by scores (n, outputs)."""
        threshold = self.network.threshold
        close = near_ties.within_rounding(scores, threshold, self._softmax, self._tie)
        return decide(scores, threshold), np.asarray(np.isfinite(scores).all(axis=-1)), close

    def take_again(
        self,
        decisions: npt.NDArray[np.int64],
        close: npt.NDArray[np.bool_],
        entries: Sequence[Entry],
        images: npt.NDArray[np.int64],
        block: int | None,
        scores: Scores | None = None,
    ) -> None:
        """Decide anew, as `predict` does, which of a trial's decisions (n,) on images of these numbers are close.

        Where `scores` (n, outputs) are given, those of these images become `predict`'s, too. But for networks where
        something acts on the data flow: all stays.
        """
        if self.sites:
            return
        again = np.flatnonzero(close)
        self.ties += len(again)
        if len(again):
            with tensors.on_cpu():
                self._take_again(decisions, again, entries, images, block, scores)

    def _take_again(
        self,
        decisions: npt.NDArray[np.int64],
        again: npt.NDArray[np.int64],
        entries: Sequence[Entry],
        images: npt.NDArray[np.int64],
        block: int | None,
        scores: Scores | None,
    ) -> None:
        values = [ops.convert_to_tensor(w) for w in entries]
        # The block of each image, and in it the batch in which `predict` has it.
        size = block or self.images
        blocks = images[again] // size * size
        batches = blocks + (images[again] - blocks) // PREDICT_BATCH * PREDICT_BATCH
        for first, start in np.unique(np.stack([batches, blocks]), axis=1).T:
            few = ops.convert_to_tensor(self._subject.images[first : min(first + PREDICT_BATCH, start + size)])
            exact = np.asarray(self._passing(few, values))
            some = again[batches == first]
            decisions[some] = decide(exact, self.network.threshold)[images[some] - first]
            if scores is not None:
                scores[some] = exact[images[some] - first]

    def plain(self, varied: Sequence[int], block: int | None) -> Plain:
        """For trials with weights so large that backends could differ."""
        key = tuple(sorted(varied)), block
        if key not in self._fallback:
            self._fallback = {key: Plain(dataclasses.replace(self._subject, block=block), key[0])}
        return self._fallback[key]


def _clean_decisions(subject: Subject) -> npt.NDArray[np.int64]:
    return decide(predict(subject.network, subject.images), subject.network.threshold)


def _distances(scores: Array, threshold: float) -> Array:
    """How far outputs (n,) are above the threshold: in logits where they are probabilities, which end at 0 and 1."""
    if threshold == 0:
        return scores
    sure = np.clip(scores.astype(np.float64), near_ties.UNDERFLOW, 1 - 2.0**-24)
    return np.asarray(np.log(sure / (1 - sure)) - np.log(threshold / (1 - threshold)), np.float32)

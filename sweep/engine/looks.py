"""What trials decide on few images each, every one on its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from sweep.engine.backends import Backend, Compiled, Plain, Scores
from sweep.engine.compiled.network import Seen
from sweep.engine.last_layer import Columns, Features, Law
from sweep.engine.sites import Entry
from sweep.perturb.base import Array

SEEN_AT_A_TIME, SEEN_BYTES = 64, 32 * 1024**2  # passes on few images, and memory for them, at most

Judged = tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]
"""Decisions, whether their scores are finite, and whether they lie within rounding; all of one shape."""


class Judge(Protocol):
    """What `look` asks of an `Evaluator`; see there."""

    weights: list[Array]
    labels: npt.NDArray[np.int64]

    def backend(self, varied: Sequence[int], block: int | None) -> Backend:
        """What evaluates."""

    def cut(self, varied: Sequence[int], block: int | None) -> Features | None:
        """What evaluates the network cut before its last layer."""

    def plain(self, varied: Sequence[int], block: int | None) -> Plain:
        """The reference."""

    def judge(self, seen: Seen, shape: tuple[int, ...]) -> Judged:
        """Of what machine code has seen."""

    def judged(self, scores: Scores) -> Judged:
        """Of scores."""

    def take_again(
        self,
        decisions: npt.NDArray[np.int64],
        close: npt.NDArray[np.bool_],
        entries: Sequence[Entry],
        images: npt.NDArray[np.int64],
        block: int | None,
    ) -> None:
        """Decide anew where it is close."""


class Looks(NamedTuple):
    """What trials decide on few images each, in halves.

    Attributes:
        right: (T, 2, m) whether an image is decided as labelled.
        finite: (T, 2, m) whether its scores are finite numbers.
        chances: (T, 2, m) the probability of a right decision over the errors of the last layer's weights, where
            `integrated`; elsewhere 1 for a right one.
        integrated: (T,) whether a trial has such probabilities.
    """

    right: npt.NDArray[np.bool_]
    finite: npt.NDArray[np.bool_]
    chances: npt.NDArray[np.float64]
    integrated: npt.NDArray[np.bool_]


def look(
    evaluator: Judge,
    trials: Iterable[Iterator[Sequence[Entry]]],
    images: npt.NDArray[np.int64],
    varied: Sequence[int],
    block: int | None = None,
    laws: Sequence[Law | None] = (),
) -> Looks:
    """Decisions of each trial on few images of its own, the same as `Evaluator.count` takes there.

    So a decision within rounding is taken again in that batch of the whole dataset, or of its block, that the image
    belongs to. What is drawn for each image, noise on activations, is drawn for those that a trial sees, one after the
    other in the order given: other draws than `count` has for these images. With levels in the data flow, where a value
    within rounding of a border can go to either, decisions are those of `count` to the last where
    `Evaluator.sees_by` is compiled, and elsewhere those of the plain way.

    Args:
        evaluator: of the network and its images.
        trials: T as for `count`; taken some at a time, so that a generator of them never has all in memory.
        images: (T, 2, m) numbers of the images that each trial sees, in halves.
        varied: as for `count`.
        block: as for `count`; where it is given, a trial's first half is evaluated under its first read, whatever
            images these are, and the second half under the second.
        laws: (T,) of `Evaluator.law`; of none without.
    """
    backend: Backend | Features = evaluator.backend(varied, block)
    passes = 2 if block else 1
    seen = images.reshape(len(images), passes, images.shape[1] // passes * images.shape[2])
    right, finite = np.zeros(seen.shape, bool), np.zeros(seen.shape, bool)
    chances, integrated = np.zeros(seen.shape), np.zeros(len(seen), bool)
    room = SEEN_BYTES // backend.bytes_seen if isinstance(backend, Compiled) else SEEN_AT_A_TIME
    step = max(1, min(room, SEEN_AT_A_TIME) // passes)
    if any(laws):
        backend = evaluator.cut(varied, block) or backend
    waiting = iter(trials)
    for first in range(0, len(seen), step):
        part = slice(first, first + step)
        given = (next(trial) for trial in islice(waiting, step) for _ in range(passes))
        chosen = seen[part].reshape(-1, seen.shape[2])
        decisions, known, features = _look(evaluator, backend, given, chosen, varied, block)
        labels = evaluator.labels[chosen]
        good = decisions == labels
        found = good.astype(np.float64)
        if features is not None:
            own = [law for law in laws[part] for _ in range(passes)]
            for law in {id(law): law for law in own if law is not None}.values():
                rows = np.array([one is law for one in own])
                found[rows] = law.chances(features.of(rows), labels[rows], good[rows])
                integrated[part] |= rows[::passes]
        shape = (-1, *seen.shape[1:])
        right[part], finite[part], chances[part] = good.reshape(shape), known.reshape(shape), found.reshape(shape)
    return Looks(right.reshape(images.shape), finite.reshape(images.shape), chances.reshape(images.shape), integrated)


def _look(
    evaluator: Judge,
    backend: Backend | Features,
    given: Iterator[Sequence[Entry]],
    images: npt.NDArray[np.int64],
    varied: Sequence[int],
    block: int | None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], Columns | None]:
    """Decisions (S, n) of S sets of entries on n images each, images (S, n); whether scores are finite (S, n).

    And the features before the last layer, where the network is cut there.
    """
    entries: Callable[[int], Sequence[Entry]]
    features = None
    if isinstance(backend, Features):
        sets = list(given)
        entries = sets.__getitem__
        scores, features, safe = backend.see(sets, images)
        decisions, finite, close = evaluator.judged(scores)
    elif isinstance(backend, Compiled):
        rows = backend.rows(given, len(images))
        entries = partial(backend.entries, evaluator.weights, rows)
        seen, safe = backend.see(rows, images)
        decisions, finite, close = evaluator.judge(seen, images.shape)
    else:
        entries, safe = list(given).__getitem__, np.zeros(len(images), bool)
        decisions, finite, close = np.zeros(images.shape, np.int64), np.ones(images.shape, bool), ~(images >= 0)
    for k in np.flatnonzero(~safe).tolist():
        plain = backend if isinstance(backend, Plain) else evaluator.plain(varied, block)
        decisions[k], finite[k], close[k] = evaluator.judged(plain.see(entries(k), images[k]))
    for k in np.flatnonzero(close.any(axis=1)).tolist():
        evaluator.take_again(decisions[k], close[k], entries(k), images[k], block)
    return decisions, finite, features

"""What all ways evaluate on a GPU: a network and its images, with noise on every kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from sweep.bench.fixed import Fixed
from sweep.bench.flops import count_flops
from sweep.data.datasets import Dataset, load_dataset, prepare_images
from sweep.engine import tensors
from sweep.engine.backends import Backend, Compiled, Plain, Subject, forward_of
from sweep.engine.choice import entries_of
from sweep.engine.sites import Entry
from sweep.networks.loading import Network, load_network
from sweep.perturb.base import Array
from sweep.perturb.noise import Gaussian
from sweep.perturb.perturbation import perturb

LAW = (Gaussian(scale=0.2, basis="layer_std"),)


@dataclass(frozen=True)
class Task:
    """A network, its images, and which of its variables trials perturb."""

    network: Network
    dataset: Dataset
    subject: Subject
    varied: tuple[int, ...]

    @classmethod
    def of(cls, model: Path, data: Path) -> Self:
        """From its files."""
        network, dataset = load_network(model), load_dataset(data)
        subject = Subject(network, prepare_images(dataset.images, network.input_shape))
        varied = tuple(number for number, variable in enumerate(network.variables) if variable.kernel)
        return cls(network, dataset, Subject(network, subject.images, forward=forward_of(subject)), varied)

    @property
    def images(self) -> int:
        """Of a trial."""
        return len(self.dataset)

    @property
    def flops(self) -> int:
        """Floating-point operations of a trial."""
        return self.images * count_flops(self.network.model, self.varied)

    def draws(self, seeds: Sequence[int]) -> list[list[Array]]:
        """The weights of these trials."""
        clean = [np.asarray(weight) for weight in self.network.model.get_weights()]
        return [perturb(clean, self.network.variables, LAW, 0, seed) for seed in seeds]

    def by_cpu(self, trials: int) -> tuple[Array, list[int]]:
        """Scores (trials, images, outputs) by machine code on the CPU, and how many of them are right."""
        sets = self.draws(range(trials))
        try:
            backend: Backend = Compiled(self.subject, self.varied)
            scores = backend.scores(entries_of(sets, backend))
        except Exception as error:  # another llvmlite, say
            print(f"machine code did not run: {type(error).__name__}: {error}", flush=True)
            with tensors.on_cpu():
                backend = Plain(self.subject, self.varied)
                scores = backend.scores(entries_of(sets, backend))
        return scores, Fixed(self.network, self.dataset, _Known(backend, scores)).correct(sets, self.varied)


class _Known:
    """A backend whose scores are known."""

    name = "compiled"

    def __init__(self, backend: Backend, scores: Array) -> None:
        self.varied, self.trials, self.pieces = backend.varied, len(scores), backend.pieces
        self._scores = scores

    def scores(self, entries: Sequence[Sequence[Entry]], piece: int = 0) -> Array:  # noqa: ARG002
        return self._scores

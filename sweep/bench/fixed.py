"""An evaluator that is told how to evaluate."""

from __future__ import annotations

from collections.abc import Sequence

from sweep.data.datasets import Dataset
from sweep.engine.backends import Backend
from sweep.engine.evaluator import Evaluator
from sweep.networks.loading import Network


class Fixed(Evaluator):
    """An evaluator that is told its backend."""

    def __init__(self, network: Network, dataset: Dataset, backend: Backend) -> None:
        super().__init__(network, dataset)
        self._told = backend

    def backend(self, varied: Sequence[int], block: int | None = None, trials: float | None = None) -> Backend:  # noqa: ARG002
        """The one it was told."""
        return self._told

"""A network as it is trained against imperfections: each step has draws of its own, and gradients pass them by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from sweep.data.datasets import Dataset
from sweep.engine.graph import Graph, Unsupported
from sweep.engine.pieces import over_images
from sweep.engine.proof import IMAGES, flow_problem
from sweep.engine.steps import Tensor, straight_through
from sweep.errors import InputError
from sweep.networks.feeding import feed
from sweep.networks.loading import Network
from sweep.perturb.base import Array
from sweep.perturb.perturbation import plan_of, reached
from sweep.preparation.sites import Seen, placed, sites_in
from sweep.randomness import STEPS, epoch_stream
from sweep.study.family import CALIBRATION_IMAGES
from sweep.training.noise import Noise


class Imperfections:
    """What the steps of a training draw, as a trial draws it: with the root seed of the training, step by step.

    Ranges that are calibrated are those of the weights at the beginning of each epoch, and in the first one also after
    1, 2, 4, … steps.
    """

    def __init__(self, network: Network, noise: Noise, root_seed: int, training: Dataset, rescale: str | None) -> None:
        """Raises InputError where a transform selects nothing, or cannot act in this network."""
        self._network, self._noise, self._root_seed = network, noise, root_seed
        self._sites = sites_in(noise.transforms, network.layers)
        self.reached = reached(network.variables, noise.transforms)
        self._images = feed(network, training.first(CALIBRATION_IMAGES), rescale)
        size = self._images.shape[1:]
        try:
            every = range(len(network.model.weights))
            self.graph = Graph(network.model, every, [site for *_, site in self._sites], size)
            watched = [site for _, transform, _, site in self._sites if transform.calibrated]
            self._watched = Graph(network.model, every, list(dict.fromkeys(watched)), size)
            self._shapes = [self.graph.shape_at(i) if s.drawn else () for i, (*_, s) in enumerate(self._sites)]
            problem = flow_problem(network, self.graph, self._images[:IMAGES])
        except Unsupported as reason:
            problem = str(reason)
        if problem:
            raise InputError(f"noise: cannot act here: {problem}")

    def begin(self, epoch: int) -> None:
        """What follows are steps of this epoch, counted from 0."""
        transforms = self._noise.at(epoch)
        self._plan = plan_of(self._network.variables, transforms)
        self._now = sites_in(transforms, self._network.layers)
        self._first = epoch == 0
        self._calibrate()

    def weights(self, step: int, clean: Sequence[Array]) -> list[Array]:
        """The variables that are `reached` as a step sees them, from their values."""
        if self._first and step & (step - 1) == 0:
            self._calibrate()
        values: list[Any] = [None] * len(self._network.variables)
        for i, value in zip(self.reached, clean, strict=True):
            values[i] = np.array(value, np.float32)
        drawn = next(self._plan.reads(values, self._root_seed, STEPS + step))
        return [np.asarray(drawn[i], np.float32) for i in self.reached]

    def flow(self, step: int, images: int) -> list[Array]:
        """What each site of the graph gets in a step of so many images."""
        entries = [one.entry(self._root_seed, STEPS + step) for one in self._placed]
        pairs = zip(entries, self._shapes, strict=True)
        return [e if isinstance(e, np.ndarray) else e.take(images, shape) for e, shape in pairs]

    def _calibrate(self) -> None:
        seen = {
            site: Seen(None, int(np.prod(shape)), self.graph.arrays_at(number))
            for number, ((*_, site), shape) in enumerate(zip(self._sites, self._shapes, strict=True))
        }
        if self._watched.inserts:
            found = over_images(self._watched, self._watched.taps, self._images)
            for insert, sample in zip(self._watched.inserts, found, strict=True):
                seen[insert.site] = seen[insert.site]._replace(sample=sample)
        self._placed = placed(self._now, seen)


class InOrder(keras.utils.PyDataset):  # type: ignore[misc]
    """Images (n, ...) and targets (n, ...) in batches, in an order that the seed and the epoch say."""

    def __init__(self, images: Array, targets: npt.NDArray[Any], batch: int, root_seed: int) -> None:
        super().__init__()
        self._images, self._targets, self._batch, self._root_seed = images, targets, batch, root_seed
        self.begin(0)

    def begin(self, epoch: int) -> None:
        """What follows is this epoch, counted from 0."""
        self._order = epoch_stream(self._root_seed, epoch).permutation(len(self._images))

    def __len__(self) -> int:
        return -(-len(self._images) // self._batch)

    def __getitem__(self, number: int) -> tuple[Array, npt.NDArray[Any]]:
        chosen = self._order[number * self._batch : (number + 1) * self._batch]
        return self._images[chosen], self._targets[chosen]


class Aware(keras.Model):  # type: ignore[misc]
    """Trains a network against imperfections, and otherwise is that network.

    The weights of a step are perturbed in its forward pass and for its gradients, which then change the clean weights.

    Source: Joshi et al., Nature Communications 11, 2473 (2020), section "Training with noise" (a fresh draw for each
    batch, of forward and backward pass); Bengio et al., arXiv:1308.3432 (gradients of what is rounded).
    """

    def __init__(self, network: keras.Model, imperfections: Imperfections) -> None:
        super().__init__(name=f"{network.name}_aware")
        self.network = network
        self._imperfections = imperfections

    def call(self, images: Tensor, training: bool = False) -> Tensor:
        """Outputs (B, ...) for images (B, ...): those of the network, or, in training, of what a step makes of it."""
        if not training:
            return self.network(images, training=False)
        weights, drawn = self.network.weights, self._imperfections
        values = [tf.convert_to_tensor(variable.value) for variable in weights]
        step = tf.cast(self.optimizer.iterations, tf.int64)
        if drawn.reached:
            clean = [values[i] for i in drawn.reached]
            perturbed = tf.numpy_function(
                lambda s, *w: drawn.weights(int(s), w), [step, *clean], [tf.float32] * len(clean)
            )
            for i, noisy in zip(drawn.reached, perturbed, strict=True):
                noisy.set_shape(values[i].shape)
                values[i] = straight_through(values[i], noisy)
        inserts = drawn.graph.inserts
        if inserts:
            count = tf.shape(images)[0]
            entries = tf.numpy_function(
                lambda s, n: drawn.flow(int(s), int(n)), [step, count], [tf.float32] * len(inserts)
            )
            for number, (insert, entry) in enumerate(zip(inserts, entries, strict=True)):
                site = insert.site
                arrays = drawn.graph.arrays_at(number)
                levels = (3, arrays[0], None) if arrays else (4,)
                entry.set_shape((None, *site.taken(drawn.graph.shape_at(number))) if site.drawn else levels)
                values.append(entry)
        scores, changed, losses = drawn.graph.train(images, values)
        for variable, value in changed:
            variable.assign(value)
        for loss in losses:
            self.add_loss(loss)
        return scores

"""A network and a dataset, compiled once: weights in, correct counts out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from sweep.networks.datasets import Dataset, prepare_images
from sweep.networks.decisions import decide
from sweep.networks.loading import Network
from sweep.perturb.base import Array

IMAGES_PER_STEP = 500


class Evaluator:
    """Evaluates one network on one dataset under any number of weight sets.

    The weights are arguments of a compiled function: nothing is assigned to the Keras model, and nothing is
    traced again from one trial to the next.
    """

    engine = "plain"

    def __init__(self, network: Network, dataset: Dataset, images_per_step: int = IMAGES_PER_STEP) -> None:
        self.network = network
        self.weights: list[Array] = [np.asarray(w) for w in network.model.get_weights()]
        self.labels = dataset.labels
        images = prepare_images(dataset.images, network.input_shape)
        cuts = range(0, len(images), images_per_step)
        self._steps = [tf.constant(images[i : i + images_per_step]) for i in cuts]
        self._forward = tf.function(self._stateless, reduce_retracing=False)

    def scores(self, weights: Sequence[Array]) -> npt.NDArray[np.float32]:
        """Outputs of the network, (images, outputs), for weights in the order of `model.weights`."""
        tensors = [tf.constant(w) for w in weights]
        return np.concatenate([self._forward(step, tensors).numpy() for step in self._steps])

    def correct(self, weights: Sequence[Array]) -> int:
        """Number of images decided as labelled."""
        decisions = decide(self.scores(weights), self.network.threshold)
        return int(np.count_nonzero(decisions == self.labels))

    def _stateless(self, images: tf.Tensor, weights: list[tf.Tensor]) -> tf.Tensor:
        model = self.network.model
        given = {id(v): w for v, w in zip(model.weights, weights, strict=True)}
        trainable = [given.get(id(v), v.value) for v in model.trainable_variables]
        other = [given.get(id(v), v.value) for v in model.non_trainable_variables]
        outputs, _ = model.stateless_call(trainable, other, images, training=False)
        return outputs


def configure(threads: int = 1) -> None:
    """Give TensorFlow this many threads in this process; without effect once it has computed something."""
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:  # a notebook that has used TensorFlow already keeps its own setting
        return


def device_name() -> str:
    """`GPU` or `CPU`: where this process evaluates."""
    return "GPU" if tf.config.list_logical_devices("GPU") else "CPU"

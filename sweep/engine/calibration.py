"""What the clean network's activations look like, on images that are not the test set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sweep.data.datasets import Dataset
from sweep.engine import tf_ops
from sweep.engine.backends import images_per_step, steps
from sweep.engine.graph import Graph, Unsupported
from sweep.engine.proof import IMAGES as PROVEN
from sweep.engine.proof import flow_problem
from sweep.engine.sites import Site
from sweep.networks.feeding import feed
from sweep.networks.loading import Network
from sweep.perturb.base import Array

IMAGES = 1000  # the first of the training images


def observe(
    network: Network, sets: tuple[Dataset, Dataset | None], rescale: str | None, sites: Sequence[Site]
) -> list[Array | None]:
    """What the clean network hands to each site, for the first images of the training set: (images, ...) float32.

    Args:
        network: as loaded.
        sets: the test set, and the training set, without which the result is None for every site.
        rescale: the study's.
        sites: where.

    Raises:
        Unsupported: the network's data flow is not known, or a site is not part of it.
        InputError: see `sweep.networks.feeding.rescale_of`.
    """
    graph = Graph(network.model, range(len(network.model.weights)), sites)
    for number, site in enumerate(sites):
        if site.kind == "noise":
            graph.shape_at(number)
    test, training = sets
    problem = flow_problem(network, graph, feed(network, test.first(PROVEN), rescale))
    if problem:
        raise Unsupported(problem)
    if training is None:
        return [None] * len(sites)
    images = feed(network, training.first(IMAGES), rescale)
    taps = tf_ops.compile_function(graph.taps)
    parts = [taps(tf_ops.constant(step)) for step in steps(images, images_per_step(graph))]
    return [np.concatenate([np.asarray(part) for part in tensor]) for tensor in zip(*parts, strict=True)]

"""Statistics of batch normalisation anew: what one pass over calibration images, as in training, makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from sweep.engine import tensors
from sweep.engine.graph import Graph, Unsupported
from sweep.engine.proof import flow_problem
from sweep.engine.sites import Drawn, Entry, Site
from sweep.engine.steps import Tensor
from sweep.networks.loading import Network
from sweep.networks.variables import statistics_in
from sweep.perturb.base import Array


class Recalibration:
    """Gives each batch normalisation of a network the mean and variance of what it is handed.

    As one forward pass in training mode over all calibration images does it: layer after layer, each from inputs that
    the layers before it make with statistics that are new already. Nothing else is as in training: dropout and noise
    of the network's own stay off. The pass is the plain one, whatever evaluates the chip then.

    Source: Ioffe, Szegedy, arXiv:1502.03167 (batch normalisation); Joshi et al., Nature Communications 11, 2473 (2020),
    section "Adaptive batch normalization statistics update".
    """

    def __init__(self, network: Network, images: Array, sites: Sequence[Site] = ()) -> None:
        """Plans.

        Args:
            network: with batch normalisation.
            images: (n, ...) as it takes them, for calibration.
            sites: where transforms act on its data flow.

        Raises:
            Unsupported: the network's data flow is not known, or no single input is that of a batch normalisation.
        """
        model = network.model
        self._graph = Graph(model, range(len(model.weights)), sites, images.shape[1:])
        norms = [step.operation for step in self._graph.steps if _is_norm(step.operation)]
        self._varied = [self._graph.number(v) for norm in norms for v in (norm.moving_mean, norm.moving_variance)]
        twice = next((norm for k, norm in enumerate(norms) if norm in norms[:k]), None)
        if twice is not None:
            raise Unsupported(f"layer {twice.name} acts more than once, and has one mean and variance for all its uses")
        if missed := set(statistics_in(network.variables)) - set(self._varied):
            raise Unsupported(f"layer {network.variables[min(missed)].layer} stands within another, out of sight")
        self._network, self._images = network, ops.convert_to_tensor(images)
        noisy = [k for k, site in enumerate(sites) if site.drawn]
        self._shapes = {len(model.weights) + k: self._graph.shape_at(k) for k in noisy}
        self._run = tensors.compile_function(self._statistics)

    def problem(self) -> str | None:
        """Why the statistics would not be those of `keras.Model.predict`, in a line; None where they are."""
        return flow_problem(self._network, self._graph, np.asarray(self._images))

    def of(self, entries: Sequence[Entry]) -> list[Array]:
        """The weights of a chip with its new statistics.

        Args:
            entries: its weights, in the order of `model.weights`, and what there is for each site.
        """
        images = len(self._images)
        values = [e.take(images, self._shapes[i]) if isinstance(e, Drawn) else e for i, e in enumerate(entries)]
        found = self._run(self._images, [ops.convert_to_tensor(value) for value in values])
        weights = [e for e in entries[: len(self._network.variables)] if not isinstance(e, Drawn)]
        for number, value in zip(self._varied, found, strict=True):
            weights[number] = np.asarray(value, np.float32)
        return weights

    def _statistics(self, images: Tensor, values: Sequence[Tensor]) -> list[Tensor]:
        found: list[Tensor] = []

        def update(operation: Any, inputs: Sequence[Tensor]) -> list[tuple[Any, Tensor]]:
            if not _is_norm(operation):
                return []
            if getattr(inputs[0], "_keras_mask", None) is not None:
                raise Unsupported(f"layer {operation.name} passes over what a mask marks")
            own = moments(inputs[0], operation.axis)
            found.extend(own)
            return list(zip((operation.moving_mean, operation.moving_variance), own, strict=True))

        self._graph.run(images, values, update)
        return found


def moments(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Mean and variance (C,) of activations over all axes but that of their channels, in float32.

    First within an image, then over the images, so that sums of millions of values keep their digits.

    Args:
        x: (B, ..., C).
        axis: of the channels.
    """
    x = ops.cast(x, "float32")
    inner = [k for k in range(1, len(x.shape)) if k != axis % len(x.shape)]

    def mean(values: Tensor) -> Tensor:
        return ops.mean(ops.mean(values, inner, keepdims=True) if inner else values, 0, keepdims=True)

    centre = mean(x)
    return ops.reshape(centre, (-1,)), ops.reshape(mean(ops.square(x - centre)), (-1,))


def _is_norm(operation: Any) -> bool:
    return type(operation) is keras.layers.BatchNormalization

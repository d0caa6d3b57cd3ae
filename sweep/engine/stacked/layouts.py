"""Where trials sit in the activations of a stacked pass, and one use of a layer there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from keras import ops

from sweep.engine.steps import Tensor


class Layout(Enum):
    """Where the trials sit in an activation whose shape in the plain network is (B, ..., C), for T trials.

    SHARED is (B, ..., C), the same for all trials. CHANNELS is (B, ..., T·C), trial by trial: what convolutions,
    pooling and elementwise functions like best. IMAGES is (T·B, ..., C), trial by trial: any layer can act on it as if
    it were a larger batch, as long as its own weights are the same for all trials.
    """

    SHARED = "shared"
    CHANNELS = "channels"
    IMAGES = "images"


@dataclass(frozen=True)
class Activation:
    """An activation for `trials` trials and its layout."""

    tensor: Tensor
    layout: Layout
    trials: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape in the plain network, without the images."""
        shape = tuple(self.tensor.shape[1:])
        return (*shape[:-1], shape[-1] // self.trials) if self.layout is Layout.CHANNELS else shape

    def with_tensor(self, tensor: Tensor) -> Activation:
        """Another tensor, in the same layout."""
        return replace(self, tensor=tensor)

    def as_channels(self) -> Activation:
        """The same in the layout CHANNELS."""
        if self.layout is Layout.CHANNELS:
            return self
        if self.layout is Layout.SHARED:
            tensor = ops.tile(self.tensor, [1] * len(self.shape) + [self.trials])
        else:
            *middle, channels = self.shape
            tensor = ops.reshape(ops.moveaxis(self.per_trial(), 0, -2), [-1, *middle, self.trials * channels])
        return Activation(tensor, Layout.CHANNELS, self.trials)

    def as_images(self) -> Activation:
        """The same in the layout IMAGES."""
        if self.layout is Layout.IMAGES:
            return self
        if self.layout is Layout.SHARED:
            tensor = ops.tile(self.tensor, [self.trials] + [1] * len(self.shape))
            return Activation(tensor, Layout.IMAGES, self.trials)
        return from_trials(ops.moveaxis(self.split_channels(), -2, 0), self.trials)

    def per_trial(self) -> Tensor:
        """The tensor as (T, B, ..., C)."""
        images = self.as_images().tensor
        count = images.shape[0]
        return ops.reshape(images, [self.trials, -1 if count is None else count // self.trials, *images.shape[1:]])

    def split_channels(self) -> Tensor:
        """The tensor as (B, ..., T, C)."""
        *middle, channels = self.shape
        return ops.reshape(self.as_channels().tensor, [-1, *middle, self.trials, channels])


def from_trials(tensor: Tensor, trials: int) -> Activation:
    """The activation of a tensor (T, B, ..., C)."""
    return Activation(ops.reshape(tensor, [-1, *tensor.shape[2:]]), Layout.IMAGES, trials)


@dataclass(frozen=True)
class Call:
    """One use of a layer in the graph, for all trials.

    Attributes:
        operation: the layer, or the operation on tensors (`x + y`).
        inputs: its inputs, in the order of the graph.
        fill: puts tensors, one for each input, into the arguments with which the layer was called.
        varied: the values (T, ...) of each variable that trials perturb, by its number in the graph.
        number: of a variable, as `Graph.number`.
        trials: T.
        products: whether convolutions are taken as GPUs take them best, see `taps`; else they are one convolution with
            as many groups as there are trials, which CPUs do best.
    """

    operation: Any
    inputs: tuple[Activation, ...]
    fill: Callable[[list[Tensor]], tuple[tuple[Any, ...], dict[str, Any]]]
    varied: Mapping[int, Tensor]
    number: Callable[[Any], int]
    trials: int
    products: bool = False

    def weight(self, variable: Any) -> Tensor:
        """The values (T, ...) of a variable."""
        values = self.varied.get(self.number(variable))
        return ops.broadcast_to(variable.value, [self.trials, *variable.shape]) if values is None else values

    def varies(self) -> bool:
        """True if trials perturb a weight of this layer."""
        return any(self.number(v) in self.varied for v in getattr(self.operation, "weights", ()))

    def apply(self, inputs: list[Activation]) -> Activation:
        """The layer as it is, on inputs of one layout."""
        args, kwargs = self.fill([x.tensor for x in inputs])
        return inputs[0].with_tensor(self.operation.call(*args, **kwargs))

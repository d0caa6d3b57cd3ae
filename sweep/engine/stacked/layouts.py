"""Where the trials sit in an activation: nowhere yet, among the channels, or among the images."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sweep.engine import tf_ops
from sweep.engine.tf_ops import Tensor


class Layout(Enum):
    """The three forms of an activation whose shape in the plain network is (B, ..., C), for T trials.

    SHARED is (B, ..., C), the same for all trials. CHANNELS is (B, ..., T·C): what convolutions, pooling and
    elementwise functions like best. IMAGES is (T·B, ..., C): any layer can act on it as if it were a larger
    batch, as long as its own weights are the same for all trials.
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
        return Activation(tensor, self.layout, self.trials)

    def as_channels(self) -> Activation:
        """The same in the layout CHANNELS."""
        if self.layout is Layout.CHANNELS:
            return self
        change = tf_ops.repeat_channels if self.layout is Layout.SHARED else tf_ops.channels_from_images
        return Activation(change(self.tensor, self.trials), Layout.CHANNELS, self.trials)

    def as_images(self) -> Activation:
        """The same in the layout IMAGES."""
        if self.layout is Layout.IMAGES:
            return self
        change = tf_ops.repeat_images if self.layout is Layout.SHARED else tf_ops.images_from_channels
        return Activation(change(self.tensor, self.trials), Layout.IMAGES, self.trials)

    def per_trial(self) -> Tensor:
        """The tensor as (T, B, ..., C)."""
        return tf_ops.split_trials(self.as_images().tensor, self.trials)


def from_trials(tensor: Tensor, trials: int) -> Activation:
    """The activation of a tensor (T, B, ..., C)."""
    return Activation(tf_ops.reshape(tensor, [-1, *tensor.shape[2:]]), Layout.IMAGES, trials)

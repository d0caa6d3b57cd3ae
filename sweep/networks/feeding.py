"""How the images of a dataset reach a network: in which units, where that can be told."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sweep.data.datasets import AS_STORED, RESCALES, Dataset, image_shape, prepare_images
from sweep.data.images import blocks_of
from sweep.errors import InputError
from sweep.networks.loading import Network

DEFAULT = "0..1"  # of uint8 images
DONE = {"0..1": "divided by 255", AS_STORED: "as stored", "-1..1": "divided by 127.5, less 1"}
_CHOICES = ", ".join(f'"{name}" {done}' for name, done in DONE.items())


def rescale_of(network: Network, dataset: Dataset, wanted: str | None) -> str | None:
    """How whole-number images reach a network, of `RESCALES`; None for floating ones, which are never touched.

    Args:
        network: which says whether it scales by itself, looks up indices, or takes whole numbers only.
        dataset: its images.
        wanted: the study's `rescale`, or None.

    Raises:
        InputError: it cannot be told, or what is wanted makes no sense for this network.
    """
    images = dataset.images
    whole = "int" in network.input_dtype
    if images.dtype.kind == "f":
        if whole and any((some != np.rint(some)).any() for _, some in blocks_of(images)):
            raise InputError(f"the network's input is {network.input_dtype}, and the images have fractions")
        return None
    if network.lookup or whole:
        reads = (
            f"layer {network.lookup}, which looks up indices" if network.lookup else f"an {network.input_dtype} input"
        )
        if wanted not in (None, AS_STORED):
            raise InputError(
                f'rescale: {wanted!r}: the values go to {reads}; only "{AS_STORED}" makes sense, as stored'
            )
        if network.lookup and not wanted and images.dtype == np.uint8:
            raise InputError(f'rescale: is missing: uint8 values go to {reads}; say "{AS_STORED}" for as stored')
        return AS_STORED
    if not wanted and network.scaling:
        raise InputError(
            f"rescale: is missing: the network begins with a scaling of its own, layer {network.scaling}; say how "
            f"{images.dtype} images reach it, as in its training: {_CHOICES}"
        )
    if not wanted and images.dtype != np.uint8:
        raise InputError(
            f"rescale: is missing: say how {images.dtype} images reach the network, as in its training: {_CHOICES}"
        )
    return wanted or DEFAULT


class Fed:
    """Images (n, ...) as the network takes them, made when they are asked for: ``fed[part]`` is a float32 array.

    They have no more digits than the network's input has.

    Attributes:
        shape: of all of them, (n, ...).
        stored: whether they are just so in the dataset, so that a slice of them is a view of it.
    """

    def __init__(self, network: Network, dataset: Dataset, wanted: str | None) -> None:
        """Args and errors as for `rescale_of`."""
        self._images, self._network = dataset.images, network
        self._rescale = rescale_of(network, dataset, wanted) or DEFAULT
        self.shape = (len(dataset), *image_shape(dataset.images.shape, network.input_shape))
        flags, kind = dataset.images.flags, dataset.images.dtype
        plain = kind == np.float32 and kind.isnative and flags.c_contiguous and flags.aligned
        self.stored = bool(plain and network.input_dtype != "float16")

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Of all of them."""
        return 4 * int(np.prod(self.shape))

    def __getitem__(self, part: slice | npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        some = self._images[part]
        if self.stored:
            seen = some.reshape((len(some), *self.shape[1:]))
            seen.flags.writeable = False
            return seen
        prepared = prepare_images(some, self._network.input_shape, self._rescale)
        if self._network.input_dtype == "float16":
            return prepared.astype(np.float16).astype(np.float32)
        return prepared


def feed(network: Network, dataset: Dataset, wanted: str | None) -> np.ndarray:
    """All images (n, ...) as the network takes them, float32; see `Fed`."""
    return Fed(network, dataset, wanted)[:]


def fed(network: Network, dataset: Dataset, wanted: str | None) -> str:
    """In words: what goes into the network. Args and errors as for `rescale_of`."""
    rescale = rescale_of(network, dataset, wanted)
    divisor, less = RESCALES[rescale or AS_STORED]
    lows, highs = zip(*((block.min(), block.max()) for _, block in blocks_of(dataset.images)), strict=True)
    low, high = (float(bound) / divisor - less for bound in (min(lows), max(highs)))
    shape = " × ".join(map(str, dataset.images.shape[1:]))
    return f"{dataset.images.dtype} images of {shape}, {DONE[rescale or AS_STORED]}: {low:.4g} to {high:.4g}"

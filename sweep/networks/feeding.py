"""How the images of a dataset reach a network: in which units, where that can be told."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from sweep.data.datasets import AS_STORED, RESCALES, Dataset, image_shape, prepare_images
from sweep.data.images import blocks_of
from sweep.data.inputs import fields_of
from sweep.errors import InputError
from sweep.networks.ends import Input, matched, shapes_in
from sweep.networks.loading import Network

DEFAULT = "0..1"  # of uint8 images
DONE = {"0..1": "divided by 255", AS_STORED: "as stored", "-1..1": "divided by 127.5, less 1"}
_CHOICES = ", ".join(f'"{name}" {done}' for name, done in DONE.items())


def rescale_of(network: Network, dataset: Dataset, wanted: str | None) -> str | None:
    """How whole-number images reach a network, of `RESCALES`; None for floating ones, which are never touched.

    Of several inputs that is one way for all that are whole numbers, but for indices and inputs of whole numbers, which
    take theirs as stored; None where there are no others.

    Args:
        network: which says whether it scales by itself, looks up indices, or takes whole numbers only.
        dataset: its images, which fit.
        wanted: the study's `rescale`, or None.

    Raises:
        InputError: it cannot be told, or what is wanted makes no sense for this network.
    """
    if not network.inputs:
        return _rescale(_single(network), dataset.images, wanted)
    problems: list[str] = []
    found = set()
    for one, images in _parts(network, dataset):
        try:
            rescale = _rescale(one, images, wanted)
        except InputError as error:
            problems += error.problems
        else:
            found |= {None if one.lookup or one.whole else rescale}
    if problems:
        raise InputError(problems)
    return next(iter(found - {None}), None)


def _single(network: Network) -> Input:
    """The only input of a network."""
    return Input("", network.input_shape, network.input_dtype, network.scaling, network.lookup)


def _parts(network: Network, dataset: Dataset) -> list[tuple[Input, np.ndarray]]:
    """Each of several inputs, with what the dataset has for it, (n, ...)."""
    fields = fields_of(dataset.images)
    return [(one, fields[name]) for one, name in zip(network.inputs, matched(network.inputs, dataset), strict=True)]


def _rescale(one: Input, images: np.ndarray, wanted: str | None) -> str | None:
    """As `rescale_of`, for one input."""
    several = f" for input {one.name}" if one.name else ""
    if images.dtype.kind == "f":
        if one.whole and any((some != np.rint(some)).any() for _, some in blocks_of(images)):
            if several:
                raise InputError(f"input {one.name} is {one.dtype}, and its values have fractions")
            raise InputError(f"the network's input is {one.dtype}, and the images have fractions")
        return None
    if images.dtype.kind == "b":
        return None
    if one.lookup or one.whole:
        reads = f"layer {one.lookup}, which looks up indices" if one.lookup else f"an {one.dtype} input"
        if several:
            return AS_STORED
        if wanted not in (None, AS_STORED):
            raise InputError(
                f'rescale: {wanted!r}: the values go to {reads}; only "{AS_STORED}" makes sense, as stored'
            )
        if one.lookup and not wanted and images.dtype == np.uint8:
            raise InputError(f'rescale: is missing: uint8 values go to {reads}; say "{AS_STORED}" for as stored')
        return AS_STORED
    after = ", or store them as floating numbers, which are never touched" if several else ""
    if not wanted and one.scaling:
        what = f"input {one.name}" if several else "the network"
        raise InputError(
            f"rescale: is missing: {what} begins with a scaling of its own, layer {one.scaling}; say how "
            f"{images.dtype} images reach it, as in its training: {_CHOICES}{after}"
        )
    if not wanted and (images.dtype != np.uint8 or (several and images.ndim < 3)):  # no images, but a few numbers
        what = f"values{several}" if several else "images"
        raise InputError(
            f"rescale: is missing: say how {images.dtype} {what} reach the network, as in its training: "
            f"{_CHOICES}{after}"
        )
    return wanted or DEFAULT


class Fed:
    """Images (n, ...) as the network takes them, made when they are asked for: ``fed[part]`` is a float32 array.

    They have no more digits than the network's input has. Of several inputs they are (n, values), those of one after
    those of the other.

    Attributes:
        shape: of all of them, (n, ...).
        stored: whether they are just so in the dataset, so that a slice of them is a view of it.
    """

    def __init__(self, network: Network, dataset: Dataset, wanted: str | None) -> None:
        """Args and errors as for `rescale_of`."""
        self._images, self._network = dataset.images, network
        rescale = rescale_of(network, dataset, wanted) or DEFAULT
        self._rescale, self._fields = rescale, list[tuple[str, Input, str, int]]()
        self.shape = (len(dataset), *fed_shape(network, dataset))
        if network.inputs:
            names, shapes = matched(network.inputs, dataset), shapes_in(network.inputs, dataset)
            for one, name, shape in zip(network.inputs, names, shapes, strict=True):
                own = AS_STORED if one.lookup or one.whole else rescale
                self._fields.append((name, one, own, math.prod(shape)))
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
        if self._fields:
            return self._packed(some)
        if self.stored:
            seen = some.reshape((len(some), *self.shape[1:]))
            seen.flags.writeable = False
            return seen
        prepared = prepare_images(some, self._network.input_shape, self._rescale)
        if self._network.input_dtype == "float16":
            return prepared.astype(np.float16).astype(np.float32)
        return prepared

    def _packed(self, records: np.ndarray) -> npt.NDArray[np.float32]:
        packed = np.empty((len(records), self.shape[1]), np.float32)
        begin = 0
        for name, one, rescale, count in self._fields:
            values = prepare_images(records[name], one.shape, rescale)
            packed[:, begin : begin + count] = values.reshape(len(records), count)
            begin += count
        return packed


def fed_shape(network: Network, dataset: Dataset) -> tuple[int, ...]:
    """Of one image as the network takes it."""
    if not network.inputs:
        return image_shape(dataset.images.shape, network.input_shape)
    return (sum(map(math.prod, shapes_in(network.inputs, dataset))),)


def feed(network: Network, dataset: Dataset, wanted: str | None) -> np.ndarray:
    """All images (n, ...) as the network takes them, float32; see `Fed`."""
    return Fed(network, dataset, wanted)[:]


def fed(network: Network, dataset: Dataset, wanted: str | None) -> str:
    """In words: what goes into the network, one input after the other. Args and errors as for `rescale_of`."""
    if not network.inputs:
        rescale = rescale_of(network, dataset, wanted)
        return _said(dataset.images, rescale, "images of ")
    parts = _parts(network, dataset)
    return "; ".join(f"{one.name}: {_said(images, _rescale(one, images, wanted), '')}" for one, images in parts)


def _said(images: np.ndarray, rescale: str | None, what: str) -> str:
    divisor, less = RESCALES[rescale or AS_STORED]
    lows, highs = zip(*((block.min(), block.max()) for _, block in blocks_of(images)), strict=True)
    low, high = (float(bound) / divisor - less for bound in (min(lows), max(highs)))
    shape = " × ".join(map(str, images.shape[1:])) or "1"
    return f"{images.dtype} {what}{shape}, {DONE[rescale or AS_STORED]}: {low:.4g} to {high:.4g}"

"""How a dataset reaches a worker: mapped from its file where that is within reach, so that pages are shared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sweep.data.datasets import Dataset
from sweep.data.places import Place
from sweep.errors import TaskError

SPOOLED_FROM = 64 * 1024**2  # bytes of all images that are written to files, for workers of this machine to map


@dataclass(frozen=True)
class Travelling:
    """A dataset on its way.

    Attributes:
        dataset: without its images, and without targets that are these.
        place: of the images.
        reconstructs: whether targets are the images.
        whole: a reference to all of it, for workers that cannot reach the file; None where all can.
    """

    dataset: Dataset
    place: Place
    reconstructs: bool
    whole: Any = None

    def arrived(self, get: Callable[[Any], Any]) -> Dataset:
        """The dataset; `get` resolves references. TaskError where the file is not as it was, and there is no other."""
        images = self.place.map()
        if images is not None:
            targets = images if self.reconstructs else self.dataset.targets
            return replace(self.dataset, images=images, targets=targets, place=self.place)
        if self.whole is None:
            raise TaskError(f"{self.place.path}: is out of reach, or was written to after the run began; run again")
        found: Dataset = get(self.whole)
        return found


def packed(dataset: Dataset, whole: Any = None) -> Travelling | None:
    """A dataset as it travels, if its images are in a file."""
    if dataset.place is None:
        return None
    reconstructs = dataset.targets is dataset.images
    rest = replace(dataset, images=np.empty(0, np.uint8), targets=None if reconstructs else dataset.targets)
    return Travelling(rest, dataset.place, reconstructs, whole)


def spooled(datasets: Mapping[str, Dataset], folder: str) -> dict[str, Dataset]:
    """Datasets with places: images that have none, and are large together, go into files in this folder, with room."""
    held = sum(dataset.images.nbytes for dataset in datasets.values() if dataset.place is None)
    if held < SPOOLED_FROM:
        return dict(datasets)
    return {label: _spooled(one, Path(folder) / f"images{i}.bin") for i, (label, one) in enumerate(datasets.items())}


def _spooled(dataset: Dataset, path: Path) -> Dataset:
    if dataset.place is not None:
        return dataset
    images = dataset.images
    step = max(1, SPOOLED_FROM * len(images) // max(1, images.nbytes))
    try:
        with path.open("wb") as file:
            for first in range(0, len(images), step):
                file.write(np.ascontiguousarray(images[first : first + step]).data)
    except OSError:
        path.unlink(missing_ok=True)
        return dataset
    with path.open("rb") as file:
        return replace(dataset, place=Place.of(file, path, 0, images.dtype, images.shape))

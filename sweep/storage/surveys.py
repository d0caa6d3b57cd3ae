"""What is known of a study's images before chips see samples of them: a file of the run folder, made once."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sweep.errors import StoreError
from sweep.files import reason
from sweep.storage.controls import Controls, drop_controls, keep_controls, read_controls
from sweep.storage.pages import sizes
from sweep.storage.paths import Folder
from sweep.storage.schema import parquet_bytes
from sweep.storage.shards import MOST_UNPACKED

SURVEY = "survey.parquet"
Ints = npt.NDArray[np.int64]
Order = npt.NDArray[np.int32]
_SCHEMA = pa.schema(
    [
        pa.field("cell", pa.string()),
        pa.field("order", pa.list_(pa.int32())),
        pa.field("right", pa.list_(pa.int32())),
        pa.field("seen", pa.list_(pa.int32())),
    ]
)


@dataclass(frozen=True)
class Survey:
    """By what the images of samples are chosen.

    All of it is whole numbers, made once for a run and kept with it: whatever machine goes on, chips see what they
    would have seen.

    Attributes:
        orders: by cell, the numbers of the images in the order of an average chip's margin; (N,) int32.
        pilots: by cell, in each stratum of that order, right decisions of pilot chips and all of them; (strata,) each.
        controls: of the chips' draws; a file of their own.
    """

    orders: Mapping[str, Order] = field(default_factory=dict)
    pilots: Mapping[str, tuple[Ints, Ints]] = field(default_factory=dict)
    controls: Controls = field(default_factory=Controls)

    def __or__(self, other: Survey) -> Survey:
        orders, pilots = {**self.orders, **other.orders}, {**self.pilots, **other.pilots}
        return Survey(orders, pilots, self.controls | other.controls)

    def without(self, cells: Collection[str], subjects: Collection[str] = ()) -> Survey:
        """All but what is of these cells, and the gradients of these `Cell.subject`."""
        orders = {cell: order for cell, order in self.orders.items() if cell not in cells}
        pilots = {cell: counts for cell, counts in self.pilots.items() if cell not in cells}
        return Survey(orders, pilots, self.controls.without(cells, subjects))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of its content but for the controls, in hex."""
        return hashlib.sha256(self.content()).hexdigest()

    def content(self) -> bytes:
        """As the content of its file, without the controls."""
        rows = [
            {"cell": cell, "order": self.orders[cell], "right": right, "seen": seen}
            for cell, (right, seen) in self.pilots.items()
        ]
        return parquet_bytes(pa.Table.from_pylist(rows, schema=_SCHEMA))


def keep_survey(folder: Folder, found: Survey, images: int | Mapping[str, int]) -> Survey:
    """Add what was found to the survey of a run folder; what is there already, of another driver, is kept.

    `images` as for `read_survey`.
    """
    whole = found

    def added(content: bytes | None) -> bytes:
        nonlocal whole
        whole = found if content is None else found | _parsed(content, folder, images)
        return whole.content()

    folder.update(SURVEY, added)
    controls = found.controls
    return replace(
        whole, controls=keep_controls(folder, controls) if controls.gradients or controls.factors else controls
    )


def drop_survey(folder: Folder, cells: Collection[str], subjects: Collection[str]) -> None:
    """Forget what a run folder knows of images for some cells, and the gradients of some `Cell.subject`."""

    def less(content: bytes | None) -> bytes:
        return (Survey() if content is None else _parsed(content, folder, {}).without(cells)).content()

    if folder.read(SURVEY) is not None:
        folder.update(SURVEY, less)
    drop_controls(folder, cells, subjects)


def read_survey(folder: Folder, images: int | Mapping[str, int]) -> Survey:
    """The survey of a run folder; empty where there is none.

    `images` is the size of the test set, or of each cell's by its id; cells that are not there are passed over. Raises
    StoreError when its file is damaged, or of other images.
    """
    content = folder.read(SURVEY)
    return Survey() if content is None else replace(_parsed(content, folder, images), controls=read_controls(folder))


def _parsed(content: bytes, folder: Folder, images: int | Mapping[str, int]) -> Survey:
    try:
        size = sizes(content).unpacked
        if size > MOST_UNPACKED:
            raise ValueError(f"it would take {size:,} bytes; at most {MOST_UNPACKED:,} are read")
        rows = pq.read_table(io.BytesIO(content)).cast(_SCHEMA).to_pylist()
        orders = {row["cell"]: np.array(row["order"], np.int32) for row in rows}
        counts = {row["cell"]: (row["right"], row["seen"]) for row in rows}
        pilots = {cell: (np.array(r, np.int64), np.array(s, np.int64)) for cell, (r, s) in counts.items()}
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        problem = reason(error)
    else:
        problem = next(_problems(orders, pilots, images), "")
        if not problem:
            return Survey(orders, pilots)
    raise StoreError(f"{folder.uri}/{SURVEY}: is damaged: {problem}; move it away, and `sweep run` makes it anew")


def _problems(
    orders: Mapping[str, Order], pilots: Mapping[str, tuple[Ints, Ints]], images: int | Mapping[str, int]
) -> Iterator[str]:
    for cell, order in orders.items():
        size = images if isinstance(images, int) else images.get(cell)
        if size is not None and not np.array_equal(np.sort(order), np.arange(size)):
            yield f"the order of {cell} is none of {size:,} images"
    for cell, (right, seen) in pilots.items():
        if right.ndim != 1 or right.shape != seen.shape or np.any((right < 0) | (right > seen)):
            yield f"the counts of {cell} are none"

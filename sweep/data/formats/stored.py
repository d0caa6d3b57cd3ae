"""What a dataset is asked for, and what its file or folder has of it, whatever the format."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sweep.data.places import Place
from sweep.errors import InputError
from sweep.files import file_digest

TABLES = (".parquet", ".arrow", ".feather", ".csv")
"""Names of tables end so."""
OF_NONE = sys.maxsize
"""The position of an output that is another one in each of several networks."""


@dataclass(frozen=True)
class Wanted:
    """What to read.

    Attributes:
        split: "test"; "train", what was trained on, as far as it lies beside the test set; or "calibration", all that
            is there or, if some of it is called so, what was trained on.
        x: the images' array or column; None for the format's own name. Of a network with several inputs a list in
            their order, or a table by their names.
        y: that of what belongs to them; None likewise.
        labelled: whether `y` is read at all.
        channels: of the images that the networks take, where they agree; None otherwise.
        output: name of the networks' output that is scored, where they have several, and its position or `OF_NONE`.
        digests: of files by path, found so far: no file is read again for its digest.
    """

    split: str = "test"
    x: str | Sequence[str] | Mapping[str, str] | None = None
    y: str | None = None
    labelled: bool = True
    channels: int | None = None
    output: tuple[str, int] | None = None
    digests: dict[Path, str] = field(default_factory=dict)

    def digest(self, path: Path) -> str:
        """SHA-256 of a file, in hex."""
        if path not in self.digests:
            self.digests[path] = file_digest(path)
        return self.digests[path]

    @property
    def by_name(self) -> bool:
        """Whether the inputs of a network are named."""
        return isinstance(self.x, Mapping)

    @property
    def several(self) -> dict[str, str]:
        """What fields of records are called → the array or column of each; empty where one is wanted."""
        if self.x is None or isinstance(self.x, str):
            return {}
        return dict(self.x) if isinstance(self.x, Mapping) else {name: name for name in self.x}

    def arrays(self, there: Sequence[str]) -> tuple[dict[str, str], str | None]:
        """The arrays to read, of those that are `there`: as of `several`, or one called ""; and that of `y`.

        Of several, those that were trained on are called as the others, with "train" instead of "test". Raises
        InputError when some are missing.
        """
        trained = {field: name.replace("test", "train") for field, name in self.several.items()} or {"": "x_train"}
        found = self.several or {"": str(self.x or "x_test")}
        beside = trained != found and set(trained.values()) <= set(there)
        of_train = self.split == "train" or (self.split == "calibration" and beside)
        if of_train and trained == found:
            raise InputError(f"has no others beside {' and '.join(found.values())}; name some with `calibration`")
        found = trained if of_train else found
        own = self.y or "y_test"
        trained_y = re.sub(r"(?<![^\W_])test(?![^\W_])", "train", own)
        trained_y = trained_y if trained_y != own and trained_y in there else "y_train"
        y = (trained_y if of_train else own) if self.labelled else None
        names = [*found.values(), *([y] if y else [])]
        if missing := list(dict.fromkeys(name for name in names if name not in there)):
            if of_train:
                remedy = "; training images of another name lie in a file of their own, or a function returns them"
            else:
                remedy = "" if self.x or self.y else '; say which is which: x = "…", y = "…"'
            raise InputError(
                f"no array {' and '.join(missing)}; the arrays there are: {', '.join(there) or 'none'}{remedy}"
            )
        return found, y

    def alone(self) -> None:
        """Raises InputError where training images are wanted from a place that has one set of images."""
        if self.split == "train":
            raise InputError("has no training images beside these; name some with `calibration`")

    def unnamed(self, what: str) -> None:
        """Raises InputError where the study names arrays, and there are none to name."""
        for key, name in (("x", self.x), ("y", self.y)):
            if name is not None:
                raise InputError(f"{key}: {name!r} names an array, and {what}; leave it out")


@dataclass(frozen=True)
class Stored:
    """What was read, as it is stored.

    Attributes:
        x: (n, ...) images; or (n,) records, as `sweep.data.inputs` makes them of several inputs.
        y: (n, ...) what belongs to them; the same object as `x` where that is so; None where it was not asked for.
        digest: SHA-256, in hex, of all files that were read.
        names: what messages call `x` and `y`.
        classes: all names that `y` may have, in the order of the classes, where the format says so.
        place: of `x`, where it is mapped from a file.
        by_name: whether the fields of records are called as the network's inputs, and not just in their order.
    """

    x: np.ndarray
    y: np.ndarray | None
    digest: str
    names: tuple[str, str]
    classes: tuple[str, ...] = ()
    place: Place | None = None
    by_name: bool = False


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """Mistakes found in this block are said of the path."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {problem}" for problem in error.problems) from None


def joined(parts: Iterable[tuple[str, str]]) -> str:
    """SHA-256, in hex, of several files: of their (name, digest), in the order of the names."""
    return hashlib.sha256(json.dumps(sorted(parts)).encode()).hexdigest()

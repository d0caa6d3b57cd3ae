"""The test sets of a study: one, or several, which are one more axis beside its networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from sweep.files import function_in
from sweep.study.family import DATASET, as_list

_SUFFIXES = (".npz", ".parquet", ".arrow", ".feather", ".csv")


def sets_in(named: Any) -> list[str]:
    """The paths that a study names, as far as they are right."""
    return list(dict.fromkeys(path for path in as_list(named) if isinstance(path, str) and path))


def sets_labelled(paths: Sequence[str]) -> dict[str, str]:
    """Labels → paths: the file's stem, a function's name, or the path as written where these collide.

    The only one has the empty label, and the columns and ids of a study with one say nothing of it.
    """
    if len(paths) < 2:
        return dict(zip([""], paths, strict=False))
    stems = [_stem(path) for path in paths]
    return dict(zip(stems if len(set(stems)) == len(stems) else paths, paths, strict=True))


def key_of(label: str) -> str:
    """What a test set is called among the files of a study."""
    return f"{DATASET} {label}" if label else DATASET


def label_of(key: str) -> str | None:
    """The label of the test set that is called so; None of other files."""
    if key == DATASET:
        return ""
    return key.removeprefix(f"{DATASET} ") if key.startswith(f"{DATASET} ") else None


def _stem(path: str) -> str:
    """Folders keep what follows a dot."""
    if function := function_in(path):
        return function[1]
    pure = PurePath(path)
    return pure.stem if pure.suffix.lower() in _SUFFIXES else pure.name

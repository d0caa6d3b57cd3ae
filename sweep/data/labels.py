"""What stands beside each image: the number of its class, or targets that are no classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sweep.errors import InputError

_NUMBERS, _TEXTS = "buif", "US"
_SHOWN = 6  # classes in a message


class Labels(NamedTuple):
    """`y` of a dataset, understood.

    Attributes:
        classes: (n,) int64 >= 0, the class of each image; (0,) where `y` holds no classes.
        names: of the classes, from 0 on, where `y` was mapped to numbers or its columns have names; else empty.
        targets: (n, ...) float32, or None: what `y` holds where it is floating or no classes at all. Where `y` is the
            images themselves, those, as they are.
    """

    classes: np.ndarray
    names: tuple[str, ...] = ()
    targets: np.ndarray | None = None


def understood(name: str, y: np.ndarray, labels: Sequence[str | int] | None, known: Sequence[str] = ()) -> Labels:
    """Classes or targets, of `y` (n, ...).

    Integers and floating numbers that are whole, (n,) or (n, 1), are classes as they are; texts are classes in sorted
    order; one-hot rows are their columns. Whatever else is numbers is targets.

    Args:
        name: what messages call `y`.
        y: as stored.
        labels: class k is the k-th of these, and nothing else is valid; of one-hot rows, they name the columns.
        known: all texts that there may be, in the order of the classes; None of the others when it is empty.

    Raises:
        InputError: `y` is neither, or holds what `labels` has not.
    """
    if y.ndim < 1 or not len(y) or y.size == 0:
        raise InputError(f"{name} has shape {y.shape}: it holds no labels")
    if y.ndim == 1 or (y.ndim == 2 and y.shape[1] == 1):
        return _single(name, y, labels, known)
    if y.dtype.kind not in _NUMBERS:
        raise InputError(f"{name} is {y.dtype} of shape {y.shape}; labels that are texts have shape (n,)")
    if _are_one_hot(y):
        if labels is not None and len(labels) != y.shape[1]:
            raise InputError(f"labels: {len(labels)} are given, and one-hot rows of {name} have {y.shape[1]} columns")
        return Labels(y.argmax(axis=1).astype(np.int64), tuple(map(str, labels or ())))
    if labels is not None:
        raise InputError(f"labels: are given, and {name} has no classes: it has {no_classes(y)}")
    return Labels(np.empty(0, np.int64), (), _targets(name, y))


def no_classes(y: np.ndarray) -> str:
    """In words, what targets hold instead of classes."""
    if y.ndim == 1:
        return f"numbers with fractions, the first at {np.argmax(y != np.rint(y))}"
    if y.ndim > 2:
        return f"{' × '.join(map(str, y.shape[1:]))} numbers for each image"
    single = (np.count_nonzero(y == 1, axis=1) == 1) & (np.count_nonzero(y, axis=1) == 1)
    found = (
        f"{np.count_nonzero(~single)} rows that are not one-hot (a single 1, else 0), the first at {single.argmin()}"
    )
    return f"{found}; all of 0 and 1: several labels for an image" if are_several(y) else found


def are_several(y: np.ndarray | None) -> bool:
    """Whether targets are rows of 0 and 1: several labels for an image, or none."""
    return y is not None and y.ndim == 2 and bool(((y == 0) | (y == 1)).all())


def mapping(names: Sequence[str]) -> str:
    """How labels become classes, in words."""
    shown = [f"{name} = {k}" for k, name in enumerate(names)]
    return ", ".join(shown if len(shown) <= _SHOWN else [*shown[: _SHOWN - 2], "…", shown[-1]])


def remedy(classes: np.ndarray, outputs: int) -> str:
    """How to say which label is which class, for integers that are not as many as a network's outputs from 0."""
    values = np.unique(classes).tolist()
    if len(values) > max(outputs, 2):
        return ""
    shown = ", ".join(map(str, values if len(values) <= _SHOWN else [*values[: _SHOWN - 2], "…", values[-1]]))
    return f"; if its classes are those that occur, in order, say labels = [{shown}]"


def _single(name: str, y: np.ndarray, labels: Sequence[str | int] | None, known: Sequence[str]) -> Labels:
    y = y.reshape(-1)
    if y.dtype.kind in _TEXTS:
        return _named(name, y, labels, known)
    if y.dtype.kind not in _NUMBERS:
        raise InputError(f"{name} is {y.dtype}; labels are whole numbers or texts")
    targets = _targets(name, y) if y.dtype.kind == "f" else None
    if targets is not None and (y != np.rint(y)).any():
        if labels is not None:
            raise InputError(f"labels: are given, and {name} has {no_classes(y)}")
        return Labels(np.empty(0, np.int64), (), targets)
    if y.dtype.kind in "uf" and np.abs(y).max() >= 2**63:
        raise InputError(f"{name} has labels beyond 2^63")
    classes = y.astype(np.int64)
    if labels is None:
        bad = classes < 0
        if bad.any():
            raise InputError(
                f"{name} has {bad.sum()} negative labels, the first at {bad.argmax()}; labels count from 0"
                + remedy(classes, len(np.unique(classes)))
            )
        return Labels(classes, (), targets)
    order = [label if isinstance(label, int) else None for label in labels]
    return Labels(_positions(name, classes, order), tuple(map(str, labels)), targets)


def _named(name: str, y: np.ndarray, labels: Sequence[str | int] | None, known: Sequence[str]) -> Labels:
    try:
        texts = np.char.decode(y, "utf-8") if y.dtype.kind == "S" else y
    except UnicodeDecodeError as error:
        raise InputError(f"{name} holds texts that are not UTF-8: {error}") from None
    names = list(labels or known or np.unique(texts).tolist())
    return Labels(_positions(name, texts, names), tuple(map(str, names)))


def _positions(name: str, values: np.ndarray, order: Sequence[object]) -> np.ndarray:
    """(n,) int64: where each value stands in `order`; InputError for those that do not."""
    different, inverse = np.unique(values, return_inverse=True)
    place = {value: k for k, value in enumerate(order)}
    there = np.array([place.get(value, -1) for value in different.tolist()], np.int64)[inverse.reshape(-1)]
    if (there < 0).any():
        first = int(np.argmax(there < 0))
        raise InputError(
            f"labels: {name} has {np.count_nonzero(there < 0)} labels that are not among them, "
            f"the first {values[first].item()!r} at {first}"
        )
    return there


def _are_one_hot(y: np.ndarray) -> bool:
    if y.ndim != 2:
        return False
    return bool(((np.count_nonzero(y == 1, axis=1) == 1) & (np.count_nonzero(y, axis=1) == 1)).all())


def _targets(name: str, y: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        targets = y.astype(np.float32)
    bad = ~np.isfinite(targets).reshape(len(y), -1).all(axis=1)
    if bad.any():
        raise InputError(f"{name} has NaN or infinite values in {bad.sum()} places, the first at {bad.argmax()}")
    return targets

"""Datasets that a Python function of the user's own makes: `"my_data.py:load"`."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from sweep.data.formats.stored import Stored, Wanted, joined, told
from sweep.data.inputs import together
from sweep.errors import InputError
from sweep.files import function_in, reason, require_file

_Inputs = dict[Any, np.ndarray]  # by name, or position where they have none; "" for a single one
_ONE_OUTPUT = "the network has one output that is scored"
_ENDLESS = -1  # `tf.data.INFINITE_CARDINALITY`
_modules: dict[str, ModuleType] = {}  # that have run in this process, by the digest of their files


def has_run(file: Path) -> bool:
    """Whether this file has run in this process already, with the content that it has now."""
    return hashlib.sha256(require_file(file).read_bytes()).hexdigest() in _modules


def read_function(place: Path, wanted: Wanted) -> Stored:
    """Runs the file, once a process, and calls the function without arguments.

    It returns a pair (images, labels) of arrays, a `tf.data.Dataset`, a `keras.utils.PyDataset`, or any other iterable
    of such pairs, in batches (of as many labels as images) or one by one; for `calibration`, images alone will do. A
    tuple or a dict of arrays stands for the images of a network with several inputs, and for the labels of one with
    several outputs. It may import files beside its own. The digest is that of the file and of the arrays.

    Raises:
        InputError: the file or the function fails, or returns something else.
    """
    with told(place):
        wanted.alone()
        wanted.unnamed("the function says which arrays there are")
    file, function = function_in(place) or ("", "")
    content = require_file(file).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    with told(place), _beside(Path(file).parent):
        try:
            if digest not in _modules:
                _modules[digest] = _run(content, file, digest)
            made = getattr(_modules[digest], function, None)
            if not callable(made):
                raise InputError(f"{file} defines no function {function}")
            found, y = _arrays(made(), wanted.output)
        except InputError:
            raise
        except (Exception, SystemExit) as error:  # whatever a user's code raises
            raise InputError(f"{type(error).__name__}: {reason(error)}") from error
        if wanted.labelled and y is None:
            raise InputError("returns no labels; return a pair (images, labels), or a data set of pairs")
        several = "" not in found
        x = together([(_called(name), part) for name, part in found.items()]) if several else found[""]
    parts = [("code", digest), *((f"x {name}".strip(), _digest(part)) for name, part in found.items())]
    parts += [("y", _digest(y))] if y is not None else []
    names = "its inputs" if several else "its images", "its labels"
    return Stored(x, y, joined(parts), names, by_name=several and all(isinstance(name, str) for name in found))


def _called(name: str | int) -> str:
    return name if isinstance(name, str) else f"input {name}"


def _run(content: bytes, file: str, digest: str) -> ModuleType:
    name = f"noisesweep_data_{digest[:16]}"
    module = ModuleType(name)
    module.__file__ = str(Path(file).absolute())
    sys.modules[name] = module  # dataclasses look their own module up
    try:
        exec(compile(content, file, "exec", dont_inherit=True), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextlib.contextmanager
def _beside(folder: Path) -> Iterator[None]:
    """The files of this folder can be imported, after all others."""
    place = str(folder.absolute())
    sys.path.append(place)
    try:
        yield
    finally:
        sys.path.remove(place)


def _arrays(made: Any, output: tuple[str, int] | None) -> tuple[_Inputs, np.ndarray | None]:
    """What goes in, by name or position, and what belongs to the `output` that is scored, if anything does."""
    if _is_array(made) or _is_table(made):
        return _inputs(made), None
    if isinstance(made, tuple | list):
        if len(made) != 2 or not (_are_arrays(made[0]) and _are_arrays(made[1])) or _is_twice(made, output):
            kinds = ", ".join(type(part).__name__ for part in made[:3])
            raise InputError(f"returns {len(made)} values ({kinds}, …); return one pair of arrays (images, labels)")
        x = _inputs(made[0])
        return x, (x[""] if made[0] is made[1] and "" in x else _target(made[1], output))
    xs: list[_Inputs] = []
    ys: list[np.ndarray] = []
    for item in _items(made):
        pair = item if isinstance(item, tuple | list) else (item,)
        if not 1 <= len(pair) <= 3 or not all(_are_arrays(part) or np.isscalar(part) for part in pair[:2]):
            raise InputError("yields no pairs (images, labels) of arrays, or of tuples or dicts of these")
        xs.append(_inputs(pair[0]))
        ys += [_target(part, output) for part in pair[1:2]]  # a third would be weights of samples
    if not xs:
        raise InputError("yields no images")
    if len(ys) not in (0, len(xs)):
        raise InputError("yields pairs and images alone")
    if any(x.keys() != xs[0].keys() for x in xs):
        raise InputError("yields other inputs at one time than at another")
    join = np.concatenate if _is_batched(made, next(iter(xs[0].values())), ys[0] if ys else None) else np.stack
    return {name: join([x[name] for x in xs]) for name in xs[0]}, join(ys) if ys else None


def _inputs(value: Any) -> _Inputs:
    if _is_table(value):
        found: _Inputs = {str(name): _plain(part) for name, part in value.items()}
    elif isinstance(value, tuple | list):
        found = {number: _plain(part) for number, part in enumerate(value)}
    else:
        return {"": _plain(value)}
    return found if len(found) > 1 else {"": next(iter(found.values()))}


def _target(value: Any, output: tuple[str, int] | None) -> np.ndarray:
    """What belongs to the output of the network that is scored."""
    if _is_table(value):
        if output is None and len(value) == 1:
            return _plain(next(iter(value.values())))
        name = output[0] if output else None
        if name not in value:
            why = f"none of output {name}" if name else _ONE_OUTPUT
            raise InputError(f"has labels of {', '.join(map(str, value))}, and {why}")
        return _plain(value[name])
    if isinstance(value, tuple | list):
        if output is None and len(value) == 1:
            return _plain(value[0])
        if output is None or output[1] >= len(value):
            why = "return a dict by name" if output else f"and {_ONE_OUTPUT}"
            raise InputError(f"has labels of {len(value)} outputs; {why}")
        return _plain(value[output[1]])
    return _plain(value)


def _is_twice(made: Sequence[Any], output: tuple[str, int] | None) -> bool:
    """Whether a pair looks like training and test set, of a network with one output."""
    return output is None and all(isinstance(part, tuple | list) and len(part) > 1 for part in made)


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(map(_is_array, value.values()))


def _are_arrays(value: Any) -> bool:
    """Whether it is an array, or several by name or in order."""
    if _is_array(value) or _is_table(value):
        return True
    return isinstance(value, tuple | list) and bool(value) and all(map(_is_array, value))


def _is_array(value: Any) -> bool:
    return hasattr(value, "__array__") and hasattr(value, "shape")


def _plain(value: Any) -> np.ndarray:
    """An array of numbers or texts."""
    array = np.asarray(value)
    if not array.dtype.hasobject:
        return array
    texts = [item.decode() if isinstance(item, bytes) else item for item in array.reshape(-1)]
    if not all(isinstance(item, str) for item in texts):
        raise InputError("returns an array of Python objects; return numbers, or labels as texts")
    return np.array(texts, dtype=np.str_).reshape(array.shape)


def _is_batched(made: Any, x: np.ndarray, y: np.ndarray | None) -> bool:
    """Whether a data set, of which this is the first item, yields batches."""
    if hasattr(made, "num_batches"):  # PyDataset
        return True
    if y is not None:
        return x.ndim > 0 and y.ndim > 0 and len(x) == len(y)
    shape = getattr(getattr(made, "element_spec", None), "shape", None)  # tf.data
    return shape is not None and [*shape[:1]] == [None]


def _items(made: Any) -> Iterable[Any]:
    """Each item once, in order."""
    if hasattr(made, "as_numpy_iterator"):
        if int(made.cardinality()) == _ENDLESS:
            raise InputError("returns a tf.data.Dataset that never ends; leave repeat() out")
        return made.as_numpy_iterator()  # type: ignore[no-any-return]
    if hasattr(made, "num_batches"):
        if made.num_batches is None:
            raise InputError("returns a PyDataset that never ends; give it a length")
        batches: Sequence[Any] = made
        return (batches[i] for i in range(made.num_batches))
    if isinstance(made, Iterable) and not isinstance(made, str | bytes | dict):
        return made
    raise InputError(f"returns {type(made).__name__}; return (images, labels), a tf.data.Dataset or a PyDataset")


def _digest(array: np.ndarray) -> str:
    """Of an array's type, shape and values."""
    found = hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode())
    found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return found.hexdigest()

"""What trials have in common, made once: a seed's draws for all levels of a family, and what a cell begins with."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from sweep.draws.machine import draw, law_of
from sweep.perturb import seeding
from sweep.perturb.base import Transform
from sweep.randomness import stream

BYTES = 16 * 1024**2  # of draws kept, at most
KEPT = 64  # other things
_AT_A_TIME = 64  # seeds whose streams' beginnings are computed together
_WORD = 2**32
_OURS = f"{__name__.rpartition('.')[0]}."
_ARGUMENTS = (int, float, str, type, np.dtype, np.generic, type(None))  # none can change between two levels
_RESULTS = (int, float, bytes, np.generic)
_Key = tuple[int, int, int, int]  # root seed, seed, position of a transform, variable
_Call = tuple[str, tuple[Any, ...], tuple[tuple[str, Any], ...]]  # a method, its arguments, those with names
T = TypeVar("T")


class Shared:
    """Keeps what is the same for many trials.

    Generators are those of `randomness.stream`, bit for bit, but draws that were asked for before are not made again. A
    transform that asks for the same draws at every level, as those of the catalogue do, has them made at a seed's first
    level. One that at some level asks for others gets a generator that stands where it would stand.

    The latest streams are kept: where draws are large, evaluate all levels of a seed before the next seed. Not for use
    in two threads at once.
    """

    def __init__(self, most: int = BYTES) -> None:
        """Keeps so many bytes of draws at most, but always those of the latest stream."""
        self._most = most
        self._bytes = 0
        self._source = _Source()
        self._records: OrderedDict[_Key, _Record] = OrderedDict()
        self._made: OrderedDict[tuple[int, ...], tuple[tuple[object, ...], Any]] = OrderedDict()

    def stream(self, root_seed: int, seed: int, position: int, variable: int, transform: Transform) -> Replay:
        """The generator for a variable under this transform at a position, at its beginning.

        A transform of the catalogue is handed the kept arrays, which cannot be written to; one of a user's own, copies.
        """
        key = root_seed, seed, position, variable
        record = self._records.get(key)
        if record is None:
            record = self._records[key] = _Record(key, self._source)
        else:
            self._records.move_to_end(key)
        return Replay(record, self._grow, not type(transform).__module__.startswith(_OURS))

    def once(self, objects: tuple[object, ...], make: Callable[[], T]) -> T:
        """What was made of these very objects, which nobody changes, or is made now; the latest few are kept."""
        key = tuple(map(id, objects))
        if key not in self._made:
            while len(self._made) >= KEPT:
                self._made.popitem(last=False)
            self._made[key] = objects, make()  # the objects live on, or others could get their ids
        self._made.move_to_end(key)
        made: T = self._made[key][1]
        return made

    def _grow(self, record: _Record, size: int) -> None:
        """So many bytes more in a record; the oldest records are let go."""
        if self._records.get(record.key) is not record:  # it was let go while in use
            return
        record.bytes += size
        self._bytes += size
        while self._bytes > self._most and len(self._records) > 1:
            self._bytes -= self._records.popitem(last=False)[1].bytes


class _Source:
    """One generator for the beginnings of all streams: to set it costs a tenth of making one.

    Attributes:
        generator: in the hands of `user`, or of nobody.
    """

    def __init__(self) -> None:
        self._philox = np.random.Philox(0)
        self._shared = self.generator = np.random.Generator(self._philox)
        self._begin: dict[str, Any] = {**self._philox.state}
        self._keys: dict[_Key, npt.NDArray[np.uint64]] = {}
        self.user: _Record | None = None

    def begin(self, user: _Record) -> None:
        """Set the generator to the beginning of a record's stream, which has it until another record begins."""
        root_seed, seed, position, variable = user.key
        self.user = user
        if seed >= _WORD:
            self.generator = stream(*user.key)
            return
        part, number = divmod(seed, _AT_A_TIME)
        key = root_seed, part, position, variable
        if key not in self._keys:
            if len(self._keys) >= KEPT:
                self._keys.clear()
            seeds = np.arange(part * _AT_A_TIME, (part + 1) * _AT_A_TIME, dtype=np.int64).astype(np.uint32)
            self._keys[key] = seeding.keys([root_seed, seeds, position, variable])
        self._begin["state"]["key"] = self._keys[key][number]
        self._philox.state = self._begin  # type: ignore[assignment]
        self.generator = self._shared


@dataclass
class _Record:
    """What a stream was asked for from its beginning, and what it gave.

    Attributes:
        own: a generator that stands behind the last of it; None as long as the source's will do.
        words: of 32 bits that it took; None where a generator took them, so that nobody counts.
    """

    key: _Key
    source: _Source
    calls: list[tuple[_Call, Any]] = field(default_factory=list)
    bytes: int = 0
    own: np.random.Generator | None = None
    words: int | None = 0

    def behind(self, calls: int) -> np.random.Generator:
        """Another generator, which stands behind the first so many calls."""
        generator = stream(*self.key)
        for (name, given, named), _ in self.calls[:calls]:
            getattr(generator, name)(*given, **dict(named))
        return generator

    def extend(self, call: _Call) -> int | None:
        """Draws and records a call, if what it takes and gives can be kept; the bytes of that."""
        name, given, named = call
        law = law_of(name, given, named)
        if law is not None and self.words is not None and (drawn := draw(self.key, self.words, law, given[0])):
            numbers, self.words = drawn
            numbers.flags.writeable = False
            self.calls.append((call, numbers))
            return numbers.nbytes
        self.words = None
        if law is None and not (_is_fixed(given) and _is_fixed(named)):
            return None
        if self.own is None and not self.calls:
            self.source.begin(self)
        elif self.own is None and self.source.user is not self:
            self.own = self.behind(len(self.calls))
        try:
            result = getattr(self.own or self.source.generator, name)(*given, **dict(named))
        except Exception:  # whoever asks gets it from another generator
            result = None
        if isinstance(result, np.ndarray):
            result.flags.writeable = False
        elif not isinstance(result, _RESULTS):
            self.own = self.source.user = None  # they stand elsewhere now
            return None
        self.calls.append((call, result))
        return int(getattr(result, "nbytes", 0))


class Replay(np.random.Generator):
    """A generator that gives what is recorded as long as it is asked for that, and draws and records what is new.

    Once it is asked for something else it is a generator of its own, which begins there, for good.
    """

    __slots__ = ("_copies", "_grow", "_next", "_own", "_record")

    def __init__(self, record: _Record, grow: Callable[[_Record, int], None], copies: bool) -> None:
        super().__init__(_UNUSED)
        self._record = record
        self._grow = grow
        self._copies = copies
        self._next = 0
        self._own: np.random.Generator | None = None

    @property
    def place(self) -> Any:
        """How far it is; to be set to go on from there again."""
        return self._next if self._own is None else self._own.bit_generator.state

    @place.setter
    def place(self, place: Any) -> None:
        if isinstance(place, int) and self._own is None:
            self._next = place
        else:
            state = self._record.behind(place).bit_generator.state if isinstance(place, int) else place
            self._detached().bit_generator.state = state

    @property
    def bit_generator(self) -> Any:
        """Of a generator of its own."""
        return self._detached().bit_generator

    def __reduce__(self) -> Any:
        return self._detached().__reduce__()

    def _detached(self) -> np.random.Generator:
        if self._own is None:
            self._own = self._record.behind(self._next)
        return self._own

    def _ask(self, call: _Call) -> Any:
        calls, number = self._record.calls, self._next
        if self._own is None:
            if number == len(calls) and (size := self._record.extend(call)) is not None:
                self._grow(self._record, size)
            if number < len(calls) and calls[number][0] == call:
                self._next = number + 1
                result = calls[number][1]
                return result.copy() if self._copies and isinstance(result, np.ndarray) else result
        name, given, named = call
        return getattr(self._detached(), name)(*given, **dict(named))


_UNUSED = np.random.Philox(0)  # a generator has to have one


def _is_fixed(value: Any) -> bool:
    return all(map(_is_fixed, value)) if isinstance(value, tuple) else isinstance(value, _ARGUMENTS)


def _asking(name: str) -> Callable[..., Any]:
    def ask(self: Replay, *given: Any, **named: Any) -> Any:
        return self._ask((name, given, tuple(named.items())))

    return ask


for _name in dir(np.random.Generator):
    if not _name.startswith("_") and _name != "bit_generator":
        setattr(Replay, _name, _asking(_name))

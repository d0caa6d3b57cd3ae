"""Draws in machine code are NumPy's own, bit for bit, and stand where its stand; without machine code, NumPy draws."""

import ctypes
import math
from collections.abc import Callable
from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.random import _generator

from sweep import assembly
from sweep.draws import machine
from sweep.draws.ziggurat import EDGE, STRIPS, strips
from sweep.perturb.noise import Gaussian
from sweep.perturb.shared import Shared
from sweep.randomness import _LARGE, stream

KINDS = {"normal": np.float32, "uniform": np.float32, "double": np.float64}
WIDTHS = (4, 8, 16)


@pytest.fixture(scope="module", params=WIDTHS)
def laws(request: pytest.FixtureRequest) -> dict[str, machine.Draw]:
    """For registers of each width: LLVM splits what is wider than this processor's."""
    with mock.patch.object(assembly, "lanes", return_value=request.param):
        found = machine._made()
    assert found is not None
    return found


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "ENOUGH", 0)


def numpys_stream(*entropy: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))


def numpys(generator: np.random.Generator, law: str, size: object) -> np.ndarray:
    method = generator.standard_normal if law == "normal" else generator.random
    return np.asarray(method(size, dtype=KINDS[law]))


def words_taken(generator: np.random.Generator) -> int:
    """Of 32 bits, by what NumPy says of itself."""
    state = generator.bit_generator.state
    return 8 * int(state["state"]["counter"][0]) - 2 * (4 - state["buffer_pos"]) - state["has_uint32"]


WORD = st.integers(0, 2**32 - 1)
CALLS = st.lists(st.tuples(st.sampled_from(list(KINDS)), st.integers(0, 70) | st.integers(0, 3000)), max_size=6)


@settings(max_examples=150, deadline=None)
@given(entropy=st.tuples(WORD, WORD, WORD, WORD), calls=CALLS)
@example(entropy=(0, 0, 0, 0), calls=[("normal", 200_000)])
@example(entropy=(1, 2, 3, 4), calls=[("uniform", 3), ("normal", 100_000), ("uniform", 1), ("normal", 1)])
def test_any_draws_one_after_the_other(
    laws: dict[str, machine.Draw], entropy: tuple[int, int, int, int], calls: list[tuple[str, int]]
) -> None:
    """Long ones have hundreds of each rare case; NumPy is asked from a state of its own, which is compared too."""
    theirs, at = numpys_stream(*entropy), 0
    for law, size in calls:
        if law == "double" and at % 2:
            law = "uniform"
        expected, found = numpys(theirs, law, size), np.empty(size + 16, KINDS[law])
        found[size:] = 7
        at = laws[law](*entropy, at, found.ctypes.data, size)
        assert expected.tobytes() == found[:size].tobytes()
        assert (found[size:] == 7).all(), "nothing is written behind the draws"
        assert at == words_taken(theirs)


@pytest.mark.usefixtures("at_once")
@settings(max_examples=100, deadline=None)
@given(
    entropy=st.tuples(WORD, st.integers(0, 2**33), WORD, st.integers(0, 2**32)),
    shape=st.lists(st.integers(0, 9), max_size=4).map(tuple),
    law=st.sampled_from(list(KINDS)),
    at=st.integers(0, 40),
)
def test_any_shape_from_any_place(
    entropy: tuple[int, int, int, int], shape: tuple[int, ...], law: str, at: int
) -> None:
    theirs = numpys_stream(*entropy)
    theirs.random(at, dtype=np.float32)
    found = machine.draw(entropy, at, law, shape)
    if max(entropy) >= 2**32 or (law == "double" and at % 2):
        assert found is None
        return
    assert found is not None
    numbers, behind = found
    expected = numpys(theirs, law, shape)
    assert (numbers.shape, numbers.dtype, numbers.tobytes()) == (expected.shape, expected.dtype, expected.tobytes())
    assert behind == words_taken(theirs)


class _Words(ctypes.Structure):
    """NumPy's `bitgen_t`, whose words of 32 bits we choose: how the C code of its normal law is asked."""

    _fields_ = (
        ("state", ctypes.c_void_p),
        ("next64", ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)),
        ("next32", ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p)),
        ("double", ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_void_p)),
        ("raw", ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)),
    )


@pytest.fixture(scope="module")
def numpys_normal() -> Callable[..., tuple[float, int]]:
    """From words to a normal draw of NumPy's C code and how many of them it took; sure ones follow."""
    normal = ctypes.CDLL(_generator.__file__).random_standard_normal_f
    normal.restype = ctypes.c_float
    words: list[int] = []
    kinds = dict(_Words._fields_)
    none = {name: kinds[name](lambda _: 0) for name in ("next64", "double", "raw")}
    source = _Words(None, next32=kinds["next32"](lambda _: words.pop(0)), **none)

    def ask(*given: int) -> tuple[float, int]:
        words[:] = [*given, 5 << 9 | 200, 0]
        value = float(normal(ctypes.byref(source)))
        return value, len(given) + 2 - len(words)

    return ask


def test_the_strips_are_numpys(numpys_normal: Callable[..., tuple[float, int]]) -> None:
    """Widths by draws themselves, limits by where a second word is needed, heights by where it decides otherwise."""
    found = strips()
    for k in range(STRIPS):
        limit = int(found.sure[k])
        if k != 1:  # the topmost, of which nothing is sure
            assert numpys_normal(1 << 9 | k) == (found.width[k], 1)
            assert numpys_normal((limit - 1) << 9 | k)[1] == 1
        assert numpys_normal(limit << 9 | k, 0, 2**32 - 1)[1] > 1
        for step in (limit, (limit + 2**23) // 2, 2**23 - 1) if k else ():
            top, bottom = found.height[k - 1], found.height[k]
            x = float(np.float32(step) * found.width[k])

            def below(share: int, top=top, bottom=bottom, x=x) -> bool:
                own = (top - bottom) * (np.float32(share) * np.float32(2**-24)) + bottom
                return float(own) < math.exp(-0.5 * x * x)

            low, high = 0, 2**24 - 1  # below the density first, above it then
            while low < high:
                middle = (low + high) // 2
                low, high = (middle + 1, high) if below(middle) else (low, middle)
            for share in range(max(low - 2, 0), min(low + 3, 2**24)):
                value, taken = numpys_normal(step << 9 | k, share << 8)
                assert (value == np.float32(x) and taken == 2) == below(share)


def test_the_strips_have_one_area() -> None:
    """And the published edge: the definition, in the scale of the density without its factor."""
    found = strips()
    edges = found.width.astype(np.float64) * 2**23
    area = 0.00492867323399  # Marsaglia & Tsang 2000, table 1
    assert edges[-1] == np.float32(EDGE)
    heights = np.exp(-(edges[1:] ** 2) / 2)
    np.testing.assert_allclose(edges[2:] * (heights[:-1] - heights[1:]), area, rtol=3e-5)
    np.testing.assert_allclose(edges[0] * heights[-1], area, rtol=1e-6)
    np.testing.assert_allclose(found.height[1:], heights, rtol=1e-6)


@pytest.mark.usefixtures("at_once")
def test_machine_code_that_errs_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a single draw of many, or in where it ends."""
    right = machine._made()
    assert right is not None
    assert machine._is_numpys(right)

    def wrong(a: int, b: int, c: int, d: int, at: int, address: int, size: int) -> int:
        taken = right["normal"](a, b, c, d, at, address, size)
        numbers = np.ctypeslib.as_array((ctypes.c_float * size).from_address(address))
        tail = int(np.argmax(np.abs(numbers)))
        numbers[tail] = np.nextafter(numbers[tail], np.float32(0))
        return taken

    assert not machine._is_numpys({**right, "normal": wrong})
    assert not machine._is_numpys({**right, "uniform": lambda *given: right["uniform"](*given) + 1})
    for made in (lambda: {**right, "normal": wrong}, lambda: None, mock.Mock(side_effect=RuntimeError)):
        monkeypatch.setattr(machine, "_made", made)
        machine.laws.cache_clear()
        assert machine.draw((0, 1, 2, 3), 0, "normal", (5,)) is None
    machine.laws.cache_clear()


def test_the_tail_decides_whether_it_is_used() -> None:
    """The proof has draws of the tail, which depend on the C library and on how NumPy was compiled."""
    entropy = 0, 1, 2, 3
    drawn = numpys(numpys_stream(*entropy), "normal", machine.PROOF)
    assert (np.abs(drawn) > EDGE).sum() > 20


def test_it_begins_once_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "ENOUGH", 100)
    monkeypatch.setattr(machine, "_spent", 0)
    assert machine.draw((0, 1, 2, 3), 0, "normal", (60,)) is None
    assert machine.draw((0, 1, 2, 3), 0, "normal", (60,)) is None
    assert machine.draw((0, 1, 2, 3), 0, "normal", (60,)) is not None


@pytest.mark.parametrize(
    ("call", "law"),
    [
        (("standard_normal", ((2, 3),), (("dtype", np.float32),)), "normal"),
        (("random", ((2, 3),), (("dtype", np.float32),)), "uniform"),
        (("random", ((2, 3),), ()), "double"),
        (("standard_normal", ((2, 3),), ()), None),
        (("standard_normal", ((2, 3), np.float32), ()), None),
        (("standard_normal", (), (("dtype", np.float32),)), None),
        (("standard_normal", ((2, -3),), (("dtype", np.float32),)), None),
        (("random", ([2, 3],), ()), None),
        (("normal", ((2, 3),), ()), None),
    ],
)
def test_what_is_asked_for(
    call: tuple[str, tuple[object, ...], tuple[tuple[str, object], ...]], law: str | None
) -> None:
    assert machine.law_of(*call) == law


@pytest.mark.usefixtures("at_once")
def test_a_stream_goes_on_where_machine_code_ended() -> None:
    """What it does not know, NumPy draws, from where the stream stands."""
    theirs, ours = numpys_stream(3, 1, 0, 2), Shared().stream(3, 1, 0, 2, Gaussian(scale=0.1))
    calls: list[Callable[[np.random.Generator], np.ndarray]] = [
        lambda g: g.standard_normal((5, 7), dtype=np.float32),
        lambda g: g.random((3,)),
        lambda g: g.integers(100, size=4),
        lambda g: g.standard_normal((2,), dtype=np.float32),
    ]
    for call in calls:
        assert call(ours).tobytes() == call(theirs).tobytes()


def asked(law: str, size: int, generator: np.random.Generator) -> np.ndarray:
    if law == "raw":
        return np.asarray(generator.bit_generator.random_raw(size))
    if law == "integers":
        return generator.integers(7, size=size, dtype=np.uint8)
    return numpys(generator, law, (size,))


@pytest.mark.usefixtures("at_once")
@settings(max_examples=60, deadline=None)
@given(
    entropy=st.tuples(WORD, WORD, WORD, st.integers(0, 2**32)),
    calls=st.lists(
        st.tuples(st.sampled_from([*KINDS, "integers", "raw"]), st.integers(0, 9) | st.integers(_LARGE, _LARGE + 99)),
        max_size=6,
    ),
)
def test_large_draws_of_a_stream(entropy: tuple[int, int, int, int], calls: list[tuple[str, int]]) -> None:
    """Whatever else is asked for between them; the state behind them is NumPy's, too."""
    ours, theirs = stream(*entropy), numpys_stream(*entropy)
    for law, size in calls:
        assert asked(law, size, ours).tobytes() == asked(law, size, theirs).tobytes()
        found, expected = (repr(generator.bit_generator.state) for generator in (ours, theirs))
        assert found == expected
        state = theirs.bit_generator.state
        ours.bit_generator.state = state


@pytest.mark.usefixtures("at_once")
def test_a_stream_that_is_given_another_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """By whoever holds it: of another key, or with a counter that has wrapped around."""
    drawn: list[object] = []
    monkeypatch.setattr("sweep.randomness.draw", lambda *given: drawn.append(machine.draw(*given)) or drawn[-1])
    ours, theirs = stream(0, 1, 2, 3), numpys_stream(9, 9, 9, 9)
    ours.bit_generator.state = theirs.bit_generator.state
    assert asked("normal", _LARGE, ours).tobytes() == asked("normal", _LARGE, theirs).tobytes()
    for counter in ([0, 1, 0, 0], [2**63, 0, 0, 0]):
        for generator in (ours, theirs):
            generator.bit_generator.state = {
                **numpys_stream(0, 1, 2, 3).bit_generator.state,
                "state": {
                    "counter": np.array(counter, np.uint64),
                    "key": numpys_stream(0, 1, 2, 3).bit_generator.state["state"]["key"],
                },
            }
        assert asked("normal", _LARGE, ours).tobytes() == asked("normal", _LARGE, theirs).tobytes()
    assert drawn == []
    ours.bit_generator.state = numpys_stream(0, 1, 2, 3).bit_generator.state
    assert asked("normal", _LARGE, ours).tobytes() == asked("normal", _LARGE, numpys_stream(0, 1, 2, 3)).tobytes()
    assert len(drawn) == 1

"""What trials share changes no bit: draws are those of NumPy's own streams, whoever asked before, in whatever order."""

import copy
import dataclasses
import itertools
import pickle
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.draws import machine
from sweep.networks.variables import Variable
from sweep.perturb import REGISTRY, seeding
from sweep.perturb.base import Array, Random, Transform
from sweep.perturb.basis import BASES, unit
from sweep.perturb.noise import Gaussian, Uniform
from sweep.perturb.perturbation import perturb, reads
from sweep.perturb.quantize import Symmetric
from sweep.perturb.shared import Replay, Shared
from sweep.randomness import stream
from tests.perturb.test_catalogue import EXAMPLES, NAMES

VARIABLES = [
    Variable(0, "conv/kernel", "conv", 0, "Conv2D", (3, 3, 2, 4), True, (3,)),
    Variable(1, "conv/bias", "conv", 0, "Conv2D", (4,), False, (0,)),
    Variable(2, "fc/kernel", "fc", 1, "Dense", (6, 5), True, (1,)),
]
WEIGHTS = [np.random.default_rng(i).normal(0, 0.3, v.shape).astype(np.float32) for i, v in enumerate(VARIABLES)]


def same(ours: Sequence[Array], theirs: Sequence[Array]) -> bool:
    return all(np.array_equal(a.view(np.uint32), b.view(np.uint32)) for a, b in zip(ours, theirs, strict=True))


def check(families: Sequence[Sequence[Transform]], seeds: Sequence[int], shared: Shared, blocks: int = 3) -> None:
    """All cells of all seeds, reads of all trials in turn, against what each gives by itself."""
    cells = list(itertools.product(seeds, families))
    ours = [reads(WEIGHTS, VARIABLES, transforms, 3, seed, shared) for seed, transforms in cells]
    theirs = [reads(WEIGHTS, VARIABLES, transforms, 3, seed) for seed, transforms in cells]
    for block in range(blocks):
        for (seed, transforms), a, b in zip(cells, ours, theirs, strict=True):
            found, expected = next(a, None), next(b, None)
            assert (found is None) == (expected is None)
            if found is not None and expected is not None:
                assert same(found, expected), (seed, transforms, block)


LEVELS = {"scale": 0.05, "rate": 0.07, "bits": 5, "time": 300.0}


@pytest.mark.parametrize("machine_code", [True, False])
@pytest.mark.parametrize("lifetime", ["chip", "read"])
@pytest.mark.parametrize(("op", "given"), EXAMPLES, ids=NAMES)
def test_every_transform_of_the_catalogue(
    op: str, given: dict[str, object], lifetime: str, machine_code: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At two levels and, where it draws, twice in one list, the second for blocks twice as long."""
    monkeypatch.setattr(machine, "ENOUGH", 0 if machine_code else 2**62)
    first = REGISTRY[op](**given)
    level = {name: value for name, value in LEVELS.items() if name in given}
    second = dataclasses.replace(first, **level) if level else first
    families: list[tuple[Transform, ...]] = [(first,), (second,), (first,), (Symmetric(bits=6), second)]
    if isinstance(first, Random):
        read = [dataclasses.replace(t, lifetime=lifetime, block=20) for t in (first, second)]
        longer = dataclasses.replace(second, lifetime=lifetime, block=40)
        families += [(t,) for t in read] + [(first, longer, read[1])]
    check(families, [0, 1, 2, 1], Shared())


def test_few_bytes_are_kept_and_nothing_changes() -> None:
    families = [(Gaussian(scale=s), Uniform(scale=s, lifetime="read", block=10)) for s in (0.1, 0.2, 0.3)]
    shared = Shared(most=700)
    check(families, range(8), shared)
    check(families, range(8), shared)
    assert shared._bytes <= 700 or len(shared._records) == 1
    assert sum(record.bytes for record in shared._records.values()) == shared._bytes


def test_a_draw_is_made_once_for_all_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    shared, asked = Shared(), []
    levels = [Gaussian(scale=s) for s in (0.1, 0.2, 0.4)]
    draw = Gaussian.draw

    def record(self: Gaussian, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
        asked.append(draw(self, shape, generator))
        return asked[-1]

    monkeypatch.setattr(Gaussian, "draw", record)
    for level in levels:
        perturb_with(shared, (level,))
    assert [a is asked[k % 2] for k, a in enumerate(asked)] == [True] * 6
    with pytest.raises(ValueError, match="read-only"):
        asked[0][...] = 0


def perturb_with(shared: Shared, transforms: tuple[Transform, ...], seed: int = 4) -> list[Array]:
    return next(reads(WEIGHTS, VARIABLES, transforms, 0, seed, shared))


def test_what_no_seed_changes_is_made_once_for_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    transforms = (Symmetric(bits=4), Gaussian(scale=0.1))
    expected = [perturb(WEIGHTS, VARIABLES, transforms, 0, seed) for seed in range(3)]
    times, apply = [], Symmetric.apply
    monkeypatch.setattr(Symmetric, "apply", lambda *given: (times.append(1), apply(*given))[1])
    shared = Shared()
    assert all(same(perturb_with(shared, transforms, seed), expected[seed]) for seed in range(3))
    assert len(times) == 2, "once for each kernel"


@pytest.mark.parametrize("basis", BASES)
def test_the_unit_of_clean_weights_is_kept(basis: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For each weight and variable; not of weights that can be written to, which may change."""
    generator = np.random.default_rng(3)
    weights = [generator.normal(size=(6, 5)).astype(np.float32) for _ in range(100)]
    rows, columns = (Variable(0, "a/kernel", "a", 0, "Dense", (6, 5), True, (axis,)) for axis in (0, 1))
    expected = [[unit(basis, w, v).copy() for v in (rows, columns)] for w in weights]
    for w in weights:
        w.flags.writeable = False
    for _ in range(2):
        for w, (a, b) in zip(weights, expected, strict=True):
            assert np.array_equal(unit(basis, w, rows), a)
            assert np.array_equal(unit(basis, w, columns), b)
    unit(basis, weights[0], rows)
    monkeypatch.setattr("sweep.perturb.basis._unit", None)
    assert np.array_equal(unit(basis, weights[0], rows), expected[0][0])


@dataclass(frozen=True, kw_only=True)
class Odd(Random):
    """A user's own: everything that a generator can do, some of it depending on the level."""

    scale: float = 0.0
    op = "odd"

    def apply(self, weight: Array, variable: Variable, generator: np.random.Generator) -> Array:
        assert isinstance(generator, np.random.Generator)
        noise = generator.standard_normal(weight.shape, dtype=np.float32)
        noise *= np.float32(self.scale)  # in place
        noise += np.float32(generator.normal(self.scale, 2.0))
        order = np.arange(5)
        generator.shuffle(order)
        buffer = np.empty(weight.shape)
        generator.random(out=buffer)
        noise += (buffer + order[0] + generator.spawn(2)[1].random()).astype(np.float32)
        if self.scale > 1:
            noise += np.float32(generator.integers(10) + generator.bit_generator.random_raw() / 2**64)
        with pytest.raises(ValueError, match="scale"):
            generator.normal(0, -1)
        noise += np.float32(copy.deepcopy(generator).random() + pickle.loads(pickle.dumps(generator)).random())
        return np.asarray(weight + noise + generator.random(), np.float32)


@dataclass(frozen=True, kw_only=True)
class Growing(Random):
    """A user's own that asks for more at every level, and then for something else."""

    scale: float = 0.0
    op = "growing"

    def apply(self, weight: Array, variable: Variable, generator: np.random.Generator) -> Array:
        total = weight.astype(np.float64)
        for _ in range(int(self.scale)):
            total += generator.random(weight.shape)
        return np.asarray(total + generator.normal(self.scale, 1, weight.shape), np.float32)


@pytest.mark.parametrize("lifetime", ["chip", "read"])
@pytest.mark.parametrize("transform", [Odd, Growing])
def test_a_transform_of_ones_own(transform: type[Random], lifetime: str) -> None:
    levels = [transform(scale=s, lifetime=lifetime, block=10) for s in (1.0, 2.0, 0.5, 3.0, 2.0)]
    longer = [transform(scale=s, lifetime=lifetime, block=20) for s in (1.0, 2.0)]
    families = [*((t,) for t in levels), *zip(levels, longer, strict=False)]
    check(families, [5, 6, 5], Shared())
    check(list(reversed(families)), [5, 6, 5], Shared())


ASKED = st.one_of(
    st.tuples(st.just("random"), st.sampled_from([(), (3,), ((2, 2), np.float32)])),
    st.tuples(st.just("standard_normal"), st.sampled_from([(), (4,), (2, np.float32)])),
    st.tuples(st.just("integers"), st.sampled_from([(10,), (0, 2, 5)])),
    st.tuples(st.just("normal"), st.sampled_from([(0.0, 1.0, 3), (0.0, [1.0, 2.0])])),
    st.tuples(st.just("spawn"), st.just((1,))),
    st.tuples(st.just("permuted"), st.just(([1, 2, 3],))),
    st.tuples(st.just("bytes"), st.just((3,))),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.lists(ASKED, max_size=5)), max_size=6))
def test_any_questions_in_any_order(levels: list[tuple[int, list[tuple[str, tuple[object, ...]]]]]) -> None:
    shared = Shared()
    for seed, questions in levels:
        ours, theirs = shared.stream(1, seed, 0, 2, Gaussian(scale=1.0)), stream(1, seed, 0, 2)
        for name, arguments in questions:
            found, expected = getattr(ours, name)(*arguments), getattr(theirs, name)(*arguments)
            if name == "spawn":
                found, expected = found[0].random(), expected[0].random()
            assert np.array_equal(found, expected)
            assert type(found) is type(expected)


def test_every_method_of_a_generator_is_answered_by_the_recorded_stream() -> None:
    public = {name for name in dir(np.random.Generator) if not name.startswith("_")}
    assert public == {name for name in vars(Replay) if not name.startswith("_")} - {"place"}


WHOLE = st.one_of(st.integers(0, 100), st.integers(0, 2**32 + 100), st.integers(0, 2**130))


@settings(max_examples=200, deadline=None)
@given(WHOLE, st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4), WHOLE, WHOLE)
def test_keys_are_those_of_numpy(root: int, seeds: list[int], position: int, variable: int) -> None:
    found = seeding.keys([root, np.array(seeds, np.uint32), position, variable])
    for seed, key in zip(seeds, found, strict=True):
        sequence = np.random.SeedSequence([root, seed, position, variable])
        assert np.array_equal(key, sequence.generate_state(2, np.uint64))
        assert np.array_equal(key, np.random.Philox(sequence).state["state"]["key"])


@pytest.mark.parametrize("seed", [0, 63, 64, 10**9, 2 * 10**9 + 5, 2**32 - 1, 2**32, 2**40])
def test_the_seeds_of_any_kind_of_chip(seed: int) -> None:
    shared = Shared()
    for _ in range(2):
        ours = shared.stream(7, seed, 1, 2**32 + 3, Gaussian(scale=1.0)).standard_normal(9, dtype=np.float32)
        assert np.array_equal(ours, stream(7, seed, 1, 2**32 + 3).standard_normal(9, dtype=np.float32))

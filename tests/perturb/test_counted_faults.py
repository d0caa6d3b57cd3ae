"""Exactly so many faults, and one bit that flips: against enumeration, and against numpy on whole networks."""

import itertools
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import sweep
from sweep.errors import InputError
from sweep.networks.variables import Variable
from sweep.perturb import REGISTRY, perturb
from sweep.perturb.counted import distinct
from sweep.perturb.perturbation import reads
from sweep.perturb.shared import Shared
from tests.oracle import count, draw

SHAPES = [(3, 2), (4,), (2, 2, 2)]
VARIABLES = [Variable(i, f"l{i}/kernel", f"l{i}", i, "Dense", s, True, (len(s) - 1,)) for i, s in enumerate(SHAPES)]
W = [np.random.default_rng(i).uniform(0.1, 1, shape).astype(np.float32) for i, shape in enumerate(SHAPES)]


def faulty(seed: int, **given: object) -> np.ndarray:
    """Which of the 18 weights are stuck at 0."""
    found = perturb(W, VARIABLES, [REGISTRY["stuck_at"](**given)], 1, seed)
    return np.concatenate([(w == 0).ravel() for w in found])


def test_all_sets_of_numbers_are_alike_likely():
    """Chi-square over the 60 ordered triples of 5, 30,000 draws; fixed seed, false-alarm rate 0.001."""
    rng = np.random.default_rng(4)
    found = Counter(tuple(distinct(3, 5, rng).tolist()) for _ in range(30_000))
    assert set(found) == set(itertools.permutations(range(5), 3))
    assert stats.chisquare(list(found.values())).pvalue > 0.001


@pytest.mark.parametrize("total", [1, 7, 1000])
def test_more_of_them_begin_with_the_fewer(total: int):
    every = distinct(total, total, np.random.default_rng(1))
    assert sorted(every.tolist()) == list(range(total))
    for n in (0, 1, total // 2):
        assert np.array_equal(distinct(n, total, np.random.default_rng(1)), every[:n])
    with pytest.raises(ValueError, match="are more than"):
        distinct(total + 1, total, np.random.default_rng(1))


def test_exactly_so_many_over_all_variables_evenly():
    """Each of 18 weights is stuck in n/18 of 4,000 chips, pairs in n(n − 1)/(18 · 17): binomial tests, level 1e-5."""
    found = np.stack([faulty(seed, faults=4) for seed in range(4000)])
    assert set(found.sum(1)) == {4}
    for k in range(18):
        assert stats.binomtest(int(found[:, k].sum()), 4000, 4 / 18).pvalue > 1e-5
        both = int((found[:, k] & found[:, k - 1]).sum())
        assert stats.binomtest(both, 4000, 4 * 3 / (18 * 17)).pvalue > 1e-5


def test_the_same_faults_and_more():
    for seed in range(20):
        levels = [faulty(seed, faults=n) for n in (0, 1, 5, 17, 18)]
        assert [int(level.sum()) for level in levels] == [0, 1, 5, 17, 18]
        assert all(np.all(many[few]) for few, many in itertools.pairwise(levels))


def test_which_ones_is_the_stream_of_the_transform():
    """The documented draws: the first steps of a shuffle, by numbers of the stream with index 2^32."""
    u = draw(1, 7, 0, 2**32).random(6)
    numbers = list(range(18))
    for k in range(6):
        place = k + int(u[k] * (18 - k))
        numbers[k], numbers[place] = numbers[place], numbers[k]
    assert sorted(numbers[:6]) == np.flatnonzero(faulty(7, faults=6)).tolist()


def test_shared_draws_and_reads_are_the_same():
    stuck = REGISTRY["stuck_at"](faults=5, high=0.5, lifetime="read", block=10)
    chip = REGISTRY["bit_flip"](faults=3, bits=4)
    shared, seen = Shared(), []
    for seed in range(3):
        one = reads(W, VARIABLES, [chip, stuck], 1, seed)
        other = reads(W, VARIABLES, [chip, stuck], 1, seed, shared)
        for a, b in itertools.islice(zip(one, other, strict=False), 4):
            assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
            seen.append(np.concatenate([w.ravel() for w in a]).tobytes())
    assert len(set(seen)) == 12, "every read has faults of its own"


@pytest.mark.parametrize("lines", ["rows", "columns"])
def test_so_many_lines(lines: str):
    transform = REGISTRY["open_lines"](faults=2, lines=lines)
    for seed in range(10):
        found = perturb(W, VARIABLES, [transform], 1, seed)
        opened = 0
        for w in found:
            matrix = w.reshape(-1, w.shape[-1])
            opened += int((matrix == 0).all(axis=1 if lines == "rows" else 0).sum())
        assert opened >= 2
        assert sum(int((w == 0).sum()) for w in found) > 0


@pytest.mark.parametrize("bit", [0, 3, 7])
def test_the_chosen_bit_alone_flips(bit: int):
    """Codes differ in that bit and no other, in the same weights for every bit."""
    w = np.random.default_rng(2).normal(0, 0.3, (40, 30)).astype(np.float32)
    variable = Variable(0, "k/kernel", "k", 0, "Dense", w.shape, True, (1,))
    step = float(np.abs(w).max()) / 127

    def codes(**given: object) -> np.ndarray:
        got = REGISTRY["bit_flip"](bits=8, **given).apply(w, variable, np.random.default_rng(3))
        return np.rint(got.astype(np.float64) / step).astype(np.int64) & 255

    flipped = codes(rate=0.1, bit=bit) ^ codes(rate=0)
    chosen = np.random.default_rng(3).random(w.shape) < 0.1
    assert np.array_equal(flipped, chosen.astype(np.int64) << bit)
    assert int(((codes(faults=11, bit=bit) ^ codes(rate=0)) == 1 << bit).sum()) == 11
    bits = np.bitwise_count(codes(faults=500) ^ codes(rate=0))
    assert bits.sum() == 500
    assert bits.max() > 1, "two in one weight are as likely as any two"


def test_the_chosen_bit_of_a_float():
    w = np.random.default_rng(2).normal(0, 0.3, (40, 30)).astype(np.float32)
    variable = Variable(0, "k/kernel", "k", 0, "Dense", w.shape, True, (1,))
    got = REGISTRY["float32_bit_flip"](rate=1, bit=31).apply(w, variable, np.random.default_rng(3))
    assert np.array_equal(got, -w)
    got = REGISTRY["float32_bit_flip"](faults=3, bit=22).apply(w, variable, np.random.default_rng(3))
    assert np.flatnonzero((got.view(np.uint32) ^ w.view(np.uint32)).ravel()).size == 3
    assert set((got.view(np.uint32) ^ w.view(np.uint32)).ravel()) == {0, 1 << 22}


@pytest.mark.parametrize(
    "given",
    [
        ("stuck_at", {"faults": 6, "high": 0.5, "low": 0.1}),
        ("open_lines", {"faults": 2, "lines": "rows"}),
        ("bit_flip", {"faults": 8, "bits": 6}),
        ("bit_flip", {"rate": 0.2, "bits": 6, "bit": 5}),
    ],
)
def test_resolved_sigma_is_the_spread_of_the_draws(given: tuple[str, dict]):
    """Within 5 % of the standard deviation between 4,000 seeds."""
    w = np.random.default_rng(0).normal(0, 0.3, (6, 7)).astype(np.float32)
    variable, rng = Variable(0, "k", "k", 0, "Dense", w.shape, True, (1,)), np.random.default_rng(5)
    transform = REGISTRY[given[0]](**given[1])
    draws = np.stack([transform.apply(w, variable, rng) for _ in range(4000)]).astype(np.float64)
    assert transform.resolve(w, variable).sigma == pytest.approx(np.sqrt(np.mean(draws.var(0, ddof=1))), rel=0.05)


HEAD = 'name = "n"\nmodel = "net.keras"\ndataset = "data.npz"\nseeds = 5\n[[family]]\nname = "f"\n'


def test_a_study_of_numbers_of_faults(place: Path):
    Path("s.toml").write_text(HEAD + 'perturb = [ { op = "stuck_at", faults = [0, 3, 40] } ]\n')
    found = sweep.run("s.toml", "run", runner="inline").trials()
    found = found[found["family"] == "f"]
    assert found.groupby("faults").size().to_dict() == {0: 1, 3: 5, 40: 5}
    model, data = keras.models.load_model("net.keras"), np.load("data.npz")
    images = data["x_test"][..., None].astype(np.float32) / np.float32(255)
    clean = model.get_weights()
    for row in found.itertuples():
        numbers = distinct(row.faults, clean[0].size + clean[1].size, draw(0, row.seed, 0, 2**32))
        flat = np.concatenate([clean[0].ravel(), clean[1].ravel()])
        flat[numbers] = 0
        weights = [
            flat[: clean[0].size].reshape(clean[0].shape),
            flat[clean[0].size :].reshape(clean[1].shape),
            clean[2],
        ]
        assert row.n_correct == count(model, weights, images, data["y_test"])
    resolved = pd.read_parquet("run/resolved.parquet")
    assert resolved.loc[resolved["cell"] == "net/f/faults=40", "sigma"].gt(0).all()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('op = "stuck_at"', r"family\[0\]\.perturb\[0\]: rate, faults: neither is given; give the one or the other"),
        ('op = "stuck_at", rate = 0.1, faults = 2', r"perturb\[0\]: rate, faults: both are given"),
        (
            'op = "stuck_at", faults = -1',
            r"perturb\[0\]\.faults: -1 is out of range; valid is a whole number of at least 0",
        ),
        ('op = "bit_flip", rate = 0.1, bits = 4, bit = 4', r"bit: 4 is none of a code of 4 bits, which are 0 to 3"),
        (
            'op = "stuck_at", faults = 10000, layers = "conv1"',
            r"family\[0\]\.perturb\[0\]: faults: 10,000 is more than there is to fail, 36 \(net\)",
        ),
    ],
)
def test_mistakes(place: Path, table: str, message: str):
    Path("s.toml").write_text(HEAD + f"perturb = [ {{ {table} }} ]\n")
    with pytest.raises(InputError, match=message):
        sweep.plan("s.toml")


def test_a_rate_alone_keeps_its_identity(place: Path):
    Path("s.toml").write_text(HEAD + 'perturb = [ { op = "bit_flip", rate = 0.1, bits = 4 } ]\n')
    (cell,) = sweep.plan("s.toml").study.identity({})["cells"]["net/f"]
    assert set(cell) == {"op", "layers", "lifetime", "block", "rate", "bits", "code"}

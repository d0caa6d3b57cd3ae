"""What holds for every transform of weights, and for every entry of the catalogue."""

import dataclasses
import inspect

import numpy as np
import pytest

from sweep.networks.variables import Variable
from sweep.perturb import REGISTRY
from sweep.perturb.base import Random, Resolved, Transform, draws, parameters
from sweep.perturb.basis import BASES

TABLE = [[1, 0.1], [5, 0.5], [20, 1]]
SURFACE = [[1, TABLE], [3600, [[1, 0.2], [20, 2]]]]
EXAMPLES = [
    ("gaussian", {"scale": 0.1, "basis": "inverse"}),
    ("gaussian", {"scale": 0.1, "basis": "channel_max"}),
    ("gaussian", {"scale": 0.1}),
    ("uniform", {"scale": 0.1}),
    ("uniform_symmetric", {"scale": 0.2}),
    ("uniform_symmetric", {"scale": 0.1, "basis": "layer_std"}),
    ("log_normal", {"scale": 0.3}),
    ("log_normal", {"scale": 0.3, "mean_preserving": True}),
    ("fixed_point", {"bits": 3}),
    ("fixed_point", {"bits": 3, "rounding": "stochastic"}),
    ("fixed_point_saturating", {"bits": 3}),
    ("fixed_point_saturating", {"bits": 32, "integer_bits": 16, "rounding": "stochastic"}),
    ("symmetric", {"bits": 3}),
    ("symmetric", {"bits": 32, "per": "channel", "rounding": "stochastic"}),
    ("affine", {"bits": 3}),
    ("affine", {"bits": 32, "per": "channel", "rounding": "stochastic"}),
    ("conductance_states", {"states": 5, "per": "channel"}),
    ("binary", {}),
    ("binary", {"per": "channel"}),
    ("ternary", {}),
    ("ternary", {"per": "channel"}),
    ("power_of_two", {"bits": 3}),
    ("power_of_two", {"bits": 32, "per": "channel", "rounding": "stochastic"}),
    ("floating", {"format": "float16"}),
    ("floating", {"format": "float8_e5m2"}),
    ("stuck_at", {"rate": 0.3, "high": 0.2, "low": 0.3}),
    ("open_lines", {"rate": 0.3, "lines": "rows"}),
    ("open_lines", {"rate": 0.3, "lines": "columns"}),
    ("bit_flip", {"rate": 0.1, "bits": 4}),
    ("bit_flip", {"rate": 0.1, "bits": 32, "code": "fixed_point"}),
    ("float32_bit_flip", {"rate": 0.01}),
    ("stuck_at", {"faults": 1, "high": 0.5}),
    ("open_lines", {"faults": 1, "lines": "columns"}),
    ("bit_flip", {"faults": 2, "bits": 4}),
    ("bit_flip", {"rate": 0.2, "bits": 4, "bit": 2}),
    ("float32_bit_flip", {"faults": 1, "bit": 30}),
    ("drift", {"time": 1e5}),
    ("drift", {"time": 1e5, "nu_std": 0.03}),
    ("conductance_noise", {"table": TABLE}),
    ("conductance_noise", {"table": TABLE, "on_off": 8.0, "mean": [[1, 0.1], [20, -0.5]]}),
    ("conductance_over_time", {"time": 60.0, "sigma": SURFACE}),
    (
        "conductance_over_time",
        {"time": 60.0, "sigma": SURFACE, "mean": [[1, [[1, 0], [20, -1]]], [999, [[0, 0], [20, -3]]]]},
    ),
    ("pcm", {"time": 86400.0}),
    ("pcm", {"time": 86400.0, "opposite": "programmed", "compensation": "global"}),
]
NAMES = [f"{op}-{'-'.join(str(v) for v in given.values() if not isinstance(v, list))}" for op, given in EXAMPLES]
MOVES_ZERO = {"gaussian", "uniform", "uniform_symmetric", "bit_flip", "float32_bit_flip"}  # an all-zero array
SHAPES = [((7,), (0,)), ((6, 5), (1,)), ((3, 2, 4, 6), (3,)), ((3, 3, 4, 2), (2, 3)), ((1,), (0,))]

examples = pytest.mark.parametrize(("op", "given"), EXAMPLES, ids=NAMES)


def generator() -> np.random.Generator:
    return np.random.Generator(np.random.Philox(3))


def kernel(shape: tuple[int, ...], axes: tuple[int, ...]) -> Variable:
    return Variable(0, "k/kernel", "k", 0, "Dense", shape, True, axes)


@examples
@pytest.mark.parametrize(("shape", "axes"), SHAPES)
def test_gives_a_new_float32_array_of_the_same_shape(op: str, given: dict, shape: tuple, axes: tuple):
    transform = REGISTRY[op](**given)
    weight = np.random.default_rng(1).normal(0, 0.3, shape).astype(np.float32)
    kept = weight.copy()
    weight.setflags(write=False)
    got = transform.apply(weight, kernel(shape, axes), generator())
    assert got.dtype == np.float32
    assert got.shape == shape
    assert got.flags.writeable
    assert not np.shares_memory(got, weight)
    assert np.array_equal(weight, kept)
    again = transform.apply(weight, kernel(shape, axes), generator())
    assert np.array_equal(got, again, equal_nan=True)
    assert isinstance(transform.resolve(weight, kernel(shape, axes)), Resolved)


@examples
def test_an_array_with_strides_counts_as_its_copy(op: str, given: dict):
    weight = np.random.default_rng(1).normal(0, 0.3, (12, 10)).astype(np.float32)[::2, ::-1].T
    transform, variable = REGISTRY[op](**given), kernel((10, 6), (1,))
    got, expected = (transform.apply(w, variable, generator()) for w in (weight, np.ascontiguousarray(weight)))
    assert np.array_equal(got, expected, equal_nan=True)


@examples
def test_random_says_whether_seeds_differ(op: str, given: dict):
    transform = REGISTRY[op](**given)
    weight = np.random.default_rng(1).normal(0, 0.3, (50, 40)).astype(np.float32)
    same = generator()
    one, other = (transform.apply(weight, kernel((50, 40), (1,)), same) for _ in range(2))
    assert np.array_equal(one, other, equal_nan=True) is not transform.random


@examples
def test_weights_that_are_all_zero(op: str, given: dict):
    """They stay 0, but for noise and flipped bits in absolute units."""
    transform = REGISTRY[op](**given)
    weight = np.zeros((6, 5), np.float32)
    got = transform.apply(weight, kernel((6, 5), (1,)), generator())
    assert np.all(np.isfinite(got))
    if op not in MOVES_ZERO:
        assert not np.any(got)
    resolved = transform.resolve(weight, kernel((6, 5), (1,)))
    for figure in (resolved.sigma, resolved.step, resolved.low, resolved.high, resolved.saturated):
        assert figure is None or np.isfinite(figure)


@pytest.mark.parametrize(("op", "given"), [e for e in EXAMPLES if e[1].get("per") == "channel"])
def test_a_channel_that_is_all_zero(op: str, given: dict):
    transform = REGISTRY[op](**given)
    weight = np.random.default_rng(1).normal(0, 0.3, (6, 5)).astype(np.float32)
    weight[:, 2] = 0
    got = transform.apply(weight, kernel((6, 5), (1,)), generator())
    assert not np.any(got[:, 2])
    alone = transform.apply(weight[:, :1], kernel((6, 1), (1,)), generator())
    if not transform.random:
        assert np.array_equal(got[:, :1], alone)


@pytest.mark.parametrize(
    ("op", "given"),
    [
        ("gaussian", {"scale": 0, "basis": "inverse"}),
        ("log_normal", {"scale": 0, "mean_preserving": True}),
        ("stuck_at", {"rate": 0, "high": 1}),
        ("open_lines", {"rate": 0, "lines": "rows"}),
        ("float32_bit_flip", {"rate": 0}),
        ("drift", {"time": 0, "nu_std": 0.1}),
        ("drift", {"time": 1e9, "nu": 0}),
        ("conductance_noise", {"table": TABLE, "scale": 0}),
        ("conductance_noise", {"table": [[0, 0], [1, 0]]}),
        ("pcm", {"time": 1e9, "programming": False, "drift": False, "read": False, "compensation": "global"}),
        ("pcm", {"time": 0, "programming": False, "read": False}),
    ],
)
def test_nothing_happens_and_no_seeds_are_needed(op: str, given: dict):
    transform = REGISTRY[op](**given)
    weight = np.random.default_rng(1).normal(0, 0.3, (6, 5)).astype(np.float32)
    weight[0, 0] = 0
    assert not transform.random
    assert np.array_equal(transform.apply(weight, kernel((6, 5), (1,)), generator()), weight)
    assert transform.resolve(weight, kernel((6, 5), (1,))).sigma in (0, None)


@examples
def test_what_its_parameters_call_the_identity_is_one(op: str, given: dict):
    weight = np.random.default_rng(1).normal(0, 0.3, (6, 5)).astype(np.float32)
    for field in dataclasses.fields(REGISTRY[op]):
        if field.metadata.get("identity") is not None:
            others = {"rate", "faults"} - {field.name} if field.name in ("rate", "faults") else set()
            kept = {name: value for name, value in given.items() if name not in others}
            transform = REGISTRY[op](**{**kept, field.name: field.metadata["identity"]})
            if op != "bit_flip" and "mean" not in given:  # quantizes at rate 0 too; is off on average
                assert transform.is_identity
                assert not draws(transform)
                assert transform.apply(weight, kernel((6, 5), (1,)), generator()).tobytes() == weight.tobytes()


@pytest.mark.parametrize("op", ["gaussian", "uniform", "uniform_symmetric"])
def test_the_standard_deviation_per_level_is_that_of_the_draws(op: str):
    """400,000 draws: a standard deviation 1 % off is 5 or more standard errors away; the seed is fixed."""
    transform, weight = REGISTRY[op](scale=0.2), np.zeros(400_000, np.float32)
    drawn = np.std(transform.apply(weight, kernel((400_000,), (0,)), generator()), dtype=np.float64)
    assert drawn / 0.2 == pytest.approx(transform.std_per_level, rel=0.01)


@pytest.mark.parametrize("bits", [0, 1, 5])
def test_the_step_of_a_rounding_is_between_its_levels(bits: int):
    transform, weight = REGISTRY["fixed_point"](bits=bits), np.linspace(-3, 3, 10_001).astype(np.float32)
    levels = np.unique(transform.apply(weight, kernel((10_001,), (0,)), generator()))
    assert set(np.diff(levels)) == {transform.rounding_step}


@pytest.mark.parametrize("op", ["gaussian", "uniform", "uniform_symmetric"])
def test_noise_in_absolute_units_alone_has_a_standard_deviation_per_level(op: str):
    assert REGISTRY[op](scale=0.1).std_per_level is not None
    assert {REGISTRY[op](scale=0.1, basis=basis).std_per_level for basis in BASES if basis != "absolute"} == {None}


@pytest.mark.parametrize("op", sorted(REGISTRY))
def test_its_docstring_is_an_entry_of_the_catalogue(op: str):
    """The formula first, in at most two lines; last the source, then what peers call it."""
    paragraphs = inspect.cleandoc(REGISTRY[op].__doc__ or "").split("\n\n")
    assert len(paragraphs) >= 3, op
    assert len(paragraphs[0].splitlines()) <= 2
    source, *peers = paragraphs[[p.startswith("Source: ") for p in paragraphs].index(True) :]
    assert source.endswith(".")
    assert peers[0].startswith("Peers")
    assert peers[-1].endswith(".")
    assert len(peers) == (1 if peers[0].startswith("Peers: none known") else 2), "a list; see test_peers"


def test_every_transform_of_weights_has_an_example():
    mine = "devices faults levels noise quantize"
    modules = {f"sweep.perturb.{name}" for name in mine.split()}
    assert {op for op, t in REGISTRY.items() if t.__module__ in modules} == {op for op, _ in EXAMPLES}


@pytest.mark.parametrize("op", sorted({op for op, _ in EXAMPLES}))
def test_parameters_say_what_they_mean(op: str):
    transform: type[Transform] = REGISTRY[op]
    assert all(transform.__dataclass_fields__[name].metadata["text"] for name in parameters(transform))
    draws = {"lifetime", "block"} <= set(parameters(transform))
    assert draws is issubclass(transform, Random)

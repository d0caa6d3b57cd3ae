"""Which activations fail: the law of each draw, that it heeds no batch, and what cannot be."""

import numpy as np
import pytest

from sweep.errors import InputError
from sweep.perturb import REGISTRY
from sweep.perturb.flow_faults import ActivationBitFlip, ActivationFault, ActivationStuckAt, Share
from sweep.perturb.grid import Levels
from tests.oracle import draw

LIMIT = 5.0  # standard errors


def flips(images: list[int], share: Share, seed: int = 1, **parameters: object) -> np.ndarray:
    """(images, values) masks, drawn so many images at a time."""
    transform = ActivationBitFlip(**parameters)
    failing = transform.failing(share, draw(0, seed, 0, 1), draw(0, seed, 0, 2))
    return np.concatenate([transform.masks(n, share, failing) for n in images]).astype(np.int64)


def bits_of(masks: np.ndarray, bits: int) -> np.ndarray:
    """(images, values, bits), the lowest first."""
    return (masks[..., None] >> np.arange(bits)) & 1


@pytest.mark.parametrize("rate", [0.001, 0.2, 0.9])
def test_each_bit_of_each_image_flips_by_itself(rate: float):
    """The share of every bit, of pairs of bits, of neighbouring values and of neighbouring images."""
    images, values, bits = 2000, 50, 3
    found = bits_of(flips([images], Share(values, 0, values), bits=bits, rate=rate), bits)
    pairs = [
        *(found[..., k].mean() for k in range(bits)),
        *((found[..., 0] * found[..., k]).mean() for k in (1, 2)),
        (found[:, :-1] * found[:, 1:]).mean(),
        (found[:-1] * found[1:]).mean(),
    ]
    for k, share in enumerate(pairs):
        expected = rate if k < bits else rate**2
        assert abs(share - expected) < LIMIT * np.sqrt(expected / (images * (values - 1))), k
    counts = found.sum(axis=(1, 2))
    assert counts.var() == pytest.approx(values * bits * rate * (1 - rate), rel=0.2)


@pytest.mark.parametrize("given", [{"rate": 0.003}, {"rate": 1.0}, {"faults": 2}, {"rate": 0.3, "lifetime": "chip"}])
def test_how_many_images_are_asked_for_at_a_time_makes_no_difference(given: dict):
    share = Share(40, 0, 40)
    if "lifetime" in given:
        (once,) = flips([1], share, bits=4, **given)
        assert 0 < np.count_nonzero(once) < 40
        return
    whole = flips([300], share, bits=4, **given)
    assert np.array_equal(whole, flips([1, 7, 100, 192], share, bits=4, **given))
    assert np.count_nonzero(whole)


def test_distances_between_faults_are_those_of_the_formula():
    """One by one, from the stream itself."""
    rate, values, bits, images = 0.01, 30, 4, 50
    stream, expected, at = draw(0, 1, 0, 1), np.zeros((images, values), np.int64), -1
    while True:
        at += 1 + int(stream.standard_exponential() / -np.log1p(-rate))
        if at >= images * values * bits:
            break
        image, thing = divmod(at, values * bits)
        expected[image, thing % values] |= 1 << thing // values
    assert np.array_equal(flips([images], Share(values, 0, values), bits=bits, rate=rate), expected)


def test_a_higher_rate_keeps_the_faults_of_a_chip():
    share = Share(500, 0, 500)
    low, high = (flips([1], share, bits=8, rate=rate, lifetime="chip") for rate in (0.01, 0.1))
    assert np.array_equal(low & high, low)
    assert np.count_nonzero(high) > np.count_nonzero(low) > 0
    u = draw(0, 1, 0, 1).random(8 * 500).reshape(8, 500)
    assert np.array_equal(low[0], ((u < 0.01) << np.arange(8)[:, None]).sum(axis=0))


@pytest.mark.parametrize("lifetime", ["image", "chip"])
def test_exactly_so_many_bits_flip_in_all_layers_together(lifetime: str):
    images = 4000 if lifetime == "image" else 1
    given = {"bits": 3, "faults": 4, "lifetime": lifetime}
    first = bits_of(flips([images], Share(10, 0, 30), **given), 3)
    second = bits_of(flips([images], Share(20, 10, 30), **given), 3)
    both = np.concatenate([first, second], axis=1)
    assert (both.sum(axis=(1, 2)) == 4).all()
    if lifetime == "image":
        expected = 4 / 90
        assert np.abs(both.mean(axis=0) - expected).max() < LIMIT * np.sqrt(expected / images)


def test_one_bit_alone():
    found = flips([200], Share(50, 0, 50), bits=8, rate=0.1, bit=6)
    assert set(np.unique(found)) == {0, 64}


def stuck(share: Share, seed: int = 1, **given: object) -> np.ndarray:
    transform = ActivationStuckAt(**given)
    own = draw(0, seed, 0, 1)
    return transform.stuck(share, (-2.0, 3.0), transform.failing(share, own, draw(0, seed, 0, 2)), own)


def test_values_are_stuck_at_the_ends_or_at_0():
    found = stuck(Share(100_000, 0, 100_000), rate=0.2, high=0.5, low=0.3)
    assert found.shape == (1, 100_000)
    for value, expected in ((3.0, 0.1), (-2.0, 0.06), (0.0, 0.04)):
        assert abs((found == value).mean() - expected) < LIMIT * np.sqrt(expected / 100_000)
    assert np.isnan(found).mean() == pytest.approx(0.8, abs=0.01)
    stream = draw(0, 1, 0, 1)
    fails, where = stream.random(100_000) < 0.2, stream.random(100_000)
    formula = np.where(where < 0.5, 3, np.where(where >= 1 - 0.3, -2, 0))
    assert np.array_equal(found[0], np.where(fails, formula, np.nan), equal_nan=True)


def test_exactly_so_many_values_are_stuck():
    shares = [Share(10, 0, 30), Share(20, 10, 30)]
    assert sum(np.count_nonzero(~np.isnan(stuck(share, faults=7))) for share in shares) == 7


def test_the_standard_deviation_of_what_happens():
    """Over chips or images, from many draws."""
    x = np.linspace(-2, 3, 40).astype(np.float32)
    share = Share(40, 0, 40)
    transform = ActivationStuckAt(rate=0.3, high=0.5, low=0.2)
    drawn = [stuck(share, seed, rate=0.3, high=0.5, low=0.2)[0] for seed in range(3000)]
    found = np.array([np.where(np.isnan(one), x, one) for one in drawn]).astype(np.float64)
    assert np.sqrt(found.var(axis=0).mean()) == pytest.approx(transform.resolved(x[None], share).sigma, rel=0.02)
    flipping = ActivationBitFlip(bits=4, rate=0.1)
    levels = Levels(0.5, 0.0, -4, 11)
    masks = flips([20_000], share, bits=4, rate=0.1)
    codes = (np.arange(16)[np.arange(40) % 16] ^ masks) * 0.5
    sigma = flipping.resolved(levels, x[None], share).sigma
    assert np.sqrt(codes.var(axis=0).mean()) == pytest.approx(sigma, rel=0.02)


@pytest.mark.parametrize(
    ("op", "given", "text"),
    [
        ("activation_bit_flip", {"bits": 4}, "rate, faults: neither is given; give the one or the other"),
        ("activation_bit_flip", {"bits": 4, "rate": 0.1, "faults": 1}, "rate, faults: both are given"),
        ("activation_bit_flip", {"bits": 4, "rate": 1.1}, "rate"),
        ("activation_bit_flip", {"bits": 4, "rate": 0.1, "bit": 4}, "bit: 4 is none of a code of 4 bits"),
        ("activation_bit_flip", {"bits": 4, "rate": 0.1, "lifetime": "read"}, "lifetime"),
        ("activation_stuck_at", {"rate": 0.1, "high": 0.7, "low": 0.4}, "more than 1; these are shares"),
        ("activation_stuck_at", {"high": 0.7}, "rate, faults: neither is given"),
    ],
)
def test_what_cannot_be_is_said(op: str, given: dict, text: str):
    with pytest.raises(InputError, match=text):
        REGISTRY[op](**given)


def test_nothing_fails_at_rate_0():
    assert ActivationStuckAt(rate=0).is_identity
    assert not ActivationStuckAt(faults=0).acts
    kept = ActivationBitFlip(bits=4, rate=0)
    assert kept.acts
    assert not kept.is_identity
    assert not kept.random
    assert issubclass(ActivationBitFlip, ActivationFault)

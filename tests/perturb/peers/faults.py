"""Faults of weights."""

import struct

import numpy as np

from tests.perturb.peers.checks import DRAWS, LIMIT, MAX, W, drawn, many, other_law, ours, peer, same_law

Array = np.ndarray


def shares(found: Array, expected: float) -> None:
    """A share of `found` trials is as expected, within standard errors."""
    assert abs(found.mean() - expected) < LIMIT * np.sqrt(expected * (1 - expected) / found.size)


def choose(count: int, of: int, rng: np.random.Generator) -> Array:
    """(DRAWS, of): exactly `count` of them, chosen without replacement in each draw."""
    return np.argsort(rng.random((DRAWS, of)), axis=1) < count


def faulty(w: Array, low: Array, high: Array) -> Array:
    """A pair of devices w = g+ - g-, those of `low` (2, ...) stuck at 0 and then those of `high` at the largest."""
    pair = [np.maximum(side, 0) for side in (w, -w)]
    pair = [np.where(h, MAX, np.where(off, 0, g)) for g, off, h in zip(pair, low, high, strict=True)]
    return pair[0] - pair[1]


def check_pair(theirs: Array, on: float, off: float) -> None:
    """Outcomes of w > 0, to first order in the shares: of theirs, and of stuck_at."""
    row, column = np.unravel_index(np.argsort(W, axis=None)[-2], W.shape)
    positive = float(W[row, column])
    assert 0 < positive < MAX
    found = theirs[:, row, column]
    slack = 2 * (on + off) ** 2
    rate = 2 * on + off
    mine = drawn("stuck_at", rate=rate, high=on / rate, low=on / rate)[:, row, column]
    for value, of_mine in ((MAX, MAX), (positive - MAX, -MAX), (0.0, 0.0)):
        expected = on if value else off
        for sample, at in ((found, value), (mine, of_mine)):
            share = np.isclose(sample, at, atol=1e-6).mean()
            assert abs(share - expected) < slack + LIMIT * np.sqrt(expected / DRAWS), (value, share, expected)


@peer("stuck_at", "MemTorch `apply_device_faults`")
def memtorch() -> None:
    """memtorch/bh/nonideality/DeviceFaults.py: int(n · share) of each crossbar, off ones first, then on ones."""
    w, rng = many()
    n, on, off = 24, 1 / 24, 2 / 24
    low, high = (np.stack([choose(int(n * p + 1e-9), n, rng).reshape(w.shape) for _ in range(2)]) for p in (off, on))
    check_pair(faulty(w, low, high), on, off)


@peer("stuck_at", "xbtorch `stuck_percentage`")
def xbtorch() -> None:
    """src/xbtorch/deployment/base.py, gen_defect_map: int(q · n) of all devices, each at either end by a coin."""
    w, rng = many()
    q, n = 4 / 48, 48
    stuck = choose(int(q * n + 1e-9), n, rng).reshape(DRAWS, 2, *W.shape).swapaxes(0, 1)
    coin = rng.random(stuck.shape) < 0.5
    check_pair(faulty(w, stuck & ~coin, stuck & coin), q / 2, q / 2)


@peer("stuck_at", "PyTorchFI `zero_func_rand_weight`")
def pytorchfi() -> None:
    """pytorchfi/weight_error_models.py: one weight of a layer, drawn evenly, times 0."""
    w, rng = many()
    hit = choose(1, 24, rng).reshape(w.shape)
    theirs = np.where(hit, w * 0, w)
    same_law(drawn("stuck_at", rate=1 / 24), theirs)
    assert (np.count_nonzero(hit, axis=(1, 2)) == 1).all()


@peer("stuck_at", "TensorFI2 `zeros`")
def tensorfi() -> None:
    """src/tensorfi2.py: floor(Amount · n / 100) weights of a variable."""
    w, rng = many()
    hit = choose(int(np.floor(25 * 24 / 100)), 24, rng).reshape(w.shape)
    same_law(drawn("stuck_at", rate=0.25), np.where(hit, 0.0, w))


def single_flips(values: list[float], weight: float, mine: Array, q: float, b: int) -> None:
    """Ours at rate q / b: where one bit flipped, each of the values that a peer gives is as likely as another."""
    flipped = mine[mine != weight]
    counts = np.array([np.count_nonzero(flipped == np.float32(v)) for v in values])
    assert counts.sum() > 0.99 * flipped.size  # what is left flipped twice
    expected = flipped.size / b
    assert np.abs(counts - expected).max() < LIMIT * np.sqrt(expected) + 0.01 * expected
    shares(mine != weight, 1 - (1 - q / b) ** b)


@peer("bit_flip", "MRFI `IntRandomBitFlip`")
def mrfi_integers() -> None:
    """mrfi/error_mode.py: x ^ (1 << bit), and x ^ -(1 << bit) for the sign, on codes of mrfi/quantization.py."""
    bits, q = 4, 0.01
    step = MAX / 7
    row = np.linspace(-MAX, MAX, 15, dtype=np.float32)[3]
    code = int(np.rint(row / step))
    values = [(code ^ (-(1 << bit) if bit == bits - 1 else 1 << bit)) * step for bit in range(bits)]
    column = np.full((400_000, 1), row, np.float32)
    column[0] = MAX
    mine = ours("bit_flip", column, bits=bits, rate=q / bits)[1:]
    single_flips(values, np.float32(code * step), mine, q, bits)


@peer("bit_flip", "GoldenEye `num_fixed_pt`")
def goldeneye_fixed() -> None:
    """src/num_sys_class.py: a sign, then the magnitude, cut off."""
    weight, bits = np.float32(0.3125), 4
    magnitude = int(weight * 8) / 8  # three bits of fraction, cut off
    assert magnitude == 0.25
    column = np.full((100_000, 1), weight, np.float32)
    mine = ours("bit_flip", column, bits=bits, code="fixed_point", rate=0.002)
    assert -magnitude not in mine
    assert np.float32(0.25 - 1) in mine  # the sign bit here, of the code rint(2.5) = 2


def float_flips(weight: float) -> list[float]:
    """src/tensorfi2.py, bitflip, at each of the 32 positions; MRFI's FloatRandomBitFlip does the same on int32."""
    found = []
    for position in range(32):
        octets = list(struct.pack("<f", weight))
        octets[position // 8] ^= 1 << position % 8
        found.append(struct.unpack("<f", bytes(octets))[0])
    return found


@peer("float32_bit_flip", "TensorFI2 `bitflips`", "MRFI `FloatRandomBitFlip`")
def float_bits() -> None:
    weight, q = np.float32(0.3), 0.02
    values = float_flips(float(weight))
    integers = np.float32(weight).view(np.int32) ^ (np.int64(1) << np.arange(32)).astype(np.int32)
    assert integers.view(np.float32).tolist() == [np.float32(v) for v in values]
    mine = ours("float32_bit_flip", np.full((1_000_000, 1), weight, np.float32), rate=q / 32)
    single_flips(values, weight, mine, q, 32)


@peer("float32_bit_flip", "GoldenEye `num_fp32`")
def goldeneye_float() -> None:
    """src/goldeneye.py, _flip_bit_goldeneye: beyond the layer's largest value, or not finite, becomes that value."""
    largest = np.float32(MAX)
    flips = np.array(float_flips(float(W[2, 1])), np.float32)
    theirs = np.where(~np.isfinite(flips) | (np.abs(flips) > largest), np.where(flips < 0, -largest, largest), flips)
    mine = ours("float32_bit_flip", np.full((200_000, 1), W[2, 1], np.float32), rate=0.001)
    assert np.abs(theirs).max() <= largest < np.nanmax(np.abs(mine))
    other_law(np.resize(theirs, (DRAWS, 1)), np.resize(np.clip(flips, -1e3, 1e3), (DRAWS, 1)))

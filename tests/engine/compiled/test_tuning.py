"""Tiles of sums: measured once there is time for it, remembered, and the same results to the last bit in any."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from architectures import draw_weights, randomize
from keras import layers as kl

from sweep import assembly
from sweep.engine.compiled import lowering, program, slots, tuning
from sweep.engine.compiled.kernels import Clamp, Convolution
from sweep.engine.compiled.network import CompiledNetwork

PLAIN = Convolution(6, 7, 3, 20, (3, 3), (1, 1), (1, 1), (1, 1), 9 * 3 * 16, 7 * 20 * 16, 0, Clamp(0.0))
POOLED = dataclasses.replace(PLAIN, rows=6, columns=6, pool=(2, 2))
DENSE = dataclasses.replace(PLAIN, rows=1, columns=1, window=(1, 1), channels=30)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on a processor with AVX-512; LLVM splits its registers where there are none. Nothing is known yet."""
    for module in (assembly, lowering, program, slots, tuning):
        monkeypatch.setattr(module, "lanes", lambda: 16)
    monkeypatch.setattr(tuning, "_known", {})
    monkeypatch.setenv("NOISESWEEP_CACHE", str(tmp_path))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Convolution]:
    """What is measured; the last tile is the fastest."""
    asked: list[Convolution] = []

    def measure(kernel: Convolution) -> None:
        asked.append(kernel)
        tuning._known[tuning._sums(kernel)] = kernel.tiles[-1]

    monkeypatch.setattr("sweep.engine.compiled.network.measure", measure)
    return asked


def network() -> keras.Model:
    inputs = keras.Input((13, 12, 3))
    x = kl.MaxPooling2D()(kl.Conv2D(5, 3, activation="relu")(inputs))
    y = kl.BatchNormalization()(kl.Conv2D(20, 3, padding="same")(x))
    x = kl.ReLU()(kl.Add()([y, kl.Conv2D(20, 1)(x)]))
    return keras.Model(inputs, kl.Dense(21)(kl.Flatten()(kl.Conv2D(6, (2, 3), strides=2)(x))))


@pytest.mark.parametrize("first", ["all", "few"])
def test_scores_are_the_same_in_every_tile(
    monkeypatch: pytest.MonkeyPatch, measured: list[Convolution], first: str
) -> None:
    """Before it is tuned, in the call in which it is, and after; on all images and on few."""
    rng = np.random.default_rng(4)
    model = network()
    randomize(model, rng)
    varied = range(len(model.weights))
    weights = draw_weights(model, varied, 2, rng)
    x = rng.standard_normal((19, 13, 12, 3)).astype(np.float32)
    images = rng.integers(19, size=(2, 7))
    compiled = CompiledNetwork(model, varied)
    blocks = compiled.blocks([x])

    def of_few() -> np.ndarray:
        seen = compiled.see([x], images, compiled.rows(zip(*weights, strict=True), 2))
        return seen.scores(np.ones(images.shape, bool))

    def all_and_few() -> tuple[np.ndarray, np.ndarray]:
        few = of_few() if first == "few" else None
        scores = compiled.forward(blocks, weights)
        return scores, of_few() if few is None else few

    before = all_and_few()
    assert measured == []
    usual = {kernel.tile for kernel in compiled._questions}
    monkeypatch.setattr(tuning, "SHARE", np.inf)
    for found, expected in zip(all_and_few(), before, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert len(measured) == 5
    assert {tuning.best_known(kernel).tile for kernel in measured} != usual
    assert compiled._questions == []
    np.testing.assert_array_equal(before[0][[[0], [1]], images].reshape(-1, 21), before[1])
    again = CompiledNetwork(model, varied)
    np.testing.assert_array_equal(again.forward(blocks, weights), before[0])
    assert len(measured) == 5, "what is known is not measured again"


def clock(seconds: dict[int, float]) -> Callable[[], float]:
    """A clock by which the k-th tile, of three in turn, takes so long; it is asked before and after each."""
    now, asked = 0.0, 0

    def ask() -> float:
        nonlocal now, asked
        tile, after = asked // 2 % 3, asked % 2
        asked += 1
        now += seconds[tile] if after else 0.0
        return now

    return ask


@pytest.mark.parametrize(
    ("seconds", "fastest"),
    [({0: 1.0, 1: 0.9, 2: 0.8}, 2), ({0: 1.0, 1: 0.9, 2: 0.95}, 1), ({0: 1.0, 1: 0.99, 2: 2.0}, 0)],
)
def test_the_fastest_is_taken_and_remembered(
    seconds: dict[int, float], fastest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is hardly faster than the usual one is not worth it."""
    assert tuning.best_known(PLAIN) == PLAIN
    assert tuning.measure(PLAIN, clock(seconds)) == PLAIN.tiles[fastest]
    monkeypatch.setattr(tuning, "_known", {})  # another process
    elsewhere = dataclasses.replace(PLAIN, x_row=11 * 3 * 16, r_row=7 * 20 * 16, clamp=Clamp())
    found = tuning.best_known(elsewhere)
    assert found.tile == PLAIN.tiles[fastest]
    assert len(tuning.open_questions([PLAIN, elsewhere])) == 1
    assert tuning.open_questions([found]) == []
    monkeypatch.setattr(tuning, "_known", {})
    monkeypatch.setattr(tuning, "processor", lambda: "another")
    assert tuning.best_known(PLAIN) == PLAIN


def test_what_is_remembered_may_be_of_no_use() -> None:
    for name in ("1x1x7", "", "a"):
        tuning.remember(tuning._facts(tuning._sums(PLAIN)), name)
        assert tuning.best_known(PLAIN) == PLAIN


@pytest.mark.parametrize("kernel", [PLAIN, POOLED, DENSE, dataclasses.replace(PLAIN, strides=(2, 1), x_row=2**20)])
def test_kernels_are_measured_as_they_are(kernel: Convolution) -> None:
    assert tuning.measure(kernel) in kernel.tiles
    assert tuning._sums(kernel) in tuning._known


def test_tiles_that_are_tried() -> None:
    assert PLAIN.tiles == [(1, 2, 4), (1, 4, 4), (1, 1, 16)]
    assert POOLED.tiles == [(2, 2, 2), (2, 4, 2)]
    assert DENSE.tiles == [(1, 1, 7), (1, 1, 10), (1, 1, 16)]
    assert dataclasses.replace(PLAIN, window=(20, 20)).tiles == [(1, 2, 4)], "the others are too much text"


def test_it_is_done_once_it_is_a_tenth_of_what_was_spent() -> None:
    assert not tuning.is_due([], 1e9)
    assert not tuning.is_due([PLAIN, DENSE], 6 * tuning.SECONDS / tuning.SHARE - 0.1)
    assert tuning.is_due([PLAIN, DENSE], 6 * tuning.SECONDS / tuning.SHARE + 0.1)


def test_with_sixteen_registers_there_is_nothing_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "lanes", lambda: 8)
    assert tuning.open_questions([PLAIN]) == []
    assert tuning.best_known(PLAIN) == PLAIN

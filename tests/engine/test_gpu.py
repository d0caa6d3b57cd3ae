"""What a process with a GPU does, in one that only says it has one: the same counts as a CPU, in fewer steps.

It runs with TensorFlow here, and with JAX in tests/test_jax.py.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from sweep.bench.resnet import residual_network
from sweep.data.datasets import load_dataset
from sweep.engine import choice, near_ties, tensors
from sweep.engine.backends import Plain, Stacked, Subject
from sweep.engine.choice import entries_of
from sweep.engine.evaluator import Evaluator
from sweep.engine.graph import Graph
from sweep.networks.feeding import Fed
from sweep.networks.loading import load_network

IMAGES, TRIALS = 300, 7


def network_of(activation: str | None, outputs: int) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(6, 3),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(outputs, activation=activation),
        ]
    )


@pytest.fixture(params=[("softmax", 5), (None, 5), ("sigmoid", 1)], ids=["softmax", "logits", "one output"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(1)
    model = network_of(*request.param)
    model.set_weights([np.abs(rng.normal(0, 0.5, w.shape)).astype(np.float32) for w in model.get_weights()])
    model.set_weights([w - 0.3 * (w.ndim > 1) for w in model.get_weights()])
    images = rng.integers(0, 256, (IMAGES, 12, 12), dtype=np.uint8)
    np.savez(tmp_path / "d.npz", x_test=images, y_test=rng.integers(0, max(2, request.param[1]), IMAGES))
    model.save(tmp_path / "m.keras")
    return tmp_path / "m.keras", tmp_path / "d.npz"


def trials_of(evaluator: Evaluator) -> list[list[np.ndarray]]:
    rng = np.random.default_rng(2)
    return [
        [w + 0.1 * rng.standard_normal(w.shape).astype(np.float32) ** (1 + (w.ndim == 1)) for w in evaluator.weights]
        for _ in range(TRIALS)
    ]


def test_the_counts_of_a_gpu_are_those_of_a_cpu(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    network, dataset = load_network(files[0]), load_dataset(files[1])
    ours = Evaluator(network, dataset)
    trials, varied = trials_of(ours), range(len(ours.weights))
    expected = []
    for weights in trials:  # by Keras alone
        network.model.set_weights(weights)
        scores = np.asarray(network.model.predict(Fed(network, dataset, None)[:], verbose=0))
        decided = scores.argmax(-1) if network.threshold is None else scores[:, 0] > network.threshold
        expected.append(int((decided == dataset.labels).sum()))
    network.model.set_weights(ours.weights)
    assert ours.correct(trials, varied) == expected
    monkeypatch.setattr(tensors, "device", lambda: "GPU")
    gpu = Evaluator(network, dataset)
    backend = gpu.backend(varied)
    assert (backend.name, backend.trials > 1) == ("stacked", True)
    asked: list[str] = []
    monkeypatch.setattr(Stacked, "settled", lambda *given, right=Stacked.settled: asked.append("") or right(*given))
    assert gpu.correct(trials, varied) == expected
    assert bool(asked) is (network.threshold is None)
    gpu._tie = 1e9  # every decision is taken again as the CPU takes it
    assert gpu.correct(trials, varied) == expected
    assert gpu.ties >= IMAGES * TRIALS


def test_what_is_settled_is_what_the_scores_say(files: tuple[Path, Path]) -> None:
    network, dataset = load_network(files[0]), load_dataset(files[1])
    if network.threshold is not None:
        pytest.skip("a single output is judged by its scores")
    subject = Subject(network, Fed(network, dataset, None)[:])
    trials, varied = trials_of(Evaluator(network, dataset)), range(len(network.model.weights))
    for sizes in ((70, 4, 2, True), (128, 1, 8, False), (300, 8, 1, True)):
        backend = Stacked(subject, varied, *sizes)
        values = entries_of(trials, backend)
        scores = backend.scores(values)
        softmax = near_ties.is_softmax(scores[0])
        assert near_ties.difference(scores, Plain(subject, varied).scores(values), softmax) < near_ties.LARGEST_ERROR
        found = backend.settled(values, 0, softmax, 1e-2)
        assert len(found) == TRIALS
        assert any(len(one.scores) for one in found)
        for one, exact in zip(found, scores, strict=True):
            open_ones = one.classes < 0
            assert not (near_ties.within_rounding(exact, None, softmax, 1e-2) & ~open_ones).any()
            np.testing.assert_array_equal(one.classes[~open_ones], exact.argmax(-1)[~open_ones])
            np.testing.assert_array_equal(one.scores, exact[open_ones])


@pytest.mark.parametrize("softmax", [True, False])
def test_nothing_within_rounding_is_settled(softmax: bool) -> None:
    rng = np.random.default_rng(5)
    scores = (rng.standard_normal((20_000, 4)) * 10.0 ** rng.integers(-6, 7, (20_000, 1))).astype(np.float32)
    near = rng.random(len(scores)) < 0.5
    scores[near, 1] = scores[near, 0] * (1 + rng.normal(0, 3e-5, near.sum())).astype(np.float32)
    if softmax:
        powers = np.exp(scores - scores.max(-1, keepdims=True))
        scores = (powers / powers.sum(-1, keepdims=True)).astype(np.float32)
    scores[:50] = 0
    scores[50:60, 2], scores[60:70, 0] = np.nan, np.inf
    limits = (keras.ops.convert_to_tensor(np.float32(near_ties.TIE)), keras.ops.convert_to_tensor(np.bool_(softmax)))
    found = np.asarray(near_ties.settle(keras.ops.convert_to_tensor(scores), *limits))
    close = near_ties.within_rounding(scores, None, softmax)
    assert not (close & (found >= 0)).any()
    settled = found >= 0
    np.testing.assert_array_equal(found[settled], scores.argmax(-1)[settled])
    usual = (scores != 0).any(-1) & (np.ptp(near_ties.logits(scores, softmax), axis=-1) > 0.1)
    assert np.mean(~settled & ~close & usual) < 5e-3, "nearly all others are"


def test_how_much_a_call_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images whose largest activation has 512 MiB, at most all; passes that fill the card, for a small network many."""
    monkeypatch.setattr(tensors, "device", lambda: "GPU")

    def ways(model: keras.Model, images: int) -> list[tuple[str, int]]:
        graph = Graph(model, range(len(model.weights)))
        return [(way.name, way.trials) for way in choice._ways(None, graph, images)]

    assert ways(network_of("softmax", 5), 10_000) == [("stacked 1x10000x32", 32)]
    resnet = residual_network()
    assert 4 * 32 * 32 * 16 * 8192 == 2**29
    assert ways(resnet, 10_000) == [("stacked 1x8192", 1)]
    assert ways(resnet, 100) == [("stacked 1x100x16", 16)]

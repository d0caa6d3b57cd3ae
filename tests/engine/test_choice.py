"""Which way is chosen, by a clock that runs as these tests say; that counts are the same by every one."""

import json
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from sweep.data.datasets import Dataset
from sweep.engine import backends, choice, pieces
from sweep.engine.evaluator import KEPT_BACKENDS, Evaluator
from sweep.engine.graph import Graph
from sweep.networks.loading import Network, load_network

IMAGES = 300
VARIED = (0, 1)
PACE = 1e-3  # seconds an image by the plain pass, as the clock has it
MANY = 100_000.0


class Clock:
    """Time that passes only where a pass is evaluated."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


Paces = Callable[[str, int], float]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    rng = np.random.default_rng(2)
    stack = [layers.Conv2D(4, 3, activation="relu", use_bias=False), layers.Flatten(), layers.Dense(5)]
    model = keras.Sequential([keras.Input((8, 8, 1)), *stack])
    model.set_weights([rng.normal(0, 0.5, w.shape).astype(np.float32) for w in model.get_weights()])
    path = tmp_path_factory.mktemp("choice") / "net.keras"
    model.save(path)
    return load_network(path)


@pytest.fixture
def evaluator(network: Network, monkeypatch: pytest.MonkeyPatch) -> Callable[[Paces], Evaluator]:
    """Makes an evaluator whose ways take so many times the seconds of the plain one, in this measurement of each."""
    rng = np.random.default_rng(5)
    dataset = Dataset(rng.integers(0, 256, (IMAGES, 8, 8), dtype=np.uint8), rng.integers(0, 5, IMAGES), "0" * 64)
    paces: list[Paces] = []
    clocks: list[Clock] = []
    calls: dict[str, int] = {}

    def slowed(name: str, right: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        def scores(way: backends.Backend, entries, block: int = 0) -> np.ndarray:
            found = right(way, entries, block)
            calls[name] = calls.get(name, -1) + 1
            clocks[-1].now += PACE * paces[-1](name, calls[name]) * found.shape[0] * found.shape[1]
            return found

        return scores

    for way in (backends.Plain, backends.Stacked, backends.Compiled):
        monkeypatch.setattr(way, "scores", slowed(way.name, way.scores))
    passing = choice.Choice._passing

    def passed(own: choice.Choice, images: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
        clocks[-1].now += PACE * len(images)
        return passing(own, images, weights)

    monkeypatch.setattr(choice.Choice, "_passing", passed)

    def make(pace: Paces) -> Evaluator:
        paces.append(pace)
        clocks.append(Clock())
        calls.clear()
        return Evaluator(network, dataset, clock=clocks[-1])

    return make


def fixed(**paces: float) -> Paces:
    return lambda name, _: {"plain": 1.0, "stacked": 9.0, "compiled": 9.0, **paces}[name]


def trials_of(ours: Evaluator, count: int) -> list[list[np.ndarray]]:
    rng = np.random.default_rng(7)
    scales = [0.4 * (i in VARIED) for i in range(len(ours.weights))]
    errors = [
        [s * rng.standard_normal(w.shape) for s, w in zip(scales, ours.weights, strict=True)] for _ in range(count)
    ]
    return [[(w + e).astype(np.float32) for w, e in zip(ours.weights, own, strict=True)] for own in errors]


@pytest.mark.parametrize(
    ("paces", "name"),
    [
        ({}, "plain"),
        ({"compiled": 0.95}, "plain"),
        ({"compiled": 0.85}, "compiled"),
        ({"compiled": 0.85, "stacked": 0.1}, "compiled"),
        ({"stacked": 0.95}, "plain"),
        ({"stacked": 0.5}, "stacked"),
    ],
)
def test_what_is_not_clearly_faster_is_not_chosen_and_counts_are_the_same(evaluator, paces: dict, name: str):
    ours = evaluator(fixed(**paces))
    assert ours.backend(VARIED, trials=MANY).name == name
    trials = trials_of(ours, 5)
    counts = ours.correct(trials, VARIED)
    expected = []
    model, images = ours.network.model, ours._subject.images
    clean = model.get_weights()
    for weights in trials:
        model.set_weights(weights)
        expected.append(int((model.predict(images, verbose=0).argmax(1) == ours.labels).sum()))
    model.set_weights(clean)
    assert counts == expected
    assert len(set(counts)) > 1


@pytest.mark.parametrize("lucky", [1, 2, 3])
def test_one_lucky_measurement_does_not_choose(evaluator, lucky: int):
    """Of the proof (0) and three rounds, one in which compiled seems a hundred times as fast."""
    ours = evaluator(lambda name, call: 0.01 if (name, call) == ("compiled", lucky) else 1.1)
    assert ours.backend(VARIED, trials=MANY).name == "plain"


def test_a_short_study_tries_nothing(evaluator, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise AssertionError("tried")

    monkeypatch.setattr(choice, "Compiled", type("Compiled", (), {"name": "compiled", "__init__": fail}))
    monkeypatch.setattr(choice, "Stacked", type("Stacked", (), {"name": "stacked", "__init__": fail}))
    ours = evaluator(fixed(compiled=0.1, stacked=0.1))
    assert ours.backend(VARIED, trials=10).name == "plain"
    with pytest.raises(AssertionError, match="tried"):
        ours.backend(VARIED, trials=MANY)


@pytest.mark.parametrize("trials", [20, 100, 300, 1000, 5000])
@pytest.mark.parametrize("slow", [0.5, 1.2, 30.0])
def test_choosing_takes_a_tenth_of_the_run_at_most(evaluator, trials: int, slow: float):
    """Beside the proof of the plain way: two passes over the sample."""
    ours = evaluator(fixed(compiled=slow, stacked=min(slow, 1.0)))
    begun = ours._choice._clock()
    ours.backend(VARIED, trials=trials)
    spent = ours._choice._clock() - begun - 2 * PACE * choice._sample(trials * IMAGES)
    hopeless = 3 * max(0.0, slow - choice.HOPELESS) * PACE * 256  # a way that is so slow is measured once
    assert spent <= 0.1 * trials * IMAGES * PACE + hopeless


def test_the_sample_has_whole_batches_and_at_least_one():
    assert [choice._sample(n) for n in (0, 1e3, 20_000, 50_000, 1e5, float("inf"))] == [32, 32, 64, 160, 256, 256]


def test_more_trials_than_expected_are_another_choice(evaluator):
    ours = evaluator(fixed(compiled=0.1))
    first = ours.backend(VARIED, trials=5)
    assert first.name == "plain"
    assert ours.backend(VARIED) is first
    assert ours.backend(VARIED, trials=9) is first
    second = ours.backend(VARIED, trials=MANY)
    assert second.name == "compiled"
    assert ours.backend(VARIED, trials=2 * MANY) is ours.backend(VARIED, trials=1) is second


@pytest.fixture
def remembering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NOISESWEEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "choices"


@pytest.mark.parametrize("way", ["plain", "stacked", "compiled"])
def test_a_choice_is_remembered_and_not_measured_again(evaluator, remembering: Path, way: str, monkeypatch):
    paces = fixed(**{way: 0.5})
    assert evaluator(paces).backend(VARIED, trials=MANY).name == way
    assert len(list(remembering.iterdir())) == 1
    monkeypatch.setattr(choice.Choice, "_ratio", lambda *_: pytest.fail("measured"))
    ours = evaluator(paces)
    assert ours.backend(VARIED, trials=MANY).name == way
    trials = trials_of(ours, 3)
    counts = ours.correct(trials, VARIED)
    ours._engine = "plain"
    ours._backends.clear()
    assert ours.correct(trials, VARIED) == counts


def test_a_short_study_leaves_nothing_to_remember(evaluator, remembering: Path):
    evaluator(fixed(compiled=0.5)).backend(VARIED, trials=5)
    assert not remembering.exists()


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "7", '"plain"', "[" * 50_000, '{"way": "plain"}', '{"facts": {}, "way": "plain"}', "\udcff"],
)
def test_a_file_that_is_broken_or_of_something_else_is_none(evaluator, remembering: Path, content: str):
    paces = fixed(compiled=0.5)
    evaluator(paces).backend(VARIED, trials=MANY)
    (path,) = remembering.iterdir()
    right = json.loads(path.read_text())
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert evaluator(paces).backend(VARIED, trials=MANY).name == "compiled"
    assert json.loads(path.read_text()) == right, "written anew"


@pytest.mark.parametrize("way", [7, None, ["compiled"], "no such way"])
def test_a_way_that_nobody_knows_is_not_taken(evaluator, remembering: Path, way: object):
    paces = fixed(compiled=0.5)
    evaluator(paces).backend(VARIED, trials=MANY)
    (path,) = remembering.iterdir()
    path.write_text(json.dumps({**json.loads(path.read_text()), "way": way}))
    assert evaluator(paces).backend(VARIED, trials=MANY).name == ("plain" if isinstance(way, str) else "compiled")


def test_what_is_remembered_is_proved_again(evaluator, remembering: Path, monkeypatch: pytest.MonkeyPatch):
    evaluator(fixed(compiled=0.5)).backend(VARIED, trials=MANY)
    right = backends.Compiled.scores
    monkeypatch.setattr(backends.Compiled, "scores", lambda way, *given: right(way, *given)[..., ::-1])
    ours = evaluator(fixed(compiled=0.5))
    assert ours.backend(VARIED, trials=MANY).name == "plain"
    assert ours.notes == ["compiled evaluation differs from plain Keras here, and is not used"]


def test_a_folder_that_cannot_be_written_is_none(evaluator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    for place in (str(tmp_path / "file"), "off"):
        monkeypatch.setenv("NOISESWEEP_CACHE", place)
        assert evaluator(fixed(compiled=0.5)).backend(VARIED, trials=MANY).name == "compiled"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_plain_pass_is_traced_once_for_all_who_need_it(evaluator):
    """300 images in steps of all sizes, several sets of variables, near ties."""
    ours = evaluator(fixed())
    ours._tie = 1e9
    trials = trials_of(ours, 2)
    for varied in (VARIED, (1,), ()):
        ours.backend(varied, trials=2)
        ours.correct(trials if varied else trials[:1], varied)
    ours._backends.clear()
    ours.see([iter([trial]) for trial in trials], np.arange(12).reshape(2, 2, 3), VARIED)
    assert ours.ties > 0
    assert ours._passing.experimental_get_tracing_count() == 1


def test_what_the_plain_way_decides_in_the_batches_of_predict_stays(evaluator, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pieces, "IMAGES_PER_STEP", 32)
    ours = evaluator(fixed())
    ours._tie = 1e9
    monkeypatch.setattr(ours, "take_again", lambda *_: pytest.fail("again"))
    trials = trials_of(ours, 2)
    ours.backend(VARIED, trials=2)
    assert len(ours.correct(trials, VARIED)) == 2


def stack(*parts: layers.Layer, shape: tuple[int, ...] = (32, 32, 3)) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *parts, layers.GlobalAveragePooling2D(), layers.Dense(4)])


@pytest.mark.parametrize(
    ("model", "varied", "may"),
    [
        (lambda: stack(layers.Conv2D(8, 3), layers.Conv2D(8, 3)), "all", True),  # 0.2 to 0.5 million, and 32
        (lambda: stack(layers.Conv2D(64, 3), layers.Conv2D(64, 3)), "all", False),  # 2 to 29 million
        (lambda: stack(layers.Conv2D(64, 3), layers.Conv2D(64, 3)), "last", True),  # 256 behind what is kept
    ],
)
def test_stacks_are_tried_where_they_can_win(model: Callable[[], keras.Model], varied: str, may: bool):
    made = model()
    every = range(len(made.weights))
    graph = Graph(made, every if varied == "all" else every[-2:])
    assert choice._may_win(graph) is may


def test_what_was_chosen_is_not_chosen_again_where_room_was_made(evaluator, monkeypatch: pytest.MonkeyPatch):
    ours = evaluator(fixed(compiled=0.5))
    first = ours.backend(VARIED, trials=MANY)
    for block in range(100, 100 + KEPT_BACKENDS):
        ours.backend(VARIED, block, trials=5)
    monkeypatch.setattr(ours._choice, "choose", lambda *_: pytest.fail("chosen again"))
    again = ours.backend(VARIED, trials=MANY)
    assert again is not first
    assert again.name == first.name == "compiled"

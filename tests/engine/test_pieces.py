"""Results are the same whether all images are held or made a piece at a time, in every way to evaluate."""

import dataclasses
import gc
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
import pytest
from test_evaluator import NETWORKS, noisy, predicted, prepared

from sweep.data.datasets import Dataset, load_dataset
from sweep.data.measures import measure_of
from sweep.engine import pieces as module
from sweep.engine.backends import Plain
from sweep.engine.budget import Budget, piece_of, ranges
from sweep.engine.evaluator import Evaluator
from sweep.engine.sites import Noise, Site
from sweep.networks.feeding import Fed, feed
from sweep.networks.loading import load_network
from tests.few import one_in

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
WAYS = ("plain", "stacked", "compiled")
IMAGE = 4 * 12 * 12
STEP = 32
SMALL = 8 * 100 * IMAGE  # pieces of at most 100 images, of 300; little else fits
LARGER = SMALL + 2 * 300 * IMAGE  # the images fit, or what a backend reads of them


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IMAGES_PER_STEP", STEP)


def within(
    folder: Path, size: int | None, engine: str | None, sites: tuple[Site, ...] = (), measures: Sequence[str] = ()
) -> Evaluator:
    network, dataset = load_network(folder / "m.keras"), load_dataset(folder / "d.npz")
    own = [measure_of(name) for name in measures]
    return Evaluator(network, dataset, engine, sites, measures=own, budget=Budget(size))


def saved(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[keras.Model, np.ndarray, np.ndarray]:
    model = NETWORKS[name]()
    _, images, labels = prepared(model, folder, monkeypatch)
    monkeypatch.setattr(module, "IMAGES_PER_STEP", STEP)
    return model, images, labels


def each(trials: Sequence[Sequence[object]]) -> list[Iterator[Sequence[object]]]:
    return [iter([trial]) for trial in trials]


@pytest.mark.parametrize(("name", "last", "size"), [("logits, branched", False, SMALL), ("softmax", True, LARGER)])
def test_counts_are_those_of_predict(name: str, last: bool, size: int, tmp_path: Path, monkeypatch):
    model, images, labels = saved(name, tmp_path, monkeypatch)
    kernels = [k for k, w in enumerate(model.weights) if w.path.endswith("kernel")]
    varied = tuple(kernels[-1:] if last else kernels)
    order = np.random.default_rng(3).permutation(300).reshape(1, 2, 150).repeat(9, 0)
    expected: list[int] = []
    for engine in WAYS:
        ours = within(tmp_path, size, engine)
        trials = [noisy(ours.weights, varied, seed) for seed in range(9)]
        trials[2][varied[-1]] = trials[2][varied[-1]] * np.float32(1e13)  # taken the plain way
        expected = expected or [predicted(model, w, images, labels) for w in trials]
        assert ours.correct(trials, varied) == expected, engine
        if size == SMALL and not last:
            assert len(ours.backend(varied).pieces) > 2, "else the test says nothing"
        assert ours.see(each(trials), order, varied).right.sum(axis=(1, 2)).tolist() == expected
        whole = within(tmp_path, None, engine)
        for entries in ((), trials[0]):
            np.testing.assert_array_equal(ours.margins(entries, varied), whole.margins(entries, varied))


@pytest.mark.parametrize(
    ("engine", "size", "ties"), [("plain", SMALL, 0), ("stacked", SMALL, 300), ("stacked", None, 0)]
)
def test_what_the_plain_way_takes_in_the_batches_of_predict_stays(
    engine: str, size: int | None, ties: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """And is taken again where pieces cut these batches, as those of 100 images do; the plain way's own do not."""
    model, images, labels = saved("softmax", tmp_path, monkeypatch)
    ours = within(tmp_path, size, engine)
    trial = noisy(ours.weights, (0, 1), 0)
    trial[1] = trial[1] * np.float32(1e13)  # taken the plain way
    assert len(ours.backend((0, 1)).pieces) == (1 if size is None else 4 if engine == "plain" else 3)
    ours._tie = 1e9
    assert ours.correct([trial], (0, 1)) == [predicted(model, trial, images, labels)]
    assert ours.ties == ties


@pytest.mark.parametrize("engine", one_in(2, WAYS))
def test_reads_have_their_blocks_of_images(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Blocks of 130 images, so that pieces of 96 leave 34; and blocks smaller than a piece."""
    model, images, labels = saved("softmax", tmp_path, monkeypatch)
    ours = within(tmp_path, SMALL, engine)
    for block in (130, 20):
        starts = range(0, 300, block)
        trials = [[noisy(ours.weights, (0, 1), 100 * t + k) for k, _ in enumerate(starts)] for t in range(3)]
        expected = [
            sum(
                predicted(model, read, images[first : first + block], labels[first : first + block])
                for first, read in zip(starts, reads, strict=True)
            )
            for reads in trials
        ]
        counts = ours.count([iter(reads) for reads in trials], (0, 1), block)
        assert [count.correct for count in counts] == expected
        sizes = {len(part) for part in ours.backend((0, 1), block).pieces}
        assert len(sizes) == (3 if block == 130 else 1)


@pytest.mark.parametrize(
    "engine", [pytest.param(way, marks=pytest.mark.slow if way == "stacked" else ()) for way in WAYS]
)
@pytest.mark.parametrize("block", [None, 130])
def test_scores_do_not_change_where_the_data_flow_is_rounded(engine: str, block: int | None, tmp_path, monkeypatch):
    """To levels: a value at a border would go to either, were it computed otherwise."""
    saved("logits, branched", tmp_path, monkeypatch)
    sites, levels = (Site(0), Site(2)), np.array([0, 0.25, -8, 8], np.float32)
    found = []
    for size in (None, SMALL, LARGER):
        ours = within(tmp_path, size, engine, sites)
        for varied in ((0, 1, 2), (6,)):
            backend = ours.backend(varied, block)
            assert backend.name == engine
            trials = [[*noisy(ours.weights, varied, seed), levels, levels] for seed in range(3)]
            rows = [[trial[i] for trial in trials][: backend.trials] for i in backend.varied]
            scores = [backend.scores(rows, number) for number, _ in enumerate(backend.pieces)]
            found.append(np.concatenate(scores, axis=1))
    for k in range(2):
        np.testing.assert_array_equal(found[k], found[2 + k])
        np.testing.assert_array_equal(found[k], found[4 + k])


def test_noise_on_activations_is_that_of_all_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    saved("softmax", tmp_path, monkeypatch)
    found = []
    for size in (None, SMALL):
        ours = within(tmp_path, size, None, (Site(0, kind="noise"),))
        backend = ours.backend((0, 1))
        assert isinstance(backend, Plain)
        entries = [*ours.weights, Noise(0.5, lambda: np.random.default_rng(5))]
        rows = [[entries[i]] for i in backend.varied]
        found.append(np.concatenate([backend.scores(rows, k)[0] for k, _ in enumerate(backend.pieces)]))
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("engine", WAYS)
def test_measures(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    saved("softmax", tmp_path, monkeypatch)
    names, found = ("agreement", "top2", "loss"), []
    for size in (None, SMALL, 8 * 300 * 5):
        ours = within(tmp_path, size, engine, measures=names)
        trials = [noisy(ours.weights, (0, 1), seed) for seed in range(5)]
        found.append(ours.count(each(trials), (0, 1)))
    assert found[0] == found[1] == found[2]


def test_an_autoencoder_is_compared_with_its_images(tmp_path: Path):
    rng = np.random.default_rng(8)
    images = rng.integers(0, 256, (200, 6), dtype=np.uint8)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(6)])
    model.save(tmp_path / "m.keras")
    data = Dataset(images, np.zeros(0, np.int64), "")
    ours = Evaluator(load_network(tmp_path / "m.keras"), data, measures=[measure_of("mse")], budget=Budget(64 * 24))
    (count,) = ours.count(each([ours.weights]), (0,))
    scaled = images.astype(np.float32) / np.float32(255)
    assert count.values[0] == pytest.approx(float(np.mean((model.predict(scaled, verbose=0) - scaled) ** 2)), rel=1e-5)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64", ">f4"])
def test_images_are_the_same_made_in_parts(dtype: str, tmp_path: Path):
    model = NETWORKS["softmax"]()
    model.save(tmp_path / "m.keras")
    network = load_network(tmp_path / "m.keras")
    images = np.random.default_rng(1).integers(0, 256, (50, 12, 12)).astype(dtype)
    data = Dataset(images, np.zeros(50, np.int64), "")
    fed, whole = Fed(network, data, None), feed(network, data, None)
    assert fed.shape == whole.shape == (50, 12, 12, 1)
    assert whole.dtype == np.float32
    assert fed.nbytes == whole.nbytes
    np.testing.assert_array_equal(np.concatenate([fed[:20], fed[20:]]), whole)
    np.testing.assert_array_equal(fed[np.array([7, 3])], whole[[7, 3]])
    assert fed.stored == np.shares_memory(fed[:20], images) == (dtype == "float32")


def test_room_is_given_back():
    class Owner:
        pass

    budget = Budget(800)  # half of it is for pieces
    first, second = Owner(), Owner()
    assert budget.holds(first, 300)
    assert not budget.holds(second, 200)
    del first
    gc.collect()
    assert budget.holds(second, 200)
    assert Budget().holds(second, 10**15)


def test_pieces_end_where_steps_do():
    assert piece_of(1000, (10, 32)) == 960
    assert piece_of(100, (10, 32)) == 100  # one of them alone
    assert piece_of(5, (10, 32)) == 10
    parts = ranges(300, 130, 96)
    assert [(part.start, part.stop) for part in parts] == [(0, 96), (96, 130), (130, 226), (226, 260), (260, 300)]


def test_what_is_tried_on_a_sample_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    saved("softmax", tmp_path, monkeypatch)
    ours = within(tmp_path, SMALL, "plain")
    sample = dataclasses.replace(ours._subject.first(200), block=None)
    assert [len(part) for part in Plain(sample, (0,)).pieces] == [200]

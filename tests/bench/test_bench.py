"""The benchmark on small networks, for moments: what it reports, not how fast anything is."""

import json
import subprocess
import sys
from pathlib import Path
from statistics import median

import keras
import numpy as np
import pytest
from keras import layers as kl
from threadpoolctl import threadpool_info

from sweep import cli
from sweep.bench import baselines
from sweep.bench.bench import ROUNDS, bench, measure
from sweep.bench.flops import count_flops
from sweep.bench.resnet import write_example
from sweep.bench.result import Benchmark, NetworkResult, WayResult
from sweep.bench.sgemm import sgemm_rate
from sweep.bench.throughput import peak_of_workers
from sweep.data.datasets import load_dataset, prepare_images
from sweep.data.decisions import decide
from sweep.errors import InputError
from sweep.execution.runner import InlineRunner
from sweep.networks.loading import load_network

OURS = ["plain", "stacked", "compiled", "ray_one", "ray_all", "ray_last_layer"]
PATIENCE = 300  # s, for what takes half a minute on a quiet machine
WAY_KEYS = {
    *("key", "label", "cores", "ratio", "trials_per_second", "rounds"),
    *("gflop_per_trial", "gflops", "share_of_sgemm", "correct"),
}


@pytest.fixture(scope="module")
def measured(small: Path) -> NetworkResult:
    said: list[str] = []
    result = measure(small / "net.keras", small / "data.npz", 0.6, InlineRunner(), said.append)
    assert any("round 3 of 3" in line for line in said)
    return result


def test_every_way_runs_in_every_round_and_decides_alike(measured: NetworkResult):
    keys = [way.key for way in measured.ways]
    assert keys[:2] == ["article", "evaluate"]
    assert keys[-6:] == OURS
    assert ("torch" in keys) == bool(baselines.torch_version())
    assert all(len(way.rates) == ROUNDS and min(way.rates) > 0 for way in measured.ways)
    everywhere = [way.correct for way in measured.ways if way.key != "ray_last_layer"]
    assert len(set(everywhere)) == 1
    assert measured.engine in ("plain", "stacked", "compiled")
    assert measured.images == 300


def test_what_does_not_cover_a_network_is_left_out_with_a_note(tmp_path: Path):
    half = kl.Dense(4, activation="relu", dtype=keras.DTypePolicy("mixed_float16"))
    keras.Sequential([keras.Input((6,)), half, kl.Dense(3, dtype="float32")]).save(tmp_path / "net.keras")
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", x_test=rng.random((40, 6), np.float32), y_test=rng.integers(0, 3, 40))
    result = measure(tmp_path / "net.keras", tmp_path / "data.npz", 0.1, InlineRunner(), lambda line: None)
    keys = [way.key for way in result.ways]
    assert "plain" in keys
    assert not {"stacked", "compiled"} & set(keys)
    for way in ("stacked", "machine code"):
        assert any(f"{way} did not run: layer {half.name} (Dense) works in" in note for note in result.notes)


def test_ratios_and_shares_are_those_of_the_medians(measured: NetworkResult):
    data = measured.to_dict()
    ways = {way["key"]: way for way in data["ways"]}
    base = ways["article"]["trials_per_second"]
    sgemm = {entry["cores"]: entry["gflops"] for entry in data["sgemm"]}
    for way in ways.values():
        assert set(way) == WAY_KEYS
        assert way["trials_per_second"] == median(way["rounds"])
        assert way["ratio"] == pytest.approx(way["trials_per_second"] / base)
        assert way["gflops"] == pytest.approx(way["trials_per_second"] * way["gflop_per_trial"])
        assert way["share_of_sgemm"] == pytest.approx(way["gflops"] / sgemm[way["cores"]])
    assert data["last_layer_over_all_layers"] == pytest.approx(
        ways["ray_last_layer"]["ratio"] / ways["ray_all"]["ratio"]
    )
    # Convolution 3x3, 1 to 4 channels, 10x10 pixels; dense, 5x5x4 to 5.
    assert ways["plain"]["gflop_per_trial"] == pytest.approx(300 * 2 * (100 * 36 + 100 * 5) / 1e9)
    assert ways["ray_last_layer"]["gflop_per_trial"] == pytest.approx(300 * 2 * 100 * 5 / 1e9)


def result(ratio: float, load: float | None) -> Benchmark:
    ways = (
        WayResult("article", "the article's loop", 2, (1.0, 3.0, 2.0), 90, 10**9),
        WayResult("ray_one", "through 1 worker", 1, (ratio, ratio), 90, 10**9),
        WayResult("ray_all", "through 2 workers", 2, (2 * ratio,) * 3, 91, 10**9),
    )
    network = NetworkResult("net.h5", 100, {1: (1e11,), 2: (2e11,)}, ways, "compiled", 2**29, ("a note",))
    return Benchmark((network,), {"processor": "P", "cores": 2, "load": load}, {"torch": None}, 5.0)


def test_the_table():
    text = str(result(30.0, 0.1))
    assert "through 2 workers   2 cores     30        60     60.0      30 %\n" in text
    assert "- 2 workers over 1: 2.00" in text
    assert "- most memory of a worker: 512 MiB" in text
    assert "- seed 0, all layers perturbed: they decide 90 to 91 images as labelled" in text
    assert "- a note" in text
    assert max(map(len, text.splitlines())) <= 81
    assert "other work" not in text
    assert "other work" in str(result(30.0, 1.5))


def test_without_flops_there_are_no_shares():
    way = WayResult("article", "the article's loop", 1, (2.0,), 1, None)
    network = NetworkResult("net.h5", 100, {1: (1e11,)}, (way,), "plain", None)
    assert network.to_dict()["ways"][0]["share_of_sgemm"] is None
    assert "GFLOP a trial" not in str(network)


def flops(*layers: keras.Layer, shape: tuple[int, ...], varied: list[int] | None = None) -> int:
    model = keras.Sequential([keras.Input(shape), *layers])
    return count_flops(model, varied or range(len(model.weights)))


def test_flops_of_the_articles_network(root: Path):
    model = load_network(root / "models" / "mnist_tf2_fw.h5").model
    conv1, conv2, dense = 26 * 26 * 9 * 8, 10 * 10 * 72 * 16, 400 * 10  # pooling leaves row 11 of conv2 unread
    assert count_flops(model, [0, 1, 2]) == 2 * (conv1 + conv2 + dense) == 335_744
    assert count_flops(model, [1]) == 2 * (conv2 + dense)
    assert count_flops(model, [2]) == 2 * dense


def test_flops_of_layers():
    assert flops(kl.Dense(7), shape=(5,)) == 2 * 5 * 7
    assert flops(kl.Conv2D(4, 3, 2, padding="same"), shape=(9, 9, 2)) == 2 * 25 * 18 * 4
    assert flops(kl.Conv2D(4, 3, groups=2, dilation_rate=2), shape=(9, 9, 2)) == 2 * 25 * 9 * 4
    assert flops(kl.Conv1D(4, 3), kl.ReLU(), kl.MaxPooling1D(4), shape=(9, 2)) == 2 * 4 * 6 * 4
    assert flops(kl.DepthwiseConv2D(3, depth_multiplier=2), shape=(5, 5, 3)) == 2 * 9 * 9 * 6
    assert flops(kl.SeparableConv2D(4, 3), shape=(5, 5, 3)) == 2 * 9 * (9 * 3 + 3 * 4)
    assert flops(kl.BatchNormalization(), shape=(5,)) == 0


def test_flops_where_two_layers_read_one_output():
    inputs = keras.Input((7, 7, 1))
    x = kl.Conv2D(2, 2)(inputs)  # 6x6, of which pooling by 4 reads 4x4
    pooled = kl.Flatten()(kl.MaxPooling2D(4)(x))
    model = keras.Model(inputs, kl.Concatenate()([pooled, kl.GlobalMaxPooling2D()(x)]))
    assert count_flops(model, [0]) == 2 * 36 * 4 * 2


def test_the_residual_network(tmp_path: Path):
    path, data = write_example(tmp_path, 64, blocks=1, width=4, size=8)
    network, dataset = load_network(path), load_dataset(data)
    assert sum(v.kernel for v in network.variables) == 1 + 6 + 2 + 1
    images = prepare_images(dataset.images, network.input_shape)
    decisions = decide(np.asarray(network.model(images)), network.threshold)
    assert np.mean(decisions == dataset.labels) > 0.95
    assert len(np.unique(dataset.labels)) > 3


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.mark.parametrize("threads", [1, 2])
def test_the_rate_of_matrix_products_is_that_of_so_many_threads(threads: int, monkeypatch: pytest.MonkeyPatch):
    product, before, during = np.matmul, blas_threads(), set[int]()

    def observed(*args, **kwargs):
        during.update(blas_threads())
        return product(*args, **kwargs)

    monkeypatch.setattr(np, "matmul", observed)
    assert sgemm_rate(threads, 0.0) > 1e8
    assert during == {threads}
    assert blas_threads() == before


def test_no_worker_has_memory_where_there_is_none():
    assert peak_of_workers() is None


def test_wrong_arguments(place: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(InputError, match="name a model"):
        bench("net.keras", network="cnn")
    with pytest.raises(InputError, match="seconds"):
        bench("net.keras", "data.npz", seconds=0)
    assert cli.main(["bench"]) == 2
    assert cli.main(["bench", "nothing.h5", "data.npz", "--network", "cnn"]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.slow
def test_json_through_ray(place: Path):
    command = [sys.executable, "-m", "sweep", "bench", "net.keras", "data.npz"]
    options = ["--network", "cnn", "--seconds", "0.3", "--json"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert set(data) == {"networks", "machine", "versions", "seconds"}
    (network,) = data["networks"]
    assert network["name"] == "net.keras"
    assert network["worker_peak_bytes"] is None or 2**26 < network["worker_peak_bytes"] < 2**32
    assert "round 3 of 3" in done.stderr

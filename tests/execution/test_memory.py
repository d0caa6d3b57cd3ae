"""What workers take of the memory there is, and how images reach them."""

import dataclasses
import os
import pickle
import re
from pathlib import Path

import keras
import numpy as np
import pytest

from sweep import cli
from sweep.data.datasets import Dataset, load_dataset
from sweep.data.formats import npy
from sweep.engine.budget import HELD_BYTES
from sweep.errors import InputError, TaskError
from sweep.execution import memory, travel
from sweep.execution.memory import LEAST_BYTES, WORKER_BYTES, Room, available, room_for
from sweep.execution.ray import cluster
from sweep.execution.ray.joining import Members
from sweep.execution.travel import Travelling, packed, spooled
from sweep.preparation.inputs import Prepared, prepare
from sweep.study.family import Family
from sweep.study.study import Study
from sweep.texts import bytes_of, size_text

GIB = 1024**3


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    model = keras.Sequential([keras.Input((4, 4)), keras.layers.Flatten(), keras.layers.Dense(3)])
    model.save(tmp_path / "m.keras")
    rng = np.random.default_rng(0)
    images = rng.standard_normal((64, 4, 4)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x_test=images, y_test=rng.integers(0, 3, 64))
    noise = Family("noise", [{"op": "gaussian", "scale": 0.1}])
    return prepare(Study("s", str(tmp_path / "m.keras"), str(tmp_path / "d.npz"), 2, [noise], source="s"))


def test_the_pass_over_calibration_images_is_counted(tmp_path: Path):
    """Six times its largest activation, 12×12×8 numbers an image here, which is not the first."""
    layers = keras.layers
    norm = [layers.Conv2D(8, 1, name="wide"), layers.BatchNormalization(), layers.MaxPooling2D(4), layers.Flatten()]
    keras.Sequential([keras.Input((12, 12, 3)), *norm, layers.Dense(3)]).save(tmp_path / "m.keras")
    rng = np.random.default_rng(0)
    images = rng.standard_normal((600, 12, 12, 3)).astype(np.float32)
    labels = rng.integers(0, 3, 600)
    np.savez(tmp_path / "d.npz", x_test=images, y_test=labels, x_train=images)

    def room(**how: object) -> Room:
        noise = Family("noise", [{"op": "gaussian", "scale": 0.1}], **how)
        return room_for(
            prepare(Study("s", str(tmp_path / "m.keras"), str(tmp_path / "d.npz"), 2, [noise])), None, 1, False
        )

    anew = room(recalibrate={"kind": "batch_norm", "images": 500})
    assert anew.base - room().base == 6 * 500 * 12 * 12 * 8 * 4


@pytest.mark.parametrize(
    ("there", "memory_of_one", "asked", "workers", "images"),
    [
        (20 * GIB, None, None, 4, HELD_BYTES),
        (20 * GIB, None, 2, 2, HELD_BYTES),
        (20 * GIB, 6 * GIB, None, 3, 6 * GIB - WORKER_BYTES),
        (4 * GIB, None, None, 4, GIB - WORKER_BYTES),
        (WORKER_BYTES + GIB // 2, None, None, 1, GIB // 2),
        (None, None, 7, 7, HELD_BYTES),
    ],
)
def test_workers_share_what_is_there(prepared, monkeypatch, there, memory_of_one, asked, workers, images):
    monkeypatch.setattr(memory, "available", lambda: there)
    monkeypatch.setattr(memory, "available_cores", lambda: 4)
    found = room_for(prepared, memory_of_one, asked, local=True)
    assert found.workers == workers
    weights = memory.WEIGHTS * max(model.content.nbytes for model in prepared.models.values())
    assert found.base == WORKER_BYTES + weights
    assert images - 4 * weights <= found.images <= images
    assert found.fewer == (there is not None and workers < (asked or 4))


def test_what_does_not_fit_is_refused(prepared: Prepared, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "available", lambda: 2 * GIB)
    with pytest.raises(InputError, match=r"^--memory 300 MiB: a worker takes about 70\d MiB; give that or more$"):
        room_for(prepared, 300 * 1024**2, None, local=True)
    with pytest.raises(InputError, match=r"^--memory 3 GiB: this machine has 2 GiB; a worker takes about 70\d MiB$"):
        room_for(prepared, 3 * GIB, None, local=True)
    assert room_for(prepared, 3 * GIB, 5, local=False).workers == 5, "its own memory is the cluster's affair"
    monkeypatch.setattr(memory, "available", lambda: GIB // 2)
    with pytest.raises(InputError, match=r"^this machine has 512 MiB of memory to give, and a worker takes about 70"):
        room_for(prepared, None, None, local=True)


def test_scores_that_measures_need_are_counted(prepared: Prepared):
    study = prepared.study.but(measures=["accuracy", "loss"])
    more = room_for(dataclasses.replace(prepared, study=study), None, 1, local=False)
    assert more.base == room_for(prepared, None, 1, local=False).base + 8 * 64 * 3


def test_large_images_ask_for_more(prepared: Prepared):
    """Those that backends are tried on, in three forms; of several sets, the largest."""
    large = np.broadcast_to(np.float32(0), (64, 300, 300, 1))
    sets = {"small": prepared.dataset, "large": dataclasses.replace(prepared.dataset, images=large)}
    assert (
        room_for(dataclasses.replace(prepared, datasets=sets), WORKER_BYTES + GIB, 1, local=False).images > LEAST_BYTES
    )
    with pytest.raises(InputError, match="a worker takes about 9"):
        room_for(dataclasses.replace(prepared, datasets=sets), WORKER_BYTES + 2 * LEAST_BYTES, 1, local=False)


def test_the_memory_that_is_there(tmp_path: Path):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       4000000 kB\nMemAvailable:   2000000 kB\n")
    assert available(str(meminfo), []) == 2000000 * 1024
    second, first, free = (tmp_path / name for name in ("second", "first", "free"))
    for folder, files in (
        (
            second,
            {"memory.max": "1000000", "memory.current": "700000", "memory.stat": "anon 5\ninactive_file 200000\n"},
        ),
        (
            first,
            {
                "memory.limit_in_bytes": "900000",
                "memory.usage_in_bytes": "800000",
                "memory.stat": "total_inactive_file 50000\n",
            },
        ),
        (free, {"memory.max": "max", "memory.current": "700000", "memory.stat": ""}),
    ):
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
    assert available(str(meminfo), [second]) == 500000
    assert available(str(meminfo), [first, second]) == 150000
    assert available(str(meminfo), [free, tmp_path / "none"]) == 2000000 * 1024
    assert available(str(tmp_path / "none"), []) is None
    assert (available() or 1) > 0


@pytest.mark.parametrize(
    ("text", "size"), [("4GiB", 4 * GIB), ("1.5 gb", 3 * GIB // 2), ("800M", 800 * 1024**2), ("7", 7), ("2kB", 2048)]
)
def test_sizes(text: str, size: int):
    assert bytes_of(text) == size
    assert bytes_of(size_text(size).replace(" ", "")) == size if size >= 1024 else True


@pytest.mark.parametrize("text", ["GiB", "-1GiB", "4 GiB 2", "4PiB", "1e9", "٤GiB"])
def test_what_is_no_size(text: str, capsys: pytest.CaptureFixture):
    with pytest.raises(ValueError, match=re.escape(text)):
        bytes_of(text)
    with pytest.raises(SystemExit):
        cli.main(["run", "study.toml", f"--memory={text}"])
    assert "is not a size, such as 4GiB or 800MiB" in capsys.readouterr().err


@pytest.fixture
def mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setattr(npy, "MAPPED_FROM", 1)
    rng = np.random.default_rng(4)
    images = rng.integers(0, 256, (500, 9, 7), dtype=np.uint8)
    np.savez(tmp_path / "d.npz", x_test=images, y_test=rng.integers(0, 3, 500))
    return load_dataset(tmp_path / "d.npz")


def arrived(dataset: Dataset, whole: object = None) -> Dataset:
    sent = packed(dataset, whole)
    assert isinstance(sent, Travelling)
    content = pickle.dumps(sent)
    assert len(content) < 8 * 500 + 4000, "labels, and no images"
    return pickle.loads(content).arrived(lambda reference: {"a reference": dataset}[reference])


def test_a_worker_maps_the_file(mapped: Dataset, tmp_path: Path):
    found = arrived(mapped)
    np.testing.assert_array_equal(found.images, np.load(tmp_path / "d.npz")["x_test"])
    np.testing.assert_array_equal(found.labels, mapped.labels)
    assert not found.images.flags.writeable
    assert not found.images.flags.owndata
    assert (found.digest, found.place) == (mapped.digest, mapped.place)
    both = arrived(dataclasses.replace(mapped, targets=mapped.images))
    assert both.targets is both.images


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_either_order_and_any_byte_order(tmp_path: Path, monkeypatch, order: str):
    monkeypatch.setattr(npy, "MAPPED_FROM", 1)
    images = np.asarray(np.random.default_rng(4).standard_normal((20, 3, 5)), ">f8", order=order)
    np.save(tmp_path / "x_test.npy", images)
    np.save(tmp_path / "y_test.npy", np.zeros(20, np.int64))
    np.testing.assert_array_equal(arrived(load_dataset(tmp_path)).images, images)


def test_a_file_that_is_not_as_it_was(mapped: Dataset, tmp_path: Path):
    path = tmp_path / "d.npz"
    written = path.stat().st_mtime_ns
    content = bytearray(path.read_bytes())
    content[700] ^= 1  # an image
    (tmp_path / "other").write_bytes(content)
    (tmp_path / "other").replace(path)
    os.utime(path, ns=(written, written))
    with pytest.raises(TaskError, match=r"d\.npz: is out of reach, or was written to after the run began; run again"):
        arrived(mapped)
    assert arrived(mapped, "a reference") is mapped
    path.unlink()
    assert arrived(mapped, "a reference") is mapped


def test_large_images_without_a_file_are_written_to_one(mapped: Dataset, tmp_path: Path, monkeypatch):
    own = dataclasses.replace(mapped, place=None)
    assert spooled({"": own}, str(tmp_path))[""] is own, "they are few"
    assert packed(own) is None
    monkeypatch.setattr(travel, "SPOOLED_FROM", 1000)
    assert spooled({"": mapped}, str(tmp_path))[""] is mapped
    several = {"even": dataclasses.replace(own, images=mapped.images[:, ::2]), "all": own}
    written = spooled(several, str(tmp_path))
    for label, dataset in several.items():
        np.testing.assert_array_equal(arrived(written[label]).images, dataset.images)
    assert spooled({"": own}, str(tmp_path / "none"))[""] is own, "no room there"


def test_a_cluster_is_asked_for_memory():
    runner = cluster.RayRunner("10.0.0.5:6379", memory=3 * GIB)
    nodes = {"a": {"CPU": 8.0, "memory": 7.0 * GIB}, "b": {"CPU": 8.0, "memory": 1.0 * GIB}, "c": {"CPU": 8.0}}
    runner._members = Members(lambda: nodes, runner._share)
    runner._members.stop()
    assert runner.nodes == {"a": 2}
    assert runner.slots == 2
    assert cluster.RayRunner(None, memory=3 * GIB)._share.memory == 0


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs /proc")
def test_pages_that_checks_have_read_are_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(npy, "MAPPED_FROM", 1)
    images = np.random.default_rng(4).standard_normal((100, 9000)).astype(np.float32)
    np.save(tmp_path / "x_test.npy", images)
    np.save(tmp_path / "y_test.npy", np.zeros(100, np.int64))
    found = load_dataset(tmp_path)

    def held() -> int:
        text = Path("/proc/self/smaps").read_text()
        return int(re.search(r"x_test\.npy\n.*?Rss:\s+(\d+) kB", text, re.DOTALL)[1])

    assert held() == 0
    np.testing.assert_array_equal(found.images, images)
    assert held() > 3000

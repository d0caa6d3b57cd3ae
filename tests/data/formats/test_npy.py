"""Arrays in .npz files and in folders; numpy's own reader is the oracle."""

import hashlib
import mmap
import os
import pickle
import zipfile

import numpy as np
import pytest

from sweep.data.datasets import load_dataset
from sweep.data.formats import npy
from sweep.data.formats.stored import Wanted
from sweep.errors import InputError

X = np.random.default_rng(0).normal(size=(30, 5, 4)).astype(np.float32)
Y = np.arange(30) % 3


@pytest.fixture
def mapped(monkeypatch):
    """Arrays of any size are mapped."""
    monkeypatch.setattr(npy, "MAPPED_FROM", 1)


def is_mapped(array: np.ndarray) -> bool:
    base = array
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    return isinstance(getattr(base, "obj", base), mmap.mmap)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "u1", "<i4"])
def test_what_is_stored_uncompressed_is_mapped(tmp_path, mapped, dtype, order):
    array = np.asarray(np.abs(X) * 50, dtype=dtype, order=order)
    np.savez(tmp_path / "d.npz", x_test=array, y_test=Y, other="text")
    found = load_dataset(tmp_path / "d.npz")
    assert is_mapped(found.images)
    assert not found.images.flags.writeable
    assert found.images.dtype == array.dtype
    np.testing.assert_array_equal(found.images, array)
    np.testing.assert_array_equal(found.labels, Y)
    assert found.digest == hashlib.sha256((tmp_path / "d.npz").read_bytes()).hexdigest()


def test_what_is_mapped_travels_without_a_copy_in_between(tmp_path, mapped):
    """As Ray takes it: arrays beside the pickle, straight from the mapping; targets that are the images stay so."""
    np.savez(tmp_path / "d.npz", x_test=X)
    found = load_dataset(tmp_path / "d.npz", Wanted(y="x_test"))
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(found, protocol=5, buffer_callback=buffers.append)
    assert len(pickled) < 2000
    assert max(buffer.raw().nbytes for buffer in buffers) == X.nbytes
    again = pickle.loads(pickled, buffers=buffers)
    np.testing.assert_array_equal(again.images, X)
    assert again.targets is again.images


def test_what_is_compressed_or_small_is_read(tmp_path, mapped, monkeypatch):
    np.savez_compressed(tmp_path / "c.npz", x_test=X, y_test=Y)
    found = load_dataset(tmp_path / "c.npz")
    assert not is_mapped(found.images)
    np.testing.assert_array_equal(found.images, X)
    monkeypatch.undo()
    np.savez(tmp_path / "s.npz", x_test=X, y_test=Y)
    assert not is_mapped(load_dataset(tmp_path / "s.npz").images)


def test_a_member_after_others_and_with_an_extra_field_is_found(tmp_path, mapped):
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("readme.txt", "before")
        with archive.open("x_test.npy", "w", force_zip64=True) as member:
            member.write((tmp_path / "x.npy").read_bytes())
        archive.write(tmp_path / "y.npy", "y_test.npy")
    found = load_dataset(tmp_path / "d.npz")
    assert is_mapped(found.images)
    np.testing.assert_array_equal(found.images, X)


def test_damage_in_what_is_mapped_is_found(tmp_path, mapped):
    path = tmp_path / "d.npz"
    np.savez(path, x_test=X, y_test=Y)
    whole = bytearray(path.read_bytes())
    at = whole.index(X.tobytes()[:16]) + 700
    whole[at] ^= 1
    path.write_bytes(whole)
    with pytest.raises(InputError, match="x_test cannot be read: its checksum is another"):
        load_dataset(path)


def test_objects_are_never_read(tmp_path, mapped):
    objects = np.array([{"a": 1}] * 30, dtype=object)
    np.savez(tmp_path / "d.npz", x_test=objects, y_test=Y)
    (tmp_path / "f").mkdir()
    np.save(tmp_path / "f" / "x_test.npy", objects)
    np.save(tmp_path / "f" / "y_test.npy", Y)
    for place in ("d.npz", "f"):
        with pytest.raises(InputError, match="Object arrays cannot be loaded"):
            load_dataset(tmp_path / place)


def folder(place, **arrays):
    place.mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(place / f"{name}.npy", array)
    return place


@pytest.mark.parametrize("least", [1, 10**9])
def test_a_folder_of_arrays(tmp_path, monkeypatch, least):
    monkeypatch.setattr(npy, "MAPPED_FROM", least)
    place = folder(tmp_path / "data", x_test=X, y_test=Y, x_train=X[:7], extra=Y)
    found = load_dataset(place)
    assert is_mapped(found.images) == (least == 1)
    np.testing.assert_array_equal(found.images, X)
    np.testing.assert_array_equal(found.labels, Y)
    training = load_dataset(place, Wanted("train", labelled=False))
    np.testing.assert_array_equal(training.images, X[:7])
    assert len(training.labels) == 0
    assert training.digest != found.digest


def test_the_digest_of_a_folder_is_of_names_and_contents_of_what_is_read(tmp_path):
    first = load_dataset(folder(tmp_path / "a", x_test=X, y_test=Y, unread=X)).digest
    assert load_dataset(folder(tmp_path / "b", x_test=X, y_test=Y)).digest == first
    assert load_dataset(folder(tmp_path / "c", x_test=X, y_test=Y[::-1])).digest != first
    assert load_dataset(folder(tmp_path / "d", x_test=X, y_test=Y, z=Y), Wanted(y="z")).digest != first


def test_a_file_of_a_folder_that_is_cut_short_is_refused(tmp_path, mapped):
    place = folder(tmp_path / "data", x_test=X, y_test=Y)
    os.truncate(place / "x_test.npy", 500)
    with pytest.raises(InputError, match=r"x_test\.npy: not an \.npy file that NumPy can read: it is cut short"):
        load_dataset(place)


def test_arrays_are_named(tmp_path):
    path = tmp_path / "d.npz"
    np.savez(path, images=X, kinds=Y, x_test=X[:3], y_test=Y[:3])
    whole, named = load_dataset(path), load_dataset(path, Wanted(x="images", y="kinds"))
    assert (len(whole), len(named)) == (3, 30)
    assert whole.digest == hashlib.sha256(path.read_bytes()).hexdigest(), "as ever"
    others = [Wanted(x="images"), Wanted(y="kinds")]
    digests = {whole.digest, named.digest, *(load_dataset(path, w, [2, 1, 0]).digest for w in (Wanted(),))}
    assert len(digests) == 3
    for wanted in others:
        with pytest.raises(InputError, match="images but"):
            load_dataset(path, wanted)
    with pytest.raises(InputError, match="no array pictures; the arrays there are: images, kinds, x_test, y_test"):
        load_dataset(path, Wanted(x="pictures"))


def test_images_that_are_their_own_targets(tmp_path):
    path = tmp_path / "d.npz"
    np.savez(path, x_test=X)
    found = load_dataset(path, Wanted(y="x_test"))
    assert found.targets is found.images
    assert found.labels.shape == (0,)
    assert found.first(4).targets is not None
    assert len(found.first(4).targets) == 4


def test_calibration_takes_training_images_where_there_are_some(tmp_path):
    np.savez(tmp_path / "both.npz", x_test=X, x_train=X[:9])
    np.savez(tmp_path / "one.npz", x_test=X[:5])
    np.savez(tmp_path / "named.npz", a=X[:4])
    wanted = Wanted("calibration", labelled=False)
    assert [len(load_dataset(tmp_path / name, wanted)) for name in ("both.npz", "one.npz")] == [9, 5]
    assert len(load_dataset(tmp_path / "named.npz", Wanted("calibration", x="a", labelled=False))) == 4


def test_no_file_is_read_again_for_its_digest(tmp_path, monkeypatch):
    np.savez(tmp_path / "d.npz", x_test=X, y_test=Y, x_train=X)
    wanted = Wanted()
    first = load_dataset(tmp_path / "d.npz", wanted)
    monkeypatch.setattr("sweep.data.formats.stored.file_digest", lambda path: pytest.fail(f"{path} is read again"))
    again = load_dataset(tmp_path / "d.npz", Wanted("train", labelled=False, digests=wanted.digests))
    assert again.digest == first.digest


def test_values_are_checked_block_by_block(tmp_path, monkeypatch):
    monkeypatch.setattr("sweep.data.images._BLOCK", 45)  # two images
    bad = X.copy()
    bad[[7, 8, 21], 1, 1] = np.nan, np.inf, -np.inf
    np.savez(tmp_path / "d.npz", x_test=bad, y_test=Y)
    with pytest.raises(InputError, match="NaN or infinite values in 3 images, the first at 7"):
        load_dataset(tmp_path / "d.npz")

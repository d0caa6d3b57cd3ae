from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sweep.data.datasets import Dataset, fits, load_dataset, prepare_images
from sweep.data.decisions import decide
from sweep.errors import InputError

IMAGES = np.arange(3 * 4 * 4, dtype=np.uint8).reshape(3, 4, 4)
LABELS = np.array([0, 2, 1], dtype=np.uint8)


def write(folder: Path, **arrays: np.ndarray) -> Path:
    path = folder / "data.npz"
    np.savez(path, **arrays)
    return path


def problems_of(path: Path, split: str = "test") -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        load_dataset(path, split)
    assert all(str(path) in line and "\n" not in line for line in caught.value.problems)
    return caught.value.problems


def test_reads_the_split_asked_for_with_the_digest_of_the_file(tmp_path):
    path = write(tmp_path, x_test=IMAGES, y_test=LABELS, x_train=IMAGES[:2], y_train=LABELS[:2])
    test, train = load_dataset(path), load_dataset(str(path), "train")
    assert (len(test), len(train)) == (3, 2)
    np.testing.assert_array_equal(test.images, IMAGES)
    np.testing.assert_array_equal(test.labels, [0, 2, 1])
    assert test.images.dtype == np.uint8
    assert test.labels.dtype == np.int64
    assert test.digest == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "labels",
    [
        np.eye(3)[[0, 2, 1]],
        np.eye(3, dtype=np.uint8)[[0, 2, 1]],
        np.eye(3, dtype=bool)[[0, 2, 1]],
        np.array([[0], [2], [1]], dtype=np.uint8),
    ],
    ids=["one-hot float", "one-hot uint8", "one-hot bool", "one column"],
)
def test_one_hot_rows_and_a_single_column_become_classes(tmp_path, labels):
    dataset = load_dataset(write(tmp_path, x_test=IMAGES, y_test=labels))
    np.testing.assert_array_equal(dataset.labels, [0, 2, 1])
    assert dataset.labels.dtype == np.int64


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (IMAGES.astype(bool), LABELS, "x_test is bool; images are whole numbers or floating"),
        (IMAGES.astype(np.int64) - 2**24, LABELS, "whole numbers of 16,777,216 and more"),
        (IMAGES.astype("S1"), LABELS, "x_test is |S1"),
        (IMAGES[:, 0, 0], LABELS, "x_test has shape (3,)"),
        (np.uint8(3), LABELS, "x_test has shape ()"),
        (IMAGES[:0], LABELS[:0], "holds no images"),
        (IMAGES[:, :0], LABELS, "holds no images"),
        (IMAGES, LABELS[:2], "3 images but y_test has 2 labels"),
        (IMAGES, np.array([0, -1, -2]), "2 negative labels, the first at 1"),
        (IMAGES, np.array([["a", "b"]] * 3), "labels that are texts have shape (n,)"),
        (IMAGES, np.zeros((3, 0), int), "y_test has shape (3, 0)"),
    ],
)
def test_unusable_arrays_are_refused(tmp_path, images, labels, words):
    assert words in "\n".join(problems_of(write(tmp_path, x_test=images, y_test=labels)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_images_that_are_not_finite_in_float32_are_refused(tmp_path, value):
    images = IMAGES.astype(np.float64)
    images[1, 2, 3] = value
    (problem,) = problems_of(write(tmp_path, x_test=images, y_test=LABELS))
    assert "NaN or infinite values in 1 images, the first at 1" in problem


def test_all_problems_of_a_file_are_told_together(tmp_path):
    path = write(tmp_path, x_test=IMAGES.astype(bool), y_test=np.array([-1, 0]))
    assert len(problems_of(path)) == 3


def test_a_missing_array_is_named_with_those_that_are_there(tmp_path):
    (problem,) = problems_of(write(tmp_path, x_train=IMAGES, labels=LABELS))
    assert "no array x_test and y_test; the arrays there are: x_train, labels; say which is which: x =" in problem
    (problem,) = problems_of(write(tmp_path, x_test=IMAGES))
    assert "no array y_test;" in problem


def test_a_missing_file_is_reported_with_its_resolved_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (problem,) = problems_of(Path("nowhere/data.npz"))
    assert problem == f"nowhere/data.npz: no such file (looked for {tmp_path.resolve()}/nowhere/data.npz)"


def test_an_empty_folder_is_no_dataset(tmp_path):
    assert "a folder without .npy files, tables, or a folder of images" in problems_of(tmp_path)[0]


@pytest.mark.parametrize("content", [b"", b"not zipped", b"PK\x03\x04 cut short"])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    assert "not an .npz file that NumPy can read" in problems_of(path)[0]


def test_a_truncated_or_damaged_file_is_refused(tmp_path):
    path = tmp_path / "data.npz"
    images = np.random.default_rng(0).integers(0, 255, (50, 8, 8), dtype=np.uint8)
    np.savez_compressed(path, x_test=images, y_test=np.zeros(50, int))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    problems_of(path)
    path.write_bytes(whole[:600] + bytes(200) + whole[800:])
    problems_of(path)


def test_a_single_array_is_refused(tmp_path):
    path = tmp_path / "data.npy"
    np.save(path, IMAGES)
    assert "a single array" in problems_of(path)[0]


def test_pickled_objects_are_never_read(tmp_path):
    path = write(tmp_path, x_test=np.array([object()], dtype=object), y_test=LABELS)
    (problem,) = problems_of(path)
    assert "x_test cannot be read" in problem


def test_uint8_is_scaled_in_float32_and_given_a_channel():
    prepared = prepare_images(np.arange(256, dtype=np.uint8).reshape(1, 16, 16), (16, 16, 1))
    assert prepared.shape == (1, 16, 16, 1)
    assert prepared.dtype == np.float32
    expected = np.arange(256, dtype=np.float32) / np.float32(255)
    np.testing.assert_array_equal(prepared.ravel(), expected)


@pytest.mark.parametrize(
    ("input_shape", "expected"),
    [
        ((4, 4), (3, 4, 4)),
        ((4, 4, 1), (3, 4, 4, 1)),
        ((None, None, 1), (3, 4, 4, 1)),
        ((1, 4, 4), (3, 1, 4, 4)),
        ((4, 4, 3), (3, 4, 4)),
        ((16,), (3, 4, 4)),
    ],
)
def test_a_channel_is_added_only_where_the_network_has_one(input_shape, expected):
    assert prepare_images(IMAGES, input_shape).shape == expected
    assert fits(IMAGES.shape, input_shape) == (len(expected) == len(input_shape) + 1)


def test_floating_images_keep_their_values_and_the_result_is_contiguous():
    images = np.asfortranarray(np.random.default_rng(1).normal(size=(3, 4, 5)))
    prepared = prepare_images(images, (4, 5))
    np.testing.assert_array_equal(prepared, images.astype(np.float32))
    assert prepared.flags.c_contiguous
    assert not np.shares_memory(prepared, images)


def test_decide_takes_the_first_largest_or_compares_with_the_threshold():
    scores = np.array([[0.1, 0.7, 0.7], [0.5, 0.2, 0.3]])
    np.testing.assert_array_equal(decide(scores, None), [1, 0])
    np.testing.assert_array_equal(decide(np.array([[0.5], [0.51]]), 0.5), [0, 1])
    np.testing.assert_array_equal(decide(np.zeros((2, 5, 3)), None), np.zeros((2, 5)))
    assert decide(scores, None).dtype == decide(scores[:, :1], 0.0).dtype == np.int64


def test_data_and_descriptions_need_no_tensorflow():
    code = (
        "import sys, sweep, sweep.data.datasets, sweep.networks.variables, sweep.data.decisions\n"
        "import sweep.networks.loading, sweep.training.training\n"
        "sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_dataset_cannot_be_changed_by_accident():
    dataset = Dataset(IMAGES, LABELS.astype(np.int64), "")
    with pytest.raises(AttributeError):
        dataset.digest = "other"  # type: ignore[misc]

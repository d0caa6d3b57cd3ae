"""Folders of images by class; Keras's own reader is the oracle."""

from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from sweep.data.datasets import load_dataset
from sweep.data.formats.stored import Wanted
from sweep.errors import InputError

RNG = np.random.default_rng(5)
NAMES = ["b", "A", "10", "9", "_x", "ä"]


def save(path: Path, array: np.ndarray, mode: str | None = None, **how) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **how)


@pytest.fixture
def coloured(tmp_path: Path) -> Path:
    """PNG images of 7 × 5 pixels, and a BMP, in six classes, of which one has an inner folder, and one no image."""
    for name in NAMES:
        for i in range(3):
            save(tmp_path / name / f"{i}.png", RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    save(tmp_path / "b" / "inner" / "deep.BMP", RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    (tmp_path / "b" / "notes.txt").write_text("no image")
    (tmp_path / "empty").mkdir()
    (tmp_path / ".hidden").mkdir()
    return tmp_path


def by_keras(path: Path, size: tuple[int, int], mode: str = "rgb", **how) -> tuple[np.ndarray, np.ndarray, list[str]]:
    found = keras.utils.image_dataset_from_directory(
        path, image_size=size, color_mode=mode, shuffle=False, batch_size=None, verbose=False, **how
    )
    pairs = list(found.as_numpy_iterator())
    return np.stack([x for x, _ in pairs]), np.array([y for _, y in pairs]), found.class_names


@pytest.mark.parametrize(("channels", "mode"), [(3, "rgb"), (None, "rgb"), (4, "rgba")])
def test_images_and_classes_are_those_of_keras(coloured: Path, channels, mode):
    x, y, names = by_keras(coloured, (5, 7), mode)
    found = load_dataset(coloured, Wanted(channels=channels))
    assert found.images.dtype == np.uint8
    np.testing.assert_array_equal(found.images, x)
    np.testing.assert_array_equal(found.labels, y)
    assert list(found.classes) == names == ["10", "9", "A", "_x", "b", "empty", "ä"]


def test_another_order_is_said(coloured: Path):
    order = ["ä", "empty", "b", "9", "10", "_x", "A"]
    _, y, _ = by_keras(coloured, (5, 7), class_names=order)
    found = load_dataset(coloured, labels=order)
    np.testing.assert_array_equal(np.bincount(found.labels), np.bincount(y))
    by_class = load_dataset(coloured)
    np.testing.assert_array_equal([order[k] for k in found.labels], [by_class.classes[k] for k in by_class.labels])
    with pytest.raises(InputError, match="labels that are not among them"):
        load_dataset(coloured, labels=order[:3])


def test_grey_images_have_no_channel_unless_the_network_takes_three(tmp_path: Path):
    for i in range(3):
        save(tmp_path / "a" / f"{i}.png", RNG.integers(0, 256, (5, 7), dtype=np.uint8))
    grey, _, _ = by_keras(tmp_path, (5, 7), "grayscale")
    rgb, _, _ = by_keras(tmp_path, (5, 7))
    np.testing.assert_array_equal(load_dataset(tmp_path).images[..., None], grey)
    np.testing.assert_array_equal(load_dataset(tmp_path, Wanted(channels=1)).images[..., None], grey)
    np.testing.assert_array_equal(load_dataset(tmp_path, Wanted(channels=3)).images, rgb)


def test_palettes_and_transparency_as_keras_reads_them(tmp_path: Path):
    save(tmp_path / "a" / "palette.png", RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8), "P")
    save(tmp_path / "a" / "alpha.png", RNG.integers(0, 256, (5, 7, 4), dtype=np.uint8))
    save(tmp_path / "a" / "still.gif", RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8), "P")
    save(tmp_path / "a" / "bits.png", RNG.integers(0, 256, (5, 7), dtype=np.uint8), "1")
    x, _, _ = by_keras(tmp_path, (5, 7))
    np.testing.assert_array_equal(load_dataset(tmp_path, Wanted(channels=3)).images, x)


def test_jpeg_is_as_pillow_decodes_it_and_near_keras(tmp_path: Path):
    coarse = Image.fromarray(RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((24, 16), Image.Resampling.BICUBIC))
    save(tmp_path / "a" / "0.jpg", smooth, quality=95)
    x, _, _ = by_keras(tmp_path, (16, 24))
    found = load_dataset(tmp_path, Wanted(channels=3)).images
    np.testing.assert_array_equal(found[0], np.asarray(Image.open(tmp_path / "a" / "0.jpg")))
    assert 0 < np.abs(found - x).mean() < 3  # TensorFlow takes a faster inverse transform


def test_the_digest_is_of_paths_and_contents(coloured: Path, tmp_path: Path):
    first = load_dataset(coloured).digest
    assert load_dataset(coloured).digest == first
    (coloured / "b" / "0.png").rename(coloured / "A" / "00.png")
    assert load_dataset(coloured).digest != first


@pytest.mark.parametrize(
    ("array", "words", "channels"),
    [
        (np.zeros((5, 6, 3), np.uint8), r"A/zz\.png: has 6 × 5 pixels, and .*10/0\.png has 7 × 5", None),
        (np.zeros((5, 7), np.uint16), r"zz\.png: is stored as I;16", 3),
        (np.zeros((5, 7), np.uint8), "has colour, and the network takes images of one channel", 1),
    ],
)
def test_images_that_are_not_alike_are_named(coloured: Path, array, words, channels):
    save(coloured / "A" / "zz.png", array)
    with pytest.raises(InputError, match=words) as caught:
        load_dataset(coloured, Wanted(channels=channels))
    assert len(caught.value.problems) == 1


def test_what_is_no_image_is_named(coloured: Path):
    (coloured / "b" / "1.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"b/1\.png: cannot be read as an image"):
        load_dataset(coloured)


def test_folders_without_images_and_names_of_arrays_are_refused(tmp_path: Path, coloured: Path):
    (tmp_path / "none" / "a").mkdir(parents=True)
    with pytest.raises(InputError, match="its folders hold no images"):
        load_dataset(tmp_path / "none")
    with pytest.raises(InputError, match="x: 'images' names an array, and images lie in a folder for each class"):
        load_dataset(coloured, Wanted(x="images"))
    with pytest.raises(InputError, match="no training images beside these; name some with `calibration`"):
        load_dataset(coloured, "train")
    assert len(load_dataset(coloured, Wanted("calibration", labelled=False))) == 19

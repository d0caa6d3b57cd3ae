"""Tables (Parquet, Arrow, CSV) of encoded images, paths, lists, or plain numbers; numpy and Pillow are the oracles."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sweep.data.datasets import load_dataset
from sweep.data.formats.stored import Wanted
from sweep.errors import InputError

RNG = np.random.default_rng(8)
IMAGES = RNG.integers(0, 256, (12, 5, 4, 3), dtype=np.uint8)
LABELS = np.arange(12) % 3


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "png")
    return file.getvalue()


def write(path: Path, table: pa.Table) -> Path:
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=5)
    elif path.suffix == ".feather":
        pyarrow.feather.write_feather(table, str(path))
    else:
        with pa.OSFile(str(path), "wb") as file:
            stream = path.name.startswith("stream")
            with (pa.ipc.new_stream if stream else pa.ipc.new_file)(file, table.schema) as writer:
                writer.write_table(table, max_chunksize=5)
    return path


@pytest.mark.parametrize("name", ["d.parquet", "d.arrow", "stream.arrow", "d.feather"])
@pytest.mark.parametrize("form", ["struct", "bytes", "large", "path", "struct of paths"])
def test_the_layouts_of_hugging_face(tmp_path: Path, name: str, form: str):
    contents = [png(image) for image in IMAGES]
    (tmp_path / "files").mkdir()
    paths = [f"files/{i}.png" for i in range(12)]
    for path, content in zip(paths, contents, strict=True):
        (tmp_path / path).write_bytes(content)
    both = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    column = {
        "struct": pa.array([{"bytes": c, "path": "gone.png"} for c in contents], both),
        "bytes": pa.array(contents),
        "large": pa.array(contents, pa.large_binary()),
        "path": pa.array(paths),
        "struct of paths": pa.array([{"bytes": None, "path": p} for p in paths], both),
    }[form]
    path = write(tmp_path / name, pa.table({"id": range(12), "image": column, "label": LABELS}))
    found = load_dataset(path)
    np.testing.assert_array_equal(found.images, IMAGES)
    np.testing.assert_array_equal(found.labels, LABELS)
    own = hashlib.sha256(path.read_bytes()).hexdigest()
    assert (found.digest == own) == ("path" not in form), "files elsewhere count, too"
    if "path" in form:
        (tmp_path / paths[3]).write_bytes(contents[4])
        assert load_dataset(path).digest != found.digest


@pytest.mark.parametrize("stored", ["lists", "fixed", "tensor"])
def test_images_as_lists_of_numbers(tmp_path: Path, stored: str):
    column = {
        "lists": lambda: pa.array(IMAGES.tolist(), pa.list_(pa.list_(pa.list_(pa.uint8())))),
        "fixed": lambda: pa.FixedSizeListArray.from_arrays(IMAGES.reshape(-1), 60),
        "tensor": lambda: pa.FixedShapeTensorArray.from_numpy_ndarray(IMAGES.reshape(12, 60)),
    }[stored]()
    found = load_dataset(write(tmp_path / "d.parquet", pa.table({"x": column, "label": LABELS})), Wanted(x="x"))
    expected = IMAGES if stored == "lists" else IMAGES.reshape(12, 60)
    np.testing.assert_array_equal(found.images, expected)
    assert found.images.dtype == np.uint8


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_plain_numbers(tmp_path: Path, suffix: str):
    frame = pd.DataFrame(RNG.normal(size=(12, 4)), columns=list("abcd"))
    frame.insert(2, "kind", np.array(["red", "blue", "green"])[LABELS])
    path = tmp_path / f"d{suffix}"
    frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path)
    found = load_dataset(path, Wanted(y="kind"))
    np.testing.assert_array_equal(found.images, frame[list("abcd")].to_numpy())
    assert found.classes == ("blue", "green", "red")
    np.testing.assert_array_equal(found.labels, np.array([2, 0, 1])[LABELS])
    one = load_dataset(path, Wanted(x="b", y="kind"), ["red", "green", "blue"])
    np.testing.assert_array_equal(one.images[:, 0], frame["b"])
    np.testing.assert_array_equal(one.labels, np.array([0, 2, 1])[LABELS])


def test_whole_numbers_stay_whole(tmp_path: Path):
    tokens = RNG.integers(0, 30_000, (12, 6))
    pd.DataFrame(tokens).assign(label=LABELS.astype(float)).to_csv(tmp_path / "d.csv", index=False)
    found = load_dataset(tmp_path / "d.csv")
    assert found.images.dtype == np.int64
    np.testing.assert_array_equal(found.images, tokens)
    np.testing.assert_array_equal(found.labels, LABELS)


def test_a_column_of_texts_of_few_kinds_and_lists_of_labels(tmp_path: Path):
    kinds = pa.array(np.array(["u", "v", "w"])[LABELS]).dictionary_encode()
    several = pa.array((np.arange(24).reshape(12, 2) % 3 == 0).astype(int).tolist())
    path = write(tmp_path / "d.parquet", pa.table({"a": np.arange(12.0), "kind": kinds, "tags": several}))
    np.testing.assert_array_equal(load_dataset(path, Wanted(x="a", y="kind")).labels, LABELS)
    found = load_dataset(path, Wanted(x="a", y="tags"))
    assert found.labels.shape == (0,)
    assert found.targets is not None
    np.testing.assert_array_equal(found.targets, np.arange(24).reshape(12, 2) % 3 == 0)
    itself = load_dataset(path, Wanted(x="a", y="a"))
    assert itself.targets is itself.images


def test_shards_of_a_folder_in_the_order_of_their_names(tmp_path: Path):
    frame = pd.DataFrame({"a": np.arange(12.0), "label": LABELS})
    data = tmp_path / "data"
    data.mkdir()
    for split, rows in (("test-00001-of-00002", slice(7, 12)), ("test-00000-of-00002", slice(0, 7))):
        frame[rows].to_parquet(data / f"{split}.parquet")
    found = load_dataset(data)
    np.testing.assert_array_equal(found.images[:, 0], frame["a"])
    frame.iloc[:3].to_parquet(data / "train-00000-of-00001.parquet")
    again = load_dataset(data)
    assert again.digest == found.digest, "of what is read"
    assert len(load_dataset(data, Wanted("train", labelled=False))) == 3
    assert len(load_dataset(data, Wanted("calibration", labelled=False))) == 3
    for file in data.glob("test*"):
        file.rename(data / file.name.replace("test", "validation"))
    with pytest.raises(InputError, match=r"its tables are called train-…, validation-…; name one of them"):
        load_dataset(data)


def test_a_folder_of_tables_and_folders_is_not_guessed_at(tmp_path: Path):
    (tmp_path / "pngs").mkdir()
    pd.DataFrame({"a": [1.0], "label": [0]}).to_csv(tmp_path / "d.csv")
    with pytest.raises(InputError, match=r"holds tables \(d\.csv\) and folders \(pngs\); name what is the dataset"):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    ("table", "wanted", "words"),
    [
        ({"a": [1.0], "label": [0]}, Wanted(x="b"), "no column b; the columns there are: a, label"),
        ({"a": [1.0]}, Wanted(), "no column label; the columns there are: a"),
        ({"label": [1]}, Wanted(), "has no columns but the labels"),
        ({"a": ["x"], "label": [0]}, Wanted(), "column a holds string, no numbers; name the images' column with `x`"),
        ({"a": [1.0, None], "label": [0, 1]}, Wanted(), "column a is empty in 1 rows, the first 1"),
        ({"a": [1.0, 2.0], "label": [None, 1]}, Wanted(), "column label is empty in 1 rows, the first 0"),
        ({"a": pa.array([], pa.float64()), "label": pa.array([], pa.int64())}, Wanted(), "has no rows"),
        ({"image": [b"none"], "label": [0]}, Wanted(), "column image, row 0: cannot be read as an image"),
        ({"image": ["no.png"], "label": [0]}, Wanted(), r"column image, row 0: .*no\.png cannot be read"),
        ({"image": [[1, 2], [3]], "label": [0, 1]}, Wanted(), "lists of 2 and 1 values"),
        ({"image": [[1, None]], "label": [0]}, Wanted(), "or empty places"),
        ({"image": [{"bytes": None, "path": None}], "label": [0]}, Wanted(), "neither bytes nor a path"),
        ({"image": [{"z": 1}], "label": [0]}, Wanted(), "column image holds struct"),
        ({"a": [1.0], "label": [{"z": 1}]}, Wanted(), "column label holds struct"),
        ({"a": [1.0], "label": [0]}, Wanted("train", labelled=False), "no training images beside these"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(tmp_path: Path, table: dict, wanted: Wanted, words: str):
    path = write(tmp_path / "d.parquet", pa.table(table))
    with pytest.raises(InputError, match=words) as caught:
        load_dataset(path, wanted)
    (problem,) = caught.value.problems
    assert problem.startswith(str(path))
    assert "\n" not in problem


@pytest.mark.parametrize("name", ["d.parquet", "d.arrow", "d.csv"])
@pytest.mark.parametrize("content", [b"", b"PAR1 cut", b'"a,b\n\xff\n1,2,3'])
def test_damaged_tables_are_refused(tmp_path: Path, name: str, content: bytes):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        load_dataset(tmp_path / name)

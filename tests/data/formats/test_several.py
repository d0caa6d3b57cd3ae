"""Arrays that go into a network together, in every format: what is read is what was written."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sweep.data.datasets import load_dataset
from sweep.data.formats.stored import Wanted
from sweep.data.inputs import fields_of
from sweep.errors import InputError
from sweep.execution import travel
from sweep.execution.travel import packed, spooled

rng = np.random.default_rng(0)
A, B = rng.integers(0, 256, (10, 4, 4), dtype=np.uint8), rng.normal(size=(10, 3)).astype(np.float32)
MASK, Y, ANGLE = rng.random((10, 5)) < 0.5, np.arange(10) % 3, rng.normal(size=10)
HEAD = """
import numpy as np
from pathlib import Path
D = np.load(Path(__file__).parent / "d.npz")
A, B, Y, Z = D["a"], D["b"], D["y"], D["z"]
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    np.savez(tmp_path / "d.npz", a=A, b=B, y=Y, mask=MASK, z=ANGLE)
    return tmp_path


def function(folder: Path, code: str) -> Path:
    (folder / "my_data.py").write_text(HEAD + code)
    return folder / "my_data.py:load"


def check(images: np.ndarray, **expected: np.ndarray) -> None:
    found = fields_of(images)
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("folder", [False, True])
def test_arrays_in_order_or_by_name(data: Path, folder: bool):
    place = data / "d.npz"
    if folder:
        place = data / "arrays"
        place.mkdir()
        for name, array in {"a": A, "b": B, "y": Y, "mask": MASK}.items():
            np.save(place / f"{name}.npy", array)
    found = load_dataset(place, Wanted(x=["b", "a"], y="y"))
    check(found.images, b=B, a=A)
    assert not found.by_name
    named = load_dataset(place, Wanted(x={"image": "a", "seen": "mask"}, y="y"))
    check(named.images, image=A, seen=MASK)
    assert named.by_name
    np.testing.assert_array_equal(named.labels, Y)
    again = load_dataset(place, Wanted(x={"seen": "mask", "image": "a"}, y="y"))
    assert named.digest == again.digest != found.digest
    check(found.first(4).images, b=B[:4], a=A[:4])


def test_training_images_are_called_train_instead_of_test(tmp_path: Path):
    np.savez(tmp_path / "d.npz", a_test=A, b_test=B, a_train=A + 1, b_train=-B, y_test=Y)
    both = Wanted("train", x={"a": "a_test", "b": "b_test"}, labelled=False)
    check(load_dataset(tmp_path / "d.npz", both).images, a=A + 1, b=-B)
    check(load_dataset(tmp_path / "d.npz", Wanted("calibration", both.x, labelled=False)).images, a=A + 1, b=-B)
    alone = Wanted("calibration", ["a_train", "b_train"], labelled=False)
    check(load_dataset(tmp_path / "d.npz", alone).images, a_train=A + 1, b_train=-B)
    with pytest.raises(InputError, match="no others beside a_train and b_train; name some with `calibration`"):
        load_dataset(tmp_path / "d.npz", Wanted("train", alone.x, labelled=False))


def test_columns_of_a_table(tmp_path: Path):
    files = [io.BytesIO() for _ in A]
    for file, image in zip(files, A, strict=True):
        Image.fromarray(image).save(file, "PNG")
    columns = {"picture": [file.getvalue() for file in files], "age": B[:, 0], "seen": MASK.tolist(), "label": Y}
    pq.write_table(pa.table({**columns, "else": Y}), tmp_path / "d.parquet")
    found = load_dataset(tmp_path / "d.parquet", Wanted(x={"image": "picture", "age": "age", "mask": "seen"}))
    check(found.images, image=A, age=B[:, :1], mask=MASK)
    csv.write_csv(pa.table({"b": Y / 4, "a": Y, "label": Y}), tmp_path / "d.csv")
    check(load_dataset(tmp_path / "d.csv", Wanted(x=["a", "b"])).images, a=Y[:, None], b=Y[:, None] / 4)
    with pytest.raises(InputError, match="no column c; the columns there are: b, a, label"):
        load_dataset(tmp_path / "d.csv", Wanted(x=["a", "c"]))


TF = "import tensorflow as tf\ndef load():\n    T = tf.data.Dataset.from_tensor_slices\n    return "
PY = """
import keras
class Data(keras.utils.PyDataset):
    def __len__(self):
        return 3
    def __getitem__(self, k):
        part = slice(4 * k, 4 * k + 4)
        return {'a': A[part], 'b': B[part]}, Y[part]
def load():
    return Data()
"""
BY_NAME = {
    "dict": "def load():\n    return {'a': A, 'b': B}, Y",
    "tf.data": TF + "T(({'a': A, 'b': B}, Y)).batch(4)",
    "tf.data, one by one": TF + "T(({'a': A, 'b': B}, Y))",
    "PyDataset": PY,
    "generator": "def load():\n    for k in range(0, 10, 3):\n        yield {'a': A[k:k+3], 'b': B[k:k+3]}, Y[k:k+3]",
}
IN_ORDER = {
    "tuple": "def load():\n    return (A, B), Y",
    "list": "def load():\n    return [A, B], Y",
    "tf.data": TF + "T(((A, B), Y)).batch(3)",
}


@pytest.mark.parametrize("code", BY_NAME.values(), ids=BY_NAME)
def test_a_function_gives_inputs_by_name(data: Path, code: str):
    found = load_dataset(function(data, code))
    check(found.images, a=A, b=B)
    assert found.by_name
    np.testing.assert_array_equal(found.labels, Y)


@pytest.mark.parametrize("code", IN_ORDER.values(), ids=IN_ORDER)
def test_a_function_gives_inputs_in_order(data: Path, code: str):
    found = load_dataset(function(data, code))
    check(found.images, **{"input 0": A, "input 1": B})
    assert not found.by_name
    np.testing.assert_array_equal(found.labels, Y)


def test_images_alone_and_a_dict_of_one(data: Path):
    code = "def load():\n    return {'a': A, 'b': B}"
    check(load_dataset(function(data, code), Wanted("calibration", labelled=False)).images, a=A, b=B)
    np.testing.assert_array_equal(load_dataset(function(data, "def load():\n    return {'a': A}, Y")).images, A)


OUTPUTS = {
    "dict": "def load():\n    return A, {'kind': Y, 'angle': Z}",
    "list": "def load():\n    return A, [Y, Z]",
    "tf.data": TF + "T((A, {'kind': Y, 'angle': Z})).batch(4)",
    "tf.data of tuples": TF + "T((A, (Y, Z))).batch(4)",
}


@pytest.mark.parametrize("code", OUTPUTS.values(), ids=OUTPUTS)
def test_labels_are_those_of_the_output_that_is_scored(data: Path, code: str):
    place = function(data, code)
    kind, angle = (load_dataset(place, Wanted(output=output)) for output in (("kind", 0), ("angle", 1)))
    np.testing.assert_array_equal(kind.labels, Y)
    np.testing.assert_array_equal(angle.targets, ANGLE.astype(np.float32))
    assert kind.digest != angle.digest
    with pytest.raises(InputError, match="and the network has one output that is scored"):
        load_dataset(place)


WRONG = {
    "another output": ("return A, {'kind': Y}", ("angle", 1), "has labels of kind, and none of output angle"),
    "too few": ("return A, [Y]", ("angle", 1), "has labels of 1 outputs; return a dict by name"),
    "both parts": ("return (A, Y), (A, Y)", None, r"returns 2 values \(tuple, tuple, …\)"),
    "lengths": ("return (A, B[:4]), Y", None, "inputs differ in length: input 0 has 10, input 1 has 4"),
    "texts": ("return {'a': A, 'b': B.astype(str)}, Y", None, "b is <U32; inputs are numbers"),
    "other inputs": ("yield {'a': A, 'b': B}, Y\n    yield {'a': A}, Y", None, "yields other inputs at one time than"),
    "labels": ("return (A, B), Y[:4]", None, "its inputs has 10 images but its labels has 4 labels"),
}


@pytest.mark.parametrize(("code", "output", "words"), WRONG.values(), ids=WRONG)
def test_what_goes_wrong_is_said_in_one_line(data: Path, code: str, output: tuple[str, int] | None, words: str):
    place = function(data, f"def load():\n    {code}")
    with pytest.raises(InputError, match=words) as caught:
        load_dataset(place, Wanted(output=output))
    (problem,) = caught.value.problems
    assert problem.startswith(str(place))


def test_records_travel_in_a_file(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(travel, "SPOOLED_FROM", 100)
    whole = load_dataset(data / "d.npz", Wanted(x={"a": "a", "b": "b", "m": "mask"}, y="y"))
    sent = packed(spooled({"": whole}, str(tmp_path))[""])
    assert sent is not None
    found = sent.arrived(lambda _: None)
    check(found.images, a=A, b=B, m=MASK)
    assert not found.images.flags.writeable
    assert found.by_name

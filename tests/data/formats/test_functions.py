"""Datasets that a function makes."""

from pathlib import Path

import numpy as np
import pytest

from sweep.data.datasets import load_dataset
from sweep.data.formats.stored import Wanted
from sweep.errors import InputError

HEAD = """
import numpy as np
X = np.arange(10 * 6 * 4, dtype=np.uint8).reshape(10, 6, 4)
Y = np.arange(10) % 3
"""
X = np.arange(10 * 6 * 4, dtype=np.uint8).reshape(10, 6, 4)
Y = np.arange(10) % 3
PY_DATASET = """
import keras
class Data(keras.utils.PyDataset):
    def __len__(self):
        return 3
    def __getitem__(self, i):
        return X[4 * i : 4 * i + 4], Y[4 * i : 4 * i + 4]
def load():
    return Data()
"""
TF = "import tensorflow as tf\nT = tf.data.Dataset.from_tensor_slices\ndef load():\n    return "
WAYS = {
    "arrays": "def load():\n    return X, Y",
    "lists of arrays": "def load():\n    return [X, Y[:, None]]",
    "one-hot": "def load():\n    return X, np.eye(3)[Y]",
    "batches": TF + "T((X, Y)).batch(4)",
    "full batches": TF + "T((X, Y)).batch(5, drop_remainder=True)",
    "one by one": TF + "T((X, Y))",
    "one-hot one by one": TF + "T((X, np.eye(3)[Y]))",
    "with weights": TF + "T((X, Y, np.ones(10))).batch(4)",
    "of unknown length": TF + "T((X, Y)).filter(lambda x, y: True).batch(4)",
    "PyDataset": PY_DATASET,
    "generator": "def load():\n    for x, y in zip(X, Y):\n        yield x, y",
    "keras arrays": "import keras\ndef load():\n    return keras.ops.array(X), keras.ops.array(Y)",
}


def write(folder: Path, code: str) -> Path:
    (folder / "my_data.py").write_text(HEAD + code)
    return folder / "my_data.py:load"


@pytest.mark.parametrize("code", WAYS.values(), ids=WAYS)
def test_what_a_function_may_return(tmp_path: Path, code: str):
    found = load_dataset(write(tmp_path, code))
    np.testing.assert_array_equal(found.images, X)
    np.testing.assert_array_equal(found.labels, Y)
    assert found.images.dtype == np.uint8


@pytest.mark.parametrize("batched", ["", ".batch(4)"])
def test_labels_that_are_texts(tmp_path: Path, batched: str):
    found = load_dataset(write(tmp_path, TF + f'T((X, np.array(["no", "yes", "maybe"])[Y])){batched}'))
    assert found.classes == ("maybe", "no", "yes")
    np.testing.assert_array_equal(found.labels, np.array([1, 2, 0])[Y])


@pytest.mark.parametrize("made", ["X", "X, Y", "tf.data.Dataset.from_tensor_slices(X).batch(4)"])
def test_calibration_needs_images_alone(tmp_path: Path, made: str):
    place = write(tmp_path, f"import tensorflow as tf\ndef load():\n    return {made}")
    np.testing.assert_array_equal(load_dataset(place, Wanted("calibration", labelled=False)).images, X)


def test_it_is_called_once_and_its_file_run_once(tmp_path: Path):
    code = "ran = []\ndef load():\n    ran.append(1)\n    return X + len(ran), Y"
    place = write(tmp_path, code)
    np.testing.assert_array_equal(load_dataset(place).images, X + 1)
    np.testing.assert_array_equal(load_dataset(place).images, X + 2)


def test_files_beside_it_can_be_imported(tmp_path: Path):
    (tmp_path / "numbers_of_mine.py").write_text("LESS = 1")
    place = write(tmp_path, "import numbers_of_mine\ndef load():\n    return X - numbers_of_mine.LESS, Y")
    np.testing.assert_array_equal(load_dataset(place).images, X - 1)


def test_the_digest_is_of_the_code_and_of_what_it_returns(tmp_path: Path):
    (tmp_path / "value.txt").write_text("1")
    code = "from pathlib import Path\nV = Path(__file__).parent / 'value.txt'\n"
    code += "def load():\n    return X + int(V.read_text()), Y\n"
    first = load_dataset(write(tmp_path, code)).digest
    assert load_dataset(write(tmp_path, code)).digest == first
    (tmp_path / "value.txt").write_text("2")
    assert load_dataset(write(tmp_path, code)).digest != first, "other arrays"
    (tmp_path / "value.txt").write_text("1")
    assert load_dataset(write(tmp_path, code + "# more")).digest != first, "other code"


ENDLESS = """
import keras
class Data(keras.utils.PyDataset):
    num_batches = None
def load():
    return Data()
"""
WRONG = {
    "raises": ("def load():\n    raise KeyError('a\\nb')", "KeyError: 'a"),
    "raises when run": ("1 / 0", "ZeroDivisionError: division by zero"),
    "is no Python": ("def load(:", "SyntaxError"),
    "leaves": ("def load():\n    raise SystemExit(3)", "SystemExit"),
    "is not there": ("", "my_data.py defines no function load"),
    "wants arguments": ("def load(split):\n    return X, Y", "TypeError"),
    "returns None": ("def load():\n    return None", "returns NoneType; return"),
    "returns both parts": ("def load():\n    return (X, Y), (X, Y)", r"returns 2 values \(tuple, tuple, …\)"),
    "returns no labels": ("def load():\n    return X", "returns no labels"),
    "returns objects": ("def load():\n    return X, np.array([None] * 10)", "array of Python objects"),
    "yields nothing": ("def load():\n    yield from ()", "yields no images"),
    "yields no arrays": ("def load():\n    yield {'a': 'b'}, Y", "yields no pairs .* of arrays, or of tuples or dicts"),
    "never ends": (TF + "T((X, Y)).repeat()", "never ends; leave repeat"),
    "has no length": (ENDLESS, "never ends; give it a length"),
    "lengths differ": ("def load():\n    return X, Y[:4]", "its images has 10 images but its labels has 4"),
}


@pytest.mark.parametrize(("code", "words"), WRONG.values(), ids=WRONG)
def test_what_goes_wrong_is_said_in_one_line(tmp_path: Path, code: str, words: str):
    place = write(tmp_path, code)
    with pytest.raises(InputError, match=words) as caught:
        load_dataset(place)
    (problem,) = caught.value.problems
    assert problem.startswith(str(place))
    assert "\n" not in problem


def test_names_of_arrays_and_missing_files_are_refused(tmp_path: Path):
    place = write(tmp_path, "def load():\n    return X, Y")
    with pytest.raises(InputError, match="x: 'a' names an array, and the function says"):
        load_dataset(place, Wanted(x="a"))
    with pytest.raises(InputError, match="no training images beside these; name some with `calibration`"):
        load_dataset(place, "train")
    with pytest.raises(InputError, match="no such file"):
        load_dataset(tmp_path / "other.py:load")

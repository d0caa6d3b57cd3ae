"""What stands beside images: classes, names of them, or targets; each case by hand."""

import numpy as np
import pytest

from sweep.data.labels import mapping, no_classes, remedy, understood
from sweep.errors import InputError

ROWS = np.eye(3)[[0, 2, 1]]


@pytest.mark.parametrize(
    ("y", "labels", "classes", "names"),
    [
        (np.array([0, 2, 1], np.uint8), None, [0, 2, 1], ()),
        (np.array([[0], [2], [1]]), None, [0, 2, 1], ()),
        (np.array([0, 5, 9]), None, [0, 5, 9], ()),  # gaps stay
        (np.array([True, False, True]), None, [1, 0, 1], ()),
        (np.array([1, 3, 2]), [1, 2, 3], [0, 2, 1], ("1", "2", "3")),
        (np.array([-1, 1, 1], np.int8), [-1, 1], [0, 1, 1], ("-1", "1")),
        (np.array([7, 7, 3]), [7, 5, 3], [0, 0, 2], ("7", "5", "3")),
        (np.array([1.0, 0.0, 2.0], np.float32), None, [1, 0, 2], ()),
        (np.array([1.0, 2.0, 2.0]), [1, 2], [0, 1, 1], ("1", "2")),
        (np.array(["dog", "cat", "dog"]), None, [1, 0, 1], ("cat", "dog")),
        (np.array([["dog"], ["cat"], ["dog"]]), ["dog", "eel", "cat"], [0, 2, 0], ("dog", "eel", "cat")),
        (np.array(["é", "a", "a"]).astype("U2").view(np.ndarray), None, [1, 0, 0], ("a", "é")),
        (np.char.encode(np.array(["é", "a", "a"]), "utf-8"), None, [1, 0, 0], ("a", "é")),
        (ROWS, None, [0, 2, 1], ()),
        (ROWS.astype(bool), ["a", "b", "c"], [0, 2, 1], ("a", "b", "c")),
    ],
)
def test_classes(y, labels, classes, names):
    found = understood("y", y, labels)
    np.testing.assert_array_equal(found.classes, classes)
    assert found.classes.dtype == np.int64
    assert found.names == names


def test_the_format_may_know_names_that_do_not_occur():
    found = understood("y", np.array(["b", "d"]), None, ("a", "b", "c", "d"))
    np.testing.assert_array_equal(found.classes, [1, 3])
    assert found.names == ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (np.array([0.5, 1.0]), "numbers with fractions, the first at 0"),
        (
            np.array([[0, 1], [1, 1]], np.uint8),
            "1 rows that are not one-hot (a single 1, else 0), the first at 1; all of",
        ),
        (
            np.array([[1, 0], [0, 0], [0, 0]], bool),
            "2 rows that are not one-hot (a single 1, else 0), the first at 1; all",
        ),
        (np.array([[0.5, 0.5], [0, 1]]), "1 rows that are not one-hot (a single 1, else 0), the first at 0"),
        (np.zeros((2, 3, 4), np.uint8), "3 × 4 numbers for each image"),
    ],
)
def test_whatever_else_is_targets(y, words):
    found = understood("y", y, None)
    assert found.classes.shape == (0,)
    np.testing.assert_array_equal(found.targets, y.astype(np.float32))
    assert found.targets.dtype == np.float32
    assert no_classes(found.targets).startswith(words)
    with pytest.raises(InputError, match="labels: are given"):
        understood("y", y, [0, 1])


def test_floating_labels_are_targets_too():
    found = understood("y", np.array([3.0, 0.0]), None)
    np.testing.assert_array_equal(found.classes, [3, 0])
    np.testing.assert_array_equal(found.targets, np.array([3, 0], np.float32))


@pytest.mark.parametrize(
    ("y", "labels", "words"),
    [
        (np.array([0, -1, -2]), None, r"2 negative labels, the first at 1; .* labels = \[-2, -1, 0\]"),
        (np.array([1, 2, 4]), [1, 2, 3], "labels: y has 1 labels that are not among them, the first 4 at 2"),
        (np.array(["a", "b"]), ["a"], "the first 'b' at 1"),
        (np.array([1, 2]), ["1", "2"], "2 labels that are not among them"),
        (np.array([np.nan, 1.0]), None, "NaN or infinite values in 1 places, the first at 0"),
        (np.array([[1e300, 0.5]]), None, "NaN or infinite"),
        (np.array([1, 2], dtype="M8[s]"), None, "y is datetime64"),
        (np.array([["a", "b"]]), None, r"y is <U1 of shape \(1, 2\)"),
        (np.zeros((0,)), None, "holds no labels"),
        (np.zeros((3, 0)), None, "holds no labels"),
        (np.array(1), None, "holds no labels"),
        (np.array([b"\xff"]), None, "are not UTF-8"),
        (np.array([2**63], np.uint64), None, r"beyond 2\^63"),
        (np.array([1e30]), None, r"beyond 2\^63"),
        (ROWS, ["a", "b"], "2 are given, and one-hot rows of y have 3 columns"),
    ],
)
def test_what_is_neither_is_refused(y, labels, words):
    with pytest.raises(InputError, match=words) as caught:
        understood("y", y, labels)
    assert all("\n" not in problem for problem in caught.value.problems)


def test_mappings_and_remedies_are_short():
    assert mapping(("cat", "dog")) == "cat = 0, dog = 1"
    assert mapping(tuple("abcdefgh")) == "a = 0, b = 1, c = 2, d = 3, …, h = 7"
    assert remedy(np.array([3, 1, 2, 3]), 3).endswith("say labels = [1, 2, 3]")
    assert remedy(np.arange(1, 11), 10).endswith("say labels = [1, 2, 3, 4, …, 10]")
    assert remedy(np.arange(12), 10) == ""

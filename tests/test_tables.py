"""The one validator: every problem, where it is, in our words; and what is left without what is wrong."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sweep.tables as t
from sweep.perturb.base import Table, Transform, parameter
from sweep.perturb.catalogue import entry

INNER = t.model("inner", {"size": (t.whole(1, 9), ...), "word": (t.choice(["a", "b"]), "a")})
MODEL = t.model(
    "outer",
    {
        "name": (t.text(r"^[a-z]+$", "a word"), ...),
        "list": (t.some(INNER, "a list of tables", least=0), ()),
        "one": (t.either(t.number(0), t.some(t.number(0), wrong="the list is empty", distinct=True)), None),
        "copy": (t.boolean(), False),  # a method of pydantic's models
        "model_config": (t.text("", "a text"), ""),  # and a word that it keeps to itself
    },
)


def told(**data: Any) -> list[str]:
    return [str(problem) for problem in t.check(MODEL, data)[1]]


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        ({"name": "x", "copy": True, "model_config": "y"}, []),
        ({}, ["name: is missing; it must be a word"]),
        ({"name": "X"}, ["name: 'X' is not a word"]),
        (
            {"name": "x", "nam": 1},
            ["nam: unknown key; valid: name, list, one, copy, model_config (did you mean 'name'?)"],
        ),
        ({"name": "x", "copy": 1}, ["copy: 1 is not true or false"]),
        ({"name": "x", "list": 3}, ["list: 3 is not a list of tables"]),
        (
            {"name": "x", "list": [{"size": 10}, {"word": "c", "size": 1}]},
            [
                "list[0].size: 10 is not a whole number of at least 1",
                "list[1].word: 'c' is not valid; choose one of a, b",
            ],
        ),
        (
            {"name": "x", "one": [1, -1, 1, True]},
            [
                "one: -1 is not a finite number of at least 0",
                "one: True is not a finite number of at least 0",
                "one: 1 is listed twice",
            ],
        ),
        ({"name": "x", "one": []}, ["one: the list is empty"]),
        ({"name": "x", "one": [1, 1.0]}, ["one: 1.0 is listed twice"]),
        ({"name": "x", "one": "1"}, ["one: '1' is not a finite number of at least 0"]),
        ({"name": "x\x1b"}, ["name: 'x\\x1b' has control characters", "name: 'x\\x1b' is not a word"]),
        ({"name": "x", "a\x1b": 1}, ["'a\\x1b' has control characters, and is no key"]),
    ],
)
def test_each_mistake_is_told_with_its_key(data: dict[str, Any], lines: list[str]):
    assert told(**data) == lines


def test_what_is_wrong_is_left_out_and_the_rest_stays_in_its_place():
    data = {"name": 3, "list": [{"size": 10}, {"size": 1, "word": "c", "more": 1}], "one": [2, 2]}
    tables, problems = t.check(MODEL, data)
    assert tables == {"list": [{}, {"size": 1}], "one": [2, 2]}, "a value that stands there twice is a value"
    assert len(problems) == 5
    assert data["name"] == 3, "what is given is left as it is"


def test_a_key_without_words_is_missing_and_no_more():
    assert [str(p) for p in t.check(t.model("m", {"x": (t.some(INNER, wrong="is none"), ...)}), {})[1]] == [
        "x: is missing"
    ]


def test_a_default_is_checked_where_it_is_used():
    model = t.model("m", {"x": (t.whole(1), 0), "y": (t.whole(1), None)})
    assert [str(problem) for problem in t.check(model, {})[1]] == ["x: 0 is not a whole number of at least 1"]
    assert [str(problem) for problem in t.check(model, {"x": 1, "field_0": 2})[1]] == [
        "field_0: unknown key; valid: x, y"
    ]
    assert t.check(model, {"x": 1}) == ({"x": 1}, [])


def test_numbers_of_numpy_and_tuples_are_as_those_of_python():
    tables, problems = t.check(MODEL, {"name": np.str_("x"), "one": (np.float32(0.5), np.int64(3))})
    assert (tables, problems) == ({"name": "x", "one": [0.5, 3]}, [])


KINDS = {
    (float, None, None): (0, 0.5, -3, 1e300),
    (float, 0.0, None): (0, 2.5),
    (float, 0.0, 1.0): (0, 1, 0.5),
    (int, 0, 64): (0, 64),
    (int, 1, None): (1, 2**62),
    (bool, None, None): (True, False),
    (str, None, None): ("", "é"),
}
EVERYTHING: tuple[Any, ...] = (
    0,
    1,
    -3,
    64,
    65,
    2**62,
    2**64,
    0.5,
    2.5,
    1.5,
    1e300,
    10**400,
    True,
    False,
    "",
    "é",
    None,
)
EVERYTHING += (float("nan"), float("inf"), [], [0.5], {}, b"x")


def fits(kind: type, low: float | None, high: float | None, value: Any) -> bool:
    """What a parameter of this type takes, said once more and plainly."""
    if kind in (bool, str):
        return type(value) is kind
    if type(value) not in ((int, float) if kind is float else (int,)) or (kind is float and not abs(value) < 1.7e308):
        return False
    return (low is None or value >= low) and (high is None or value <= high)


@pytest.mark.parametrize(("kind", "low", "high"), KINDS)
@pytest.mark.parametrize("swept", [True, False])
def test_a_parameter_takes_its_type_and_range_alone(kind: type, low: float | None, high: float | None, swept: bool):
    one = t.model("one", {"x": (t.value(kind, {"minimum": low, "maximum": high}, swept), ...)})
    for value in EVERYTHING:
        sound = fits(kind, low, high, value)
        assert (t.check(one, {"x": value})[1] == []) == (
            sound or (swept and value == [0.5] and fits(kind, low, high, 0.5))
        )
        assert (t.check(one, {"x": [value]})[1] == []) == (swept and sound)
    assert all(fits(kind, low, high, value) for value in KINDS[kind, low, high])


@pytest.mark.parametrize(
    ("kind", "low", "high", "wrong", "words", "in_catalogue"),
    [
        (float, 0.0, None, -1, "a finite number of at least 0", "number ≥ 0"),
        (float, None, 1.5, 2, "a finite number of at most 1.5", "number ≤ 1.5"),
        (float, 1e-9, 1.0, 2, "a finite number from 1e-09 to 1", "number, 1e-09 to 1"),
        (int, 2, 2**31, 1, "a whole number from 2 to 2147483648", "whole number, 2 to 2147483648"),
    ],
)
def test_bounds_are_said_wherever_they_are_and_in_full(
    kind: type, low: float | None, high: float | None, wrong: float, words: str, in_catalogue: str
):
    valid = {"minimum": low, "maximum": high}
    one = t.model("one", {"x": (t.value(kind, valid, True), ...)})
    assert [str(p) for p in t.check(one, {"x": wrong})[1]] == [f"x: {wrong} is out of range; valid is {words}"]
    fields, said = [("x", kind, parameter("", **valid))], {"op": "x", "__doc__": "w"}
    made = dataclasses.make_dataclass("Made", fields, bases=(Transform,), namespace=said, frozen=True, kw_only=True)
    assert f"| `x` | {in_catalogue} |" in entry(made)


@given(st.lists(st.lists(st.floats(-9, 9) | st.integers(-9, 9), min_size=1, max_size=3), max_size=4))
def test_a_table_is_two_points_or_more_that_ascend(points: list[list[float]]):
    one = t.model("one", {"x": (t.value(Table, {}, True), ...)})
    ascends = all(a[0] < b[0] for a, b in itertools.pairwise(points))
    sound = len(points) > 1 and all(len(point) == 2 for point in points) and ascends
    assert (t.check(one, {"x": points})[1] == []) == sound

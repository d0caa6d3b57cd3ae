"""What a stranger's run says of a transform makes a class, or an error in words: whatever stands there."""

import contextlib
import copy
import random
from typing import Any

import pytest

from sweep.errors import InputError
from sweep.perturb.base import REGISTRY, parameters
from sweep.study.described import stand_in
from sweep.study.plugins import Register
from sweep.study.study import Study, parse

SOUND = {
    "acts_on": "weights",
    "text": "What it is.\n\nSource: somebody.",
    "parameters": {
        "scale": {"type": "float", "text": "level", "minimum": 0.0},
        "kind": {"type": "str", "choices": ["a", "c"], "default": "a"},
        "curve": {"type": "table", "default": [[0, 1], [2, 0.5]]},
        "times": {"type": "int", "choices": [1, 2], "default": 2},
    },
    "used": [{"values": {"layers": "*", "scale": 1.0}, "random": True, "is_identity": False}],
}
ODD: list[Any] = [
    "\ud800",
    "a\0b",
    "",
    None,
    3,
    -1,
    float("inf"),
    float("nan"),
    [],
    {},
    ["\ud800"],
    [[1]],
    True,
    10**400,
]
ODD += [
    "type",
    "float",
    "apply",
    "class",
    "model_config",
    "copy",
    "_x",
    {"a": 1},
    [1, "a"],
    [0.5, None],
    [[0, 1], [1, 2]],
]


def study(op: str, table: dict[str, Any]) -> dict[str, Any]:
    family = [{"name": "f", "perturb": [{"op": op, **table}]}]
    return {"name": "s", "model": "m", "dataset": "d", "seeds": 1, "family": family}


def changed(rng: random.Random) -> dict[str, Any]:
    """A description with one to three odd values or keys in it."""
    found = copy.deepcopy(SOUND)
    for _ in range(rng.randint(1, 3)):
        at: Any = found
        while True:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(at[key], dict | list) and rng.random() < 0.8:
                at = at[key]
                continue
            if isinstance(at, dict) and rng.random() < 0.3:
                at[rng.choice([odd for odd in ODD if isinstance(odd, str)])] = at.pop(key)
            else:
                at[key] = copy.deepcopy(rng.choice(ODD))
            break
    return found


def test_a_sound_one_has_its_parameters_ranges_choices_and_defaults():
    op = stand_in("mine", SOUND)
    register = Register({**REGISTRY, "mine": op})
    assert list(parameters(op)) == list(SOUND["parameters"])
    made = Study.from_dict(study("mine", {"scale": [0, 1]}), register=register).cells[2].transforms[0]
    assert (made.scale, made.kind, made.curve, made.times) == (1.0, "a", ((0.0, 1.0), (2.0, 0.5)), 2)
    lines = parse(study("mine", {"scale": -1, "kind": "b", "times": 3}), register=register).problems
    assert [line.rpartition("].")[2] for line in lines] == [
        "scale: -1 is out of range; valid is a finite number of at least 0",
        "kind: 'b' is not valid; choose one of a, c",
        "times: 3 is not valid; choose one of 1, 2",
    ]


def test_whatever_stands_there_is_a_class_or_an_error_in_words():
    kept = 0
    for seed in range(3000):
        rng = random.Random(seed)
        op = rng.choice(["mine", "mine", "\ud800", "a\nb"])
        with contextlib.suppress(InputError):
            made = stand_in(op, changed(rng))
            kept += 1
            table = {"scale": rng.choice([1, [0, 1], -1, "x"]), "kind": rng.choice(["a", "b"])}
            Study.from_dict(study(op, table), register=Register({**REGISTRY, op: made}))
    assert kept > 100


@pytest.mark.parametrize("data", [None, 3, "x", [], {}, {"parameters": {}}])
def test_what_is_none_is_refused(data: Any):
    with pytest.raises(InputError):
        stand_in("mine", data)

"""docs/study.schema.json is what the code says, takes what `sweep` takes, and refuses what a schema can."""

import json
import random
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sweep.errors import InputError
from sweep.perturb import REGISTRY
from sweep.perturb.base import CURVES, parameters
from sweep.study.described import is_ours
from sweep.study.study import Study
from tests.chaos.broken import KINDS, plant, valid
from tests.study.test_study import MISTAKES, VALID, edited

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs" / "study.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
OURS = {op: transform for op, transform in REGISTRY.items() if is_ours(transform)}
BEYOND = {  # mistakes that no schema of a file tells: of values together, order, and numbers that JSON has not
    *("joint", "table", "nan", "inf"),
}


def test_the_file_is_made_from_the_code():
    """In a process of its own: other tests register transforms of their own."""
    made = subprocess.run([sys.executable, "-m", "sweep", "schema"], capture_output=True, check=True)
    file = (ROOT / "docs" / "study.schema.json").read_bytes()
    assert file == made.stdout, "run: sweep schema > docs/study.schema.json"
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", sorted((ROOT / "jobs").glob("*.toml")), ids=lambda p: p.stem)
def test_shipped_studies_name_it_and_keep_to_it(path: Path):
    text = path.read_text(encoding="utf-8")
    named = text.splitlines()[0].removeprefix("#:schema ")
    assert (path.parent / named).resolve() == ROOT / "docs" / "study.schema.json"
    VALIDATOR.validate(tomllib.loads(text))


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_that_a_schema_can_tell_is_told(name: str):
    change, _ = MISTAKES[name]
    assert VALIDATOR.is_valid(edited(**change)) == (name in BEYOND)


def test_it_refuses_nothing_that_sweep_takes():
    """Studies of the chaos tests, sound and with mistakes: what the schema refuses, `sweep` refuses."""
    refused = 0
    for seed in range(200):
        rng = random.Random(seed)
        study = valid(rng)
        VALIDATOR.validate(study)
        plant(rng, study, 1 + seed % 3)
        if not VALIDATOR.is_valid(study):
            refused += 1
            with pytest.raises(InputError):
                Study.from_dict(study)
    assert refused > 100
    assert len(KINDS) > 20


def branch(op: str) -> dict[str, Any]:
    perturb = SCHEMA["$defs"]["family"]["properties"]["perturb"]
    (found,) = [one for one in perturb["items"]["oneOf"] if one["properties"]["op"].get("const") == op]
    return found


@pytest.mark.parametrize("op", OURS)
def test_every_transform_is_there_with_its_parameters_and_lists_for_them(op: str):
    keys = branch(op)["properties"]
    assert list(keys) == ["op", *parameters(OURS[op]), "layers", *(["variables"] if OURS[op].of_weights else [])]
    for name, kind in parameters(OURS[op]).items():
        assert ("oneOf" in keys[name]) == (kind not in CURVES), name
        assert keys[name]["description"]


def test_ranges_and_choices_are_those_of_the_catalogue():
    one, many = branch("bit_flip")["properties"]["rate"]["oneOf"]
    assert (one["minimum"], one["maximum"]) == (0, 1)
    assert many == {"type": "array", "items": one, "minItems": 1, "uniqueItems": True}
    assert branch("pcm")["properties"]["compensation"]["oneOf"][0]["enum"] == ["none", "global"]
    assert branch("gaussian")["required"] == ["op", "scale"]


def test_a_transform_of_ones_own_is_valid_beside_plugins_only():
    family = [{"name": "f", "perturb": [{"op": "mine", "level": [1, 2]}]}]
    assert not VALIDATOR.is_valid({**VALID, "family": family})
    assert VALIDATOR.is_valid({**VALID, "family": family, "plugins": ["mine.py"]})
    family[0]["perturb"][0] = {"op": "gaussian", "level": 1}
    assert not VALIDATOR.is_valid({**VALID, "family": family, "plugins": ["mine.py"]})

"""A study is read and checked once; what can be understood of a broken one is known all the same."""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import sweep
from sweep.errors import InputError
from sweep.perturb.base import REGISTRY, Transform, parameter
from sweep.perturb.noise import Gaussian
from sweep.preparation.inputs import prepare
from sweep.study import family, schema
from sweep.study.family import Family, swept_columns
from sweep.study.study import Study, parse
from tests.study.test_study import VALID, edited


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the studies that are checked, in turn."""
    found: list[str] = []
    real = schema.check_study
    monkeypatch.setattr(
        schema, "check_study", lambda data, ops: (found.append(str(data.get("name"))), real(data, ops))[1]
    )
    return found


def test_a_run_checks_its_study_once_and_that_of_its_folder_once(place: Path, checks: list[str]):
    prepared = prepare(Study.from_toml("study.toml").over(2))
    assert len(checks) == 1
    assert len(prepared.study.cells) > 1
    sweep.run("study.toml", "run", runner="inline", seeds=2)
    assert len(checks) == 1 + 2, "the file, and the folder's own when it is read"


def test_a_study_made_in_python_is_checked_where_it_is_made_and_copies_are_not(checks: list[str]):
    study = Study("s", ["a.h5", "b.h5"], "d.npz", 3, [Family("g", [{"op": "gaussian", "scale": (0, 0.1)}])])
    assert checks == ["s"]
    other = study.over(7).but(model="c.h5").with_code()
    assert checks == ["s"]
    assert (list(other.models), list(other.seed_range)) == (["c"], list(range(7)))
    assert list(study.models) == ["a", "b"], "a copy changes nothing"
    with pytest.raises(InputError, match=r"family\[0\]\.perturb\[0\]\.scale: -1 is out of range"):
        Study("s", "a.h5", "d.npz", 3, [Family("g", [{"op": "gaussian", "scale": -1}])])


@pytest.mark.parametrize("seeds", [0, -1, True, 2.0, "3", {"count": 0}, {"start": 1}, {"count": 1, "strat": 0}])
def test_other_seeds_are_checked(seeds: Any):
    with pytest.raises(InputError, match=r"^study: seeds"):
        Study.from_dict(VALID).over(seeds)


def test_the_transforms_of_a_family_are_made_once_whatever_its_grid(monkeypatch: pytest.MonkeyPatch):
    made: list[str] = []
    real = family.make
    monkeypatch.setattr(
        family, "make", lambda transform, values: (made.append(transform.op), real(transform, values))[1]
    )
    study = Study.from_dict(edited(model=["a.h5", "b.h5", "c.h5"]))
    assert len(study.cells) == 3 * (1 + 2 * 3 * 1 * 2)
    assert sorted(made) == ["fixed_point"] * 3 + ["gaussian"] * 2 + ["uniform"] * 2


def test_the_grid_is_that_of_transforms_made_one_by_one():
    """An oracle of its own: every point of the product of the lists, each transform by its constructor."""
    (only,) = Study.from_dict(VALID).family
    points = itertools.product([0, 0.1], [8, 4, 2], [0.5], ["absolute", "layer_max"])
    expected = [
        (
            Gaussian(scale=scale, layers=("conv*", 5)),
            REGISTRY["fixed_point"](bits=bits),
            REGISTRY["uniform"](scale=level, basis=basis),
        )
        for scale, bits, level, basis in points
    ]
    assert [cell.transforms for cell in only.cells("m")] == expected
    assert all(type(cell.values["scale"]) is float for cell in only.cells("m"))


def test_a_column_never_hides_another():
    tables = [{"op": "x", "scale": [1], "scale_1": [2]}, {"op": "y", "scale": [3]}]
    assert swept_columns(tables) == {"scale": (0, "scale"), "scale_1": (0, "scale_1"), "scale_1_1": (1, "scale")}


def test_what_a_broken_study_names_is_known_as_far_as_it_makes_sense():
    tables = edited(seeds=0, model=["a.h5", 7, "a.h5"], family__0__perturb__0__layers=-1, sede=1)
    tables["family"] += [
        3,
        {
            "name": "g",
            "perturb": [{"op": "gausian", "layers": "fc"}, {"op": "gaussian", "scale": -1, "layers": ["fc"]}],
        },
        {"name": "g", "perturb": [{"op": "adc"}], "sensitivity": ["fc", "conv", "fc"]},
    ]
    found = parse(tables, "my.toml")
    assert found.study is None
    assert all(problem.startswith("my.toml: ") for problem in found.problems)
    assert (found.models, found.datasets, found.rescale) == (["a.h5"], ["data.npz"], None)
    assert [(at[0], transform.op, layers) for at, transform, layers, _ in found.layers] == [
        ("family[0].perturb[0].layers", "gaussian", "*"),
        ("family[0].perturb[1].layers", "fixed_point", "*"),
        ("family[0].perturb[2].layers", "uniform", "*"),
        ("family[2].perturb[1].layers", "gaussian", ("fc",)),
        ("family[3].sensitivity", "adc", "fc"),
        ("family[3].sensitivity", "adc", "conv"),
        ("family[3].sensitivity", "adc", "fc"),
    ]


def test_values_that_do_not_go_together_show_beside_other_mistakes():
    stuck = {"op": "stuck_at", "rate": 0.1, "high": [0.2, 0.7, 0.9], "low": 0.5, "lyers": "fc"}
    tables = edited(family__0__perturb=[stuck, {"op": "gaussian", "scale": -1}])
    del tables["family"][0]["published"]
    lines = [line.removeprefix("study: family[0].perturb") for line in parse(tables).problems]
    assert lines[1:] == [
        "[1].scale: -1 is out of range; valid is a finite number of at least 0",
        "[0]: high, low: 0.7 + 0.5 is more than 1; these are shares",
        "[0]: high, low: 0.9 + 0.5 is more than 1; these are shares",
    ]
    assert lines[0].startswith("[0].lyers: unknown key; valid: op, ")
    assert lines[0].endswith("(did you mean 'layers'?)")


def test_a_glob_that_names_a_file_again_is_told(place: Path):
    study = Study.from_toml("study.toml").but(model=["net.keras", "n*.keras"])
    with pytest.raises(InputError, match=r"study\.toml: model: 'net\.keras' is listed twice"):
        prepare(study)


@pytest.mark.parametrize("key", schema.STUDY.model_json_schema()["properties"])
@pytest.mark.parametrize("value", [[["0..1"]], {"a": [1]}, 1.5, True], ids=repr)
def test_a_value_of_any_wrong_type_is_told_of_its_key(place: Path, key: str, value: Any):
    """The files of the study are read all the same."""
    if (key, value) == ("precision", 1.5):
        value = -value
    tables = Study.from_toml("study.toml").to_dict() | {key: value}
    with pytest.raises(InputError, match=rf"study: {key}"):
        prepare(parse(tables))


def test_published_values_of_layers_that_are_not_known_are_told():
    one = {"name": "f", "sensitivity": "per-layer", "perturb": [{"op": "gaussian", "scale": [1, 2]}]}
    published = [{"layer": "fc", "scale": 1, "accuracy": 0.5}]
    with pytest.raises(InputError, match=r'published: the layers of "per-layer" are not known yet'):
        Study.from_dict(edited(family=[{**one, "published": published}]))
    named = Study.from_dict(edited(family=[{**one, "sensitivity": ["fc", "conv"], "published": published}]))
    assert named.published == {"a/f/layer=fc,scale=1": 0.5}


@pytest.mark.parametrize(
    "text", ["seeds = 1" + "0" * 5000, "seeds = 0x1" + "0" * 9000, "x = " + "[" * 3000 + "]" * 3000]
)
def test_numbers_and_lists_beyond_all_bounds_are_refused_in_words(tmp_path: Path, text: str):
    (tmp_path / "s.toml").write_text(f"{text}\n")
    with pytest.raises(InputError) as caught:
        Study.from_toml(tmp_path / "s.toml")
    assert all(len(line) < 700 for line in caught.value.problems)


def test_a_transform_that_does_more_where_it_is_made_is_made_as_it_says(monkeypatch: pytest.MonkeyPatch):
    @dataclass(frozen=True, kw_only=True)
    class Even(Transform):
        op = "even"
        bits: int = parameter("a number", minimum=0)
        random = False

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.bits % 2:
                raise InputError(f"even: {self.bits} is odd")
            object.__setattr__(self, "half", self.bits // 2)

        def apply(self, weight, variable, generator):
            return weight

    monkeypatch.setitem(REGISTRY, "even", Even)
    family = {"name": "f", "perturb": [{"op": "even", "bits": [2, 4]}]}
    assert [t.half for t in Study.from_dict(edited(family=[family])).family[0].choices[0]] == [1, 2]
    family["perturb"][0]["bits"] = [2, 3]
    assert parse(edited(family=[family])).problems == ("study: family[0].perturb[0]: 3 is odd",)

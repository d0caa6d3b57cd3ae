import contextlib
import copy
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sweep.errors import InputError
from sweep.perturb.basis import BASES
from sweep.study.family import Family, swept_columns
from sweep.study.study import Study, digest

JOBS = Path(__file__).parents[2] / "jobs"

VALID = {
    "name": "demo",
    "model": "nets/a.keras",
    "dataset": "data.npz",
    "seeds": 3,
    "family": [
        {
            "name": "noise, then rounding",
            "perturb": [
                {"op": "gaussian", "scale": [0, 0.1], "layers": ["conv*", 5]},
                {"op": "fixed_point", "bits": [8, 4, 2]},
                {"op": "uniform", "scale": [0.5], "basis": ["absolute", "layer_max"]},
            ],
            "published": [{"scale": 0.1, "bits": 4, "scale_2": 0.5, "basis": "absolute", "accuracy": 0.9}],
        }
    ],
}


def edited(tables: dict = VALID, /, **changes: object) -> dict:
    data = copy.deepcopy(tables)
    for path, value in changes.items():
        at = data
        *folders, leaf = path.split("__")
        for key in folders:
            at = at[int(key) if key.isdigit() else key]
        at[int(leaf) if leaf.isdigit() else leaf] = value
    return data


def test_the_grid_of_several_lists():
    study = Study.from_dict(VALID)
    assert study.columns == {"scale": float, "bits": int, "scale_2": float, "basis": str}
    assert len(study.cells) == 1 + 2 * 3 * 1 * 2
    clean, first, last = study.cells[0], study.cells[1], study.cells[-1]
    assert (clean.id, clean.transforms, clean.random) == ("a/clean", (), False)
    assert first.id == "a/noise, then rounding/scale=0,bits=8,scale_2=0.5,basis=absolute"
    assert last.values == {"scale": 0.1, "bits": 2, "scale_2": 0.5, "basis": "layer_max"}
    assert [t.op for t in last.transforms] == ["gaussian", "fixed_point", "uniform"]
    assert last.transforms[0].layers == ("conv*", 5)
    assert list(study.published.values()) == [0.9]
    assert len({cell.id for cell in study.cells}) == 13


def test_only_cells_with_a_random_transform_have_seeds():
    ops = [{"op": "gaussian", "scale": [0, 0.1]}, {"op": "fixed_point", "bits": 4}]
    study = Study.from_dict(edited(family=[{"name": "f", "perturb": ops}]))
    assert [cell.random for cell in study.cells] == [False, False, True]


def test_models_are_labelled_by_stem_or_by_path_where_stems_collide():
    assert list(Study.from_dict(edited(model=["x/a.h5", "x/b.h5"])).models) == ["a", "b"]
    assert list(Study.from_dict(edited(model=["x/a.h5", "y/a.h5"])).models) == ["x/a.h5", "y/a.h5"]


def test_seeds_as_a_count_or_a_range():
    assert list(Study.from_dict(VALID).seed_range) == [0, 1, 2]
    assert list(Study.from_dict(edited(seeds={"start": 7, "count": 2})).seed_range) == [7, 8]


def test_toml_is_its_serialisation(tmp_path: Path):
    study = Study.from_dict(VALID)
    (tmp_path / "s.toml").write_text(study.to_toml())
    again = Study.from_toml(tmp_path / "s.toml")
    assert again == study
    assert [c.id for c in again.cells] == [c.id for c in study.cells]


def test_built_in_python_equals_read_from_toml():
    family = Family("g", [{"op": "gaussian", "scale": (0, 0.1)}])
    study = Study(name="s", model="m.h5", dataset="d.npz", seeds=2, family=[family])
    again = Study.from_dict(tomllib.loads(study.to_toml()))
    assert again.identity({}) == study.identity({})
    assert [c.values for c in again.cells] == [c.values for c in study.cells]


@pytest.mark.parametrize("path", sorted(JOBS.glob("*.toml")), ids=lambda p: p.stem)
def test_shipped_studies_are_valid(path: Path):
    assert Study.from_toml(path).cells


def test_the_article_has_21_cells_each_with_its_published_value_beside_the_clean_network():
    study = Study.from_toml(JOBS / "article.toml")
    assert len(study.cells) - 1 == 21 == len(study.published)


def test_the_clean_network_is_evaluated_for_each_model_and_is_no_part_of_the_identity():
    study = Study.from_dict(edited(model=["a.h5", "b.h5"]))
    clean = [cell for cell in study.cells if cell.family == "clean"]
    assert [cell.id for cell in clean] == ["a/clean", "b/clean"]
    assert not {cell.id for cell in clean} & study.identity({})["cells"].keys()
    own = Study.from_dict(edited(family=[{"name": "clean", "perturb": [{"op": "gaussian", "scale": 0}]}]))
    assert [cell.id for cell in own.cells] == ["a/clean"]
    assert own.identity({})["cells"].keys() == {"a/clean"}


def test_identity_leaves_out_seeds_published_values_and_order():
    digests = {"dataset": "1", "model a": "2"}
    base = digest(Study.from_dict(VALID).identity(digests))
    assert digest(Study.from_dict(edited(seeds=999)).identity(digests)) == base
    assert digest(Study.from_dict(edited(family__0__published=[])).identity(digests)) == base
    assert digest(Study.from_dict(edited(model="elsewhere/a.h5")).identity(digests)) == base
    for change in (
        {"root_seed": 1},
        {"family__0__perturb__0__scale": [0, 0.1, 0.2]},
        {"family__0__perturb__0__layers": "conv*"},
        {"family__0__perturb__2__basis": ["absolute", "weight"]},
    ):
        assert digest(Study.from_dict(edited(**change)).identity(digests)) != base
    assert digest(Study.from_dict(VALID).identity({**digests, "dataset": "3"})) != base


MISTAKES = {
    "plugins": ({"plugins": 3}, "plugins: 3 is not a list of Python files"),
    "sensitivity": ({"family__0__sensitivity": 3}, 'family[0].sensitivity: 3 is not "per-layer" or a list'),
    "sensitivity twice": ({"family__0__sensitivity": ["a", "a"]}, "sensitivity: 'a' is listed twice"),
    "joint": (
        {"family__0__perturb__0": {"op": "stuck_at", "rate": 0.1, "high": [0.2, 0.7], "low": 0.5}},
        "family[0].perturb[0]: high, low: 0.7 + 0.5 is more than 1",
    ),
    "table": (
        {"family__0__perturb__0": {"op": "conductance_noise", "table": [[3, 0.1], [2, 0.1]]}},
        "family[0].perturb[0].table: [[3, 0.1], [2, 0.1]] is not a list of points",
    ),
    "dataset": ({"dataset": 3}, "dataset: 3 is not the path of a dataset (.npz, .parquet, .arrow, .csv, a folder) or"),
    "x": ({"x": ""}, "x: '' is not the name of an array or column"),
    "labels": ({"labels": "cat"}, "labels: 'cat' is not a list of labels, names or whole numbers"),
    "no labels": ({"labels": []}, "labels: [] is not a list of labels"),
    "labels twice": ({"labels": [1, "1", 1]}, "labels: 1 is listed twice"),
    "fractions": ({"labels": [0.5, 1]}, "labels: [0.5, 1] is not a list of labels"),
    "calibration": ({"calibration": ["a"]}, "calibration: ['a'] is not the path of a dataset"),
    "name": ({"name": "a b"}, "name: 'a b' is not a name"),
    "model": ({"model": []}, "model: [] is not a path"),
    "models": ({"model": ["a", "a"]}, "model: 'a' is listed twice"),
    "seeds": ({"seeds": 0}, "seeds: 0 is not a whole number of at least 1"),
    "seeds bool": ({"seeds": True}, "seeds: True is not a whole number"),
    "seeds range": ({"seeds": {"start": -1, "cuont": 2}}, "seeds.cuont: unknown key"),
    "root seed": ({"root_seed": -1}, "root_seed: -1 is not a whole number"),
    "unknown key": ({"sede": 1}, "sede: unknown key"),
    "hint": ({"dataste": "x"}, "(did you mean 'dataset'?)"),
    "no family": ({"family": []}, "family: no family"),
    "family key": ({"family__0__perturbs": []}, "family[0].perturbs: unknown key"),
    "family name": ({"family__0__name": ""}, "family[0].name: '' is not a name"),
    "no transform": ({"family__0__perturb": []}, "family[0].perturb: is not a list of transforms"),
    "op": ({"family__0__perturb__0__op": "gaus"}, "family[0].perturb[0].op: no op 'gaus'; valid: "),
    "parameter": ({"family__0__perturb__0__scal": 1}, "family[0].perturb[0].scal: unknown key"),
    "type": ({"family__0__perturb__0__scale": "0.1"}, "scale: '0.1' is not a finite number of at least 0"),
    "negative": ({"family__0__perturb__0__scale": [0.1, -0.1]}, "scale: -0.1 is out of range"),
    "nan": ({"family__0__perturb__0__scale": float("nan")}, "scale: nan is not a finite number"),
    "inf": ({"family__0__perturb__0__scale": float("inf")}, "scale: inf is not a finite number"),
    "twice": ({"family__0__perturb__0__scale": [0, 0.0]}, "scale: 0.0 is listed twice"),
    "empty": ({"family__0__perturb__1__bits": []}, "bits: the list is empty"),
    "float bits": ({"family__0__perturb__1__bits": 2.5}, "bits: 2.5 is not a whole number from 0 to 64"),
    "basis": ({"family__0__perturb__2__basis": "max"}, f"choose one of {', '.join(BASES)}"),
    "layers": ({"family__0__perturb__0__layers": -1}, "layers: -1 is not a layer's name"),
    "published": ({"family__0__published": [{"scale": 3, "accuracy": 98}]}, "accuracy: 98 is not a fraction"),
}


@pytest.mark.parametrize(("change", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named_with_what_is_valid(change: dict, message: str):
    with pytest.raises(InputError) as caught:
        Study.from_dict(edited(**change), source="my.toml")
    assert any(p.startswith("my.toml: ") and message in p for p in caught.value.problems), caught.value.problems


def test_all_mistakes_are_reported_together():
    changes = {"sede": 1, "seeds": 0, "family__0__perturb__0__scale": -1, "family__0__perturb__1__bits": []}
    with pytest.raises(InputError) as caught:
        Study.from_dict(edited(**changes))
    assert len(caught.value.problems) == 4


FULL = {
    **copy.deepcopy(VALID),
    "rescale": "0..1",
    "x": "images",
    "y": "kinds",
    "labels": ["a", 3, "b"],
    "calibration": "train.npz",
    "plugins": [],
    "root_seed": 1,
    "seeds": {"start": 1, "count": 2},
}
FULL["family"] += [
    {
        "name": "one at a time",
        "perturb": [{"op": "gaussian", "scale": [0.1, 0.2]}],
        "sensitivity": ["a", "b"],
        "published": [{"layer": "a", "scale": 0.1, "accuracy": 0.5, "noise": 0.1}],
    }
]


def test_every_key_of_the_data_is_serialised():
    study = Study.from_dict(FULL)
    again = Study.from_dict(tomllib.loads(study.to_toml()))
    assert again.to_dict() == study.to_dict()
    assert (again.x, again.y, again.labels, again.calibration) == ("images", "kinds", ["a", 3, "b"], "train.npz")


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("\x1f")
nested = st.recursive(scalars, lambda s: st.lists(s, max_size=3) | st.dictionaries(st.text(max_size=5), s, max_size=3))


def places(tables: object, at: tuple[str, ...] = ()) -> Iterator[str]:
    """Every key and every position of a list, as `edited` has them."""
    children = tables.items() if isinstance(tables, dict) else enumerate(tables) if isinstance(tables, list) else ()
    for key, value in children:
        yield "__".join((*at, str(key)))
        yield from places(value, (*at, str(key)))


@given(key=st.sampled_from(sorted(places(FULL))), value=nested)
@example(key="family__0__published", value=[{"\x1f": None}])
def test_no_value_anywhere_gives_anything_but_an_input_error(key: str, value: object):
    with contextlib.suppress(InputError):
        Study.from_dict(edited(FULL, **{key: value}))


def test_a_parameter_called_like_a_column_is_suffixed():
    assert list(swept_columns([{"op": "x", "seconds": [1, 2], "bits": [1]}, {"op": "y", "bits": [2]}])) == [
        "seconds_0",
        "bits",
        "bits_1",
    ]


def test_a_misspelt_op_hides_no_other_mistake():
    table = {"op": "gausian", "scale": [0, -0.02], "basis": "layermax", "layer": "fc"}
    study = {
        "name": "s",
        "model": "m.keras",
        "dataset": "d.npz",
        "seeds": 1,
        "family": [{"name": "f", "perturb": [table]}],
    }
    with pytest.raises(InputError) as caught:
        Study.from_dict(study)
    keys = [problem.partition(": family[0].perturb[0].")[2].partition(":")[0] for problem in caught.value.problems]
    assert keys == ["op", "layer", "scale", "basis"]


CHIPS = {
    "a range of samples": ({"images": "sampled"}, {"seeds": {"start": 5, "count": 5}}, "are counted: give a number"),
    "seeds of the others": ({}, {"seeds": 2 * 10**9}, "seeds: go beyond 1,000,000,000"),
    "no precision": ({}, {"precision": 0}, "precision: 0 is not a number above 0"),
}


@pytest.mark.parametrize(("keys", "other", "message"), CHIPS.values(), ids=CHIPS)
def test_other_numbers_of_chips_are_checked_with_the_study(keys: dict, other: dict, message: str):
    study = Study.from_dict(edited(**keys))
    with pytest.raises(InputError, match=message):
        study.over(**other)
    with pytest.raises(InputError, match=message):
        Study.from_dict(edited(**keys, **other))

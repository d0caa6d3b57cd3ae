"""Test sets by other names: what of a run's identity and trials is called otherwise, and what is another."""

import pyarrow as pa
import pytest

from sweep.execution.renamed import Renamed
from sweep.study.study import Study

FAMILY = {"name": "f", "perturb": [{"op": "gaussian", "scale": [0.1, 0.2]}]}


def study(dataset: object) -> Study:
    return Study.from_dict({"name": "s", "model": "net.h5", "dataset": dataset, "seeds": 2, "family": [FAMILY]})


def identity(dataset: object, calibration: str | None = None, **digests: str) -> dict:
    """Of that study, whose test sets have these digests, in order."""
    of = study(dataset)
    names = [f"dataset {label}" if label else "dataset" for label in of.datasets]
    files = dict(zip(names, digests.values(), strict=True)) | {"model net": "m"}
    found = of.identity(files | ({"calibration": calibration} if calibration else {}))
    return {**found, "rescale": {f"net on {label}" if label else "net": "-1..1" for label in of.datasets}}


@pytest.mark.parametrize(
    ("before", "after", "names", "shared"),
    [
        ("a.npz", ["a.npz", "b.npz"], {"": "a"}, 1),
        ("b.npz", ["a.npz", "b.npz"], {"": "b"}, 1),
        (["a.npz", "b.npz"], "b.npz", {"b": ""}, 1),
        (["a.npz", "b.npz"], ["a.npz", "b.npz", "c.npz"], {}, 2),
        (["old.npz", "b.npz"], ["b.npz", "a.npz"], {"old": "a"}, 2),
        ("other.npz", ["a.npz", "b.npz"], {}, 0),
        ("a.npz", "old.npz", {}, 1),  # the only one has no name
    ],
)
def test_sets_are_known_by_their_content(before: object, after: object, names: dict[str, str], shared: int):
    content = {"a.npz": "A", "old.npz": "A", "b.npz": "B", "c.npz": "C", "other.npz": "O"}
    old, new = (
        identity(paths, **{path: content[path] for path in ([paths] if isinstance(paths, str) else paths)})
        for paths in (before, after)
    )
    found = Renamed.of(old, new, study(after))
    assert found.sets == names
    assert len(found.cells) == 3 * len(names), "with the clean one"
    for was, now in names.items():
        one, other = (f"dataset={label}," if label else "" for label in (was, now))
        assert found.cells[f"net/f/{one}scale=0.1"] == f"net/f/{other}scale=0.1"
    said = found.identity(old, new)
    for part in ("files", "cells", "rescale"):
        common = said[part].keys() & new[part].keys()
        assert {key: said[part][key] for key in common} == {key: new[part][key] for key in common}
        assert len(said[part]) == len(old[part])
    assert len(said["cells"].keys() & new["cells"].keys()) == 2 * shared
    trials = pa.table({"cell": ["net/clean", *found.cells, "net/x"], "seed": range(len(found.cells) + 2)})
    assert found.table(trials)["seed"].to_pylist() == trials["seed"].to_pylist()
    assert found.table(trials)["cell"].to_pylist()[-1] == "net/x"


@pytest.mark.parametrize(
    ("was", "now", "kept"),
    [(None, "A", "A"), ("A", "A", "A"), (None, "T", None), ("T", "A", "T"), ("T", "T", "T"), (None, None, None)],
)
def test_training_images_of_the_only_file_go_without_saying(was: str | None, now: str | None, kept: str | None):
    """`was` in a study of one path, `now` in a list; None where nothing is said. And the other way round."""
    one, several = identity("a.npz", was, a="A"), identity(["a.npz", "b.npz"], now, a="A", b="B")
    found = Renamed.of(one, several, study(["a.npz", "b.npz"])).identity(one, several)
    assert found["files"].get("calibration") == kept
    found = Renamed.of(several, one, study("a.npz")).identity(several, one)
    assert found["files"].get("calibration") == (None if (was, now) == (None, "A") else now)

"""A transform of a user's own gets what ours get: axis, clean cell, equivalent bits, thresholds, catalogue entry."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import sweep
from sweep.cli import main

NOISE = '''
@register("laplace")
@dataclass(frozen=True, kw_only=True)
class Laplace(Additive):
    """w + s · basis · λ, λ of the Laplace law with variance 2, with s = scale."""

    variance = 2.0

    def draw(self, shape, generator):
        return generator.laplace(size=shape).astype("float32")
'''
BARE = '''
@register("shared")
@dataclass(frozen=True, kw_only=True)
class Shared(Random):
    """w + s · v, one v ~ N(0, 1) for each output channel, with s = strength."""

    strength: float = noise_level("strength of the channels")
    std_per_level = 1.0

    def apply(self, weight, variable, generator):
        return weight + self.strength * generator.standard_normal(weight.shape[-1:], dtype="float32")
'''
ROUNDING = '''
@register("binary_places")
@dataclass(frozen=True, kw_only=True)
class BinaryPlaces(Transform):
    """rint(w · 2^p) / 2^p"""

    places: int = parameter("places behind the point", minimum=0, worse="low", label="Weights: binary places")
    random = False
    rounding_step = property(lambda self: 2.0**-self.places)

    def apply(self, weight, variable, generator):
        return np.rint(weight * np.float32(2**self.places)) / np.float32(2**self.places)
'''
HEAD = """from dataclasses import dataclass
import numpy as np
from sweep.perturb import Additive, Random, Transform, noise_level, parameter, register
"""
STUDY = """name = "own"
model = "net.keras"
dataset = "data.npz"
seeds = 6
plugins = ["mine.py"]

[[family]]
name = "laplace"
perturb = [ { op = "laplace", scale = [0, 0.05, 0.1, 0.4] } ]

[[family]]
name = "shared"
perturb = [ { op = "shared", strength = [0, 0.05, 0.1, 0.4] } ]

[[family]]
name = "places"
perturb = [ { op = "binary_places", places = [8, 3, 1, 0] } ]

[[family]]
name = "rounded"
perturb = [ { op = "fixed_point", bits = [8, 3, 1, 0] } ]
"""


@pytest.fixture
def mine(place: Path) -> Path:
    for transform in (NOISE, BARE, ROUNDING):
        assert len(transform.strip().splitlines()) <= 11
    Path("mine.py").write_text(HEAD + NOISE + BARE + ROUNDING)
    Path("own.toml").write_text(STUDY)
    return place


def axis_of(name: str) -> set[str]:
    """The texts of a figure: matplotlib writes each into a comment before its glyphs."""
    return set(re.findall(r"<!-- (.*?) -->", Path("run/figures", name).read_text()))


def check_run(capsys) -> None:
    """What the folder says, with the file or without it."""
    run = sweep.open_run("run")
    trials = run.trials()
    counts = trials.groupby("cell").size().to_dict()
    assert [counts[f"net/laplace/scale={level}"] for level in ("0", "0.05", "0.4")] == [1, 6, 6]
    assert [counts[f"net/shared/strength={level}"] for level in ("0", "0.05", "0.4")] == [1, 6, 6]
    accuracy = trials.groupby("cell")["accuracy"].first()
    assert accuracy["net/laplace/scale=0"] == accuracy["net/shared/strength=0"] == accuracy["net/clean"]

    run.write_summary()
    assert "Noise scale (weight units)" in axis_of("accuracy-scale.svg")
    assert "Noise scale (strength of the channels)" in axis_of("accuracy-strength.svg")
    assert "Weights: binary places" in axis_of("accuracy-places.svg")

    tables = {answer.name: answer.table for answer in run.answers()}
    equivalent = tables["equivalent-bits"]
    theory = equivalent.set_index(["noise", "rounding", "bits"])["theory"].to_dict()
    assert theory == pytest.approx(
        {
            (noise, rounding, bits): 2.0**-bits / np.sqrt(12) / std
            for noise, std in (("laplace", np.sqrt(2)), ("shared", 1.0))
            for rounding in ("places", "rounded")
            for bits in (8, 3, 1, 0)
        }
    )

    kept = tables["thresholds"].query("of == 'mean' and drop == 0.05").set_index("family")["swept"]
    means = trials.groupby(["family", "cell"])["accuracy"].mean()
    limit = accuracy["net/clean"] - 0.05 - 1e-12
    for family, column, worst_first in (
        ("laplace", "scale", False),
        ("shared", "strength", False),
        ("places", "places", True),
    ):
        levels = sorted(trials.loc[trials["family"] == family, column].unique(), reverse=worst_first)
        held = [means[family, f"net/{family}/{column}={level:g}"] >= limit for level in levels]
        last = levels[np.logical_and.accumulate(held).sum() - 1]
        assert kept[family] == last, family
    capsys.readouterr()
    assert main(["table", "run", "--answers"]) == 0
    assert "laplace" in capsys.readouterr().out


@pytest.mark.slow
def test_a_transform_of_ten_lines_is_a_full_member_with_its_file_and_without(mine: Path, monkeypatch, capsys):
    assert main(["run", "own.toml", "--runner", "inline", "--out", "run"]) == 0
    check_run(capsys)
    said = [answer.table for answer in sweep.open_run("run").answers()]

    assert main(["catalogue", "laplace", "--plugin", "mine.py"]) == 0
    entry = capsys.readouterr().out
    assert entry.startswith("### laplace\n\nw + s · basis · λ")
    assert "| `scale` | number ≥ 0 |" in entry
    assert main(["catalogue", "--plugin", "mine.py"]) == 0
    assert re.findall(r"### (\w+)", capsys.readouterr().out) == ["binary_places", "laplace", "shared"]
    assert main(["catalogue", "laplace", "--plugin", "missing.py"]) == 2

    for path in (Path("mine.py"), *Path("run/plugins").iterdir()):
        path.unlink()
    for op in ("laplace", "shared", "binary_places"):
        monkeypatch.delitem(sweep.perturb.REGISTRY, op)
    check_run(capsys)
    for one, other in zip(said, (answer.table for answer in sweep.open_run("run").answers()), strict=True):
        pd.testing.assert_frame_equal(one, other)

"""Estimates from few images are unbiased for every random transform and in the data flow: chips in full tell it.

All of them by `make test-slow`, every third by `make test`.
"""

from pathlib import Path

import numpy as np
import pytest

import sweep
from sweep.perturb.base import draws, make
from sweep.randomness import FIRST_SAMPLED
from tests.perturb.test_catalogue import EXAMPLES

CHIPS = 300
FAMILY = '[[family]]\nname = "{name}"\nperturb = [ {tables} ]\n'
FLOW = [
    ("noise on activations", '{ op = "activation_noise", scale = 0.3 }'),
    ("noise, then few levels", '{ op = "gaussian", scale = 0.2 }, { op = "activation_affine", bits = 3 }'),
    ("both noises", '{ op = "uniform", scale = 0.2 }, { op = "activation_noise", scale = 0.2 }'),
    ("bits of activations", '{ op = "activation_bit_flip", bits = 3, rate = 0.02 }'),
    ("bits of a buffer", '{ op = "activation_bit_flip", bits = 3, rate = 0.02, lifetime = "chip" }'),
    ("one bit", '{ op = "activation_bit_flip", bits = 3, faults = 1 }'),
    ("stuck activations", '{ op = "activation_stuck_at", rate = 0.3, high = 0.3 }'),
    ("reads", '{ op = "gaussian", scale = 0.3, lifetime = "read", block = 50 }'),
    ("reads of a chip", '{ op = "gaussian", scale = 0.2 }, { op = "uniform", scale = 0.2, lifetime = "read" }'),
    ("bits, then noise", '{ op = "fixed_point", bits = 2 }, { op = "gaussian", scale = 0.2, layers = "fc" }'),
    ("arrays", '{ op = "gaussian", scale = 0.2 }, { op = "tile_adc", rows = 20, bits = 4, noise = 0.5 }'),
]


def value(given: object) -> str:
    if isinstance(given, bool):
        return str(given).lower()
    return f'"{given}"' if isinstance(given, str) else repr(given)


def families(step: int) -> str:
    texts = []
    for k, (op, given) in enumerate(EXAMPLES):
        if draws(make(sweep.perturb.REGISTRY[op], given)):
            table = ", ".join([f'op = "{op}"', *(f"{name} = {value(v)}" for name, v in given.items())])
            texts.append(FAMILY.format(name=f"{k} {op}", tables=f"{{ {table} }}"))
    texts += [FAMILY.format(name=name, tables=tables) for name, tables in FLOW]
    return "\n".join(texts[::step])


@pytest.mark.parametrize("step", [8, pytest.param(1, marks=pytest.mark.slow)])
def test_every_random_transform(place: Path, step: int):
    data = np.load("data.npz")
    np.savez("data.npz", **data, x_train=data["x_test"], y_train=data["y_test"])
    head = 'name = "all"\nmodel = "net.keras"\ndataset = "data.npz"\n'
    Path("few.toml").write_text(f'{head}images = "sampled"\nseeds = {CHIPS}\n{families(step)}')
    Path("full.toml").write_text(f'{head}images = "all"\nprecision = 0.01\nmax_seeds = {CHIPS}\n{families(step)}')
    few = sweep.run("few.toml", "few", runner="inline").trials()
    full = sweep.run("full.toml", "full", runner="inline").trials()
    both = few.merge(full, on=["cell", "seed"], suffixes=("", "_full"))
    both = both[both["seed"] >= FIRST_SAMPLED]
    assert both["cell"].nunique() == families(step).count("[[family]]") > 39 // step
    assert both.groupby("cell").size().ge(256).all(), "chips that are all equal stop there"
    wrong = {}
    for name, cell in both.groupby("cell"):
        for values in (cell["estimate"], cell["estimate"] - cell["control"].fillna(0)):
            error = (values - cell["accuracy_full"]).to_numpy()
            scale = max(error.std(ddof=1) / np.sqrt(len(error)), 1e-6)
            if abs(error.mean()) > 4.5 * scale:
                wrong[name] = (error.mean(), scale)
    assert wrong == {}
    integrated, there = set(both.loc[both["control"].notna(), "family"]), set(both["family"])
    known = {"gaussian", "uniform", "uniform_symmetric"}
    ops = {name.partition(" ")[2] for name in there if name[0].isdigit()}
    assert {name.partition(" ")[2] for name in integrated if name[0].isdigit()} == known & ops
    assert {"reads", "bits, then noise"} & there <= integrated
    assert integrated
    assert pytest.approx(0, abs=0.02) == both["control"].mean()

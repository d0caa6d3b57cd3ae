"""Settings by layer: the cells that they make, against plain Keras; what they cost, by hand."""

from pathlib import Path

import keras
import numpy as np
import pytest

from sweep.errors import InputError
from sweep.perturb.base import REGISTRY
from sweep.preparation.inputs import Prepared, prepare
from sweep.search.costs import costs_of
from sweep.search.prober import Prober
from sweep.search.space import Space, chosen_family
from sweep.storage.paths import Folder
from sweep.study.budget import Budget
from sweep.study.study import parse
from tests.oracle import count, perturbed

BITS = [{"op": "fixed_point", "bits": [8, 4, 2]}, {"op": "gaussian", "scale": 0.2}]


def prepared(perturb: list[dict], budget: dict | None = None, **more: object) -> Prepared:
    family = {"name": "mixed", "perturb": perturb}
    budget = {"drop": 5.0, **(budget or {})}
    tables = {"name": "s", "model": "net.keras", "dataset": "data.npz", "precision": 1, "budget": budget}
    return prepare(parse({**tables, "family": [family], **more}))


def space_of(one: Prepared) -> Space:
    return Space(one, *chosen_family(one, None))


def costs(one: Prepared) -> tuple[tuple[float, ...], ...]:
    return costs_of(space_of(one), Budget.of(one.study), one.networks["net"], "study: family[0]")


def test_each_layer_has_its_own_value_and_the_noise_is_the_same(place: Path):
    """Chips on all images: the counts of plain Keras with the weights of the formulas."""
    one = prepared(BITS, images="all")
    space = space_of(one)
    assert space.layers == ("conv1", "fc")
    assert space.options == (tuple({"bits": b} for b in (8, 4, 2)),) * 2
    prober = Prober(one, "net", Folder.at("found"))
    model = keras.saving.load_model("net.keras")
    data = np.load("data.npz")
    images, labels = data["x_test"][..., None].astype(np.float32) / 255, data["y_test"]
    first = 4_000_000_000
    settings = [(0, 2), (2, 1), (1, 1)]
    found = prober.values([space.cell(s) for s in settings], range(first, first + 3))
    names = [w.path for w in model.weights]
    conv, fc = names.index("conv1/kernel"), names.index("fc/kernel")
    for setting, row in zip(settings, found, strict=True):
        a, b = (space.options[0][k]["bits"] for k in setting)
        ops = [
            {"op": "fixed_point", "bits": a, "only": [conv]},
            {"op": "fixed_point", "bits": b, "only": [fc]},
            {"op": "gaussian", "scale": 0.2},
        ]
        wanted = [count(model, perturbed(model, [conv, fc], ops, first + k), images, labels) for k in range(3)]
        assert (row * 300).round().astype(int).tolist() == wanted


def test_few_images_tell_the_same_mean(place: Path):
    one = prepared(BITS)
    space, seeds = space_of(one), range(4_000_000_000, 4_000_000_400)
    cells = [space.cell(s) for s in [(0, 0), (2, 1), (1, 2)]]
    few = Prober(one, "net", Folder.at("few"))
    few.begin([space.cell(s) for s in space.uniform().values()], 0.7)
    full = Prober(one, "net", Folder.at("full"), whole=True).values(cells, seeds)
    error = few.values(cells, seeds) - full
    assert (np.abs(error.mean(axis=1)) < 4 * error.std(axis=1) / 20).all()
    # All settings see the same images, so that their errors have much in common.
    assert np.corrcoef(error)[0, 1] > 0.3


def test_the_tables_of_a_setting_make_its_transforms(place: Path):
    space = space_of(prepared([BITS[1], {**BITS[0], "layers": "fc"}]))
    assert space.layers == ("fc",)
    tables = space.perturb((2,))
    assert tables == [BITS[1], {"op": "fixed_point", "bits": 2, "layers": "fc"}]
    made = tuple(REGISTRY[t["op"]](**{k: v for k, v in t.items() if k != "op"}) for t in tables)
    assert space.cell((2,)).cell.transforms == made


def test_values_of_two_parameters_are_a_grid_by_layer(place: Path):
    noisy = {"op": "gaussian", "scale": [0.1, 0.2], "layers": "fc"}
    one = prepared([BITS[0], noisy], {"cost": {"conv1": [3, 2, 1], "fc": [6, 5, 4, 3, 2, 1]}})
    space = space_of(one)
    assert [len(options) for options in space.options] == [3, 6]
    assert space.options[1][3] == {"bits": 4, "scale": 0.2}
    assert space.at({"bits": 4, "scale": 0.2}) == (1, 3)
    assert len(space.uniform()) == 6
    assert costs(one) == ((3, 2, 1), (6, 5, 4, 3, 2, 1))


def test_settings_that_differ_beyond_what_is_shown_are_cells_of_their_own(place: Path):
    noise = {"op": "gaussian", "scale": [0.10000001, 0.10000002]}
    space = space_of(prepared([noise], {"cost": {"*": [1, 1]}}))
    assert space.cell((0, 0)).cell.id != space.cell((1, 1)).cell.id


def test_levels_of_the_data_flow_differ_by_layer(place: Path):
    """Against cells of the same transforms, which the study's own path prepares."""
    flow = {"op": "activation_fixed_point", "bits": [6, 1], "layers": ["input", "conv1"]}
    one = prepared([flow, BITS[1]], {"cost": {"*": [2, 1]}})
    space = space_of(one)
    assert space.layers == ("input", "conv1")
    seeds = range(4_000_000_000, 4_000_000_002)
    for setting in [(0, 0), (0, 1), (1, 0)]:
        picked = [{**flow, "bits": [6, 1][k], "layers": layer} for k, layer in zip(setting, space.layers, strict=True)]
        other = prepared([*picked, BITS[1]])
        (cell,) = other.study.family[0].cells("net")
        found = space.cell(setting)
        assert found.cell.transforms == cell.transforms
        assert [(p.position, p.site) for p in found.flow] == [(p.position, p.site) for p in other.flow[cell.id]]
        for ours, theirs in zip(found.flow, other.flow[cell.id], strict=True):
            np.testing.assert_array_equal(ours.levels, theirs.levels)
        assert np.isfinite(Prober(one, "net", Folder.at("flow"), whole=True).values([found], seeds)).all()


@pytest.mark.parametrize(
    ("table", "bits"),
    [
        ({"op": "symmetric", "bits": [8, 3]}, [8, 3]),
        ({"op": "affine", "bits": [8, 3]}, [8, 3]),
        ({"op": "power_of_two", "bits": [4, 3]}, [4, 3]),
        ({"op": "fixed_point_saturating", "bits": [7, 3], "integer_bits": 2}, [10, 6]),
        ({"op": "conductance_states", "states": [4, 2]}, [np.log2(7), np.log2(3)]),
        ({"op": "floating", "format": ["float16", "float8_e4m3"]}, [16, 8]),
    ],
)
def test_memory_is_bits_times_weights(place: Path, table: dict, bits: list[float]):
    assert costs(prepared([table])) == (pytest.approx([36 * b for b in bits]), pytest.approx([500 * b for b in bits]))


def test_fixed_point_takes_the_bits_that_its_largest_weight_takes(place: Path):
    kernels = [w for w in keras.saving.load_model("net.keras").get_weights() if w.ndim > 1]
    found = costs(prepared([{"op": "fixed_point", "bits": [6, 2]}]))
    for kernel, own in zip(kernels, found, strict=True):
        for bits, cost in zip((6, 2), own, strict=True):
            codes = 2 * int(np.abs(np.rint(kernel * 2.0**bits)).max()) + 1
            assert cost / kernel.size == np.ceil(np.log2(codes + 1))


def test_operations_count_each_use_of_a_weight(place: Path):
    found = costs(prepared([{"op": "symmetric", "bits": [8, 2]}], {"cost": "operations"}))
    assert found == ((8 * 36 * 10 * 10, 2 * 36 * 10 * 10), (8 * 500, 2 * 500))


@pytest.mark.parametrize(
    ("perturb", "budget", "words"),
    [
        ([{"op": "gaussian", "scale": [0.1, 0.2]}], {}, r"study: family\[0\].perturb\[0\].scale: no cost is known"),
        ([{"op": "adc", "bits": [8, 4], "low": 0.0, "high": 1.0}], {}, r"perturb\[0\].bits: no cost is known"),
        ([*BITS], {"cost": {"conv9": [1, 2, 3]}}, "no layer 'conv9' has settings; valid: conv1, fc, "),
        ([*BITS], {"cost": {"conv1": [3, 2, 1]}}, "budget.cost.fc: is missing; give 3 costs"),
        ([*BITS], {"cost": {"*": [2, 1]}}, r"budget.cost.\*: has 2 costs for 3 settings of conv1"),
    ],
)
def test_costs_that_are_not_known_are_refused(place: Path, perturb: list[dict], budget: dict, words: str):
    with pytest.raises(InputError, match=words):
        costs(prepared(perturb, budget))


def test_a_family_that_cannot_be_searched_is_refused(place: Path):
    two = [{"name": "a", "perturb": BITS}, {"name": "b", "perturb": BITS}]
    one = prepared(BITS, family=two)
    with pytest.raises(InputError, match="there are 2; name one with --family: a, b"):
        chosen_family(one, None)
    with pytest.raises(InputError, match="none is called 'c'; valid: a, b"):
        chosen_family(one, "c")
    assert chosen_family(one, "b")[0].name == "b"
    with pytest.raises(InputError, match=r"family\[0\].sensitivity: acts on one layer at a time"):
        chosen_family(prepared(BITS, family=[{**two[0], "sensitivity": "per-layer"}]), None)
    with pytest.raises(InputError, match="is no cell of family 'mixed'; valid: bits 8; bits 4; bits 2"):
        space_of(prepared(BITS)).at({"bits": 3})

"""Faults of activations end to end, against Keras layer by layer and NumPy: flipped bits, stuck values."""

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

import sweep
from sweep.engine.graph import Graph
from sweep.engine.sites import Faults, Site
from sweep.errors import InputError
from sweep.execution.verify import verify
from sweep.preparation.inputs import prepare
from sweep.preparation.sites import CALIBRATING
from sweep.study.study import parse_file
from tests.oracle import draw
from tests.test_families import data, perturbed_only, prepared, study, through, trials  # noqa: F401

Array = np.ndarray


def affine(sample: Array, bits: int) -> tuple[np.float32, float]:
    """Step and zero point of `activation_affine`, with the range from the smallest to the largest value and 0."""
    low, high = min(0.0, float(sample.min())), max(0.0, float(sample.max()))
    step = np.float32((high - low) / (2**bits - 1))
    return step, float(np.rint(-low / float(step)))


def flipped(x: Array, step: np.float32, zero: float, bits: int, masks: Array) -> Array:
    """From the formula, with masks (images or 1, values)."""
    codes = np.clip(np.rint(np.asarray(x, np.float32) / step) + zero, 0, 2**bits - 1).astype(np.int64)
    return ((codes ^ masks.reshape(-1, *x.shape[1:])).astype(np.float32) - np.float32(zero)) * step


def transient(images: int, values: int, bits: int, rate: float, stream: np.random.Generator) -> Array:
    """(images, values) masks, by the distances between faults."""
    masks, at = np.zeros((images, values), np.int64), -1
    while True:
        at += 1 + int(stream.standard_exponential() / -np.log1p(-rate))
        if at >= images * values * bits:
            return masks
        image, thing = divmod(at, values * bits)
        masks[image, thing % values] |= 1 << thing // values


@pytest.fixture
def clean_output(data: Any) -> Array:  # noqa: F811
    """Of conv1, for the training images."""
    return np.asarray(data[0].layers[0](prepared(np.load("data.npz")["x_train"])))


def test_transient_and_permanent_flips(data: Any, clean_output: Array):  # noqa: F811
    """Decisions of every image as NumPy has them, but for a value on the border between two levels."""
    model, images, labels = data
    found = trials(
        'perturb = [ { op = "activation_bit_flip", bits = 5, rate = [0, 0.002] } ]',
        'perturb = [ { op = "activation_bit_flip", bits = 5, rate = 0.002, lifetime = "chip" } ]',
        'perturb = [ { op = "activation_affine", bits = 5 } ]',
    )
    assert found.groupby(["family", "rate"], dropna=False)["seed"].count().tolist() == [1, 3, 3, 1]
    step, zero = affine(clean_output, 5)
    values = int(np.prod(clean_output.shape[1:]))
    for row in found.itertuples():
        stream = draw(0, row.seed, 0, 2**32 + 1)
        if row.family == "f1":
            u = stream.random(5 * values).reshape(5, values)
            masks = ((u < 0.002) << np.arange(5)[:, None]).sum(axis=0)[None]
        else:
            masks = np.zeros((1, values), np.int64)
            if row.family == "f0" and row.rate:
                masks = transient(len(images), values, 5, 0.002, stream)
        change = {"conv1": lambda x, m=masks: flipped(x, step, zero, 5, m)}
        expected = int((through(model, model.get_weights(), images, change).argmax(1) == labels).sum())
        assert abs(row.n_correct - expected) <= 1, row
        assert row.engine == ("compiled" if row.rate == 0 or row.family == "f2" else "plain")
    assert found["n_correct"].nunique() > 3
    plain, rounded = (found.loc[found["family"] == name, "n_correct"].iloc[0] for name in ("f0", "f2"))
    assert plain == rounded, "at rate 0 it is activation_affine"


def test_stuck_values(data: Any, clean_output: Array):  # noqa: F811
    model, images, labels = data
    found = trials(
        'perturb = [ { op = "activation_stuck_at", rate = [0, 0.1, 0.4], high = 0.25, layers = ["input", "*"] } ]'
    )
    assert found.groupby("rate")["seed"].count().tolist() == [1, 3, 3]
    sample = {"input": prepared(np.load("data.npz")["x_train"]), "conv1": clean_output}
    for row in found.itertuples():
        change = {}
        for k, (name, seen) in enumerate(sample.items()):
            stream, shape = draw(0, row.seed, 0, 2**32 + k), seen.shape[1:]
            fails, where = stream.random(np.prod(shape)) < row.rate, stream.random(np.prod(shape))
            value = np.where(where < 0.25, seen.max(), 0).astype(np.float32).reshape(shape)
            stuck = np.where(fails.reshape(shape), value, np.float32(np.nan))
            change[name] = lambda x, v=stuck: np.where(np.isnan(v), x, v)
        expected = int((through(model, model.get_weights(), images, change).argmax(1) == labels).sum())
        assert row.n_correct == expected, row
    assert found["n_correct"].nunique() > 3


def test_one_flip_in_each_image_wherever_it_is(data: Any):  # noqa: F811
    """`faults` over the images and a layer: one bit in all of them together."""
    model, images, labels = data
    found = trials(
        'perturb = [ { op = "activation_bit_flip", bits = 4, faults = 1, bit = 3, layers = ["input", "*"] } ]'
    )
    sample = prepared(np.load("data.npz")["x_train"])
    seen = {"input": sample, "conv1": np.asarray(model.layers[0](sample))}
    sizes = [int(np.prod(x.shape[1:])) for x in seen.values()]
    for row in found.itertuples():
        places = (draw(0, row.seed, 0, 2**32 + 2**31).random(len(images)) * sum(sizes)).astype(int)
        change, before = {}, 0
        for (name, x), size in zip(seen.items(), sizes, strict=True):
            masks = np.zeros((len(images), size), np.int64)
            here = np.flatnonzero((places >= before) & (places < before + size))
            masks[here, places[here] - before] = 8
            before += size
            step, zero = affine(x, 4)
            change[name] = lambda v, s=step, z=zero, m=masks: flipped(v, s, z, 4, m)
        expected = int((through(model, model.get_weights(), images, change).argmax(1) == labels).sum())
        assert abs(row.n_correct - expected) <= 1


def test_images_a_step_change_nothing_and_a_run_is_verified(data: Any, monkeypatch: pytest.MonkeyPatch):  # noqa: F811
    families = [
        'perturb = [ { op = "gaussian", scale = 0.1 }, { op = "activation_bit_flip", bits = 4, rate = 0.01 } ]',
        'perturb = [ { op = "activation_stuck_at", rate = 0.2, high = 0.5 } ]',
    ]
    whole = trials(*families)
    monkeypatch.setattr("sweep.engine.pieces.IMAGES_PER_STEP", 37)
    steps = trials(*families, out="steps")
    keys = ["cell", "seed", "n_correct"]
    pd.testing.assert_frame_equal(whole[keys], steps[keys])
    assert whole["n_correct"].nunique() > 3
    assert verify("run").sound
    with pytest.raises(InputError, match="acts on the data flow, which no file of weights holds"):
        sweep.open_run("run").chip("net/f1", 0).save("chip.keras")


def test_a_buffer_fails_alike_on_the_images_of_a_recalibration(data: Any):  # noqa: F811
    """And what fails anew for each image does so in a stream of its own there."""
    families = [
        'perturb = [ { op = "activation_stuck_at", rate = 0.2 } ]',
        'perturb = [ { op = "activation_bit_flip", bits = 3, rate = 0.2, lifetime = "chip" } ]',
        'perturb = [ { op = "activation_bit_flip", bits = 3, rate = 0.2 } ]',
    ]
    flow = prepare(parse_file(study(*families))).flow
    for cell, lasting in (("net/f0", True), ("net/f1", True), ("net/f2", False)):
        (placed,) = flow[cell]
        one, other, later = (placed.entry(0, *at).take(4, (10, 10, 4)) for at in ((3,), (3, CALIBRATING), (4,)))
        assert np.array_equal(one, other, equal_nan=True) is lasting, cell
        assert not np.array_equal(one, later, equal_nan=True)
        assert len(one) == (1 if lasting else 4)
        quiet = placed.entry(0, 3).quiet().take(4, (10, 10, 4))
        assert np.isnan(quiet).all() if cell == "net/f0" else not quiet[:, 4:].any()


def test_what_a_layer_that_acts_twice_gets():
    """Each use has faults of its own; plain levels and stuck values by NumPy."""
    inputs = keras.Input((6,))
    same = keras.layers.Dense(6, use_bias=False, name="same")
    model = keras.Model(inputs, keras.layers.Activation("linear")(same(same(inputs))))
    x = np.random.default_rng(1).standard_normal((5, 6)).astype(np.float32)
    (kernel,) = model.get_weights()
    masks = np.random.default_rng(2).integers(0, 16, (5, 12))
    head = np.array([0, 0.25, -8, 7], np.float32)

    def act(v: Array, m: Array) -> Array:
        codes = np.clip(np.rint(v / np.float32(0.25)), -8, 7).astype(np.int64) + 8
        return ((codes ^ m) - 8).astype(np.float32) * np.float32(0.25)

    graph = Graph(model, [0], [Site(0, "output", "flips")])
    entry = Faults(lambda: lambda n: masks[:n], True, 0.0, head)
    value = entry.take(5, graph.shape_at(0))
    assert value.shape == (5, 16)
    found = np.asarray(graph.run(keras.ops.convert_to_tensor(x), [kernel, value]))
    np.testing.assert_allclose(found, act(act(x @ kernel, masks[:, :6]) @ kernel, masks[:, 6:]), atol=1e-5)
    values = np.where(np.arange(12) % 3 == 0, np.float32(9), np.float32(np.nan))[None]
    graph = Graph(model, [0], [Site(0, "output", "values")])
    found = np.asarray(graph.run(keras.ops.convert_to_tensor(x), [kernel, values]))
    first = np.where(np.isnan(values[:, :6]), x @ kernel, values[:, :6])
    np.testing.assert_allclose(found, np.where(np.isnan(values[:, 6:]), first @ kernel, values[:, 6:]), atol=1e-5)


@pytest.mark.parametrize(
    ("family", "text"),
    [
        ('op = "activation_bit_flip", bits = 4, faults = 4000', "faults: 4,000 is more than there is to fail, 1,600"),
        ('op = "activation_stuck_at", rate = 0.1, layers = "pool"', "'pool' selects no layer"),
        ('op = "activation_stuck_at", rate = 0.1, variables = "bias"', "variables"),
        ('op = "activation_bit_flip", bits = 4, rate = [0.1, 2.0]', "rate"),
    ],
)
def test_mistakes_before_any_compute(data: Any, family: str, text: str):  # noqa: F811
    with pytest.raises(InputError, match=re.escape(text)):
        trials(f"perturb = [ {{ {family} }} ]")
    assert not Path("run").exists()

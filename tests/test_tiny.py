"""The small networks that ship in models/tiny, and a study of each: counts and measures are those of plain Keras."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tomli_w

import sweep
from sweep.data.datasets import load_dataset
from sweep.files import file_digest
from sweep.networks.loading import network_of
from sweep.perturb.perturbation import perturb
from sweep.preparation.inputs import prepare
from sweep.study.study import Study, parse_file
from sweep.training.cards import card, json_of, read_facts
from sweep.training.quality import quality_of
from sweep.training.recipes import read_recipe, recipe_digest
from sweep.training.sets import load_sets

# Keras 3.15 converts its variables to arrays in a way that NumPy 2 is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn:DeprecationWarning")

ROOT = Path(__file__).parents[1]
TINY = ROOT / "models" / "tiny"
NAMES = ("autoencoder", "depthwise", "keywords", "residual")
IMAGES = 150


def test_every_network_has_a_recipe_a_card_and_a_study() -> None:
    for suffix in ("toml", "h5", "json", "md"):
        assert {path.stem for path in TINY.glob(f"*.{suffix}")} == set(NAMES), suffix
    assert {path.stem for path in (ROOT / "jobs").glob("tiny-*.toml")} == {f"tiny-{name}" for name in NAMES}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n == "keywords" else ()) for n in NAMES])
def test_facts_and_card_are_those_of_the_file(name: str) -> None:
    recipe, path = read_recipe(TINY / f"{name}.toml"), TINY / f"{name}.h5"
    facts = read_facts(TINY / f"{name}.json")
    assert facts is not None
    assert facts["files"] == {path.name: file_digest(path)}
    assert path.stat().st_size < 500_000
    assert card(facts) == (TINY / f"{name}.md").read_text(encoding="utf-8")
    assert json_of(facts) == (TINY / f"{name}.json").read_text(encoding="utf-8")
    sets = load_sets(recipe)
    assert facts["recipe"] == recipe_digest(recipe, sets[0].digest)
    assert facts["dataset_digest"] == sets[1].digest, "data that are made are the same on every machine"
    quality = quality_of(recipe, network_of(keras.models.load_model(path, compile=False)), sets[1])
    assert quality.n_correct == facts.get("n_correct")
    assert quality.measures == pytest.approx(facts.get("measures", {}), rel=1e-5)
    if quality.n_correct is None:
        assert 0.8 < quality.measures["auc"] < 0.99
    else:
        assert quality.n_correct / quality.n_images > 0.93


@pytest.mark.slow
def test_words_are_other_ones_for_training_and_the_same_every_time() -> None:
    one, again = (load_dataset(f"{TINY / 'words.py'}:test") for _ in range(2))
    train = load_dataset(f"{TINY / 'words.py'}:train")
    assert one.digest == again.digest != train.digest
    assert one.images.shape == (2400, 49, 10, 1)
    assert np.bincount(one.labels).tolist() == [200] * 12
    assert np.bincount(train.labels).tolist() == [800] * 12
    assert (one.images * 16 == np.rint(one.images * 16)).all()
    seen = {image.tobytes() for image in train.images}
    assert not any(image.tobytes() in seen for image in one.images)


@pytest.fixture(params=[pytest.param(n, marks=pytest.mark.slow if n != "autoencoder" else ()) for n in NAMES])
def study(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """One of the studies, with two seeds and a few of its images."""
    monkeypatch.chdir(ROOT)
    tables = tomllib.loads((ROOT / "jobs" / f"tiny-{request.param}.toml").read_text(encoding="utf-8"))
    data = load_dataset(tables["dataset"])
    np.savez(tmp_path / "few.npz", x_test=data.images[:IMAGES], y_test=data.labels[:IMAGES])
    path = tmp_path / "study.toml"
    path.write_text(tomli_w.dumps(tables | {"dataset": str(tmp_path / "few.npz"), "seeds": 2}), encoding="utf-8")
    found = parse_file(path).study
    assert found is not None
    return found


def scored(scores: np.ndarray, fed: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """What can be counted of the scores: by enumeration, in double precision."""
    scores = scores.astype(np.float64)
    if scores.shape[1] == math.prod(fed.shape[1:]):
        error = np.square(scores - fed.reshape(len(fed), -1)).mean(axis=1)
        pairs = error[labels == 1][:, None] - error[labels == 0]
        return {"auc": np.mean((pairs > 0) + 0.5 * (pairs == 0)), "mse": error.mean()}
    decided, own = scores.argmax(axis=1), scores[np.arange(len(labels)), labels]
    recalls = [np.mean(decided[labels == label] == label) for label in np.unique(labels)]
    return {
        "n_correct": (decided == labels).sum(),
        "balanced": np.mean(recalls),
        "top2": np.mean((scores > own[:, None]).sum(axis=1) < 2),
        "loss": -np.log(np.clip(own, 1e-7, 1)).mean(),
    }


def test_trials_are_those_of_plain_keras(study: Study, tmp_path: Path) -> None:
    run = sweep.run(study, tmp_path / "run", runner="inline")
    prepared = prepare(study)
    (network,) = prepared.networks.values()
    images = prepared.dataset.images
    if images.dtype == np.uint8:
        images = images.astype(np.float32) / np.float32(1 if study.rescale == "0..255" else 255)
    images = images.reshape(len(images), *network.input_shape)
    model = keras.models.load_model(next(iter(study.models.values())), compile=False)
    clean = model.get_weights()
    cells = {cell.id: cell for cell in run.study.cells}
    trials = run.trials().to_dict("records")
    assert len(trials) == 1 + 3 * 2 + 4 + 2 * 2
    for trial in trials:
        model.set_weights(perturb(clean, network.variables, cells[trial["cell"]].transforms, 0, trial["seed"]))
        found = scored(model.predict(images, verbose=0), images, prepared.dataset.labels)
        compared = {name: value for name, value in found.items() if name in trial}
        assert len(compared) >= 2
        for name, value in compared.items():
            exact = name in ("n_correct", "balanced", "top2")
            assert trial[name] == pytest.approx(value, rel=1e-12 if exact else 1e-4), trial["cell"]


def test_noise_is_that_of_the_formula(study: Study) -> None:
    """Of each kernel, σ of its largest weight; of no bias, and nothing of batch normalisation."""
    (network,) = prepare(study).networks.values()
    clean = network.model.get_weights()
    cell = next(c for c in study.cells if c.family == "gaussian" and c.values["scale"] == 0.02)
    noisy = perturb(clean, network.variables, cell.transforms, 0, 1)
    kernels = 0
    for i, (variable, before, after) in enumerate(zip(network.model.weights, clean, noisy, strict=True)):
        if variable.path.endswith("kernel"):
            draw = np.random.Generator(np.random.Philox(np.random.SeedSequence([0, 1, 0, i])))
            want = before + np.float32(0.02) * np.abs(before).max() * draw.standard_normal(before.shape, np.float32)
            np.testing.assert_allclose(after, want, rtol=1e-5, atol=1e-6)
            kernels += 1
        else:
            np.testing.assert_array_equal(after, before)
    assert kernels >= 6

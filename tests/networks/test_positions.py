"""Networks with scores at positions, such as pixels or words, against plain Keras and formulas written out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers as kl

import sweep
from sweep.errors import InputError
from sweep.preparation.inputs import prepare
from tests.few import one_in
from tests.networks.kinds import rounded
from tests.oracle import draw

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
IMAGES, SEEDS, SCALE = 40, 2, 0.2
HEIGHT, WIDTH, WORDS = 8, 12, 7


def maps(scores: int, activation: str | None, size: tuple[int | None, ...] = (HEIGHT, WIDTH)) -> keras.Model:
    """Down, up, and past both: a U."""
    inputs = keras.Input((*size, 3))
    fine = kl.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    coarse = kl.Conv2D(6, 3, padding="same", activation="relu")(kl.MaxPooling2D()(fine))
    both = kl.Concatenate()([fine, kl.Conv2DTranspose(4, 2, strides=2)(coarse)])
    return keras.Model(inputs, kl.Conv2D(scores, 1, activation=activation)(both))


def tags(scores: int, activation: str | None) -> keras.Model:
    inputs = keras.Input((None,), dtype="int32")
    return keras.Model(
        inputs, kl.Dense(scores, activation)(kl.GRU(6, return_sequences=True)(kl.Embedding(20, 5)(inputs)))
    )


def one_of_two() -> keras.Model:
    inputs = keras.Input((HEIGHT, WIDTH, 3))
    x = kl.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    return keras.Model(inputs, {"mask": kl.Conv2D(3, 1)(x), "digit": kl.Dense(5)(kl.GlobalAveragePooling2D()(x))})


def of_two() -> keras.Model:
    image, hint = keras.Input((HEIGHT, WIDTH, 2), name="image"), keras.Input((HEIGHT, WIDTH, 1), name="hint")
    x = kl.Conv2D(4, 3, padding="same", activation="relu")(kl.Concatenate()([image, hint]))
    return keras.Model([image, hint], kl.Conv2D(3, 1)(x))


def within() -> keras.Model:
    """A model in a model, of any size."""
    return keras.Sequential(
        [keras.Input((None, None, 3)), maps(3, "relu", (None, None)), kl.Conv2D(4, 1, activation="softmax")]
    )


def convolutions() -> keras.Model:
    inputs = keras.Input((HEIGHT, WIDTH, 3))
    x = kl.Conv2D(8, 3, padding="same", activation="relu")(inputs)
    return keras.Model(inputs, kl.Conv2D(3, 3, padding="same")(x))


NETWORKS: dict[str, Callable[[], keras.Model]] = {
    "softmax": lambda: maps(4, "softmax"),
    "softmax of any size": lambda: maps(4, "softmax", (None, None)),
    "logits": lambda: maps(4, None, (None, None)),
    "sigmoid": lambda: maps(1, "sigmoid"),
    "single logit": lambda: maps(1, None),
    "words": lambda: tags(3, None),
    "words, yes or no": lambda: tags(1, "sigmoid"),
    "one of two outputs": one_of_two,
    "of two inputs": of_two,
    "within": within,
    "convolutions": convolutions,
}
MEASURES = ["position_accuracy", "miou", "dice", "position_loss", "exact_match"]


def data(model: keras.Model) -> dict[str, np.ndarray] | np.ndarray:
    rng = np.random.default_rng(3)
    if "int" in str(model.inputs[0].dtype):
        return rng.integers(0, 20, (IMAGES, WORDS))
    found = [rng.standard_normal((IMAGES, HEIGHT, WIDTH, x.shape[-1])).astype(np.float32) for x in model.inputs]
    return found[0] if len(found) == 1 else dict(zip(("image", "hint"), found, strict=True))


def scores(model: keras.Model, images: object) -> np.ndarray:
    found = model.predict(images, verbose=0)
    return found["mask"] if isinstance(found, dict) else found


def decided(found: np.ndarray, logits: bool) -> np.ndarray:
    return found.argmax(axis=-1) if found.shape[-1] > 1 else (found[..., 0] > (0 if logits else 0.5)).astype(int)


def expected(found: np.ndarray, labels: np.ndarray, logits: bool) -> dict[str, float]:
    """Formulas over all positions at once."""
    width, counted = found.shape[-1], (labels >= 0) & (labels != 255)
    right = decided(found, logits) == labels
    chosen, truth = decided(found, logits)[counted], labels[counted]
    classes = [c for c in range(max(width, 2)) if c in chosen or c in truth]
    both = [np.count_nonzero((chosen == c) & (truth == c)) for c in classes]
    either = [np.count_nonzero((chosen == c) | (truth == c)) for c in classes]
    if width > 1:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=logits)(truth, found[counted])
    else:
        loss = keras.losses.BinaryCrossentropy(from_logits=logits)(truth[:, None].astype("float32"), found[counted])
    return {
        "position_accuracy": right[counted].mean(),
        "miou": np.mean([b / e for b, e in zip(both, either, strict=True)]),
        "dice": np.mean([2 * b / (b + e) for b, e in zip(both, either, strict=True)]),
        "position_loss": float(loss),
        "exact_match": (right | ~counted).reshape(IMAGES, -1).all(axis=1).mean(),
    }


def made(name: str, folder: Path) -> tuple[keras.Model, object, np.ndarray, bool]:
    """A network with random weights in a file, and images with labels, most of them right, beside it."""
    model, rng = NETWORKS[name](), np.random.default_rng(5)
    for variable in model.trainable_variables:
        variable.assign(rng.standard_normal(variable.shape) * 0.5)
    images = data(model)
    logits = name in ("logits", "single logit", "words", "one of two outputs", "of two inputs", "convolutions")
    clean = scores(model, images)
    labels = np.where(rng.random(clean.shape[:-1]) < 0.02, 1, decided(clean, logits)).astype(np.int64)
    labels[rng.random(labels.shape) < 0.1] = -100 if clean.ndim == 3 else 255
    model.save(folder / "net.keras")
    arrays = images if isinstance(images, dict) else {"x_test": images}
    np.savez(folder / "data.npz", **arrays, y_test=labels)
    return model, images, labels, logits


def study(name: str, folder: Path, *families: dict, **more: object) -> sweep.Study:
    tables = {"name": "positions", "model": str(folder / "net.keras"), "dataset": str(folder / "data.npz")}
    tables |= {"seeds": SEEDS, "measures": MEASURES, "family": list(families or [GAUSSIAN])}
    tables |= {"output": "mask"} if name == "one of two outputs" else {}
    tables |= {"x": ["image", "hint"], "y": "y_test"} if name == "of two inputs" else {}
    return sweep.Study.from_dict({**tables, **more})


GAUSSIAN = {"name": "gaussian", "perturb": [{"op": "gaussian", "scale": SCALE}]}
ROUNDED = {"name": "rounded", "perturb": [{"op": "activation_fixed_point", "bits": 4}]}


@pytest.mark.parametrize("name", one_in(2, NETWORKS))
def test_trials_are_those_of_plain_keras(name: str, tmp_path: Path):
    model, images, labels, logits = made(name, tmp_path)
    noisy = study(name, tmp_path, GAUSSIAN)
    trials = sweep.run(noisy, tmp_path / "run", runner="inline").trials().set_index(["family", "seed"])
    network = prepare(noisy).networks["net"]
    kernels = [v.index for v in network.variables if v.kernel]
    assert network.positions == labels[0].size
    weights = model.get_weights()
    for seed in (None, *range(SEEDS)):
        changed = list(weights)
        for i in kernels if seed is not None else ():
            changed[i] = weights[i] + np.float32(SCALE) * draw(0, seed, 0, i).standard_normal(
                weights[i].shape, np.float32
            )
        model.set_weights(changed)
        row = trials.loc[("clean", 0) if seed is None else ("gaussian", seed)]
        for measure, value in expected(scores(model, images), labels, logits).items():
            assert row[measure] == pytest.approx(value, rel=1e-5, abs=1e-7), measure
    assert "accuracy" not in trials or trials["accuracy"].isna().all()
    sizes = trials.loc["gaussian", MEASURES[:4]]
    assert (sizes.nunique() == SEEDS).all(), "trials differ"


@pytest.mark.parametrize("name", one_in(4, ["softmax of any size", "words", "of two inputs", "within"]))
def test_rounded_data_flow_is_that_of_plain_keras(name: str, tmp_path: Path):
    model, images, labels, logits = made(name, tmp_path)
    rounding = study(name, tmp_path, ROUNDED, measures=["position_accuracy", "position_loss"])
    trials = sweep.run(rounding, tmp_path / "run", runner="inline").trials().set_index("family")
    network = prepare(rounding).networks["net"]
    with rounded(model, [layer.layer for layer in network.layers if layer.kernel and not layer.scores], 4):
        found = expected(scores(model, images), labels, logits)
    assert trials.loc["rounded", "position_loss"] == pytest.approx(found["position_loss"], rel=1e-4)
    assert trials.loc["rounded", "position_accuracy"] == pytest.approx(found["position_accuracy"], abs=2e-3)


@pytest.mark.parametrize(
    ("name", "engine"), [("softmax", "stacked"), ("single logit", "stacked"), ("convolutions", "compiled")]
)
def test_every_engine_gives_the_same(name: str, engine: str, tmp_path: Path):
    made(name, tmp_path)
    both = study(name, tmp_path, GAUSSIAN, ROUNDED)
    plain, other = (
        sweep.run(both, tmp_path / way, runner="inline", engine=way).trials().query("family != 'clean'")
        for way in ("plain", engine)
    )
    assert set(other["engine"]) == {engine}
    np.testing.assert_allclose(other[MEASURES], plain[MEASURES], rtol=1e-4, atol=2e-3)


@pytest.mark.slow
def test_ray_gives_the_same(tmp_path: Path):
    made("words", tmp_path)
    both = study("words", tmp_path, GAUSSIAN, ROUNDED)
    here = sweep.run(both, tmp_path / "here", runner="inline").trials()
    np.testing.assert_array_equal(sweep.run(both, tmp_path / "there").trials()[MEASURES], here[MEASURES])


def test_a_chip_is_a_network_of_the_same_form(tmp_path: Path):
    model, images, labels, logits = made("softmax of any size", tmp_path)
    run = sweep.run(study("softmax of any size", tmp_path, GAUSSIAN), tmp_path / "run", runner="inline")
    cell = next(cell for cell in run.trials()["cell"] if cell.startswith("net/gaussian") or "gaussian" in cell)
    run.chip(cell, 1).save(tmp_path / "chip.keras")
    chip = keras.models.load_model(tmp_path / "chip.keras")
    assert chip.output_shape == model.output_shape
    row = run.trials().query("cell == @cell and seed == 1").iloc[0]
    assert row["miou"] == pytest.approx(expected(scores(chip, images), labels, logits)["miou"], rel=1e-6)


def test_an_autoencoder_of_maps_makes_its_images_again(tmp_path: Path):
    keras.utils.set_random_seed(1)
    model = maps(3, None)
    images = np.random.default_rng(2).standard_normal((IMAGES, HEIGHT, WIDTH, 3)).astype(np.float32)
    model.save(tmp_path / "net.keras")
    np.savez(tmp_path / "data.npz", x_test=images, y_test=np.arange(IMAGES) % 2)
    trials = sweep.run(study("", tmp_path, measures=["mse", "mae", "auc"]), tmp_path / "run", runner="inline").trials()
    errors = (model.predict(images, verbose=0) - images).reshape(IMAGES, -1)
    assert trials["mse"][0] == pytest.approx(np.mean(errors**2), rel=1e-5)
    assert trials["mae"][0] == pytest.approx(np.mean(np.abs(errors)), rel=1e-5)
    auc = keras.metrics.AUC(num_thresholds=10_000)
    worst = np.mean(errors**2, axis=1)
    auc.update_state(np.arange(IMAGES) % 2, worst / worst.max())
    assert trials["auc"][0] == pytest.approx(float(auc.result()), abs=1e-3)


def test_values_at_positions_are_compared_with_targets(tmp_path: Path):
    keras.utils.set_random_seed(1)
    model, rng = maps(1, None, (None, None)), np.random.default_rng(2)
    images = rng.standard_normal((IMAGES, HEIGHT, WIDTH, 3)).astype(np.float32)
    depth = rng.random((IMAGES, HEIGHT, WIDTH)).astype(np.float32)
    model.save(tmp_path / "net.keras")
    np.savez(tmp_path / "data.npz", x_test=images, y_test=depth)
    trials = sweep.run(study("", tmp_path, measures=["mse"]), tmp_path / "run", runner="inline").trials()
    assert trials["mse"][0] == pytest.approx(np.mean((model.predict(images, verbose=0)[..., 0] - depth) ** 2), rel=1e-5)
    with pytest.raises(InputError, match="labels of positions are whole numbers, and these have fractions"):
        sweep.plan(study("", tmp_path))


def test_one_hot_labels_are_those_of_numbers(tmp_path: Path):
    _, images, labels, _ = made("softmax", tmp_path)
    numbers = sweep.run(study("softmax", tmp_path, GAUSSIAN), tmp_path / "numbers", runner="inline").trials()
    rows = np.where((labels == 255)[..., None], 0, np.eye(256)[labels.clip(0, 255)][..., :4])
    np.savez(tmp_path / "data.npz", x_test=images, y_test=rows)
    one_hot = sweep.run(study("softmax", tmp_path, GAUSSIAN), tmp_path / "rows", runner="inline").trials()
    np.testing.assert_array_equal(one_hot[MEASURES], numbers[MEASURES])


def test_a_function_of_the_user_gets_all_scores_in_a_row(tmp_path: Path):
    model, images, *_ = made("softmax", tmp_path)
    (tmp_path / "mine.py").write_text(
        "def sure(scores, targets):\n"
        f"    at = scores.reshape(len(scores), {HEIGHT}, {WIDTH}, 4)\n"
        f"    assert targets.shape == (len(scores), {HEIGHT * WIDTH})\n"
        "    return at.max(axis=-1).mean(axis=(1, 2))\n"
    )
    own = study("softmax", tmp_path, measures=[str(tmp_path / "mine.py:sure")])
    trials = sweep.run(own, tmp_path / "run", runner="inline").trials()
    assert trials["sure"][0] == pytest.approx(scores(model, images).max(axis=-1).mean(), rel=1e-6)


def test_what_does_not_fit_is_told(tmp_path: Path):
    _, images, labels, _ = made("softmax of any size", tmp_path)

    def refused(y: np.ndarray, **more: object) -> str:
        np.savez(tmp_path / "data.npz", x_test=images, y_test=y)
        with pytest.raises(InputError) as caught:
            sweep.plan(study("softmax", tmp_path, GAUSSIAN, **more))
        (problem,) = caught.value.problems
        return problem

    positions = f"{HEIGHT * WIDTH} positions of an image"
    assert f"at {positions}" in (text := refused(labels, measures=["accuracy"]))
    assert 'write measures = ["position_accuracy"], or others of position_accuracy, miou, dice, position_loss' in text
    assert f"the dataset has {HEIGHT * WIDTH - WIDTH} labels for the {positions}" in refused(labels[:, 1:])
    assert f"the dataset has no labels for the {positions}" in refused(np.arange(IMAGES))
    assert "labels are 0 to 3; one is 7" in refused(np.where(labels == 255, 7, labels))
    assert "no position has a label that counts" in refused(np.full_like(labels, 255))
    assert "or one-hot rows of 4" in refused(np.ones((*labels.shape, 4)))


def test_axes_of_labels_are_those_of_positions(tmp_path: Path):
    """As many labels in another form are those of other positions."""
    _, images, labels, _ = made("softmax", tmp_path)

    def problem(x: np.ndarray, labelled: np.ndarray, **more: object) -> str:
        np.savez(tmp_path / "data.npz", x_test=x, y_test=labelled)
        with pytest.raises(InputError) as caught:
            sweep.plan(study("softmax", tmp_path, GAUSSIAN, **more))
        return str(caught.value)

    axes = f"labels have the axes ({WIDTH}, {HEIGHT}), and the positions of an image ({HEIGHT}, {WIDTH})"
    assert axes in problem(images, labels.swapaxes(1, 2))
    assert "no position has a label that counts" in problem(images, np.zeros((*labels.shape, 4)))
    for fine in (labels[..., None], labels.reshape(IMAGES, -1)):
        np.savez(tmp_path / "data.npz", x_test=images, y_test=fine)
        sweep.plan(study("softmax", tmp_path, GAUSSIAN))
    made("sigmoid", tmp_path)
    masks = np.where(labels > 0, 255, 0).astype(np.uint8)
    assert "labels are 0 and 255, of which 255 does not count; write 1" in problem(images, masks)
    ones = images[..., :1].repeat(3, axis=-1)
    keras.Sequential([keras.Input((HEIGHT, WIDTH, 3)), kl.Conv2D(3, 1)]).save(tmp_path / "net.keras")
    assert "the labels are the images themselves" in problem(ones, ones, y="x_test", measures=["miou"])


@pytest.mark.parametrize(
    "last",
    [
        lambda x: kl.TimeDistributed(kl.Dense(1, "sigmoid"))(x),
        lambda x: kl.UpSampling2D()(kl.Conv2D(1, 2, strides=2, activation="sigmoid")(x)),
        lambda x: kl.Cropping2D(1)(kl.Conv2D(1, 1, activation="sigmoid")(kl.ZeroPadding2D(1)(x))),
    ],
    ids=["time distributed", "upsampled", "cropped"],
)
def test_a_sigmoid_is_known_behind_layers_that_move_values(last: Callable, tmp_path: Path):
    inputs = keras.Input((HEIGHT, WIDTH, 3))
    model, images = keras.Model(inputs, last(inputs)), np.random.default_rng(4).normal(size=(IMAGES, HEIGHT, WIDTH, 3))
    model.save(tmp_path / "net.keras")
    np.savez(tmp_path / "data.npz", x_test=images, y_test=(scores(model, images)[..., 0] > 0.5).astype(int))
    trials = sweep.run(study("", tmp_path), tmp_path / "run", runner="inline").trials()
    assert trials["position_accuracy"][0] == 1


def test_half_precision_has_probabilities_too(tmp_path: Path):
    """Whose sums are off 1 by a thousandth."""
    inputs = keras.Input((HEIGHT, WIDTH, 3))
    model = keras.Model(inputs, kl.Conv2D(21, 1, activation="softmax", dtype="mixed_bfloat16")(inputs))
    images = np.random.default_rng(4).normal(size=(IMAGES, HEIGHT, WIDTH, 3)).astype(np.float32)
    labels = np.random.default_rng(5).integers(0, 21, (IMAGES, HEIGHT, WIDTH))
    model.save(tmp_path / "net.keras")
    np.savez(tmp_path / "data.npz", x_test=images, y_test=labels)
    trials = sweep.run(study("", tmp_path), tmp_path / "run", runner="inline").trials()
    found = np.asarray(model.predict(images, verbose=0), np.float32)
    assert trials["position_loss"][0] == pytest.approx(expected(found, labels, False)["position_loss"], rel=0.02)


def test_large_maps_are_evaluated_one_trial_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Other ways would hold the scores of many trials at once."""
    made("softmax", tmp_path)
    monkeypatch.setattr("sweep.engine.choice.MOST_SCORES", 4 * HEIGHT * WIDTH * 4 * IMAGES - 1)
    trials = sweep.run(study("softmax", tmp_path), tmp_path / "run", runner="inline", engine="stacked").trials()
    assert set(trials["engine"]) == {"plain"}


def test_test_sets_of_other_sizes_are_refused(tmp_path: Path):
    _, images, labels, _ = made("softmax of any size", tmp_path)
    np.savez(tmp_path / "more.npz", x_test=images[:, :-2], y_test=labels[:, :-2])
    both = [str(tmp_path / "data.npz"), str(tmp_path / "more.npz")]
    with pytest.raises(InputError, match=rf"takes images of shape \({HEIGHT}, {WIDTH}, 3\)"):
        sweep.plan(study("softmax", tmp_path, GAUSSIAN, dataset=both))


def test_the_plan_says_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    made("words", tmp_path)
    plan = sweep.plan(study("words", tmp_path, GAUSSIAN))
    assert f"3 outputs at each of {WORDS} positions" in str(plan)

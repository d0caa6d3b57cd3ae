"""Training against imperfections, held against plain Keras and the formulas."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from sweep.data.datasets import Dataset
from sweep.errors import InputError, SweepError
from sweep.files import file_digest, read_tables
from sweep.networks.code import Code
from sweep.networks.loading import network_of
from sweep.perturb.base import Transform
from sweep.perturb.dataflow import ADC, ActivationNoise
from sweep.perturb.devices import Drift
from sweep.perturb.faults import Float32BitFlip, StuckAt
from sweep.perturb.flow_faults import ActivationBitFlip, ActivationStuckAt
from sweep.perturb.noise import Gaussian
from sweep.perturb.perturbation import perturb
from sweep.perturb.quantize import FixedPoint
from sweep.perturb.tiles import TileADC
from sweep.randomness import STEPS, epoch_stream, stream
from sweep.study.plugins import load_code, scripts_of
from sweep.training.aware import Aware, Imperfections, InOrder
from sweep.training.checkpoints import Checkpoint
from sweep.training.noise import Noise
from sweep.training.recipes import read_recipe, recipe_digest
from sweep.training.training import train

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn:DeprecationWarning")

RNG = np.random.default_rng(5)
IMAGES = RNG.random((48, 6, 6, 1), dtype=np.float32)
LABELS = RNG.integers(0, 3, 48)
ONE_HOT = np.eye(3, dtype=np.float32)[LABELS]
ROOT, RATE = 7, 0.1


def network(*more: keras.Layer) -> keras.Model:
    """conv → relu → … → fc → softmax, with weights that are always the same."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(3, 3, activation="relu", name="conv"),
            *more,
            layers.Flatten(),
            layers.Dense(3, activation="softmax", name="fc"),
        ]
    )


def aware(model: keras.Model, *transforms: Transform) -> tuple[Aware, Imperfections]:
    drawn = Imperfections(network_of(model), Noise(transforms), ROOT, Dataset(IMAGES, LABELS, "0"), "0..1")
    made = Aware(model, drawn)
    made.compile(keras.optimizers.SGD(RATE), "categorical_crossentropy")
    drawn.begin(0)
    return made, drawn


def by_hand(model: keras.Model, weights: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The clean weights after a step with the gradients at other weights, by plain Keras."""
    clean = model.get_weights()
    model.set_weights(list(weights))
    with tf.GradientTape() as tape:
        scores = model(IMAGES, training=True)
        loss = tf.reduce_mean(keras.losses.categorical_crossentropy(ONE_HOT, scores))
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    model.set_weights(clean)
    stepped = {id(v): -RATE * np.asarray(g) for v, g in zip(model.trainable_variables, gradients, strict=True)}
    return [w + stepped.get(id(v), np.float32(0)) for v, w in zip(model.weights, clean, strict=True)]


def test_a_step_takes_its_gradients_at_the_perturbed_weights_and_changes_the_clean_ones():
    transforms = (FixedPoint(bits=4), Gaussian(scale=0.2), StuckAt(rate=0.1))
    model = network()
    made, _ = aware(model, *transforms)
    for step in range(3):
        noisy = perturb(model.get_weights(), network_of(model).variables, transforms, ROOT, STEPS + step)
        assert not np.array_equal(noisy[0], model.get_weights()[0])
        expected = by_hand(model, noisy)
        made.train_on_batch(IMAGES, ONE_HOT)
        for got, want in zip(model.get_weights(), expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=0, atol=2e-6)


def test_without_imperfections_it_is_keras():
    """Moving means, the draws of dropout, penalties of weights and of activations included."""

    def kinds() -> list[keras.Layer]:
        layers = keras.layers
        return [
            layers.BatchNormalization(name="bn"),
            layers.Dropout(0.3, seed=4),
            layers.Conv2D(2, 2, kernel_regularizer="l2", name="penalised"),
            layers.ActivityRegularization(0.01),
        ]

    plain, model = network(*kinds()), network(*kinds())
    plain.compile(keras.optimizers.SGD(RATE), "categorical_crossentropy")
    made, _ = aware(model)
    losses = [(plain.train_on_batch(IMAGES, ONE_HOT), made.train_on_batch(IMAGES, ONE_HOT)) for _ in range(3)]
    np.testing.assert_allclose(*zip(*losses, strict=True), rtol=1e-5)
    for variable, other in zip(plain.variables, model.variables, strict=True):
        np.testing.assert_allclose(np.asarray(variable), np.asarray(other), rtol=1e-5, atol=1e-6)


def test_gradients_pass_a_rounding_where_it_does_not_clip():
    """A dense network in NumPy: y = softmax(W₂ q(W₁ x)), ∂q/∂h = 1 within half a step of the levels, else 0."""
    keras.utils.set_random_seed(2)
    layers = keras.layers
    dense = [layers.Dense(4, use_bias=False, name="hidden"), layers.Dense(3, use_bias=False, activation="softmax")]
    model = keras.Sequential([keras.Input((6, 6, 1)), layers.Flatten(), *dense])
    made, _ = aware(model, ADC(bits=3, low=-0.4, high=0.4, layers="hidden"))
    first, second = (w.astype(np.float64) for w in model.get_weights())
    x = IMAGES.reshape(48, -1).astype(np.float64)
    hidden, step = x @ first, 0.8 / 7
    codes = (hidden + 0.4) / step
    rounded = np.clip(np.rint(codes), 0, 7) * step - 0.4
    scores = np.exp(rounded @ second)
    error = (scores / scores.sum(1, keepdims=True) - ONE_HOT) / 48
    within = (codes >= -0.5) & (codes <= 7.5)
    assert 0.2 < within.mean() < 0.9
    expected = [first - RATE * x.T @ ((error @ second.T) * within), second - RATE * rounded.T @ error]
    made.train_on_batch(IMAGES, ONE_HOT)
    for got, want in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-6)


def test_gradients_pass_arrays_where_their_converters_do_not_clip():
    """As above, with h the sum of two arrays of 18 rows, each noisy and rounded by itself."""
    keras.utils.set_random_seed(2)
    layers = keras.layers
    dense = [layers.Dense(4, use_bias=False, name="hidden"), layers.Dense(3, use_bias=False, activation="softmax")]
    model = keras.Sequential([keras.Input((6, 6, 1)), layers.Flatten(), *dense])
    transform = TileADC(rows=20, columns=2, bits=3, range="percentile", percentile=70, noise=0.3, layers="hidden")
    made, drawn = aware(model, transform)
    first, second = (w.astype(np.float64) for w in model.get_weights())
    x = IMAGES.reshape(48, -1).astype(np.float64)
    (steps, lowest, highest), xi = (value.astype(np.float64) for value in drawn.flow(0, 48))
    assert steps.shape == (2, 4)
    assert np.unique([lowest, highest]).tolist() == [-3, 3]
    halves = [(x[:, rows], first[rows], steps[t], xi[:, t]) for t, rows in enumerate((slice(18), slice(18, 36)))]
    codes = [part @ weights / step + noise for part, weights, step, noise in halves]
    hidden = sum(np.clip(np.rint(code), -3, 3) * step for code, step in zip(codes, steps, strict=True))
    within = [np.abs(code) <= 3.5 for code in codes]
    assert 0.3 < np.mean(within) < 0.95
    scores = np.exp(hidden @ second)
    error = (scores / scores.sum(1, keepdims=True) - ONE_HOT) / 48
    parts = [part.T @ ((error @ second.T) * own) for (part, *_), own in zip(halves, within, strict=True)]
    expected = [first - RATE * np.concatenate(parts), second - RATE * hidden.T @ error]
    made.train_on_batch(IMAGES, ONE_HOT)
    for got, want in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-6)


def test_gradients_pass_bits_that_flip_but_not_values_that_are_stuck():
    """As above: y = softmax(W₂ s(f(W₁ x))), with f an affine quantizer of whose codes bits flip, s stuck values."""
    keras.utils.set_random_seed(2)
    layers = keras.layers
    dense = [layers.Dense(4, use_bias=False, name="hidden"), layers.Dense(3, use_bias=False, activation="softmax")]
    model = keras.Sequential([keras.Input((6, 6, 1)), layers.Flatten(), *dense])
    flips = ActivationBitFlip(bits=3, rate=0.1, range="percentile", percentile=80, layers="hidden")
    made, drawn = aware(model, flips, ActivationStuckAt(faults=2, high=0.5, layers="hidden"))
    first, second = (w.astype(np.float64) for w in model.get_weights())
    x = IMAGES.reshape(48, -1).astype(np.float64)
    flipped, stuck = drawn.flow(0, 48)
    (offset, step, lowest, highest), masks = flipped[0, :4].astype(np.float64), flipped[:, 4:].astype(int)
    assert (offset, highest - lowest) == (0, 7)
    assert 0.05 < (masks != 0).mean() < 0.5
    assert np.count_nonzero(np.isnan(stuck)) == 2
    hidden = x @ first
    codes = np.clip(np.rint(hidden / step), lowest, highest) - lowest
    rounded = ((codes.astype(int) ^ masks) + lowest) * step
    handed = np.where(np.isnan(stuck), rounded, stuck)
    scores = np.exp(handed @ second)
    error = (scores / scores.sum(1, keepdims=True) - ONE_HOT) / 48
    passing = (hidden / step >= lowest - 0.5) & (hidden / step <= highest + 0.5) & np.isnan(stuck)
    assert 0.1 < passing.mean() < 0.5
    expected = [first - RATE * x.T @ ((error @ second.T) * passing), second - RATE * handed.T @ error]
    made.train_on_batch(IMAGES, ONE_HOT)
    for got, want in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-6)


def test_noise_of_activations_is_that_of_a_trial_with_the_seed_of_the_step():
    model = network()
    transform = ActivationNoise(scale=0.5, layers="conv")
    made, drawn = aware(model, transform)
    (entry,) = drawn.flow(0, 48)
    expected = np.float32(0.5) * stream(ROOT, STEPS, 0, 2**32 + 1).standard_normal((48, 4, 4, 3), dtype=np.float32)
    np.testing.assert_array_equal(entry, expected)
    made.train_on_batch(IMAGES, ONE_HOT)
    assert not np.array_equal(drawn.flow(1, 48)[0], entry)


def test_ranges_follow_the_weights():
    model = network()
    transform = ActivationNoise(scale=0.5, basis="range", layers="conv")
    _, drawn = aware(model, transform)
    before = drawn.flow(3, 1)[0]
    model.layers[0].set_weights([2 * w for w in model.layers[0].get_weights()])
    drawn.begin(1)
    np.testing.assert_allclose(drawn.flow(3, 1)[0], 2 * before, rtol=1e-6)


def test_levels_grow_over_the_warm_up():
    noise = Noise((Gaussian(scale=0.4), FixedPoint(bits=4), Drift(time=30.0), StuckAt(rate=0.1)), warmup=3)
    found = [noise.at(epoch) for epoch in range(5)]
    assert [t[0].scale for t in found] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4])  # type: ignore[attr-defined]
    assert [t[2].time for t in found] == pytest.approx([7.5, 15, 22.5, 30, 30])  # type: ignore[attr-defined]
    assert [t[3].rate for t in found] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])  # type: ignore[attr-defined]
    assert {t[1] for t in found} == {FixedPoint(bits=4)}


def test_batches_are_all_images_once_in_an_order_of_the_epoch():
    batches = InOrder(IMAGES, ONE_HOT, 20, ROOT)
    for epoch in (0, 1):
        batches.begin(epoch)
        parts = [batches[i] for i in range(len(batches))]
        assert [len(images) for images, _ in parts] == [20, 20, 8]
        order = epoch_stream(ROOT, epoch).permutation(48)
        np.testing.assert_array_equal(np.concatenate([images for images, _ in parts]), IMAGES[order])
        np.testing.assert_array_equal(np.concatenate([targets for _, targets in parts]), ONE_HOT[order])


RECIPE = """
name = "hard"
dataset = "tiny.npz"
{network}
epochs = 4
batch = 16
optimizer = "adam"
learning_rate = 0.01
seed = 3
formats = ["keras"]

[noise]
warmup = 1
perturb = [ {noise} ]
"""
LAYERS = """
input_shape = [6, 6, 1]
layer = [
  { type = "Conv2D", name = "conv", filters = 2, kernel_size = 3, activation = "relu" },
  { type = "BatchNormalization" }, { type = "Dropout", rate = 0.2 }, { type = "Flatten" },
  { type = "Dense", name = "fc", units = 3, activation = "softmax" },
]
"""
NOISE = '{ op = "gaussian", scale = 0.1 }, { op = "activation_affine", bits = 4, layers = "conv" }'


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.savez("tiny.npz", x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:20], y_test=LABELS[:20])
    return tmp_path


def write(network: str = LAYERS, noise: str = NOISE, name: str = "hard.toml") -> str:
    Path(name).write_text(RECIPE.format(network=network, noise=noise))
    return name


def weights_of(path: Path) -> list[np.ndarray]:
    return list(keras.models.load_model(path, compile=False).get_weights())


def test_an_interrupted_training_goes_on_and_ends_the_same(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    recipe = write()
    (whole,) = train(recipe, "whole")
    with monkeypatch.context() as patch:
        original = Checkpoint.keep

        def stop(self: Checkpoint, epochs: int) -> None:
            original(self, epochs)
            if epochs == 2:
                raise KeyboardInterrupt

        patch.setattr(Checkpoint, "keep", stop)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, "parts")
    assert [path.name for path in Path("parts").iterdir()] == [".hard-training.npz"]
    capsys.readouterr()
    (parts,) = train(recipe, "parts")
    assert "goes on after epoch 2 of 4" in capsys.readouterr().out
    assert sorted(path.name for path in Path("parts").iterdir()) == ["hard.json", "hard.keras", "hard.md"]
    for one, other in zip(weights_of(whole.path), weights_of(parts.path), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_kept_of_another_training_is_not_taken(place: Path, capsys: pytest.CaptureFixture[str]):
    recipe = write()
    Path(".hard-training.npz").write_bytes(b"no archive")
    train(recipe)
    np.savez(".hard-training.npz", training=np.array("another"), epochs=np.array(3))
    train(recipe)
    assert "goes on" not in capsys.readouterr().out


def test_a_network_from_a_file_is_trained_further(place: Path):
    """Logits too; its own file is left as it is, and the card says where the training began."""
    keras.utils.set_random_seed(3)
    layers = keras.layers
    begun = keras.Sequential([keras.Input((6, 6, 1)), layers.Flatten(), layers.Dense(3, name="fc")])
    begun.save("mine.keras")
    content = Path("mine.keras").read_bytes()
    (by_key,) = train(write('from = "mine.keras"', '{ op = "gaussian", scale = 0.1 }'))
    (by_option,) = train(write(noise='{ op = "gaussian", scale = 0.1 }'), "other", start="mine.keras")
    assert Path("mine.keras").read_bytes() == content
    first, second = weights_of(by_key.path), weights_of(by_option.path)
    for one, other, old in zip(first, second, begun.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
        assert not np.array_equal(one, old)
    trained = keras.models.load_model(by_key.path)
    assert trained.loss.get_config()["from_logits"] is True
    card = by_key.card.read_text()
    assert "| begun with | `mine.keras`, SHA-256" in card
    assert "| trained against | gaussian (" in card
    assert "scale = 0.1" in card
    assert "levels grow over 1 epoch |" in card


OWN = """
import keras


class Gain(keras.layers.Layer):
    def build(self, shape):
        self.gain = self.add_weight(shape=shape[1:], initializer="ones", name="gain")

    def call(self, x):
        return x * self.gain
"""


def test_a_network_with_layers_of_the_users_own_is_trained_further(place: Path):
    Path("mine.py").write_text(OWN)
    own = load_code(["mine.py"], str(place / "hard.toml"))
    (gain,) = {o for o in Code(scripts_of(own.values())).objects().values() if o.__name__ == "Gain"}
    layers = keras.layers
    keras.Sequential([keras.Input((6, 6, 1)), gain(), layers.Flatten(), layers.Dense(3, "softmax")]).save("mine.keras")
    wanted = 'from = "mine.keras"\ncustom_objects = ["mine.py"]'
    with pytest.raises(InputError, match=r'name the Python file that defines it: custom_objects = \["my_layers.py"\]'):
        train(write('from = "mine.keras"'))
    (trained,) = train(write(wanted, '{ op = "gaussian", scale = 0.05, layers = "*" }'))
    weights = weights_of_own(trained.path, gain)
    assert weights[0].shape == (6, 6, 1)
    assert not np.array_equal(weights[0], np.ones((6, 6, 1)))
    before = recipe_digest(read_recipe("hard.toml"), "d" * 64)
    Path("mine.py").write_text(OWN + "\n\nclass Other(Gain):\n    pass\n")
    assert recipe_digest(read_recipe("hard.toml"), "d" * 64) != before
    with pytest.raises(InputError, match="custom_objects: go with `from`"):
        read_recipe(write(LAYERS + 'custom_objects = ["mine.py"]'))


def weights_of_own(path: Path, *own: type) -> list[np.ndarray]:
    with keras.saving.custom_object_scope({kind.__name__: kind for kind in own}):
        return weights_of(path)


def test_what_cannot_be_written_or_trained_is_told_before(place: Path):
    images = keras.Input((6, 6, 1))
    flat = keras.layers.Flatten()(images)
    scores = keras.layers.Dense(3, "softmax")(flat + keras.layers.Dense(36)(flat))
    keras.Model(images, scores).save("mine.keras")
    recipe = write('from = "mine.keras"', '{ op = "gaussian", scale = 0.1 }')
    text = Path(recipe).read_text().replace('formats = ["keras"]', 'formats = ["keras", "h5"]')
    Path("both.toml").write_text(text)
    with pytest.raises(InputError, match=r'operations such as x \+ y from \.h5; say formats = \["keras"\]'):
        train("both.toml")
    keras.Model(images, keras.layers.Conv2D(3, 3)(images)).save("mine.keras")
    with pytest.raises(InputError, match=r"y_train in tiny\.npz: holds no labels for the 16 positions of an image"):
        train(recipe)


def test_the_network_to_begin_with_is_not_replaced(place: Path):
    network().save("hard.keras")
    content = Path("hard.keras").read_bytes()
    with pytest.raises(InputError, match=r"hard: its file would replace .*hard\.keras"):
        train(write('from = "hard.keras"'))
    assert Path("hard.keras").read_bytes() == content


def test_the_digest_of_a_recipe_has_its_noise(place: Path):
    recipe = read_recipe(write())
    assert recipe.noise is not None
    noises = (recipe.noise, Noise(recipe.noise.transforms[:1], 1), None)
    found = {recipe_digest(dataclasses.replace(recipe, noise=noise), "") for noise in noises}
    assert len(found) == 3


PLUGIN = """
from dataclasses import dataclass
import numpy as np
from sweep.perturb.base import Random, register

@register("halved_{number}")
@dataclass(frozen=True, kw_only=True)
class Halved(Random):
    def apply(self, weight, variable, generator):
        return np.float32(0.5) * weight
"""


def test_the_digest_of_a_recipe_has_the_code_of_its_transforms(place: Path):
    Path("own.py").write_text(PLUGIN.format(number=1))
    recipe = read_recipe(write(f'plugins = ["own.py"]\n{LAYERS}', '{ op = "halved_1" }'))
    assert recipe.noise is not None
    assert recipe.noise.facts()["plugins"] == {"own.py": file_digest(Path("own.py"))}
    changed = dataclasses.replace(recipe.noise, plugins={"own.py": "another"})
    assert recipe_digest(recipe, "") != recipe_digest(dataclasses.replace(recipe, noise=changed), "")


@pytest.mark.parametrize(
    ("noise", "told"),
    [
        ('{ op = "gauss", scale = 0.1 }', "noise.perturb[0].op: no op 'gauss'; valid: "),
        ('{ op = "gaussian", scale = [0.1] }', "noise.perturb[0].scale: "),
        ('{ op = "stuck_at" }', "noise.perturb[0]: rate, faults: neither is given"),
        (
            '{ op = "float32_bit_flip", rate = 0.1 }',
            "noise.perturb[0]: float32_bit_flip makes weights",
        ),
    ],
)
def test_noise_that_is_none(place: Path, noise: str, told: str):
    with pytest.raises(InputError) as caught:
        read_recipe(write(noise=noise))
    assert told in str(caught.value)


def test_noise_that_selects_nothing(place: Path):
    with pytest.raises(InputError, match="'fcc' selects no kernel"):
        train(write(noise='{ op = "gaussian", scale = 0.1, layers = "fcc" }'))


def test_a_bit_that_keeps_numbers_numbers_can_be_trained_against():
    assert Float32BitFlip(rate=0.1, bit=22).passes_gradients
    assert Float32BitFlip(rate=0.1, bit=31).passes_gradients
    assert not Float32BitFlip(rate=0.1, bit=23).passes_gradients


def test_a_loss_that_is_no_number_ends_the_training(place: Path):
    with pytest.raises(SweepError, match="hard: the loss is no number after epoch 1; weaken the noise"):
        train(write(noise='{ op = "log_normal", scale = 10.0 }, { op = "gaussian", scale = 1e38 }'))


@pytest.mark.parametrize("key", ["input_shape = [6, 6, 1]", 'layer = [ { type = "Flatten" } ]'])
def test_a_network_comes_from_one_place(place: Path, key: str):
    with pytest.raises(InputError, match="does not go with `from`"):
        read_recipe(write(f'from = "mine.keras"\n{key}'))


def test_the_three_ways_that_ship_differ_in_the_noise_alone(root: Path):
    ways = {way: read_recipe(root / "models" / f"hardening-{way}.toml") for way in ("clean", "noise", "bits")}
    assert {way: one.noise and one.noise.transforms for way, one in ways.items()} == {
        "clean": None,
        "noise": (Gaussian(scale=0.1),),
        "bits": (FixedPoint(bits=2),),
    }
    (same,) = {repr(dataclasses.replace(one, name="", noise=None)) for one in ways.values()}
    assert "mnist_tf2_fw.h5" in same


def test_the_pair_after_crosssim_differs_in_the_noise_alone_which_its_study_has(root: Path):
    paths = [root / "models" / f"crosssim-{way}.toml" for way in ("clean", "noise")]
    clean, noise = (read_recipe(path) for path in paths)
    assert (clean.noise, noise.noise is None) == (None, False)
    assert repr(dataclasses.replace(clean, name="", noise=None)) == repr(
        dataclasses.replace(noise, name="", noise=None)
    )
    (family,) = read_tables(root / "jobs" / "crosssim.toml")["family"]
    assert 1.0 in family["perturb"][1].pop("scale")
    assert family["perturb"] == read_tables(paths[1])["noise"]["perturb"]

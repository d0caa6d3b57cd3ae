"""Every layer of Keras that can be random, keep a state or heed a mask: trials are `predict`'s, or refused in one line.

The list of layers is Keras's own, so that one which a later Keras adds fails here until it is looked at.
"""

import inspect
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as kl

from sweep.engine import choice
from sweep.errors import InputError
from sweep.execution.job import Job
from sweep.execution.plan import Chunk, wanted
from sweep.execution.worker import evaluate_chunk
from sweep.preparation.inputs import prepare
from sweep.study.study import Study
from tests.oracle import count, perturbed

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask:UserWarning"),
    pytest.mark.filterwarnings("ignore:[\\s\\S]*does not support masking:UserWarning"),
]
IMAGES = 64
Build = Callable[[], keras.Model]


def image(*stack: Any, shape: tuple[int, ...] = (8, 8, 3)) -> Build:
    """A network of images with these layers before its first weights, and again after them."""

    def build() -> keras.Model:
        before = [kl.Reshape(shape)] if shape != (8, 8, 3) else []
        made = [layer() for layer in stack]
        return keras.Sequential(
            [keras.Input((8, 8, 3)), *before, *made, kl.Flatten(), kl.Dense(5, "relu"), kl.Dense(4, "softmax")]
        )

    return build


def after_a_convolution(layer: Callable[[], Any]) -> Build:
    return lambda: keras.Sequential(
        [keras.Input((8, 8, 3)), kl.Conv2D(4, 3, activation="relu"), layer(), kl.Flatten(), kl.Dense(4)]
    )


def masked(body: Callable[[Any], Any], pool: Callable[[Any], Any] | None = None) -> Build:
    """A network of tokens, those of 0 masked."""

    def build() -> keras.Model:
        inputs = keras.Input((12,))
        x = body(kl.Embedding(20, 8, mask_zero=True)(inputs))
        x = pool(x) if pool else kl.GlobalAveragePooling1D()(x)
        return keras.Model(inputs, kl.Dense(4)(x))

    return build


def whole(x: Any) -> Any:
    return kl.Flatten()(x)


def same(x: Any) -> Any:
    return x


def two(combine: Callable[..., Any]) -> Build:
    return masked(lambda x: combine(x, kl.Dense(8, "tanh")(x)))


def colours(name: str, *arguments: Any, **named: Any) -> Build:
    return image(lambda: getattr(kl, name)(*arguments, **named))


def stateful() -> keras.Model:
    inputs = keras.Input((12,), batch_size=5)
    return keras.Sequential([inputs, kl.Reshape((12, 1)), kl.GRU(4, stateful=True), kl.Dense(4)])


def called_as_in_training() -> keras.Model:
    """`predict` overrides what layers were called with."""
    inputs = keras.Input((8, 8, 3))
    x = kl.BatchNormalization()(kl.Conv2D(4, 3, activation="relu")(inputs), training=True)
    x = kl.Dense(5, "relu")(kl.Flatten()(kl.Dropout(0.5)(x, training=True)))
    return keras.Model(inputs, kl.Dense(4)(x))


def half_precision(policy: str = "mixed_float16") -> keras.Model:
    """Dense layers alone: what convolutions give in half precision depends on the size of the batch."""
    layers = [kl.Flatten(), kl.Dense(6, "relu", dtype=policy), kl.Dense(5, "tanh", dtype=policy), kl.Dense(4)]
    return keras.Sequential([keras.Input((8, 8, 3)), *layers])


def channels_first() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    x = kl.GlobalAveragePooling2D(data_format="channels_first")(kl.Conv2D(4, 3, activation="relu")(inputs))
    return keras.Model(inputs, kl.Dense(4)(x))


def any_size() -> keras.Model:
    layers = [
        kl.Conv2D(5, 3, activation="relu"),
        kl.RandomFlip(),
        kl.GlobalMaxPooling2D(),
        kl.Dense(6, "relu"),
        kl.Dense(4),
    ]
    return keras.Sequential([keras.Input((None, None, 3)), *layers])


class Noisy(keras.Layer):
    """Random at inference too."""

    def build(self, shape):
        self.seed = keras.random.SeedGenerator(1)

    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x), seed=self.seed)


class Crowd(keras.Layer):
    """What an image gives depends on the others of its batch, as in a normalisation by the batch's own mean."""

    def call(self, x):
        return x - keras.ops.mean(x, axis=0, keepdims=True)


NETWORKS: dict[str, Build] = {
    "Dropout": after_a_convolution(lambda: kl.Dropout(0.5)),
    "AlphaDropout": after_a_convolution(lambda: kl.AlphaDropout(0.5)),
    "GaussianDropout": after_a_convolution(lambda: kl.GaussianDropout(0.5)),
    "GaussianNoise": after_a_convolution(lambda: kl.GaussianNoise(1.0)),
    "SpatialDropout1D": image(lambda: kl.SpatialDropout1D(0.5), shape=(8, 24)),
    "SpatialDropout2D": after_a_convolution(lambda: kl.SpatialDropout2D(0.5)),
    "SpatialDropout3D": image(lambda: kl.SpatialDropout3D(0.5), shape=(2, 4, 8, 3)),
    "BatchNormalization": after_a_convolution(kl.BatchNormalization),
    "SpectralNormalization": image(lambda: kl.SpectralNormalization(kl.Conv2D(4, 3))),
    "AugMix": colours("AugMix", value_range=(0, 1)),
    "AutoContrast": colours("AutoContrast", value_range=(0, 1)),
    "CenterCrop": colours("CenterCrop", 6, 6),
    "ContrastLimitedAdaptiveHistogramEqualization": colours("ContrastLimitedAdaptiveHistogramEqualization"),
    "CutMix": colours("CutMix"),
    "Equalization": colours("Equalization", value_range=(0, 1)),
    "MaxNumBoundingBoxes": colours("MaxNumBoundingBoxes", 3),
    "MixUp": colours("MixUp"),
    "Pipeline": image(lambda: kl.Pipeline([kl.RandomFlip(), kl.RandomRotation(0.5)])),
    "RandAugment": colours("RandAugment", value_range=(0, 1)),
    "RandomBrightness": colours("RandomBrightness", 0.9, value_range=(0, 1)),
    "RandomColorDegeneration": colours("RandomColorDegeneration", 0.9),
    "RandomColorJitter": colours("RandomColorJitter", value_range=(0, 1), brightness_factor=0.9),
    "RandomContrast": colours("RandomContrast", 0.9),
    "RandomCrop": colours("RandomCrop", 8, 8),
    "RandomElasticTransform": colours("RandomElasticTransform"),
    "RandomErasing": colours("RandomErasing"),
    "RandomFlip": colours("RandomFlip"),
    "RandomGaussianBlur": colours("RandomGaussianBlur", factor=1.0, kernel_size=3, sigma=1.0, value_range=(0, 1)),
    "RandomGrayscale": colours("RandomGrayscale", 0.9),
    "RandomHue": colours("RandomHue", 0.9, value_range=(0, 1)),
    "RandomInvert": colours("RandomInvert", 0.9, value_range=(0, 1)),
    "RandomPerspective": colours("RandomPerspective"),
    "RandomPosterization": colours("RandomPosterization", 2, value_range=(0, 1)),
    "RandomRotation": colours("RandomRotation", 0.5),
    "RandomSaturation": colours("RandomSaturation", 0.9, value_range=(0, 1)),
    "RandomSharpness": colours("RandomSharpness", 0.9, value_range=(0, 1)),
    "RandomShear": colours("RandomShear", 0.9, 0.9),
    "RandomTranslation": colours("RandomTranslation", 0.4, 0.4),
    "RandomZoom": colours("RandomZoom", 0.5),
    "Resizing": colours("Resizing", 5, 5),
    "Solarization": colours("Solarization", value_range=(0, 1)),
    "ConvLSTM1D": image(lambda: kl.ConvLSTM1D(3, 2)),
    "ConvLSTM2D": image(lambda: kl.ConvLSTM2D(3, 2), shape=(2, 4, 8, 3)),
    "ConvLSTM3D": image(lambda: kl.ConvLSTM3D(2, 2), shape=(2, 2, 2, 8, 3)),
    "SimpleRNN": masked(kl.SimpleRNN(6), same),
    "GRU": masked(kl.GRU(6), same),
    "LSTM": masked(lambda x: kl.LSTM(6, return_sequences=True, dropout=0.5, recurrent_dropout=0.5)(x)),
    "RNN": masked(lambda x: kl.RNN(kl.GRUCell(6))(x), same),
    "SimpleRNNCell": masked(lambda x: kl.RNN(kl.SimpleRNNCell(6, dropout=0.5))(x), same),
    "GRUCell": masked(lambda x: kl.RNN(kl.GRUCell(6, dropout=0.5))(x), same),
    "LSTMCell": masked(lambda x: kl.RNN(kl.LSTMCell(6, recurrent_dropout=0.5))(x), same),
    "StackedRNNCells": masked(lambda x: kl.RNN(kl.StackedRNNCells([kl.LSTMCell(4), kl.GRUCell(5)]))(x), same),
    "Bidirectional": masked(lambda x: kl.Bidirectional(kl.GRU(5))(x), same),
    "TimeDistributed": masked(lambda x: kl.TimeDistributed(kl.Dense(5, "relu"))(x)),
    "Masking": lambda: keras.Sequential(
        [keras.Input((12,)), kl.Reshape((12, 1)), kl.Masking(), kl.GRU(5), kl.Dense(4)]
    ),
    "Embedding": masked(same),
    "ReversibleEmbedding": lambda: keras.Sequential(
        [keras.Input((12,)), kl.ReversibleEmbedding(20, 8, mask_zero=True), kl.GlobalAveragePooling1D(), kl.Dense(4)]
    ),
    "GlobalAveragePooling1D": masked(lambda x: kl.Dropout(0.5)(x)),
    "Softmax": masked(lambda x: kl.Softmax()(kl.Reshape((12,))(kl.Dense(1)(x)), mask=x[:, :, 0] > 0), same),
    "Attention": masked(lambda x: kl.Attention(use_scale=True, dropout=0.5)([x, x])),
    "AdditiveAttention": masked(lambda x: kl.AdditiveAttention()([x, x])),
    "MultiHeadAttention": masked(lambda x: kl.MultiHeadAttention(2, 4, dropout=0.5)(x, x)),
    "GroupQueryAttention": masked(lambda x: kl.GroupQueryAttention(4, 2, 1)(x, x)),
    "Add": two(lambda x, y: kl.Add()([x, y])),
    "Subtract": two(lambda x, y: kl.Subtract()([x, y])),
    "Multiply": two(lambda x, y: kl.Multiply()([x, y])),
    "Average": two(lambda x, y: kl.Average()([x, y])),
    "Maximum": two(lambda x, y: kl.Maximum()([x, y])),
    "Minimum": two(lambda x, y: kl.Minimum()([x, y])),
    "Concatenate": two(lambda x, y: kl.Concatenate()([x, y])),
    "Dot": masked(lambda x: kl.Dot(axes=2)([x, kl.Dense(8)(x)]), whole),
    "Lambda": image(lambda: kl.Lambda(lambda x: x + 1)),
    "stateful": stateful,
    "a mask of one's own": masked(lambda x: kl.GRU(6)(x, mask=keras.ops.greater(x[:, :, 0], 0)), same),
    "an attention mask": masked(
        lambda x: kl.MultiHeadAttention(2, 4)(x, x, attention_mask=keras.ops.ones((1, 12, 12))), whole
    ),
    "called as in training": called_as_in_training,
    "half precision": half_precision,
    "bfloat16": lambda: half_precision("mixed_bfloat16"),
    "channels first": channels_first,
    "any size": any_size,
    "Dense": image(lambda: kl.Dense(6, "relu")),
    "EinsumDense": image(lambda: kl.EinsumDense("abcd,de->abce", (8, 8, 5), activation="relu")),
}
REFUSED = {  # in one line, before anything is computed; the reason
    "ContrastLimitedAdaptiveHistogramEqualization": "is not one that a network may be made of",
    "Equalization": "not a model that Keras can load",  # Keras 3.15 cannot read what it wrote
    "Lambda": "runs code stored in the file",
    "MaxNumBoundingBoxes": "is not one that a network may be made of",
    "RandomShear": "not a model that Keras can load",  # nor here
    "stateful": "batches of exactly 5",
}
NOT_EVALUATED = {  # bases of others, or made for something else than a network of numbers
    "FlaxLayer", "JaxLayer", "TFSMLayer", "TorchModuleWrapper", "Layer", "Wrapper",
}  # fmt: skip
ALIASES = {"GlobalAvgPool1D"}
STUDY = """
name = "layers"
model = "{0}/net.keras"
dataset = "{0}/data.npz"
seeds = 2

[[family]]
name = "weights"
perturb = [ {{ op = "gaussian", scale = 0.3 }} ]

[[family]]
name = "data flow that passes, weights that do not"
perturb = [ {{ op = "gaussian", scale = 0.3 }}, {{ op = "activation_fixed_point", bits = 22 }} ]
"""


def concerned() -> set[str]:
    """Layers that have a seed, a state or a mask, or that behave in training otherwise than at inference."""
    names = set()
    for name, cls in vars(kl).items():
        if not (inspect.isclass(cls) and issubclass(cls, keras.Layer)):
            continue
        made, called = (set(inspect.signature(f).parameters) for f in (cls.__init__, cls.call))
        masks = cls.compute_mask is not keras.Layer.compute_mask or any("mask" in name for name in called)
        if masks or "training" in called or made & {"seed", "stateful"} or issubclass(cls, kl.RNN):
            names.add(name)
    return names


def test_every_layer_of_this_keras_is_met_by_a_decision():
    decided = NETWORKS.keys() | NOT_EVALUATED | ALIASES
    assert concerned() - decided == set()
    assert set(vars(kl)) >= ALIASES | NOT_EVALUATED


def data(model: keras.Model, rng: np.random.Generator) -> np.ndarray:
    """Images, or tokens padded with 0."""
    shape = tuple(size or 8 for size in model.input_shape[1:])
    if len(shape) == 3:
        return rng.random((IMAGES, *shape)).astype(np.float32)
    tokens = rng.integers(1, 20, (IMAGES, *shape))
    padded = np.where(np.arange(shape[0]) < rng.integers(3, 13, (IMAGES, 1)), tokens, 0)
    return padded.astype(np.int32 if "Embedding" in str([type(layer) for layer in model.layers]) else np.float32)


def randomize(model: keras.Model, rng: np.random.Generator) -> None:
    """Moderate values for all weights; those of one axis, variances among them, positive."""
    for variable in model.weights:
        if "int" not in str(variable.dtype):
            value = rng.normal(0, 0.5, variable.shape)
            variable.assign(value if len(variable.shape) > 1 else value**2)


def test_weights_that_are_made_at_the_first_call_are_refused(tmp_path: Path):
    """Others than those that the file holds: indices would shift."""
    layers = [kl.Conv2D(4, 3, activation=kl.PReLU()), kl.Flatten(), kl.Dense(5), kl.Dense(4)]
    model = keras.Sequential([keras.Input((8, 8, 3)), *layers])
    model.save(tmp_path / "net.keras")
    np.savez(tmp_path / "data.npz", x_test=data(model, np.random.default_rng(1)), y_test=np.arange(IMAGES) % 4)
    with pytest.raises(InputError, match="makes some of its weights when it is first called"):
        prepare(Study.from_dict(tomllib.loads(STUDY.format(tmp_path))))


@pytest.mark.parametrize("layer", [Noisy, Crowd])
def test_scores_that_are_not_of_their_image_alone_are_refused(layer: type[keras.Layer], tmp_path: Path):
    model = keras.Sequential([keras.Input((8, 8, 3)), layer(), kl.Flatten(), kl.Dense(5), kl.Dense(4)])
    model.save(tmp_path / "net.keras")
    np.savez(tmp_path / "data.npz", x_test=data(model, np.random.default_rng(1)), y_test=np.arange(IMAGES) % 4)
    reason = {
        Noisy: "other scores when it sees the same images again",
        Crowd: "depend on the other images in the batch",
    }
    with keras.saving.custom_object_scope({"Noisy": Noisy, "Crowd": Crowd}), pytest.raises(InputError) as refused:
        prepare(Study.from_dict(tomllib.loads(STUDY.format(tmp_path))), trust=True)
    assert reason[layer] in str(refused.value)
    assert "\n" not in str(refused.value)


QUICK = {*REFUSED, *list(NETWORKS)[::16]}
ALL = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS]


@pytest.mark.parametrize("name", ALL)
def test_trials_are_those_of_predict_or_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(choice, "CPU_STACKS", ())
    keras.utils.set_random_seed(5)
    model, rng = NETWORKS[name](), np.random.default_rng(7)
    randomize(model, rng)
    images = data(model, rng)
    labels = rng.integers(0, 4, IMAGES) if name in REFUSED else model.predict(images, verbose=0).argmax(1)
    labels[::7] = (labels[::7] + 1) % 4
    model.save(tmp_path / "net.keras")
    np.savez(tmp_path / "data.npz", x_test=images, y_test=labels)
    study = Study.from_dict(tomllib.loads(STUDY.format(tmp_path)))
    if name in REFUSED:
        with pytest.raises(InputError, match=REFUSED[name]) as refused:
            prepare(study)
        assert all("\n" not in problem for problem in refused.value.problems)
        return
    prepared = prepare(study)
    kernels = [v.index for v in prepared.networks["net"].variables if v.kernel]
    job = Job("", "", 0, study.columns, {c.id: c for c in prepared.study.cells}, prepared.flow)
    table, notes = evaluate_chunk(job, prepared.models["net"], prepared.dataset, Chunk("net", tuple(wanted(study))))
    rows = table.to_pylist()
    assert not [note for note in notes if "differs" in note]
    clean = count(model, model.get_weights(), images, labels)
    assert clean == IMAGES - len(labels[::7])
    for row in rows:
        noise = [] if row["family"] == "clean" else [{"op": "gaussian", "scale": 0.3}]
        weights = perturbed(model, kernels, noise, row["seed"])
        assert row["n_correct"] == count(model, weights, images, labels), (row["family"], row["engine"])
    assert len(rows) >= 4

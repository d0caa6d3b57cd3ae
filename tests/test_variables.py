"""Variables other than kernels: which are selected, and that every way of evaluating them gives what Keras gives."""

import json
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers as kl

import sweep
from sweep.errors import InputError
from sweep.networks.inspection import variables_of
from sweep.perturb import REGISTRY, select
from sweep.perturb.basis import unit
from tests.few import one_in
from tests.oracle import count, draw

HEAD = 'name = "v"\nmodel = "net.keras"\ndataset = "data.npz"\nseeds = 6\nrescale = "0..1"\n'
FAMILY = '[[family]]\nname = "f"\nperturb = [ {{ {table} }} ]\n'
NORMS = {f"{n}/{k}" for n in ("bn", "late") for k in ("gamma", "beta", "moving_mean", "moving_variance")}
BIASES = {"conv/bias", "fc/bias"}
OF_NAMES = {
    '"bias"': BIASES,
    '"beta"': {"bn/beta", "late/beta"},
    '"moving_variance"': {"bn/moving_variance", "late/moving_variance"},
    '["gamma", "moving_*"]': NORMS - {"bn/beta", "late/beta"},
    '["*", "!kernel"]': NORMS | BIASES,
}


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> keras.Model:
    """Convolution, normalisation that machine code folds, one that it cannot fold, a dense layer with a bias."""
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(5)
    rng = np.random.default_rng(5)
    made = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            kl.Conv2D(4, 3, name="conv"),
            kl.BatchNormalization(name="bn"),
            kl.ReLU(),
            kl.MaxPooling2D(),
            kl.BatchNormalization(name="late"),
            kl.Flatten(),
            kl.Dense(5, name="fc"),
        ]
    )
    for layer in made.layers:
        for weight in layer.weights:
            low = 0.2 if weight.name in ("gamma", "moving_variance") else -0.6
            weight.assign(rng.uniform(low, 0.8, weight.shape).astype(np.float32))
    made.save("net.keras")
    images = rng.integers(0, 256, (200, 8, 8), dtype=np.uint8)
    labels = made.predict(prepared(images), verbose=0).argmax(1)
    np.savez("data.npz", x_test=images, y_test=labels)
    return made


def prepared(images: np.ndarray) -> np.ndarray:
    return images[..., None].astype(np.float32) / np.float32(255)


def run(table: str, **options: object) -> pd.DataFrame:
    Path("s.toml").write_text(HEAD + FAMILY.format(table=table))
    found = sweep.run("s.toml", "run", runner="inline", **options).trials()  # type: ignore[arg-type]
    return found[found["family"] == "f"]


@pytest.mark.parametrize("engine", ["plain", "stacked", "compiled"])
@pytest.mark.parametrize("which", one_in(4, OF_NAMES))
def test_counts_are_those_of_keras(model: keras.Model, which: str, engine: str):
    """The draws are those of each variable's own place in model.weights."""
    data = np.load("data.npz")
    found = run(f'op = "gaussian", scale = 0.25, variables = {which}', engine=engine)
    assert set(found["engine"]) == {engine}
    paths = {v.index: v.path.split("/", 1)[-1] if v.path.count("/") > 1 else v.path for v in variables_of(model)}
    assert {paths[i] for i in paths if paths[i] in OF_NAMES[which]} == OF_NAMES[which]
    for row in found.itertuples():
        weights = [np.array(w) for w in model.get_weights()]
        for i, path in paths.items():
            if path in OF_NAMES[which]:
                noise = draw(0, row.seed, 0, i).standard_normal(weights[i].shape, dtype=np.float32)
                weights[i] = weights[i] + np.float32(0.25) * noise
        assert row.n_correct == count(model, weights, prepared(data["x_test"]), data["y_test"]), row
    assert found["n_correct"].nunique() > 1


@pytest.mark.parametrize("engine", ["plain", "stacked", "compiled"])
def test_a_negative_variance_is_as_keras_has_it(model: keras.Model, engine: str):
    """Scores that are no numbers, of all images: every way says so, and none passes over them."""
    data = np.load("data.npz")
    found = run('op = "gaussian", scale = 2.0, variables = "moving_variance"', engine=engine)
    void = 0
    for row in found.itertuples():
        weights = [np.array(w) for w in model.get_weights()]
        for v in variables_of(model):
            if v.name == "moving_variance":
                noise = draw(0, row.seed, 0, v.index).standard_normal(v.shape, dtype=np.float32)
                weights[v.index] = weights[v.index] + np.float32(2) * noise
        clean = model.get_weights()
        model.set_weights(weights)
        scores = model.predict(prepared(data["x_test"]), verbose=0)
        model.set_weights(clean)
        assert row.n_nonfinite == int((~np.isfinite(scores).all(1)).sum())
        assert row.n_correct == int((scores.argmax(1) == data["y_test"]).sum())
        void += row.n_nonfinite
    assert void > 200


@pytest.mark.slow
@pytest.mark.parametrize("which", ["bias", "moving_variance", "*"])
def test_chips_on_few_images_decide_as_on_all(model: keras.Model, which: str):
    """Every decision on a sample is that of Keras; a bias that errs leaves the last layer's sums no known law."""
    data = np.load("data.npz")
    np.savez("data.npz", **{k: np.concatenate([v] * 2) for k, v in data.items()})
    family = FAMILY.format(table=f'op = "gaussian", scale = 0.4, variables = "{which}"')
    head = HEAD.replace("seeds = 6\n", "")
    Path("few.toml").write_text(f'{head}images = "sampled"\nseeds = 300\n{family}')
    Path("full.toml").write_text(f'{head}images = "all"\nprecision = 0.01\nmax_seeds = 300\n{family}')
    few, full = (sweep.run(f"{name}.toml", name, runner="inline").trials() for name in ("few", "full"))
    both = few[few["family"] == "f"].merge(full, on=["cell", "seed"], suffixes=("", "_full"))
    assert len(both) > 200
    error = (both["estimate"] - both["accuracy_full"]).to_numpy()
    assert abs(error.mean()) < 4.5 * error.std(ddof=1) / np.sqrt(len(error))
    assert both["control"].isna().all()


def test_what_a_selection_is_told_and_resolved(model: keras.Model):
    run('op = "gaussian", scale = 0.1, variables = ["bias", "gamma"], layers = "!late"')
    found = pd.read_parquet("run/resolved.parquet")
    found = found[found["family"] == "f"]
    assert found.loc[found["weights"] > 0, "variable"].str.split("/").str[-2:].str.join("/").tolist() == [
        *("conv/bias", "bn/gamma", "fc/bias"),
    ]
    assert found.loc[found["weights"] == 0, "layer"].tolist() == ["late"]


def test_a_study_without_the_key_keeps_its_identity(model: keras.Model):
    identities = []
    for key in ("", ', variables = "kernel"', ', variables = "bias"'):
        Path("s.toml").write_text(HEAD + FAMILY.format(table=f'op = "gaussian", scale = 0.1{key}'))
        identities.append(sweep.plan("s.toml").study.identity({}))
    assert identities[0] == identities[1]
    assert "variables" not in json.dumps(identities[0])
    assert [t["variables"] for t in identities[2]["cells"]["net/f"]] == ["bias"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            'variables = "offset"',
            r"family\[0\]\.perturb\[0\]\.variables: 'offset' selects no variable; this network has: kernel, bias in "
            r"conv, fc; gamma, beta, moving_mean, moving_variance in bn, late",
        ),
        (
            'variables = "gamma", layers = "fc"',
            r"perturb\[0\]\.layers: 'fc' selects no layer with 'gamma'; layers with it: bn \(1, BatchNorm.*\), late",
        ),
        ('variables = ["bias", "mean"]', r"\.variables: 'mean' selects no variable; this network has"),
        ("variables = []", r"\.variables: the list is empty"),
        ("variables = 3", r"\.variables: 3 is not \"kernel\", a name such as \"bias\", a glob"),
    ],
)
def test_nothing_that_is_so_called(model: keras.Model, table: str, message: str):
    with pytest.raises(InputError, match=message):
        run(f'op = "gaussian", scale = 0.1, {table}')


def test_the_data_flow_has_no_variables(model: keras.Model):
    with pytest.raises(InputError, match="variables: unknown key"):
        run('op = "activation_fixed_point", bits = 3, variables = "bias"')


def test_one_layer_at_a_time(model: keras.Model):
    sensitivity = '\nsensitivity = "per-layer"\n'
    Path("s.toml").write_text(
        HEAD + FAMILY.format(table='op = "gaussian", scale = 0.3, variables = "bias"').rstrip() + sensitivity
    )
    found = sweep.run("s.toml", "run", runner="inline").trials()
    assert sorted(found["layer"].dropna().unique()) == ["conv", "fc"]
    two = '{ op = "gaussian", scale = 0.3, variables = "gamma" }, { op = "uniform", scale = 0.1, variables = "bias" }'
    Path("s.toml").write_text(HEAD + f'[[family]]\nname = "f"\nperturb = [ {two} ]{sensitivity}')
    with pytest.raises(InputError, match=r"family\[0\]\.sensitivity: 'bn' selects no layer with 'bias'"):
        sweep.run("s.toml", "other", runner="inline")


@keras.saving.register_keras_serializable("variables")
class Own(kl.Layer):
    """Numbers under names of its own; a count and a seed that are no weights."""

    def build(self, shape):
        self.slope = self.add_weight(shape=(shape[-1],), name="slope", initializer="ones")
        self.level = self.add_weight(shape=(), name="level", initializer="ones")
        self.steps = self.add_weight(shape=(), name="steps", dtype="int32", trainable=False)
        self.seeds = keras.random.SeedGenerator(1)

    def call(self, x):
        return x * self.slope + self.level


def test_own_names_scalars_and_what_is_no_number():
    model = keras.Sequential([keras.Input((3,)), kl.Normalization(), Own(name="own"), kl.Dense(2, name="fc")])
    variables = variables_of(model)
    names = {v.index: v.name for v in variables}

    def found(which: object) -> set[str]:
        return {names[i] for i in select(variables, "*", which)}  # type: ignore[arg-type]

    assert found("*") == {"slope", "level", "kernel", "bias"}, "of Normalization Keras reads a copy"
    assert found("s*") == {"slope"}
    assert found(("*", "!kernel", "!bias")) == {"slope", "level"}
    assert found("!kernel") == {"slope", "level", "bias"}
    assert found("kernel") == {"kernel"}


def test_embeddings_recurrent_kernels_and_heads():
    inputs = keras.Input((6,), dtype="int32")
    x = kl.Embedding(10, 4, name="words")(inputs)
    x = kl.MultiHeadAttention(2, 3, name="mha")(x, x)
    model = keras.Model(inputs, kl.Dense(2, name="fc")(kl.GRU(3, name="gru")(x)))
    variables = variables_of(model)
    assert [variables[i].name for i in select(variables, "words", "embeddings")] == ["embeddings"]
    assert [variables[i].name for i in select(variables, "gru", "recurrent_kernel")] == ["recurrent_kernel"]
    assert set(select(variables, "*", "kernel")) > set(select(variables, "*", ("embeddings", "recurrent_kernel")))
    heads = [v for v in variables if v.layer == "mha" and v.name == "bias"]
    assert {v.shape: v.channel_axes for v in heads} == {(2, 3): (0, 1), (4,): (0,)}


def test_each_value_of_a_vector_is_a_channel():
    bias = np.float32([1, -2, 0.5])
    model = keras.Sequential([keras.Input((2,)), kl.Dense(3)])
    variable = variables_of(model)[1]
    assert np.array_equal(unit("channel_max", bias, variable), np.abs(bias))
    rng = draw(0, 0, 0, 0)
    assert np.array_equal(REGISTRY["symmetric"](bits=2, per="channel").apply(bias, variable, rng), bias)
    opened = REGISTRY["open_lines"](rate=0.5, lines="rows").apply(bias, variable, draw(0, 0, 0, 1))
    assert np.array_equal(opened, bias) or not opened.any(), "a bias is one input line"

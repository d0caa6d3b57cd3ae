"""Families end to end, against Keras layer by layer and numpy: data flow, reads, layers one at a time, plugins."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

import sweep
from sweep.errors import InputError
from sweep.networks.inspection import variables_of
from sweep.perturb import REGISTRY, perturb
from sweep.perturb.dataflow import ActivationAffine, DataFlow
from tests.oracle import count, draw, perturbed

HEAD = """
name = "families"
model = {model}
dataset = "data.npz"
seeds = 3
"""


def study(*families: str, model: str = '"net.keras"', extra: str = "") -> str:
    tables = "\n".join(f'[[family]]\nname = "f{i}"\n{family}\n' for i, family in enumerate(families))
    Path("families.toml").write_text(HEAD.format(model=model) + extra + "\n" + tables)
    return "families.toml"


def trials(*families: str, out: str = "run", **options: Any) -> pd.DataFrame:
    return perturbed_only(sweep.run(study(*families), out, runner="inline", **options).trials())


def perturbed_only(found: pd.DataFrame) -> pd.DataFrame:
    """Without the clean network."""
    return found[found["family"] != "clean"].reset_index(drop=True)


@pytest.fixture
def data(place: Path) -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """The network, its images as it takes them, the labels; the file has training images too."""
    arrays = np.load("data.npz")
    train = np.random.default_rng(9).integers(0, 256, (40, 12, 12), dtype=np.uint8)
    np.savez("data.npz", **arrays, x_train=train, y_train=np.zeros(40, int))
    return keras.models.load_model("net.keras"), prepared(arrays["x_test"]), arrays["y_test"]


def prepared(images: np.ndarray) -> np.ndarray:
    return images[..., None].astype(np.float32) / np.float32(255)


def rounded(x: np.ndarray, low: float, step: float, bits: int) -> np.ndarray:
    """On the 2^bits levels low, low + step, …"""
    x = np.asarray(x, np.float32)
    low, step = np.float32(low), np.float32(step)
    return np.clip(np.rint((x - low) / step), 0, 2**bits - 1).astype(np.float32) * step + low


def through(model: keras.Model, weights: list[np.ndarray], x: np.ndarray, change: dict[str, Any]) -> np.ndarray:
    """Scores, with functions applied to the images and to the outputs of layers, by name."""
    clean = model.get_weights()
    model.set_weights(weights)
    x = change.get("input", lambda v: v)(x)
    for layer in model.layers:
        x = change.get(layer.name, lambda v: v)(np.asarray(layer(x)))
    model.set_weights(clean)
    return x


@pytest.mark.parametrize("engine", ["plain", "stacked", "compiled", None])
def test_weights_and_activations_in_fixed_point(data, engine):
    """Sums of such products are exact in float32, so every way gives every image the same decision."""
    model, images, labels = data
    found = trials(
        """perturb = [ { op = "fixed_point", bits = [8, 4, 2] },
                       { op = "activation_fixed_point", layers = ["input", "*"], bits = [8, 3, 1] } ]""",
        engine=engine,
    )
    assert len(found) == 9
    assert set(found["engine"]) == {engine or "compiled"}
    for row in found.itertuples():
        weights = perturbed(model, [0, 1], [{"op": "fixed_point", "bits": row.bits}], 0)
        step = 2.0**-row.bits_1
        change = dict.fromkeys(("input", "conv1"), lambda x, s=step: np.rint(x / s).astype(np.float32) * np.float32(s))
        scores = through(model, weights, images, change)
        assert row.n_correct == int((scores.argmax(1) == labels).sum()), row


def test_converters_and_calibrated_ranges(data):
    model, images, labels = data
    clean = model.get_weights()
    sample = prepared(np.load("data.npz")["x_train"])
    seen = np.asarray(model.layers[0](sample))
    grids = {
        "min_max": min(0.0, float(seen.min())),
        "percentile": min(0.0, float(np.percentile(seen, 1))),
    }
    tops = {"min_max": float(seen.max()), "percentile": float(np.percentile(seen, 99))}
    found = trials(
        'perturb = [ { op = "activation_affine", bits = [6, 2], percentile = 99, range = ["min_max", "percentile"] } ]',
        """perturb = [ { op = "dac", bits = 4, low = 0, high = 1, layers = "conv1" },
                       { op = "adc", bits = [5, 2], low = -0.5, high = 2 } ]""",
    )
    for row in found.itertuples():
        if row.family == "f0":
            low, high = grids[row.range], tops[row.range]
            step = np.float32((high - low) / (2**row.bits - 1))
            zero = np.rint(-low / step)
            change = {"conv1": lambda x, s=step, z=zero, b=row.bits: rounded(x, -float(z) * float(s), s, b)}
        else:
            change = {
                "input": lambda x: rounded(x, 0, 1 / 15, 4),
                "conv1": lambda x, b=row.bits: rounded(x, -0.5, 2.5 / (2**b - 1), b),
            }
        expected = int((through(model, clean, images, change).argmax(1) == labels).sum())
        assert abs(row.n_correct - expected) <= 1, "but for a value on the border between two levels"
    assert found["n_correct"].nunique() > 2


def test_the_least_squares_range_is_the_best_share(data):
    sample = np.random.default_rng(0).standard_normal(20_000).astype(np.float32) ** 2
    errors = {}
    for share in np.arange(1, 101) / 100:
        step = float(sample.max()) * share / 7
        errors[share] = np.mean((sample - np.clip(np.rint(sample / step), 0, 7) * step) ** 2)
    best = min(errors, key=lambda share: errors[share])
    levels = ActivationAffine(bits=3, range="mse").levels(sample)
    assert levels.step * 7 / float(sample.max()) == pytest.approx(best, abs=0.011)
    assert (levels.lowest, levels.highest) == (0, 7)


def test_calibration_needs_training_images(place: Path):
    with pytest.raises(InputError, match=r"no array x_train; .*; activation_affine calibrates"):
        trials('perturb = [ { op = "activation_affine", bits = 4 } ]')


def test_noise_on_activations(data):
    model, images, labels = data
    found = trials('perturb = [ { op = "activation_noise", scale = [0, 0.3], layers = ["input", "conv1"] } ]')
    assert found.groupby("scale")["seed"].count().tolist() == [1, 3]
    for row in found[found["scale"] > 0].itertuples():
        streams = {name: draw(0, row.seed, 0, 2**32 + k) for k, name in enumerate(["input", "conv1"])}
        change = {
            name: lambda x, rng=rng: x + np.float32(0.3) * rng.standard_normal(x.shape, dtype=np.float32)
            for name, rng in streams.items()
        }
        expected = int((through(model, model.get_weights(), images, change).argmax(1) == labels).sum())
        assert abs(row.n_correct - expected) <= 1
    assert found["n_correct"].nunique() > 1


@pytest.mark.parametrize("engine", ["plain", "stacked", "compiled"])
def test_a_read_draws_anew_for_each_block_of_images(data, engine):
    """A chip's noise, then reads of 64 images: the n-th read is the n-th set of draws of its stream."""
    model, images, labels = data
    found = trials(
        """perturb = [ { op = "gaussian", scale = 0.1 },
                       { op = "uniform_symmetric", scale = 0.4, lifetime = "read", block = 64 } ]""",
        engine=engine,
    )
    kernels, clean = [0, 1], model.get_weights()
    for row in found.itertuples():
        chip = perturbed(model, kernels, [{"op": "gaussian", "scale": 0.1}], row.seed)
        streams = {i: draw(0, row.seed, 1, i) for i in kernels}
        right = 0
        for start in range(0, 300, 64):
            weights = list(chip)
            for i in kernels:
                u = streams[i].random(clean[i].shape, dtype=np.float32)
                weights[i] = chip[i] + np.float32(0.4) * (2 * u - 1)
            right += count(model, weights, images[start : start + 64], labels[start : start + 64])
        assert row.n_correct == right


def test_reads_of_two_lengths(data):
    """Reads of 50 and of 100 images in one perturbation: the longer one makes the same draws twice."""
    model, images, labels = data
    found = trials(
        """perturb = [ { op = "gaussian", scale = 0.3, lifetime = "read", block = 50 },
                       { op = "uniform", scale = 0.3, lifetime = "read", block = 100 } ]"""
    )
    clean = model.get_weights()
    for row in found.itertuples():
        normal, uniform = ({i: draw(0, row.seed, t, i) for i in (0, 1)} for t in (0, 1))
        right, flat = 0, {}
        for start in range(0, 300, 50):
            weights = list(clean)
            for i, w in enumerate(clean[:2]):
                if start % 100 == 0:
                    flat[i] = np.float32(0.3) * uniform[i].random(w.shape, dtype=np.float32)
                weights[i] = (w + np.float32(0.3) * normal[i].standard_normal(w.shape, dtype=np.float32)) + flat[i]
            right += count(model, weights, images[start : start + 50], labels[start : start + 50])
        assert row.n_correct == right


def test_sensitivity_is_one_cell_for_each_layer(data):
    model, images, labels = data
    noisy = 'perturb = [ { op = "gaussian", scale = [0.2, 0.4] } ]'
    run = sweep.run(study(noisy + '\nsensitivity = "per-layer"'), "run", runner="inline")
    found = perturbed_only(run.trials())
    assert found.groupby(["layer", "scale"]).size().to_dict() == {
        (name, scale): 3 for name in ("conv1", "fc") for scale in (0.2, 0.4)
    }
    for row in found.itertuples():
        only = [["conv1", "fc"].index(row.layer)]
        weights = perturbed(model, [0, 1], [{"op": "gaussian", "scale": row.scale, "only": only}], row.seed)
        assert row.n_correct == count(model, weights, images, labels)
    assert sweep.open_run("run").study.family[0].sensitivity == ["conv1", "fc"]
    assert "layer  scale  trials" in run.table()
    again = sweep.run("families.toml", "run", runner="inline")
    assert len(perturbed_only(again.trials())) == len(found), "the file still says per-layer, and nothing is run again"


def test_a_glob_of_models_is_an_axis(place: Path):
    Path("nets").mkdir()
    for name in ("b", "a"):
        Path(f"nets/{name}.keras").write_bytes(Path("net.keras").read_bytes())
    path = study('perturb = [ { op = "gaussian", scale = 0.2 } ]', model='"nets/*.keras"')
    run = sweep.run(path, "run", runner="inline")
    assert run.study.model == ["nets/a.keras", "nets/b.keras"]
    assert run.trials()["model"].unique().tolist() == ["a", "b"]
    spread = run.components()
    assert spread[["family", "networks", "chips", "std_trainings"]].to_numpy().tolist() == [
        ["clean", 2, 1, 0],
        ["f0", 2, 3, 0],
    ], "twins do not differ"
    assert spread["std_chips"][1] == pytest.approx(perturbed_only(run.trials())["accuracy"][:3].std())
    assert "f0, all networks" in run.table()
    assert run.answers()[0].name == "components"
    assert "± trainings" not in run.table(answers=True)
    assert "Trainings and chips" in run.table(answers=True)
    absolute = study('perturb = [ { op = "gaussian", scale = 0.2 } ]', model=f'"{place}/nets/[ab].keras"')
    assert list(sweep.plan(absolute).study.models) == ["a", "b"]
    with pytest.raises(InputError, match=r"model: 'nets/\*.h5' matches no file"):
        sweep.run(study('perturb = [ { op = "gaussian", scale = 0.2 } ]', model='"nets/*.h5"'), "r", runner="inline")


def test_what_transforms_amount_to_is_stored(data):
    model, *_ = data
    trials(
        """perturb = [ { op = "fixed_point", bits = 3 },
                       { op = "gaussian", scale = 0.1, basis = "layer_max", layers = "fc" },
                       { op = "activation_affine", bits = 4 } ]"""
    )
    found = pd.read_parquet("run/resolved.parquet").set_index(["op", "layer"])
    kernels = model.get_weights()
    coarse = np.rint(kernels[1] * 8) / 8
    error = np.sqrt(np.mean((coarse - kernels[1]) ** 2))
    assert found.loc[("fixed_point", "fc"), "step"] == 0.125
    assert found.loc[("fixed_point", "fc"), "error_std"] == pytest.approx(error, rel=1e-6)
    assert found.loc[("gaussian", "fc"), "sigma"] == pytest.approx(0.1 * np.abs(coarse).max(), rel=1e-6)
    assert found.loc[("activation_affine", "conv1"), "high"] == pytest.approx(
        np.asarray(model.layers[0](prepared(np.load("data.npz")["x_train"]))).max(), rel=1e-6
    )


PLUGIN = '''
from dataclasses import dataclass

import numpy as np

from sweep.perturb import Transform, parameter, register


@register("shrink")
@dataclass(frozen=True, kw_only=True)
class Shrink(Transform):
    """w ↦ (1 − share · u) · w, u ~ U[0, 1), one draw a kernel."""

    share: float = parameter("largest share lost", minimum=0.0, maximum=1.0)

    @property
    def random(self) -> bool:
        return self.share > 0

    def apply(self, weight, variable, generator):
        return weight * np.float32(1 - self.share * generator.random())
'''


@pytest.mark.slow
def test_a_transform_of_ones_own(data):
    """In another process, through Ray: workers know nothing of the file."""
    model, images, labels = data
    Path("my_noise.py").write_text(PLUGIN)
    path = study('perturb = [ { op = "shrink", share = [0, 0.9] } ]', extra='plugins = ["my_noise.py"]')
    done = subprocess.run(
        [sys.executable, "-m", "sweep", "run", path, "--out", "run"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = perturbed_only(pd.read_parquet("run/trials"))
    assert len(found) == 1 + 3
    for row in found.itertuples():
        factors = [np.float32(1 - row.share * draw(0, row.seed, 0, i).random()) for i in (0, 1)]
        weights = [w * f for w, f in zip(model.get_weights(), [*factors, 1], strict=True)]
        assert row.n_correct == count(model, weights, images, labels)
    Path("my_noise.py").unlink()
    shown = subprocess.run([sys.executable, "-m", "sweep", "table", "run"], capture_output=True, text=True, timeout=300)
    assert shown.returncode == 0, "the run keeps its plugins"
    assert "share" in shown.stdout


def test_the_transform_in_the_readme(place: Path, root: Path):
    found = re.search(
        r"### Your own.*?```python\n(.*?)```", (root / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    Path("my_noise.py").write_text(found[1])
    path = study('perturb = [ { op = "stripes", scale = [0.1, 0.2] } ]', extra='plugins = ["my_noise.py"]')
    assert perturbed_only(sweep.run(path, "run", runner="inline").trials())["scale"].tolist() == [0.1] * 3 + [0.2] * 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "absent.py: no such file"),
        ("x = 1", "registers no transform"),
        ("1 / 0", "ZeroDivisionError"),
        (PLUGIN.replace('"shrink"', '"gaussian"'), "two transforms are called 'gaussian'"),
    ],
)
def test_plugins_that_are_wrong(place: Path, content: str | None, message: str):
    if content:
        Path("wrong.py").write_text(content)
    name = "wrong.py" if content else "absent.py"
    path = study('perturb = [ { op = "gaussian", scale = 0.1 } ]', extra=f'plugins = ["{name}"]')
    with pytest.raises(InputError, match=message):
        sweep.plan(path)


def test_weights_that_overflow_count_as_in_keras(data):
    """Flipped exponent bits make weights near 1e38: sums overflow, and ways to evaluate could differ."""
    model, images, labels = data
    found = trials('perturb = [ { op = "float32_bit_flip", rate = 0.01 } ]', seeds=12)
    v = variables_of(model)
    for row in found.itertuples():
        flip = REGISTRY["float32_bit_flip"](rate=0.01)
        weights = [
            flip.apply(w, v[i], draw(0, row.seed, 0, i)) if i < 2 else w for i, w in enumerate(model.get_weights())
        ]
        assert row.n_correct == count(model, weights, images, labels)
    assert found["n_correct"].min() < 150, "some chips are ruined"
    assert found["n_nonfinite"].max() > 0
    assert "no finite" in sweep.open_run("run").table()


EVERY_OP = {
    "gaussian": "scale = 0.3",
    "uniform": "scale = 0.3",
    "uniform_symmetric": "scale = 0.3",
    "log_normal": "scale = 0.5",
    "fixed_point": "bits = 2",
    "fixed_point_saturating": "bits = 2",
    "symmetric": "bits = 3",
    "affine": "bits = 3",
    "conductance_states": "states = 4",
    "binary": "",
    "ternary": "",
    "power_of_two": "bits = 3",
    "floating": 'format = "float8_e5m2"',
    "stuck_at": "rate = 0.2, high = 0.3",
    "open_lines": 'rate = 0.2, lines = "columns"',
    "bit_flip": "rate = 0.05, bits = 6",
    "float32_bit_flip": "rate = 0.001",
    "drift": "time = 3600, nu = 0.05, nu_std = 0.02",
    "pcm": "time = 3600",
    "conductance_noise": "table = [[1, 0.5], [10, 2]]",
    "conductance_over_time": "time = 60, sigma = [[1, [[1, 0.5], [10, 2]]], [3600, [[1, 1], [10, 3]]]]",
}


def test_every_op_counts_as_plain_keras_does(data):
    """With the weights that the transform makes on its documented stream; these have oracles of their own."""
    model, images, labels = data
    weight_ops = {op for op, transform in REGISTRY.items() if transform.__module__.startswith("sweep.perturb.")}
    weight_ops -= {op for op in weight_ops if issubclass(REGISTRY[op], DataFlow)}
    weight_ops -= {op for op in weight_ops if REGISTRY[op].in_files}  # tests/preparation/test_measured.py
    assert set(EVERY_OP) == weight_ops
    families = [
        f'perturb = [ {{ op = "{op}"{", " if arguments else ""}{arguments} }} ]' for op, arguments in EVERY_OP.items()
    ]
    run = sweep.run(study(*families), "run", runner="inline", seeds=2)
    cells = {cell.id: cell for cell in run.study.cells}
    found = perturbed_only(run.trials())
    assert found["family"].nunique() == len(EVERY_OP)
    for row in found.itertuples():
        weights = perturb(model.get_weights(), variables_of(model), cells[row.cell].transforms, 0, row.seed)
        assert row.n_correct == count(model, weights, images, labels), row.cell
    resolved = pd.read_parquet("run/resolved.parquet").set_index("op")
    for op in ("gaussian", "log_normal", "pcm", "conductance_noise", "drift"):
        assert (resolved.loc[op, "sigma"] > 0).all()
    for op in ("fixed_point", "symmetric", "affine", "bit_flip"):
        assert (resolved.loc[op, "step"] > 0).all()

"""A user's own transforms, of weights and of the data flow with Keras classes beside them: here and in Ray workers."""

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

import sweep
from sweep.errors import InputError
from sweep.execution.verify import verify
from sweep.perturb import REGISTRY, register
from sweep.perturb.dataflow import DataFlow
from sweep.storage.schema import PROVENANCE
from sweep.study.study import Study
from tests.oracle import draw

FLOW = '''
from dataclasses import dataclass

import keras
import numpy as np

from sweep.perturb import ActivationNoise, Levels, Rounding, Transform, parameter, register


@keras.saving.register_keras_serializable(package="mine")
class Doubled(keras.layers.Layer):
    """x ↦ 2x"""

    def call(self, inputs):
        return 2 * inputs


@register("thirds")
@dataclass(frozen=True, kw_only=True)
class Thirds(Rounding):
    """x ↦ rint(x · n) / n"""

    parts: int = parameter("levels between 0 and 1", minimum=1)

    def levels(self, sample):
        return Levels(1 / self.parts)


@register("louder")
@dataclass(frozen=True, kw_only=True)
class Louder(ActivationNoise):
    """Noise of twice the scale."""

    def sigma(self, sample):
        return 2 * self.scale


# Classes that no name of the module leads to, and that no process can import.
for op, factor in (("half", 0.5), ("quarter", 0.25)):

    @register(op)
    @dataclass(frozen=True, kw_only=True)
    class Scaled(Transform):
        """w ↦ f · w"""

        share: float = parameter("of f", minimum=0.0)
        factor = factor
        random = False

        def apply(self, weight, variable, generator):
            return weight * np.float32(self.factor * self.share)
'''

STUDY = """
name = "own"
model = "doubled.keras"
dataset = "data.npz"
seeds = 2
plugins = ["own.py"]

[[family]]
name = "scaled"
perturb = [ { op = "half", share = [0.5, 1.0] }, { op = "quarter", share = 1.0, layers = "fc" } ]

[[family]]
name = "thirds"
perturb = [ { op = "thirds", parts = [1, 3] } ]

[[family]]
name = "louder"
perturb = [ { op = "louder", scale = [0.0, 0.25] } ]
"""


@pytest.fixture
def own(place: Path) -> Path:
    """A plugin, a network with a layer of its own, and a study with all of the plugin's transforms."""
    Path("own.py").write_text(FLOW)
    Path("own.toml").write_text(STUDY)
    make = """
import keras
exec(open("own.py").read())
net = keras.models.load_model("net.keras")
conv, pool, flat, fc = net.layers
new = keras.Sequential([keras.Input((12, 12, 1)), conv, Doubled(name="doubled"), pool, flat, fc])
new.save("doubled.keras")
"""
    subprocess.run([sys.executable, "-c", make], check=True, timeout=300)
    return place


def expected(values: pd.Series) -> int:
    """How many images are right, layer by layer in Keras and numpy."""
    conv, pool, flat, fc = keras.models.load_model("net.keras").layers
    arrays = np.load("data.npz")
    images = arrays["x_test"][..., None].astype(np.float32) / np.float32(255)
    if values["family"] == "scaled":
        for layer, factors in ((conv, [0.5]), (fc, [0.5, 0.25])):
            kernel, *biases = layer.get_weights()
            for factor, share in zip(factors, (values["share"], 1.0), strict=False):
                kernel = kernel * np.float32(factor * share)
            layer.set_weights([kernel, *biases])
    x = np.asarray(conv(images))
    if values["family"] == "thirds":
        step = np.float32(1 / values["parts"])
        x = np.rint(x / step) * step
    if values["family"] == "louder" and values["scale"]:
        noise = draw(0, int(values["seed"]), 0, 2**32 + 1).standard_normal(x.shape, dtype=np.float32)
        x = x + np.float32(2 * values["scale"]) * noise
    return int((np.asarray(fc(flat(pool(2 * x)))).argmax(1) == arrays["y_test"]).sum())


@pytest.mark.slow
def test_transforms_of_ones_own_of_weights_and_of_the_data_flow(own: Path):
    """In Ray, whose workers find the plugin nowhere, as in this process; both as Keras and numpy have it."""
    done = subprocess.run(
        [sys.executable, "-m", "sweep", "run", "own.toml", "--out", "ray", "--trust-model", "--chunk", "2"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = sweep.run("own.toml", "inline", runner="inline", trust_model=True).trials()
    assert len(found) == 1 + 2 + 2 + 1 + 2
    assert found["n_correct"].tolist() == [expected(row) for _, row in found.iterrows()]
    rest = list(PROVENANCE)
    pd.testing.assert_frame_equal(sweep.open_run("ray").trials().drop(columns=rest), found.drop(columns=rest))


def test_a_network_with_a_class_of_ones_own_is_trusted_or_refused(own: Path):
    with pytest.raises(InputError, match="not safe to load"):
        sweep.plan("own.toml")


BARE = """
from dataclasses import dataclass
from sweep.perturb import *
from sweep.perturb.dataflow import DataFlow

@register("fine")
@dataclass(frozen=True, kw_only=True)
class Fine(Transform):
    random = False
    def apply(self, weight, variable, generator):
        return weight

@register("wrong")
{dataclass}
class Wrong({base}):
    {body}
"""
DATACLASS = "@dataclass(frozen=True, kw_only=True)"
UNFIT = {
    "bare": (DATACLASS, "DataFlow", "pass", "wrong: is a bare DataFlow; make it a subclass of Rounding"),
    "abstract": (DATACLASS, "Rounding", "pass", "wrong: lacks levels"),
    "no apply": (DATACLASS, "Transform", "random = True", "wrong: lacks apply"),
    "no dataclass": ("", "ActivationNoise", "more: float = parameter('x')", "wrong: is no dataclass; @dataclass"),
    "type": (DATACLASS, "ActivationNoise", "more: complex = parameter('x')", "wrong: more: .* is no type of a param"),
}


@pytest.mark.parametrize(("dataclass", "base", "body", "said"), UNFIT.values(), ids=UNFIT)
def test_a_class_that_cannot_act_is_refused_in_one_line(place: Path, dataclass: str, base: str, body: str, said: str):
    Path("wrong.py").write_text(BARE.format(dataclass=dataclass, base=base, body=body))
    text = Path("study.toml").read_text()
    Path("study.toml").write_text(text.replace("seeds = 6", 'seeds = 6\nplugins = ["wrong.py"]'))
    before = set(REGISTRY)
    with pytest.raises(InputError, match=said) as error:
        sweep.plan("study.toml")
    assert len(error.value.problems) == 1
    assert set(REGISTRY) == before, "nothing of it stays"


def test_a_bare_data_flow_of_a_notebook_is_refused_in_one_line(place: Path):
    @register("nothing")
    @dataclass(frozen=True, kw_only=True)
    class Nothing(DataFlow):
        pass

    text = Path("study.toml").read_text()
    Path("study.toml").write_text(f'{text}\n[[family]]\nname = "n"\nperturb = [ {{ op = "nothing" }} ]\n')
    try:
        with pytest.raises(InputError, match=r"nothing: is neither a Rounding nor an ActivationNoise"):
            sweep.plan("study.toml")
    finally:
        del REGISTRY["nothing"]


SAME = """
from dataclasses import dataclass
from sweep.perturb import Transform, parameter, register

@register("{op}")
@dataclass(frozen=True, kw_only=True)
class Same(Transform):
    scale: float = parameter("level", minimum=0.0)
    random = False
    def apply(self, weight, variable, generator):
        return weight * {factor}
"""


def write_same(folder: str, op: str, factor: float) -> None:
    Path(folder).mkdir(exist_ok=True)
    Path(folder, "noise.py").write_text(SAME.format(op=op, factor=factor))


def same_study(plugins: list[str], ops: list[str]) -> Study:
    families = "".join(f'[[family]]\nname = "{op}"\nperturb = [ {{ op = "{op}", scale = 1 }} ]\n' for op in ops)
    Path("same.toml").write_text(
        f'name = "same"\nmodel = "net.keras"\ndataset = "data.npz"\nseeds = 1\nplugins = {plugins}\n{families}'
    )
    return Study.from_toml("same.toml")


def test_two_plugins_of_one_file_name(place: Path):
    write_same("a", "same_a", 1.0)
    write_same("b", "same_b", 0.5)
    study = same_study(["a/noise.py", "b/noise.py"], ["same_a", "same_b"])
    digests = {f"{at}/noise.py": hashlib.sha256(Path(at, "noise.py").read_bytes()).hexdigest() for at in "ab"}
    assert study.identity({})["plugins"] == digests
    sweep.run("same.toml", "run", runner="inline")
    kept = {path.read_bytes() for path in Path("run/plugins").iterdir()}
    assert kept == {Path(at, "noise.py").read_bytes() for at in "ab"}
    assert verify("run", trust_plugins=True).trials == 3


def test_a_plugin_whose_name_is_its_own_is_known_by_it_as_before(place: Path):
    """What 0.1.0 wrote, so that its runs go on; the same file twice is one."""
    write_same("c", "same_c", 1.0)
    write_same("d", "same_c", 1.0)
    expected = {"noise.py": hashlib.sha256(Path("c/noise.py").read_bytes()).hexdigest()}
    for plugins in (["c/noise.py"], ["c/noise.py", "d/noise.py"], ["c/noise.py", "./c/noise.py"]):
        assert same_study(plugins, ["same_c"]).identity({})["plugins"] == expected


def test_another_plugin_makes_another_study_and_is_named(place: Path):
    write_same("e", "same_e", 1.0)
    same_study(["e/noise.py"], ["same_e"])
    sweep.run("same.toml", "run", runner="inline")
    write_same("e", "same_f", 1.0)
    same_study(["e/noise.py"], ["same_f"])
    with pytest.raises(InputError, match=r"plugin noise\.py was [0-9a-f]{12}…, is [0-9a-f]{12}…"):
        sweep.plan("same.toml", "run")

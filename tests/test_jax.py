"""Keras on JAX: each test in a process of its own, since one uses one library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import sweep
from sweep.errors import InputError
from sweep.execution.verify import verify
from sweep.networks.backend import use
from sweep.storage.schema import PROVENANCE

pytestmark = pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed")
ROOT = Path(__file__).parent.parent


def with_jax(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NOISESWEEP_CACHE": "off", **settings}
    return subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_the_engine_counts_as_keras_does() -> None:
    """The tests that say what a process with a GPU does, and those of gradients and of its convolutions, by JAX."""
    tests = ["tests/engine/test_gpu.py", "tests/engine/test_gradients.py", "tests/engine/stacked/test_taps.py"]
    ran = with_jax("pytest", "-q", "-p", "no:cacheprovider", *tests, KERAS_BACKEND="jax")
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert " passed" in ran.stdout


@pytest.mark.slow
def test_a_study_by_jax_has_the_counts_of_tensorflow(tmp_path: Path) -> None:
    """Near ties may fall otherwise, about one decision in millions; of these 110,000 none does."""
    ours = sweep.run(ROOT / "jobs/smoke.toml", out=tmp_path / "tensorflow", runner="inline")
    place = str(tmp_path / "jax")
    ran = with_jax("sweep", "run", "jobs/smoke.toml", "--runner", "inline", "--backend", "jax", "--out", place)
    assert ran.returncode == 0, ran.stderr
    assert not ran.stderr.strip() or "TensorFlow" not in ran.stderr
    theirs = sweep.open_run(place)
    assert theirs.trials().drop(columns=list(PROVENANCE)).equals(ours.trials().drop(columns=list(PROVENANCE)))
    manifest = json.loads((tmp_path / "jax" / "manifest.json").read_text())
    assert manifest["devices"] == ["JAX CPU"]
    assert "jax" in manifest["hosts"][0]
    with pytest.raises(
        InputError, match=r"evaluated on JAX CPUs, and these would be on CPUs, .* --backend jax goes on"
    ):
        sweep.run(ROOT / "jobs/smoke.toml", out=place, runner="inline", seeds=5)
    grown = with_jax("sweep", "run", "jobs/smoke.toml", "--seeds", "4", "--backend", "jax", "--out", place)  # by Ray
    assert grown.returncode == 0, grown.stderr
    assert "Warning" not in grown.stderr
    assert verify(place).sound


@pytest.mark.slow
def test_faults_of_activations_and_arrays_are_those_of_tensorflow(place: Path) -> None:
    with np.load("data.npz") as data:
        arrays = dict(data)
    np.savez("data.npz", **arrays, x_train=arrays["x_test"])
    Path("flow.toml").write_text(
        Path("study.toml").read_text().partition("[[family]]")[0]
        + '[[family]]\nname = "flips"\nperturb = [ { op = "activation_bit_flip", bits = 6, rate = [0.0, 0.01] } ]\n'
        + '[[family]]\nname = "stuck"\nperturb = [ { op = "activation_stuck_at", rate = 0.05, high = 0.5 } ]\n'
        + '[[family]]\nname = "arrays"\nperturb = [ { op = "tile_adc", rows = 20, bits = 5, noise = [0, 0.5] } ]\n'
    )
    ours = sweep.run("flow.toml", out="tensorflow", runner="inline")
    said = ("--runner", "inline", "--backend", "jax", "--out", str(place / "jax"))
    ran = with_jax("sweep", "run", str(place / "flow.toml"), *said)
    assert ran.returncode == 0, ran.stderr
    theirs = sweep.open_run("jax")
    assert theirs.trials().drop(columns=list(PROVENANCE)).equals(ours.trials().drop(columns=list(PROVENANCE)))


def test_one_process_uses_one_library() -> None:
    from sweep.networks.backend import import_keras

    import_keras()
    use("tensorflow")
    with pytest.raises(InputError, match=r"^--backend jax: Keras uses TensorFlow in this process already; begin a new"):
        use("jax")
    with pytest.raises(InputError, match=r"^--backend torch: is none; valid: tensorflow, jax$"):
        use("torch")


def test_what_neither_evaluates_nor_trains() -> None:
    other = with_jax("sweep", "plan", "jobs/smoke.toml", KERAS_BACKEND="torch")
    assert other.stderr.endswith("KERAS_BACKEND=torch: evaluates nothing here; valid: tensorflow, jax\n")
    assert other.stderr.count("\n") == 1
    assert other.returncode == 2
    train = with_jax("sweep", "train", "models/mnist_tf2_fw.toml", KERAS_BACKEND="jax")
    assert train.stderr == "sweep: KERAS_BACKEND: recipes are trained by TensorFlow; leave it out\n"
    assert train.returncode == 2


def test_a_library_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    from sweep.networks import backend

    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.setattr(backend, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"^--backend jax: JAX is not installed; pip install 'noisesweep\[jax\]'$"):
        use("jax")

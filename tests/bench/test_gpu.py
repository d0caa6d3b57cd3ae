"""The benchmark of GPUs runs on a CPU, too; PyTorch's networks are Keras's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from sweep.bench import torch_network
from sweep.bench.resnet import residual_network, set_random_weights

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
@pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed")
def test_it_measures_and_compares(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stack = [layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D(), layers.Flatten(), layers.Dense(5)]
    keras.Sequential([keras.Input((12, 12, 1)), *stack]).save(tmp_path / "m.keras")
    np.savez(tmp_path / "d.npz", x_test=rng.integers(0, 256, (64, 12, 12), np.uint8), y_test=rng.integers(0, 5, 64))
    out = tmp_path / "figures.json"
    command = [sys.executable, "-m", "sweep.bench.gpu", "--network", "cnn", "--exact", "2", "--seconds", "1"]
    command += ["--model", str(tmp_path / "m.keras"), "--dataset", str(tmp_path / "d.npz"), "--out", str(out)]
    command += ["--way", "1,2,64,1", "--way", "2,1,32,0"]
    ran = subprocess.run(command, cwd=ROOT, env={**os.environ, "KERAS_BACKEND": "jax"}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(out.read_text())
    assert found["machine"]["sgemm"] > 0
    ways = [way for way in found["cnn"]["ways"] if "PyTorch" not in way["way"]]
    assert [way["failed"] for way in ways] == [""] * 4
    assert all(way["correct"] == found["cnn"]["correct"] and way["unequal"] == 0 for way in ways)
    assert found["cnn"]["shared"] > 0


@pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed")
def test_a_residual_network_in_pytorch() -> None:
    import torch

    model, images = residual_network(1, 4, 16), np.random.default_rng(0).random((6, 16, 16, 3), np.float32)
    set_random_weights(model, images)
    weights = [torch_network.weight_of(torch, np.asarray(w)) for w in model.get_weights()]
    ours = torch_network.forward_of(model)(torch.from_numpy(images).permute(0, 3, 1, 2), weights)
    np.testing.assert_allclose(ours.numpy(), np.asarray(model.predict(images, verbose=0)), rtol=1e-3, atol=1e-4)

"""Memory does not grow with the trials that a process has run."""

import os
from pathlib import Path

import numpy as np
import pytest

from sweep.data.datasets import Dataset, load_dataset
from sweep.engine import tensors
from sweep.engine.evaluator import Evaluator
from sweep.networks.loading import load_network
from sweep.perturb.noise import Gaussian
from sweep.perturb.perturbation import perturb, reached

LONG = os.environ.get("SWEEP_LONG") == "1"
GROWTH = 1.05


def resident() -> int:
    """Bytes of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_stays_flat(root: Path):
    """With SWEEP_LONG=1: 10,000 trials of the article's network on all images, some ten minutes."""
    trials, warm, images = (10_000, 500, 10_000) if LONG else (400, 100, 500)
    tensors.configure(1)
    whole = load_dataset(root / "models" / "data" / "mnist.npz")
    dataset = Dataset(whole.images[:images], whole.labels[:images], whole.digest)
    network = load_network(root / "models" / "mnist_tf2_fw.h5")
    evaluator = Evaluator(network, dataset)
    noise = (Gaussian(scale=0.08),)
    varied = reached(network.variables, noise)
    step = evaluator.backend(varied).trials
    after_warm = 0
    for start in range(0, trials, step):
        sets = [perturb(evaluator.weights, network.variables, noise, 0, seed) for seed in range(start, start + step)]
        assert np.all(np.array(evaluator.correct(sets, varied)) > images // 20)
        if not after_warm and start + step >= warm:
            after_warm = resident()
    at_end = resident()
    print(
        f"{evaluator.backend(varied).name}: {after_warm / 2**20:.0f} MiB after {warm}, {at_end / 2**20:.0f} at the end"
    )
    assert at_end < GROWTH * after_warm

"""The test images of MNIST with one digit as the anomaly, for the autoencoder that has never seen it."""

from pathlib import Path

import numpy as np

ANOMALY = 2


def anomalies():
    """(10000, 28, 28) uint8, (10000,) int64: 1 for the anomaly, 0 for any other digit."""
    with np.load(Path(__file__).parent.parent / "data" / "mnist.npz") as mnist:
        return mnist["x_test"], (mnist["y_test"] == ANOMALY).astype(np.int64)

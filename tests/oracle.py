"""What a trial must give, written from the formulas with numpy and plain Keras alone: no code of the package."""

import keras
import numpy as np


def draw(root_seed: int, seed: int, t: int, i: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([root_seed, seed, t, i])))


def perturbed(
    model: keras.Model, kernels: list[int], ops: list[dict], seed: int, root_seed: int = 0
) -> list[np.ndarray]:
    """Weights after `ops` (absolute basis), each on the kernels it names under "only", or on all."""
    weights = [np.array(w) for w in model.get_weights()]
    for t, op in enumerate(ops):
        for i in op.get("only", kernels):
            w, rng = weights[i], draw(root_seed, seed, t, i)
            match op["op"]:
                case "gaussian":
                    weights[i] = w + np.float32(op["scale"]) * rng.standard_normal(w.shape, dtype=np.float32)
                case "uniform":
                    weights[i] = w + np.float32(op["scale"]) * rng.random(w.shape, dtype=np.float32)
                case "fixed_point":
                    weights[i] = (np.rint(w * 2.0 ** op["bits"]) / 2.0 ** op["bits"]).astype(np.float32)
    return weights


def count(model: keras.Model, weights: list[np.ndarray], images: np.ndarray, labels: np.ndarray) -> int:
    clean = model.get_weights()
    model.set_weights(weights)
    try:
        return int((model.predict(images, verbose=0).argmax(axis=1) == labels).sum())
    finally:
        model.set_weights(clean)

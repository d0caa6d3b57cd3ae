"""Other ways to evaluate perturbed weights, to measure ours against: the article's loop, Keras, PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sweep.bench import torch_network
from sweep.data.datasets import Dataset, prepare_images
from sweep.networks.backend import import_keras
from sweep.networks.loading import Network, load_network
from sweep.perturb.base import Array

Evaluate = Callable[[Sequence[Sequence[Array]]], list[int]]
"""Weights of some trials, each in the order of `model.weights`, to their correct counts."""

LARGE_BATCH = 1000


def article_loop(path: Path, dataset: Dataset) -> Evaluate:
    """For every trial: load the model from its file, set its weights, evaluate in batches of 32."""

    def evaluate(trials: Sequence[Sequence[Array]]) -> list[int]:
        counts = []
        for weights in trials:
            network = load_network(path)
            _compile(network)
            counts.append(_evaluate(network, images, dataset, weights))
        return counts

    images = prepare_images(dataset.images, load_network(path).input_shape)
    return evaluate


def kept_model(path: Path, dataset: Dataset) -> Evaluate:
    """`model.evaluate` in batches of 1,000, the model loaded and compiled once."""
    network = load_network(path)
    _compile(network)
    images = prepare_images(dataset.images, network.input_shape)

    def evaluate(trials: Sequence[Sequence[Array]]) -> list[int]:
        return [_evaluate(network, images, dataset, weights, batch_size=LARGE_BATCH) for weights in trials]

    return evaluate


def _compile(network: Network) -> None:
    keras = import_keras()
    if network.threshold is None:
        network.model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    else:
        accuracy = keras.metrics.BinaryAccuracy(name="accuracy", threshold=network.threshold)
        network.model.compile(loss="binary_crossentropy", metrics=[accuracy])


def _evaluate(
    network: Network, images: Array, dataset: Dataset, weights: Sequence[Array], batch_size: int | None = None
) -> int:
    network.model.set_weights(list(weights))
    results = network.model.evaluate(images, dataset.labels, batch_size=batch_size, verbose=0, return_dict=True)
    return int(np.rint(results["accuracy"] * len(dataset)))


def torch_version() -> str | None:
    """The version of PyTorch, if it is installed."""
    try:
        import torch
    except ImportError:
        return None
    return str(torch.__version__)


def torch_evaluate(
    network: Network, dataset: Dataset, together: int = 1, device: str = "cpu", batch: int = LARGE_BATCH
) -> Evaluate | None:
    """PyTorch, channels last: one trial at a time, or `torch.func.vmap` over the weights of some.

    Args:
        network: of layers that `torch_network` translates.
        dataset: its images.
        together: trials of one vmap.
        device: as PyTorch calls it.
        batch: images at a time.

    Returns:
        None without PyTorch, or for any other network.
    """
    if torch_version() is None:
        return None
    import torch

    try:
        forward = torch_network.forward_of(network.model)
    except torch_network.Unknown:
        return None
    prepared = prepare_images(dataset.images, network.input_shape)
    images = torch.from_numpy(prepared).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    steps, labels = images.to(device).split(batch), torch.from_numpy(dataset.labels).to(device)
    batched = torch.func.vmap(forward, in_dims=(None, 0)) if together > 1 else None

    def evaluate(trials: Sequence[Sequence[Array]]) -> list[int]:
        sets = [[torch_network.weight_of(torch, w, device) for w in weights] for weights in trials]
        with torch.inference_mode():
            if batched is None:
                scores = torch.stack([torch.cat([forward(x, s) for x in steps]) for s in sets])
            else:
                stacked = [torch.stack(values) for values in zip(*sets, strict=True)]
                scores = torch.cat([batched(x, stacked) for x in steps], dim=1)
            decisions = scores.argmax(-1) if network.threshold is None else scores[..., 0] > network.threshold
            return [int(n) for n in (decisions == labels).sum(1).tolist()]

    return evaluate

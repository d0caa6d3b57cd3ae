"""Other ways to evaluate perturbed weights, to measure ours against: the article's loop, Keras, PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sweep.data.datasets import Dataset, prepare_images
from sweep.data.decisions import decide
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


def torch_evaluate(network: Network, dataset: Dataset, together: int = 1) -> Evaluate | None:
    """PyTorch, channels last: one trial at a time, or `torch.func.vmap` over the weights of some.

    Args:
        network: a Sequential chain of unpadded convolutions, max pooling, flatten and dense layers.
        dataset: its images.
        together: trials of one vmap.

    Returns:
        None without PyTorch, or for any other network.
    """
    plan = _torch_plan(network.model) if torch_version() else None
    if plan is None:
        return None
    import torch

    prepared = prepare_images(dataset.images, network.input_shape)
    images = torch.from_numpy(prepared).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    steps = images.split(LARGE_BATCH)

    def forward(images: Any, weights: Sequence[Any]) -> Any:
        x, left = images, list(weights)
        for operation, parameters in plan:
            x = operation(x, [left.pop(0) for _ in range(parameters)])
        return x

    batched = torch.func.vmap(forward, in_dims=(None, 0)) if together > 1 else None

    def evaluate(trials: Sequence[Sequence[Array]]) -> list[int]:
        sets = [[_torch_weight(torch, w) for w in weights] for weights in trials]
        with torch.inference_mode():
            if batched is None:
                scores = np.stack([torch.cat([forward(x, s) for x in steps]).numpy() for s in sets])
            else:
                stacked = [torch.stack(values) for values in zip(*sets, strict=True)]
                scores = torch.cat([batched(x, stacked) for x in steps], dim=1).numpy()
        decisions = decide(scores, network.threshold)
        return [int(n) for n in np.count_nonzero(decisions == dataset.labels, axis=1)]

    return evaluate


_Operation = Callable[[Any, list[Any]], Any]


def _torch_plan(model: Any) -> list[tuple[_Operation, int]] | None:
    """For each layer its operation and how many weights it takes; None where a layer has no translation."""
    from torch.nn import functional as f

    activations: dict[str, Callable[[Any], Any]] = {
        "linear": lambda x: x,
        "relu": f.relu,
        "softmax": lambda x: f.softmax(x, dim=-1),
    }

    def convolution(strides: tuple[int, int], activation: Callable[[Any], Any]) -> _Operation:
        return lambda x, w: activation(f.conv2d(x, *w, stride=strides))

    def dense(activation: Callable[[Any], Any]) -> _Operation:
        return lambda x, w: activation(f.linear(x, *w))

    def pooling(size: tuple[int, int], strides: tuple[int, int]) -> _Operation:
        return lambda x, _: f.max_pool2d(x, size, strides)

    if type(model).__name__ != "Sequential":
        return None
    plan: list[tuple[_Operation, int]] = []
    for layer in model.layers:
        kind, weights = type(layer).__name__, len(layer.weights)
        activation = activations.get(getattr(getattr(layer, "activation", None), "__name__", "linear"))
        if activation is None or getattr(layer, "padding", "valid") != "valid":
            return None
        if kind == "Conv2D" and (layer.groups, tuple(layer.dilation_rate)) == (1, (1, 1)):
            plan.append((convolution(layer.strides, activation), weights))
        elif kind == "MaxPooling2D":
            plan.append((pooling(layer.pool_size, layer.strides), 0))
        elif kind == "Flatten":
            plan.append((lambda x, _: x.permute(0, 2, 3, 1).flatten(1), 0))  # in the order of Keras
        elif kind == "Dense":
            plan.append((dense(activation), weights))
        elif kind != "Dropout":
            return None
    return plan


def _torch_weight(torch: Any, weight: Array) -> Any:
    """A Keras weight in the order of axes, and of memory, that PyTorch likes best."""
    tensor = torch.from_numpy(np.ascontiguousarray(weight))
    if tensor.ndim == 4:
        return tensor.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
    return tensor.T.contiguous() if tensor.ndim == 2 else tensor

"""A residual network of CIFAR size with random weights, and random images for it: work of a known kind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sweep.networks.backend import import_keras

if TYPE_CHECKING:
    import keras

SIZE = 32  # rows and columns of an image
CLASSES = 10
MOMENTS = 100  # images from which batch normalisation takes its moments


def residual_network(blocks: int = 3, width: int = 16, size: int = SIZE) -> keras.Model:
    """The network of He et al., "Deep residual learning for image recognition" (2016), section 4.2: ResNet-20.

    Three stages of `blocks` blocks with `width`, 2·`width` and 4·`width` channels, batch normalisation after each
    convolution, and where the shape changes a 1×1 convolution in the shortcut.

    Args:
        blocks: n of its 6n + 2 layers.
        width: channels of the first stage.
        size: rows and columns of an image, a multiple of 4.
    """
    library = import_keras()
    kl = library.layers

    def convolve(x: keras.KerasTensor, filters: int, window: int, stride: int) -> keras.KerasTensor:
        x = kl.Conv2D(filters, window, stride, padding="same", use_bias=False)(x)
        return kl.BatchNormalization()(x)

    inputs = library.Input((size, size, 3))
    x = kl.ReLU()(convolve(inputs, width, 3, 1))
    for stage in range(3):
        for block in range(blocks):
            filters, stride = width * 2**stage, 2 if stage and not block else 1
            y = kl.ReLU()(convolve(x, filters, 3, stride))
            y = convolve(y, filters, 3, 1)
            shortcut = x if stride == 1 else convolve(x, filters, 1, stride)
            x = kl.ReLU()(kl.Add()([y, shortcut]))
    outputs = kl.Dense(CLASSES, name="fc")(kl.GlobalAveragePooling2D()(x))
    return library.Model(inputs, outputs, name=f"resnet{6 * blocks + 2}")


def set_random_weights(model: keras.Model, images: np.ndarray) -> None:
    """Random weights with which activations keep their size from layer to layer, as in a trained network.

    Kernels are drawn as He et al. initialise them, and the moments of batch normalisation are those of `images`.
    """
    rng = np.random.default_rng(0)
    for variable in model.weights:
        shape, name = tuple(variable.shape), variable.name
        if name == "kernel":
            values = rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)
        else:
            values = rng.uniform(0.5, 1.5, shape) if name == "gamma" else rng.normal(0, 0.1, shape)
        variable.assign(values.astype(np.float32))
    momenta = {layer: layer.momentum for layer in model.layers if hasattr(layer, "momentum")}
    for layer in momenta:
        layer.momentum = 0.0  # the moments of the next batch replace the old ones
    model(images, training=True)
    for layer, momentum in momenta.items():
        layer.momentum = momentum
    # A random network prefers one class; with its mean scores taken off, it decides for each.
    bias = model.weights[-1]
    bias.assign(bias.numpy() - np.asarray(model(images)).mean(axis=0))


def write_example(folder: Path, images: int, blocks: int = 3, width: int = 16, size: int = SIZE) -> tuple[Path, Path]:
    """Writes a network and a dataset of random images, whose labels are what the network decides.

    Returns:
        the paths of both files.
    """
    model = residual_network(blocks, width, size)
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (images, 4, 4, 3))
    smooth = coarse.repeat(size // 4, axis=1).repeat(size // 4, axis=2)
    pixels = np.clip(smooth + rng.normal(0, 32, smooth.shape), 0, 255).astype(np.uint8)
    scaled = pixels.astype(np.float32) / 255
    set_random_weights(model, scaled[:MOMENTS])
    scores = np.asarray(model.predict(scaled, verbose=0))
    network, dataset = folder / f"{model.name}.keras", folder / "images.npz"
    model.save(network)
    np.savez(dataset, x_test=pixels, y_test=scores.argmax(axis=1))
    return network, dataset

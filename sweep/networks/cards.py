"""Model cards: what a reader must know of a trained network, in one page of Markdown."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from sweep.networks.datasets import Dataset
from sweep.networks.recipes import Recipe

if TYPE_CHECKING:
    import keras


def card(
    recipe: Recipe,
    model: keras.Model,
    name: str,
    bits: int | None,
    digests: Mapping[str, str],
    n_correct: int,
    sets: tuple[Dataset, Dataset],
) -> str:
    """The card of one trained or rounded model, as Markdown.

    Args:
        recipe: how it was made.
        model: the model.
        name: the model's name.
        bits: fractional bits that its kernels are rounded to; None if they are as trained.
        digests: SHA-256 of each of its files, by file name.
        n_correct: test images it classifies correctly.
        sets: the training and the test set.
    """
    train_set, test_set = sets
    accuracy = 100 * n_correct / len(test_set)
    facts = [
        ("clean accuracy", f"{accuracy:.2f} % ({n_correct} of {len(test_set)} test images)"),
        *((f"SHA-256 of `{file}`", f"`{digest}`") for file, digest in digests.items()),
        ("parameters", f"{model.count_params()}"),
        ("input", f"{recipe.input_shape}, float32; uint8 images are divided by 255"),
        ("kernels", "as trained, float32" if bits is None else f"rounded to {bits} fractional bits"),
        ("training seed", f"{recipe.seed}"),
        ("training", f"{recipe.epochs} epochs over {len(train_set)} images in batches of {recipe.batch}"),
        ("optimizer", f"{recipe.optimizer}, learning rate {recipe.learning_rate:g}, constant"),
        ("loss", f"{model.loss}"),
        ("dataset", f"`{recipe.dataset.name}`, SHA-256 `{train_set.digest}`"),
        ("versions", ", ".join(f"{name} {number}" for name, number in _versions())),
    ]
    layers = [
        (index, layer.name, type(layer).__name__, _arguments(entry), layer.output.shape[1:], layer.count_params())
        for index, (layer, entry) in enumerate(zip(model.layers, recipe.layers, strict=True))
    ]
    parts = [f"# {name}"]
    if bits is not None:
        parts.append(
            f"Made from [{recipe.name}]({recipe.name}.md): its kernels w are rint(w·2^{bits}) / 2^{bits}, without "
            "clipping; nothing was trained again."
        )
    parts += [
        _table(("", ""), facts),
        "## Architecture",
        _table(("index", "layer", "type", "arguments", "output", "parameters"), layers),
    ]
    if recipe.notes.strip():
        parts += ["## Notes", recipe.notes.strip()]
    return "\n\n".join(parts) + "\n"


def _arguments(entry: Mapping[str, object]) -> str:
    return ", ".join(f"{key} = {value}" for key, value in entry.items() if key not in ("type", "name"))


def _versions() -> list[tuple[str, str]]:
    packages = {"Keras": "keras", "TensorFlow": "tensorflow", "NumPy": "numpy"}
    found = [(name, version(package)) for name, package in packages.items()]
    return [("Python", platform.python_version()), *found]


def _table(header: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)

"""Model cards: what a reader must know of a trained network, in one page of Markdown."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from sweep.data.datasets import Dataset
from sweep.training.recipes import Recipe, recipe_digest

if TYPE_CHECKING:
    import keras

_RECIPE = "SHA-256 of the recipe, without its seed"


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
        (_RECIPE, f"`{recipe_digest(recipe, train_set.digest)}`"),
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


def same_training(text: str, recipe: Recipe, dataset_digest: str) -> bool:
    """Whether a card tells of a training by this recipe, with its seed."""
    facts = _facts(text)
    digest = facts.get(_RECIPE)
    return (digest, facts.get("training seed")) == (f"`{recipe_digest(recipe, dataset_digest)}`", f"{recipe.seed}")


def measured(text: str, file: str) -> tuple[str, int, int] | None:
    """What a card tells of a model file: its SHA-256 in hex, test images classified correctly, test images.

    None when it does not tell.
    """
    facts = _facts(text)
    counts = re.search(r"\((\d+) of (\d+) test images\)", facts.get("clean accuracy", ""))
    digest = facts.get(f"SHA-256 of `{file}`")
    return (digest.strip("`"), int(counts[1]), int(counts[2])) if counts and digest else None


def _facts(text: str) -> dict[str, str]:
    """The rows of a card's first table."""
    return dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", text.split("## Architecture")[0], re.MULTILINE))


def _arguments(entry: Mapping[str, object]) -> str:
    return ", ".join(f"{key} = {value}" for key, value in entry.items() if key not in ("type", "name"))


def _versions() -> list[tuple[str, str]]:
    packages = {"Keras": "keras", "TensorFlow": "tensorflow", "NumPy": "numpy"}
    found = [(name, version(package)) for name, package in packages.items()]
    return [("Python", platform.python_version()), *found]


def _table(header: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)

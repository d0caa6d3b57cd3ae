"""Model cards: what a reader must know of a trained network, as data (JSON), and the page made from them (Markdown)."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.data.datasets import Dataset
from sweep.training.recipes import Recipe, recipe_digest

if TYPE_CHECKING:
    import keras

Facts = Mapping[str, Any]
_COMPARED = {"recipe": str, "seed": int, "files": dict, "n_correct": int, "n_images": int}


def facts_of(
    recipe: Recipe,
    model: keras.Model,
    name: str,
    bits: int | None,
    digests: Mapping[str, str],
    n_correct: int,
    sets: tuple[Dataset, Dataset],
) -> Facts:
    """The facts of one model, of types that JSON has.

    Its kernels are rounded to so many fractional `bits`, or as trained (None); `digests` are SHA-256 of its files by
    file name, `n_correct` the test images it classifies correctly, `sets` the training and the test set.
    """
    train_set, test_set = sets
    packages = {"Keras": "keras", "TensorFlow": "tensorflow", "NumPy": "numpy"}
    return {
        "name": name,
        "made_from": None if bits is None else recipe.name,
        "bits": bits,
        "files": dict(digests),
        "n_correct": n_correct,
        "n_images": len(test_set),
        "parameters": model.count_params(),
        "input_shape": list(recipe.input_shape),
        "seed": recipe.seed,
        "recipe": recipe_digest(recipe, train_set.digest),
        "epochs": recipe.epochs,
        "train_images": len(train_set),
        "batch": recipe.batch,
        "optimizer": recipe.optimizer,
        "learning_rate": float(recipe.learning_rate),
        "loss": model.loss,
        "dataset": recipe.dataset.name,
        "dataset_digest": train_set.digest,
        "versions": {"Python": platform.python_version()} | {key: version(name) for key, name in packages.items()},
        "layers": [
            {
                "name": layer.name,
                "type": type(layer).__name__,
                "arguments": {key: value for key, value in entry.items() if key not in ("type", "name")},
                "output_shape": list(layer.output.shape[1:]),
                "parameters": layer.count_params(),
            }
            for layer, entry in zip(model.layers, recipe.layers, strict=True)
        ],
        "notes": recipe.notes.strip(),
    }


def json_of(facts: Facts) -> str:
    """Facts as the content of a JSON file."""
    return json.dumps(facts, indent=2, ensure_ascii=False) + "\n"


def read_facts(path: Path) -> Facts | None:
    """The facts in a JSON file; None when it holds none that tell one training from another, or is not there."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    fine = isinstance(facts, dict) and all(isinstance(facts.get(key), kind) for key, kind in _COMPARED.items())
    return facts if fine else None


def card(facts: Facts) -> str:
    """The page that tells the facts, as Markdown."""
    bits = facts["bits"]
    rows = [
        (
            "clean accuracy",
            f"{100 * facts['n_correct'] / facts['n_images']:.2f} % "
            f"({facts['n_correct']} of {facts['n_images']} test images)",
        ),
        *((f"SHA-256 of `{file}`", f"`{digest}`") for file, digest in facts["files"].items()),
        ("parameters", facts["parameters"]),
        ("input", f"{tuple(facts['input_shape'])}, float32; uint8 images are divided by 255"),
        ("kernels", "as trained, float32" if bits is None else f"rounded to {bits} fractional bits"),
        ("training seed", facts["seed"]),
        ("SHA-256 of the recipe, without its seed", f"`{facts['recipe']}`"),
        ("training", f"{facts['epochs']} epochs over {facts['train_images']} images in batches of {facts['batch']}"),
        ("optimizer", f"{facts['optimizer']}, learning rate {facts['learning_rate']:g}, constant"),
        ("loss", facts["loss"]),
        ("dataset", f"`{facts['dataset']}`, SHA-256 `{facts['dataset_digest']}`"),
        ("versions", ", ".join(f"{name} {number}" for name, number in facts["versions"].items())),
    ]
    layers = [
        (index, layer["name"], layer["type"], arguments, tuple(layer["output_shape"]), layer["parameters"])
        for index, layer in enumerate(facts["layers"])
        for arguments in [", ".join(f"{key} = {value}" for key, value in layer["arguments"].items())]
    ]
    parts = [f"# {facts['name']}"]
    if bits is not None:
        origin = facts["made_from"]
        parts.append(
            f"Made from [{origin}]({origin}.md): its kernels w are rint(w·2^{bits}) / 2^{bits}, without "
            "clipping; nothing was trained again."
        )
    parts += [
        _table(("", ""), rows),
        "## Architecture",
        _table(("index", "layer", "type", "arguments", "output", "parameters"), layers),
    ]
    if facts["notes"]:
        parts += ["## Notes", facts["notes"]]
    return "\n\n".join(parts) + "\n"


def _table(header: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)

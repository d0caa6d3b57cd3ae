"""Model cards: what a reader must know of a trained network, as data (JSON), and the page made from them (Markdown)."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.data.measures import measure_of
from sweep.files import file_digest
from sweep.networks.feeding import fed as network_fed
from sweep.networks.loading import Network
from sweep.training.losses import loss_name, loss_of
from sweep.training.noise import told
from sweep.training.quality import Quality
from sweep.training.recipes import DEFAULT_RESCALE, LABELS, Recipe, recipe_digest
from sweep.training.sets import Sets, fed
from sweep.training.wiring import nodes

if TYPE_CHECKING:
    import keras

Facts = Mapping[str, Any]
_COMPARED = {"recipe": str, "seed": int, "files": dict, "n_images": int}
_DEFAULT_FED = "uint8 images are divided by 255"  # what cards say of facts that do not say it


def facts_of(
    recipe: Recipe,
    network: Network,
    name: str,
    bits: int | None,
    digests: Mapping[str, str],
    quality: Quality,
    sets: Sets,
) -> Facts:
    """The facts of one model, of types that JSON has.

    Its kernels are rounded to so many fractional `bits`, or as trained (None); `digests` are SHA-256 of its files by
    file name, `quality` what it does on the test set. What recipes of before could not say is there only where it is
    said.
    """
    (train_set, test_set), model = sets, network.file_model
    packages = {"Keras": "keras", "TensorFlow": "tensorflow", "NumPy": "numpy"}
    return {
        "name": name,
        "made_from": None if bits is None else recipe.name,
        "bits": bits,
        "files": dict(digests),
        **_measured(quality),
        "parameters": model.count_params(),
        "input_shape": list(recipe.input_shape),
        "seed": recipe.seed,
        "recipe": recipe_digest(recipe, train_set.digest),
        "epochs": recipe.epochs,
        "train_images": len(train_set),
        "batch": recipe.batch,
        "optimizer": recipe.optimizer,
        "learning_rate": float(recipe.learning_rate),
        "loss": loss_name(loss_of(recipe, network)),
        "dataset": recipe.dataset.name,
        "dataset_digest": test_set.digest,
        **_special(recipe, network, sets),
        "versions": {"Python": platform.python_version()} | {key: version(name) for key, name in packages.items()},
        "layers": _layers(recipe, model),
        "notes": recipe.notes.strip(),
    }


def _measured(quality: Quality) -> Facts:
    counted = {} if quality.n_correct is None else {"n_correct": quality.n_correct}
    return counted | ({"measures": dict(quality.measures)} if quality.measures else {}) | {"n_images": quality.n_images}


def _special(recipe: Recipe, network: Network, sets: Sets) -> Facts:
    found: dict[str, Any] = {}
    if recipe.train is not None:
        found.update(train_dataset=recipe.train.name, train_digest=sets[0].digest)
    if recipe.train_classes:
        found["train_classes"] = sorted(recipe.train_classes)
    if recipe.target != LABELS:
        found["target"] = recipe.target
    said = fed(recipe, sets[0]) if not network.inputs else network_fed(network, sets[0], recipe.rescale)
    if said != _DEFAULT_FED:
        found["images"] = said
    if recipe.rescale not in (None, DEFAULT_RESCALE):
        found["rescale"] = recipe.rescale
    if recipe.start is not None:
        found.update(start=recipe.start.name, start_digest=file_digest(recipe.start))
    if recipe.output is not None:
        found["output"] = recipe.output
    if recipe.noise is not None:
        found["noise"] = recipe.noise.facts()
    return found


def _layers(recipe: Recipe, model: keras.Model) -> list[Facts]:
    """Of each of `model.layers`, in that order; the input of a graph is one of them."""
    said = {node.name: entry for node, entry in zip(nodes(recipe.layers), recipe.layers, strict=True)}
    return [
        {
            "name": layer.name,
            "type": type(layer).__name__,
            "arguments": {key: value for key, value in said.get(layer.name, {}).items() if key not in ("type", "name")},
            "output_shape": _shape_of(layer.output),
            "parameters": layer.count_params(),
        }
        for layer in model.layers
    ]


def _shape_of(outputs: Any) -> list[Any]:
    """Of a layer's output, without the images; of several, a list of these."""
    if hasattr(outputs, "shape"):
        return list(outputs.shape[1:])
    return [_shape_of(one) for one in (outputs.values() if isinstance(outputs, Mapping) else outputs)]


def json_of(facts: Facts) -> str:
    """Facts as the content of a JSON file."""
    return json.dumps(facts, indent=2, ensure_ascii=False) + "\n"


def read_facts(path: Path) -> Facts | None:
    """The facts in a JSON file; None when it holds none that tell one training from another, or is not there."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(facts, dict) or not all(isinstance(facts.get(key), kind) for key, kind in _COMPARED.items()):
        return None
    if "n_correct" in facts:
        return facts if isinstance(facts["n_correct"], int) else None
    values = facts.get("measures")
    told = isinstance(values, dict) and values and all(isinstance(value, float) for value in values.values())
    return facts if told else None


def card(facts: Facts) -> str:
    """The page that tells the facts, as Markdown."""
    bits = facts["bits"]
    rows = [
        *_quality_rows(facts),
        *((f"SHA-256 of `{file}`", f"`{digest}`") for file, digest in facts["files"].items()),
        ("parameters", facts["parameters"]),
        ("input", f"{tuple(facts['input_shape'])}, float32; {facts.get('images', _DEFAULT_FED)}"),
        ("kernels", "as trained, float32" if bits is None else f"rounded to {bits} fractional bits"),
        ("training seed", facts["seed"]),
        ("SHA-256 of the recipe, without its seed", f"`{facts['recipe']}`"),
        ("training", f"{facts['epochs']} epochs over {facts['train_images']} images in batches of {facts['batch']}"),
        ("optimizer", f"{facts['optimizer']}, learning rate {facts['learning_rate']:g}, constant"),
        ("loss", facts["loss"] + (f" of the {facts['target']}" if "target" in facts else "")),
        ("dataset", f"`{facts['dataset']}`, SHA-256 `{facts['dataset_digest']}`"),
        *_training_rows(facts),
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


def _quality_rows(facts: Facts) -> Iterator[tuple[str, object]]:
    if "n_correct" in facts:
        share = f"{100 * facts['n_correct'] / facts['n_images']:.2f} %"
        yield "clean accuracy", f"{share} ({facts['n_correct']} of {facts['n_images']} test images)"
    for name, value in facts.get("measures", {}).items():
        measure = measure_of(name)
        yield f"clean {measure.lower}", f"{measure.text(value)}{measure.unit} ({facts['n_images']} test images)"


def _training_rows(facts: Facts) -> Iterator[tuple[str, object]]:
    if "train_dataset" in facts:
        yield "training set", f"`{facts['train_dataset']}`, SHA-256 `{facts['train_digest']}`"
    if "train_classes" in facts:
        yield "classes trained on", ", ".join(map(str, facts["train_classes"]))
    if "rescale" in facts:
        yield "studies say", f'`rescale = "{facts["rescale"]}"`'
    if "start" in facts:
        yield "begun with", f"`{facts['start']}`, SHA-256 `{facts['start_digest']}`"
    if "output" in facts:
        yield "output", f"`{facts['output']}`, which is trained"
    if "noise" in facts:
        grown = facts["noise"].get("warmup", 0)
        during = f"; levels grow over {grown} epoch{'s' * (grown > 1)}" if grown else ""
        yield "trained against", f"{told(facts['noise']['perturb'])}, drawn anew each step{during}"


def _table(header: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)

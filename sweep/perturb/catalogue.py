"""The catalogue of transforms, written from their own docstrings and parameters."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator
from typing import Any

from sweep.perturb.base import REGISTRY, Random, Surface, Table, Transform, parameters
from sweep.texts import number

OTHERS = "Your own"

HEAD = """# The catalogue: every imperfection, stated exactly

*Made from the code by `sweep catalogue`; a test compares the two.*

A family of a study is a list of transforms, applied in order: `quantize, then noise` and `noise, then quantize` are
two families. Each is a table with its `op`, its parameters, `layers` and `variables`. A list for a parameter is swept;
several lists make a grid.

| layers = | selects |
|---|---|
| `"*"` | every kernel; for the data flow, the output of every layer with a kernel but the last one |
| `"conv1"`, `"conv*"`, `3` | a layer by name, glob, or index into `model.layers` |
| `"Conv2D"` | layers by type |
| `"!fc"` | all but this |
| `["conv*", "!conv2"]` | any of the first, none of the second |
| `"input"` | the images, for transforms of the data flow |

Of these layers it acts on the kernels, unless it says which `variables`; the data flow has none:

| variables = | selects |
|---|---|
| `"kernel"` | all kernels, recurrent ones too, embeddings, and what layers of your own train as matrices; the default |
| `"bias"`, `"gamma"`, `"beta"`, `"moving_mean"`, `"moving_variance"` | variables of that name |
| `"recurrent_kernel"`, `"my_*"` | of any name, or a glob over names, as layers of any kind call them |
| `"*"` | every floating-point number that a layer reads at inference |
| `["*", "!moving_variance"]` | lists, and all but this, as for layers |

Of a vector, as a bias, each value is an output channel of its own. A variance below 0 makes scores that are no numbers,
as in Keras: trials with such images are reported as void.

A family with `sensitivity = "per-layer"` perturbs one of the selected layers at a time, in a cell of its own. With
`recalibrate = "batch_norm"`, each chip takes the mean and variance of its batch normalisation anew, from training
images, once its weights are perturbed ([how](howto/recalibration.md)).

Draws of a transform at position t of its family, for variable i of `model.weights`, come from
`numpy.random.Generator(numpy.random.Philox(numpy.random.SeedSequence([root_seed, seed, t, i])))`; a data-flow
transform at the layer of position k uses i = 2³² + 1 + k (the images: 2³²), on the images of a recalibration 2³³ in
place of 2³², and what a transform of weights draws for all its variables together i = 2³², one of activations for all
its layers 2³¹ more than for the images. So levels, models and families share their draws. Normal draws are
`standard_normal` in float32. Uniform ones are `random`, in float32 for noise and stochastic rounding, in float64 for
faults, of which one happens where u < rate. With `lifetime = "chip"`, the default, a seed draws once; with `lifetime =
"read"` it draws again for every `block` of images, in the order of the test set, going on in the same stream. Both
together are two transforms in one list. Arithmetic on weights is float32. A cell without randomness has one trial.

`resolved.parquet` in a run's folder has what each transform amounts to in each layer: the absolute σ, the step, the
range, the saturated share.

In the formulas: w a weight, W all weights of the variable, max|W| their largest magnitude, ξ ~ N(0, 1), u ~ U[0, 1),
x an activation. A **basis** says what a noise level is relative to:

| basis | unit of the level | who means this by σ |
|---|---|---|
| `absolute` | 1 | the article; MRFI `NormalDisturb` |
| `weight` | \\|w\\| | CrossSim `NormalProportionalDevice`; aihwkit `WeightModifierType.MULT_NORMAL` |
| `layer_max` | max\\|W\\| | aihwkit `WeightModifierType.ADD_NORMAL`; CrossSim `NormalIndependentDevice` |
| `layer_std` | standard deviation of W | |
| `layer_range` | max W − min W | |
| `channel_max` | max\\|W\\| of each output channel | aihwkit-lightning `WeightModifierType.ADD_NORMAL_PER_CHANNEL` |
| `inverse` | max\\|W\\|² / \\|w\\| | CrossSim `NormalInverseProportionalDevice` |

Which number there is which here, and where the two differ, is under [gaussian](#gaussian): CrossSim's devices come in
pairs, so that its 0.05 of `NormalIndependentDevice` is 0.0786 here.
"""


def catalogue() -> str:
    """The whole page, in Markdown."""
    chapters: dict[str, list[type[Transform]]] = {}
    for transform in REGISTRY.values():
        chapters.setdefault(chapter(transform), []).append(transform)
    chapters |= {OTHERS: chapters.pop(OTHERS)} if OTHERS in chapters else {}  # the last
    links = [f"- {name}: " + ", ".join(f"[{t.op}](#{t.op})" for t in found) for name, found in chapters.items()]
    page = [HEAD, "\n".join(links)]
    for name, found in chapters.items():
        page += [f"## {name}", *map(entry, found)]
    return "\n\n".join(part.strip("\n") for part in page) + "\n"


def chapter(transform: type[Transform]) -> str:
    """Where a transform stands in the catalogue: its file says so."""
    return str(getattr(sys.modules.get(transform.__module__), "CHAPTER", OTHERS))


def entry(transform: type[Transform]) -> str:
    """One transform, in Markdown."""
    formula, *rest = inspect.cleandoc(transform.__doc__ or "").split("\n\n")
    lines = [f"### {transform.op}", _flow(formula), *map(_flow, rest)]
    rows = list(_rows(transform))
    if rows:
        lines.append("\n".join(["| parameter | values | default | meaning |", "|---|---|---|---|", *rows]))
    return "\n\n".join(lines)


def _flow(paragraph: str) -> str:
    """A paragraph of a docstring; lists keep their lines."""
    if re.search(r"^\s*(-|\d+\.) ", paragraph, re.MULTILINE):
        return paragraph
    return re.sub(r"^(Source|Peers)\b(:?)", r"*\1\2*", paragraph)


def _rows(transform: type[Transform]) -> Iterator[str]:
    kinds = parameters(transform)
    of_random = [field.name for field in dataclasses.fields(Random)]  # these come last
    for field in sorted(dataclasses.fields(transform), key=lambda field: field.name in of_random):
        if field.name in kinds:
            default = "" if field.default in (dataclasses.MISSING, None) else f"`{_toml(field.default)}`"
            text = field.metadata.get("text", "").replace("|", "\\|")
            values = _values(kinds[field.name], field.metadata)
            yield f"| `{field.name}` | {values} | {default} | {text} |"


def _values(kind: Any, valid: Any) -> str:
    if valid.get("choices"):
        return ", ".join(f"`{choice}`" for choice in valid["choices"])
    if kind == Table:
        return "points [x, y], x ascending"
    if kind == Surface:
        return "[t, points], t ascending"
    names = {float: "number", int: "whole number", bool: "true, false", str: "text"}
    low, high = ("" if valid.get(end) is None else number(valid[end]) for end in ("minimum", "maximum"))
    if low and high:
        return f"{names[kind]}, {low} to {high}"
    return names[kind] + (f" ≥ {low}" if low else f" ≤ {high}" if high else "")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else f"{value:g}"

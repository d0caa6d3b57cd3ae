"""The networks of a study: files, weights with what builds their network, and models that are there in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from sweep.errors import InputError
from sweep.networks.code import Code
from sweep.networks.saving import saved
from sweep.study.family import as_list
from sweep.study.plugins import of_path, scripts_of

Named = str | Mapping[str, str]
"""A network as a study has it: a path, or a table of `build` and `weights`."""
BUILD, WEIGHTS = "build", "weights"
_BEFORE, _AFTER = "<in memory: ", ">"


def written(model: Named) -> str:
    """The path of its file."""
    return model if isinstance(model, str) else model[WEIGHTS]


def labelled(models: Sequence[Named]) -> dict[str, Named]:
    """Labels → networks: the file's stem, or the path as written where stems collide; names of models in memory."""
    stems = [_stem(model) for model in models]
    unique = len(set(stems)) == len(stems)
    return dict(zip(stems if unique else map(written, models), models, strict=True))


def whole(table: Mapping[str, Any]) -> bool:
    """Whether a table names all of a network: a file, a function in it, and weights."""
    texts = [table.get(key) for key in (BUILD, WEIGHTS)]
    return all(isinstance(text, str) and text for text in texts) and all(str(texts[0]).rpartition(":")[::2])


def function_of(model: Named) -> tuple[str, str] | None:
    """The Python file and the function in it that build a network; None for one that its own file says."""
    if isinstance(model, str):
        return None
    file, _, function = model[BUILD].rpartition(":")
    return file, function


def code_of(models: Sequence[Named], custom_objects: Sequence[str]) -> list[str]:
    """The Python files that the networks of a study need, each once."""
    building = (function_of(model) for model in models)
    return list(dict.fromkeys([*custom_objects, *(found[0] for found in building if found)]))


def code_for(model: Named, custom_objects: Sequence[str], digests: Mapping[str, str]) -> Code:
    """What is run before a network is loaded, of the files that were read, whose `digests` go by name."""
    scripts = scripts_of(of_path(path, digests) for path in custom_objects)
    found = function_of(model)
    return Code(scripts, (scripts_of([of_path(found[0], digests)])[0], found[1]) if found else None)


def in_memory(model: Named) -> bool:
    """Whether a network was handed over in Python, and is in no file."""
    return isinstance(model, str) and model.startswith(_BEFORE) and model.endswith(_AFTER)


def from_memory(models: Any, source: str) -> tuple[Any, dict[str, bytes]]:
    """What a study made in Python has as its `model`, with texts in place of models; and by text the bytes of these.

    Errors name the study's `source`.

    Raises:
        InputError: a model cannot be saved, or two have one name.
    """
    several = isinstance(models, list | tuple)
    found: dict[str, bytes] = {}
    named = []
    for model in models if several else [models]:
        if not hasattr(model, "get_config") or isinstance(model, type):
            named.append(model)
            continue
        text = f"{_BEFORE}{model.name}{_AFTER}"
        if text in found:
            twice = f"two models in memory are called {model.name!r}; give each a name of its own"
            raise InputError(f"{source}: model: {twice}")
        found[text] = saved(model, f"{source}: model")
        named.append(text)
    return (named if several else named[0]), found


def models_in(tables: Mapping[str, Any]) -> list[Named]:
    """The networks of a study's tables, as far as these are right."""
    found = [
        m for m in as_list(tables.get("model")) if (isinstance(m, str) and m) or (isinstance(m, Mapping) and whole(m))
    ]
    return [model for i, model in enumerate(found) if model not in found[:i]]


def _stem(model: Named) -> str:
    if in_memory(model):
        return written(model).removeprefix(_BEFORE).removesuffix(_AFTER)
    return PurePath(written(model)).stem.removesuffix(".weights")

"""Transforms of a user's own, in Python files that a study names."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from sweep.errors import InputError
from sweep.perturb.base import REGISTRY
from sweep.places import locate

_loaded: dict[str, ModuleType] = {}  # by digest


def load_plugins(paths: Any, source: str) -> dict[str, str]:
    """Run each file once a process, so that its transforms are registered.

    Args:
        paths: Python files, absolute, or relative to the study file's folder, the current one or the repository.
        source: the study file.

    Returns:
        SHA-256 in hex by file name.

    Raises:
        InputError: a file is missing, fails, or registers nothing or what is there already.
    """
    if not isinstance(paths, list | tuple) or not all(isinstance(path, str) for path in paths):
        raise InputError(f"{source}: plugins: {paths!r} is not a list of Python files")
    digests = {}
    problems = []
    for path in paths:
        try:
            found = _locate(path, source)
            digests[found.name] = hashlib.sha256(found.read_bytes()).hexdigest()
            _load(found, digests[found.name])
        except InputError as error:
            problems += [f"{source}: plugins: {problem}" for problem in error.problems]
    if problems:
        raise InputError(problems)
    return digests


def plugin_files(paths: Sequence[str], source: str) -> Mapping[str, bytes]:
    """The content of each file by its name."""
    found = [_locate(path, source) for path in paths]
    return {path.name: path.read_bytes() for path in found}


def plugin_modules() -> list[ModuleType]:
    """Those loaded so far; a worker on another machine needs them with the transforms."""
    return list(_loaded.values())


def _locate(path: str, source: str) -> Path:
    kept = Path(source).parent / "plugins" / Path(path).name  # in a run folder: the file as it was run
    beside = Path(source).parent / Path(path).expanduser()
    return next((candidate for candidate in (kept, beside) if candidate.is_file()), None) or locate(path, source)


def _load(path: Path, digest: str) -> None:
    if digest in _loaded:
        return
    before = set(REGISTRY)
    name = f"noisesweep_plugin_{digest[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their own module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        for op in set(REGISTRY) - before:
            del REGISTRY[op]
        raise InputError(f"{path}: {type(error).__name__}: {error}") from error
    if set(REGISTRY) == before:
        raise InputError(f"{path}: registers no transform; see the README for an example")
    _loaded[digest] = module

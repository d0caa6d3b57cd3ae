"""Transforms of a user's own, in Python files that a study names."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from sweep.data.measure import Measure
from sweep.data.measures import own
from sweep.errors import InputError, collected
from sweep.perturb.base import REGISTRY, Transform, parameters
from sweep.perturb.dataflow import ActivationNoise, DataFlow, Rounding
from sweep.scripts import Script
from sweep.study.described import KINDS
from sweep.study.paths import in_run_folder, locate

FOLDER = "plugins"  # of a run folder, which keeps them


@dataclass(frozen=True)
class Register:
    """The transforms that a study may name, and the Python files that it has named.

    Attributes:
        ops: by name.
        digests: SHA-256 in hex of the study's plugins, by the name that its identity has for them.
        code: likewise of the files that its networks need.
        measures: of a user's own, by column, where their code is not to run.
        trusted: whether the user said that code which the study names may run, though it lies in a run folder.
    """

    ops: Mapping[str, type[Transform]]
    digests: Mapping[str, str] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)
    measures: Mapping[str, Measure] = field(default_factory=dict)
    trusted: bool = False


_loaded: dict[str, Script] = {}  # by digest
_ops: dict[str, frozenset[str]] = {}
_code: dict[str, Script] = {}  # by digest: what networks need


def load_plugins(paths: Sequence[str], source: str, measures: Sequence[str] = ()) -> dict[str, str]:
    """Run each file once a process, so that its transforms are registered, and its measures there.

    Args:
        paths: Python files, absolute, or relative to the study file's folder, the current one or the repository.
        source: the study file. One that lies in a run folder may be a stranger's, and has its plugins run by
            `run_plugins` only, when the user says so.
        measures: as a study calls those of the user's own: such a file, and a function in it.

    Returns:
        SHA-256 in hex by file name, or by path as written where two different files have one name.

    Raises:
        InputError: a file is missing, fails, or registers nothing, what is there already, or what cannot be used; or
            has no such function.
    """
    problems: list[str] = []
    found = _each(paths, source, "plugins", _take_plugin, problems)
    found += _each(measures, source, "measures", _take_measure, problems)
    if problems:
        raise InputError(problems)
    return _by_name(found)


def load_code(paths: Sequence[str], source: str) -> dict[str, str]:
    """Read each Python file that the networks of a study need; what loads these runs them.

    As `load_plugins`, apart from what a file has to register.
    """
    problems: list[str] = []
    found = _each(paths, source, "custom_objects", lambda script, _: keep([script]), problems)
    if problems:
        raise InputError(problems)
    return _by_name(found)


def _take_plugin(script: Script, _: str) -> None:
    run_plugins([script])
    if not _ops[script.digest]:
        raise InputError(f"{script.path}: registers no transform; see the README for an example")


def _take_measure(script: Script, function: str) -> None:
    run_plugins([script])
    if not callable(getattr(sys.modules[script.module], function, None)):
        raise InputError(f"{script.path}: has no function {function!r}")


def _each(
    named: Sequence[str], source: str, key: str, take: Callable[[Script, str], None], problems: list[str]
) -> list[tuple[str, Script]]:
    """Files, or functions in them, as a study names them: each read and taken; with what it was named."""
    if named and in_run_folder(source):
        raise InputError(
            f"{source}: {key}: it lies in a run folder, whose code runs only with --trust-plugins; "
            "or run your own study"
        )
    found: list[tuple[str, Script]] = []
    for name in named:
        with collected(problems, f"{source}: {key}: "):
            path, function = _parts(name) if key == "measures" else (name, "")
            beside = Path(source).parent / Path(path).expanduser()
            script = Script.read(beside if beside.is_file() else locate(path, source))
            found.append((path, script))
            take(script, function)
    return found


def digest_of(name: str, digests: Mapping[str, str]) -> str:
    """The digest of a measure's file, by those of all plugins of its study as `load_plugins` gives them, or ""."""
    file = PurePath(_parts(name)[0])
    return digests.get(file.as_posix()) or digests.get(file.name, "")


def own_measure(column: str, digest: str) -> Measure:
    """The measure in a file of this digest, which has run here."""
    return own(column, getattr(sys.modules[_loaded[digest].module], column))


def keep(scripts: Iterable[Script]) -> None:
    """Take these for files that networks need, which may run here."""
    _code.update({script.digest: script for script in scripts})


def scripts_of(digests: Iterable[str]) -> tuple[Script, ...]:
    """The files that networks need, each once."""
    return tuple(_code[digest] for digest in dict.fromkeys(digests))


def of_path(path: str, digests: Mapping[str, str]) -> str:
    """The digest of a file that a study names, of those that its identity has by name; InputError without one."""
    name = PurePath(path)
    digest = digests.get(name.name) or digests.get(name.as_posix())
    if digest is None:
        raise InputError(f"{path}: is not among the files that the study was run with")
    return digest


def run_plugins(plugins: Iterable[Script]) -> None:
    """Run these, each content once a process; raises InputError as `load_plugins`."""
    for plugin in plugins:
        if plugin.digest not in _loaded:
            _ops[plugin.digest] = _run(plugin)
            _loaded[plugin.digest] = plugin


def have_run(plugins: Iterable[str], code: Iterable[str] = ()) -> bool:
    """Whether all of these plugins have run in this process already, and all code of networks may run."""
    return all(digest in _loaded for digest in plugins) and all(digest in _code for digest in code)


def ops_of(plugins: Iterable[Script]) -> frozenset[str]:
    """The transforms that these have registered here."""
    return frozenset().union(*(_ops[plugin.digest] for plugin in plugins))


def loaded(digests: Iterable[str]) -> tuple[Script, ...]:
    """Scripts that have run here, each once: what another process needs to run, too."""
    return tuple(_loaded[digest] for digest in dict.fromkeys(digests))


def kept_name(name: str, digest: str) -> str:
    """The file in a run's folder `plugins` that keeps a plugin, given its name and digest in the study's identity."""
    base = PurePath(name.replace("\\", "/")).name
    return base if base == name else f"{digest[:16]}-{base}"


def kept_code(name: str, digest: str) -> str:
    """Likewise of a file that networks need: a plugin of that name may be there, too."""
    base = PurePath(name.replace("\\", "/")).name
    return f"{digest[:16]}-{base}"


def _by_name(found: list[tuple[str, Script]]) -> dict[str, str]:
    of_name: dict[str, set[str]] = {}
    for _, plugin in found:
        of_name.setdefault(Path(plugin.path).name, set()).add(plugin.digest)
    names = {}
    for written, plugin in found:
        base = Path(plugin.path).name
        names[base if len(of_name[base]) == 1 else PurePath(written).as_posix()] = plugin.digest
    return names


def _run(plugin: Script) -> frozenset[str]:
    """Run it; the ops that it registers."""
    before = dict(REGISTRY)
    try:
        plugin.run()
        new = {op: transform for op, transform in REGISTRY.items() if op not in before}
        problems = [f"{plugin.path}: {op}: {why}" for op, t in new.items() if (why := _unfit(t))]
        if problems:
            raise InputError(problems)
    except InputError:
        plugin.forget()
        for op in set(REGISTRY) - set(before):
            del REGISTRY[op]
        raise
    return frozenset(new)


def _parts(name: str) -> tuple[str, str]:
    """The file and the function of a measure as a study calls it."""
    file, _, function = name.rpartition(":")
    return file, function


def _unfit(transform: type[Transform]) -> str | None:
    """Why a transform cannot be used, or None."""
    if "__dataclass_params__" not in vars(transform) and vars(transform).get("__annotations__"):
        return "is no dataclass; @dataclass(frozen=True, kw_only=True) belongs below @register"
    if issubclass(transform, DataFlow) and not issubclass(transform, Rounding | ActivationNoise):
        return "is a bare DataFlow; make it a subclass of Rounding (levels) or of ActivationNoise (sigma)"
    if inspect.isabstract(transform):
        return f"lacks {', '.join(sorted(transform.__abstractmethods__))}"
    for name, kind in parameters(transform).items():
        if kind not in KINDS.values():
            return f"{name}: {kind} is no type of a parameter; valid: float, int, bool, str, Table and Surface"
    return None

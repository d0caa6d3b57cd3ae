"""Transforms of a user's own, in Python files that a study names."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from types import ModuleType

from sweep.data.measures import Measure, own
from sweep.errors import InputError, collected
from sweep.perturb.base import REGISTRY, Transform, parameters
from sweep.perturb.dataflow import ActivationNoise, DataFlow, Rounding
from sweep.study.described import KINDS
from sweep.study.paths import in_run_folder, locate

FOLDER = "plugins"  # of a run folder, which keeps them


@dataclass(frozen=True)
class Plugin:
    """A plugin file, as it was run or is to be run.

    Attributes:
        path: where it was found.
        content: what stands in it.
        digest: SHA-256 of that, in hex.
    """

    path: str
    content: bytes
    digest: str

    @classmethod
    def of(cls, path: str, content: bytes) -> Plugin:
        """One with this content."""
        return cls(path, content, hashlib.sha256(content).hexdigest())


@dataclass(frozen=True)
class Register:
    """The transforms that a study may name.

    Attributes:
        ops: by name.
        digests: SHA-256 in hex of the study's plugins, by the name that its identity has for them.
        measures: of a user's own, by column, where their code is not to run.
    """

    ops: Mapping[str, type[Transform]]
    digests: Mapping[str, str] = field(default_factory=dict)
    measures: Mapping[str, Measure] = field(default_factory=dict)


_loaded: dict[str, Plugin] = {}  # by digest
_ops: dict[str, frozenset[str]] = {}


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
    if (paths or measures) and in_run_folder(source):
        raise InputError(
            f"{source}: {'plugins' if paths else 'measures'}: it lies in a run folder, whose code runs only with "
            "--trust-plugins; or run your own study"
        )
    found: list[tuple[str, Plugin]] = []
    problems: list[str] = []
    wanted = [(path, "") for path in paths] + [_parts(name) for name in measures]
    for path, function in wanted:
        with collected(problems, f"{source}: {'measures' if function else 'plugins'}: "):
            beside = Path(source).parent / Path(path).expanduser()
            place = beside if beside.is_file() else locate(path, source)
            found.append((path, Plugin.of(str(place.absolute()), _content(place))))
            run_plugins([found[-1][1]])
            digest = found[-1][1].digest
            if function and not callable(getattr(sys.modules[_module(digest)], function, None)):
                raise InputError(f"{place}: has no function {function!r}")
            if not function and not _ops[digest]:
                raise InputError(f"{place.absolute()}: registers no transform; see the README for an example")
    if problems:
        raise InputError(problems)
    return _by_name(found)


def digest_of(name: str, digests: Mapping[str, str]) -> str:
    """The digest of a measure's file, by those of all plugins of its study as `load_plugins` gives them, or ""."""
    file = PurePath(_parts(name)[0])
    return digests.get(file.as_posix()) or digests.get(file.name, "")


def own_measure(column: str, digest: str) -> Measure:
    """The measure in a file of this digest, which has run here."""
    return own(column, getattr(sys.modules[_module(digest)], column))


def run_plugins(plugins: Iterable[Plugin]) -> None:
    """Run these, each content once a process; raises InputError as `load_plugins`."""
    for plugin in plugins:
        if plugin.digest not in _loaded:
            _ops[plugin.digest] = _run(plugin)
            _loaded[plugin.digest] = plugin


def have_run(digests: Iterable[str]) -> bool:
    """Whether all of these have run in this process already."""
    return all(digest in _loaded for digest in digests)


def ops_of(plugins: Iterable[Plugin]) -> frozenset[str]:
    """The transforms that these have registered here."""
    return frozenset().union(*(_ops[plugin.digest] for plugin in plugins))


def loaded(digests: Iterable[str]) -> tuple[Plugin, ...]:
    """Plugins that have run here, each once: what another process needs to run, too."""
    return tuple(_loaded[digest] for digest in dict.fromkeys(digests))


def kept_name(name: str, digest: str) -> str:
    """The file in a run's folder `plugins` that keeps a plugin, given its name and digest in the study's identity."""
    base = PurePath(name.replace("\\", "/")).name
    return base if base == name else f"{digest[:16]}-{base}"


def _by_name(found: list[tuple[str, Plugin]]) -> dict[str, str]:
    of_name: dict[str, set[str]] = {}
    for _, plugin in found:
        of_name.setdefault(Path(plugin.path).name, set()).add(plugin.digest)
    names = {}
    for written, plugin in found:
        base = Path(plugin.path).name
        names[base if len(of_name[base]) == 1 else PurePath(written).as_posix()] = plugin.digest
    return names


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def _run(plugin: Plugin) -> frozenset[str]:
    """Run it in a module of its own, which has the same name in every process; the ops that it registers."""
    before = dict(REGISTRY)
    name = _module(plugin.digest)
    module = ModuleType(name)
    module.__file__ = plugin.path
    sys.modules[name] = module  # dataclasses look their own module up
    try:
        exec(compile(plugin.content, plugin.path, "exec", dont_inherit=True), module.__dict__)
        new = {op: transform for op, transform in REGISTRY.items() if op not in before}
        problems = [f"{plugin.path}: {op}: {why}" for op, t in new.items() if (why := _unfit(t))]
        if problems:
            raise InputError(problems)
    except Exception as error:
        del sys.modules[name]
        for op in set(REGISTRY) - set(before):
            del REGISTRY[op]
        if isinstance(error, InputError):
            raise
        raise InputError(f"{plugin.path}: {type(error).__name__}: {error}") from error
    return frozenset(new)


def _parts(name: str) -> tuple[str, str]:
    """The file and the function of a measure as a study calls it."""
    file, _, function = name.rpartition(":")
    return file, function


def _module(digest: str) -> str:
    return f"noisesweep_plugin_{digest[:16]}"


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
            return f"{name}: {kind} is no type of a parameter; valid: float, int, bool, str and Table"
    return None

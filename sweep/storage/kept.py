"""The study that a run folder keeps: as data for readers, and with its own code for those who trust it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

from sweep.data.measure import Measure
from sweep.data.measures import column, is_own
from sweep.data.measures import stand_in as measure_stand_in
from sweep.errors import InputError, OtherStudyError, StoreError, UntrustedError
from sweep.files import function_in, tables_of
from sweep.perturb.base import REGISTRY, Transform
from sweep.scripts import Script
from sweep.storage.store import Store
from sweep.study.described import describe, is_ours, stand_in
from sweep.study.family import as_list, swept_columns
from sweep.study.paths import MANIFEST, STUDY
from sweep.study.plugins import FOLDER, Register, have_run, keep, kept_code, kept_name, run_plugins
from sweep.study.study import CODE, Study

T = TypeVar("T")
BEGINS = 2.0  # s, within which a driver that has written the manifest writes the study
_LOOKS = 20
_NOT_ITS_STUDY = "it is not the study of this run; `sweep run` with the one that was begun here last mends that"
Trust = bool | Callable[[str], bool]
"""Whether code that a run folder brings may run: yes, no, or who is asked, given what would run."""


class _NoStudyError(StoreError):
    """A run folder has no study.toml."""


def described(study: Study) -> dict[str, Any]:
    """Of every transform of a study that is a user's own, what a reader must know of it, by op; as JSON knows it."""
    used: dict[str, list[Any]] = {}
    for cell in study.cells:
        for transform in cell.transforms:
            if not is_ours(type(transform)):
                used.setdefault(transform.op, []).append(transform)
    return {op: describe(type(transforms[0]), transforms) for op, transforms in used.items()}


def described_measures(study: Study) -> dict[str, Any]:
    """Of every measure of the user's own what a reader must know of it, by column; as JSON knows it."""
    measures = {name: study.measure_called(name) for name in study.own_measures}
    return {name: {"label": m.label, "fraction": m.fraction, "higher": m.higher} for name, m in measures.items()}


def read_study(store: Store, trust: Trust = False) -> Study:
    """The study of a run, of which nothing is executed: its own transforms are stand-ins, made of what is stored.

    Args:
        store: the run folder.
        trust: for a run that noisesweep 0.1.0 left, with plugins and without a word on them: whether to run these.

    Raises:
        UntrustedError: nothing is stored of its plugins, and they are not trusted.
        OtherStudyError: study.toml is not that of the run.
        StoreError: it is missing.
    """
    return _once_begun(store, lambda: _read_study(store, trust))


def _read_study(store: Store, trust: Trust) -> Study:
    tables, stored = _tables(store), store.manifest.get("ops", {})
    if tables.get("plugins") and not stored:
        return _trusted_study(store, trust, "; `sweep run STUDY` with your own study stores what readers need instead")
    own = {}
    for op, data in stored.items():
        try:
            own[op] = stand_in(op, data)
        except InputError as error:
            problems = "; ".join(error.problems)
            raise StoreError(f"{store.folder.uri}/{MANIFEST}: is damaged: ops.{op}: {problems}") from None
    said = store.manifest.get("measures", {})
    measures = {name: measure_stand_in(name, said.get(name, {})) for name in map(column, _own(tables))}
    return _made(store, tables, {**REGISTRY, **own}, measures)


def trusted_study(store: Store, trust: Trust, otherwise: str = "") -> Study:
    """The study of a run, with its plugins run from the copies in the folder, and the code of its networks to be run.

    A file that has run in this process already, from wherever, is not asked about. A function that makes the data is
    code, too, and may run then.

    Args:
        store: the run folder.
        trust: whether to run them.
        otherwise: ends the message to those who do not.

    Raises:
        UntrustedError: they are not trusted.
        InputError: they fail.
        StoreError: a file is not the one that the run was made with.
    """
    once = cache(trust) if callable(trust) else trust
    return _once_begun(store, lambda: _trusted_study(store, once, otherwise))


def _once_begun(store: Store, read: Callable[[], T]) -> T:
    """What is read of the study, where need be once whoever begins or grows the run has written all of it."""
    for _ in range(_LOOKS):
        try:
            return read()
        except (_NoStudyError, OtherStudyError):
            time.sleep(BEGINS / _LOOKS)
            store.load()
    return read()


def _trusted_study(store: Store, trust: Trust, otherwise: str) -> Study:
    tables, plugins, code = _tables(store), _digests(store), _code(store)
    named = [place for key in ("dataset", "calibration") for place in as_list(tables.get(key))]
    makes_data = [str(place) for place in named if isinstance(place, str) and function_in(place)]
    kept = {kept_name(*item): item[1] for item in plugins.items()} if tables.get("plugins") or _own(tables) else {}
    of_networks = {kept_code(*item): item[1] for item in code.items()} if _names_code(tables) else {}
    running = not have_run(kept.values(), of_networks.values())
    if makes_data or running:
        asked = trust if callable(trust) else lambda _: trust
        files = ", ".join([*(f"{FOLDER}/{name}" for name in [*kept, *of_networks]), *makes_data])
        said = f"brings code of its own ({files})"
        if not asked(f"{store.folder.uri} {said}"):
            raise UntrustedError(f"{store.folder.uri}: {said}, which runs only with --trust-plugins{otherwise}")
    if running:
        run_plugins(_kept(store, name, digest) for name, digest in kept.items())
        keep(_kept(store, name, digest) for name, digest in of_networks.items())
    return _made(store, tables, REGISTRY, trusted=bool(makes_data))


def _source(store: Store) -> str:
    return f"{store.folder.uri}/{STUDY}"


def _tables(store: Store) -> dict[str, Any]:
    content, source = store.folder.read(STUDY), _source(store)
    if content is None:
        raise _NoStudyError(f"{store.folder.uri}: has no {STUDY}")
    try:
        tables = tables_of(content.decode(), source)
    except UnicodeDecodeError:
        raise InputError(f"{source}: is not a text file in UTF-8") from None
    if (tables.get("plugins") or _own(tables)) and not _digests(store):
        raise OtherStudyError(f"{source}: names plugins, of which {MANIFEST} knows nothing; {_NOT_ITS_STUDY}")
    if _names_code(tables) and not _code(store):
        raise OtherStudyError(f"{source}: names code of networks, of which {MANIFEST} knows nothing; {_NOT_ITS_STUDY}")
    return tables


def _names_code(tables: Mapping[str, Any]) -> bool:
    models = tables.get("model")
    several = models if isinstance(models, list) else [models]
    return bool(tables.get("custom_objects")) or any(isinstance(model, dict) for model in several)


def _own(tables: Mapping[str, Any]) -> list[str]:
    """The measures of the user's own, as a study's tables call them."""
    named = tables.get("measures")
    return [name for name in named if isinstance(name, str) and is_own(name)] if isinstance(named, list) else []


def _digests(store: Store) -> dict[str, str]:
    return dict(store.manifest.get("identity", {}).get("plugins", {}))


def _code(store: Store) -> dict[str, str]:
    return dict(store.manifest.get("identity", {}).get(CODE, {}))


def _kept(store: Store, name: str, digest: str) -> Script:
    """A file as the run keeps it under this name, before it is run."""
    file = f"{FOLDER}/{name}"
    content = store.folder.read(file)
    path = f"{store.folder.uri}/{file}"
    if content is None:
        raise StoreError(f"{path}: is missing; run your own study again")
    script = Script.of(path, content)
    if script.digest != digest:
        raise StoreError(f"{path}: is not the file that the run was made with; it is not run")
    return script


def _made(
    store: Store,
    tables: Mapping[str, Any],
    ops: Mapping[str, type[Transform]],
    measures: Mapping[str, Measure] | None = None,
    trusted: bool = False,
) -> Study:
    """The study of these tables; one of more cells than its manifest lists is refused before any of them is made."""
    _check_size(store, tables, ops)
    register = Register(ops, _digests(store), _code(store), measures or {}, trusted)
    study = Study.from_dict(tables, _source(store), register)
    known = store.manifest.get("identity", {}).get("cells")
    if known is not None and known.keys() != {cell.id for cell in study.cells if cell.transforms}:
        raise OtherStudyError(f"{_source(store)}: makes other cells than {MANIFEST} lists; {_NOT_ITS_STUDY}")
    return study


def _check_size(store: Store, tables: Mapping[str, Any], ops: Mapping[str, type[Transform]]) -> None:
    known = store.manifest.get("identity", {}).get("cells")
    if known is None:
        return
    families, models = tables.get("family", []), tables.get("model", [])
    count = 0
    for family in families if isinstance(families, list) else []:
        cells = 1
        perturb = family.get("perturb") if isinstance(family, dict) else None
        if not isinstance(perturb, list) or not all(isinstance(table, dict) for table in perturb):
            continue
        for position, name in swept_columns(perturb, ops).values():
            cells *= len(perturb[position][name])
        count += cells * (len(family["sensitivity"]) if isinstance(family.get("sensitivity"), list) else 1)
    count *= len(as_list(models)) * len(as_list(tables.get("dataset")))
    if count > len(known):
        raise OtherStudyError(
            f"{_source(store)}: makes {count:,} cells, and {MANIFEST} lists {len(known):,}; {_NOT_ITS_STUDY}"
        )

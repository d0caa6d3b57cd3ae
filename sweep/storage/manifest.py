"""What stands in a manifest: parsed as a stranger's data, every part of it what it should be; how long a study took."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NoReturn

from sweep.errors import StoreError
from sweep.storage.schema import FORMAT
from sweep.study.paths import MANIFEST

LARGEST = 2**63 - 1
SHARD_NAME = re.compile(r"[A-Za-z0-9_][\w.-]{0,240}\.parquet", re.ASCII)
"""A file directly in the folder of trials: no slash, no hidden one."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PLUGIN_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,1024}")


def parse(content: bytes) -> dict[str, Any]:
    """The manifest; raises ValueError, which says in a few words what is wrong with it.

    Entries that this version does not know are left as they are; of a newer format nothing but that is known.
    """
    try:
        manifest: dict[str, Any] = json.loads(content, parse_constant=no_constant)
        if b"\\u" in content:  # half a character, which no file and no terminal takes
            json.dumps(manifest, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("its lists are too deep in one another") from None
    _require(isinstance(manifest, dict), "it is no table")
    for key in ("format", "shards"):
        _require(key in manifest, f"it has no {key}")
    if is_whole(manifest["format"]) and manifest["format"] > FORMAT:
        return manifest
    for key, sound in _PARTS.items():
        _require(key not in manifest or sound(manifest[key]), f"{key} is not what it should be")
    for number, shard in enumerate(manifest["shards"]):
        _require(_is_shard(shard), f"shards[{number}] is no file of trials with rows and checksum")
    for key in ("replaced", "doomed"):
        for name in manifest.get(key, []):
            _require(_is_shard_name(name), f"{key}: {name!r:.80} is no file of trials")
    return manifest


def manifest_of(content: bytes, where: str) -> dict[str, Any]:
    """The manifest of the run folder that is there; raises StoreError where it is damaged, or of a newer format."""
    try:
        manifest = parse(content)
    except ValueError as error:
        raise StoreError(
            f"{where}/{MANIFEST}: is damaged: {error}; move it away, and `sweep run` makes it anew from the shards"
        ) from None
    if manifest["format"] > FORMAT:
        raise StoreError(f"{where}: was written by a newer noisesweep (format {manifest['format']})")
    return manifest


def text(manifest: Mapping[str, Any]) -> str:
    """A manifest as it is stored: a line for each entry, and for each item of those that are lists or tables.

    Twenty times as fast as what json indents, which counts where there are thousands of cells: it is written often.
    """
    entries = [f" {_json(name)}: {_items(value)}" for name, value in manifest.items()]
    return "{\n" + ",\n".join(entries) + "\n}\n"


def _items(value: Any) -> str:
    if isinstance(value, dict) and value:
        return "{\n" + ",\n".join(f"  {_json(name)}: {_json(item)}" for name, item in value.items()) + "\n }"
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(f"  {_json(item)}" for item in value) + "\n ]"
    return _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


class Clock:
    """Wall-clock time of this run, on top of what earlier runs of the study have left in the manifest; of no result."""

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        self._before = float(manifest.get("wall_seconds", 0.0))
        self._started = manifest.get("started") or now()
        self._begun = time.monotonic()

    def unfinished(self) -> dict[str, Any]:
        """Entries for the manifest as long as not everything asked for is there."""
        seconds = self._before + time.monotonic() - self._begun
        return {"started": self._started, "finished": None, "wall_seconds": round(seconds, 3)}

    def finished(self) -> dict[str, Any]:
        """Entries for the manifest once everything asked for is committed."""
        return {**self.unfinished(), "finished": now()}


def now() -> str:
    """The time, as run folders have it: ISO 8601, UTC, in seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _is_shard(shard: Any) -> bool:
    return (
        isinstance(shard, dict)
        and shard.keys() == {"name", "rows", "sha256"}
        and _is_shard_name(shard["name"])
        and is_whole(shard["rows"])
        and _is_digest(shard["sha256"])
    )


def _is_hidden(said: Any) -> bool:
    return (
        isinstance(said, dict)
        and said.keys() == {"file", "identity"}
        and _is_shard_name(said["file"])
        and _is_digest(said["identity"])
    )


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and bool(_DIGEST.fullmatch(value))


def _is_shard_name(name: Any) -> bool:
    return isinstance(name, str) and bool(SHARD_NAME.fullmatch(name))


def _is_identity(identity: Any) -> bool:
    if identity == {}:
        return True
    if not isinstance(identity, dict) or not {"root_seed", "files", "cells"} <= identity.keys():
        return False
    files = [identity.get(part, {}) for part in ("plugins", "code of networks")]
    return (
        is_whole(identity["root_seed"])
        and _is_texts(identity["files"])
        and all(isinstance(part, dict) for name, part in identity.items() if name != "root_seed")
        and all(map(_is_texts, files))
        and all(_PLUGIN_NAME.fullmatch(n) and _DIGEST.fullmatch(digest) for own in files for n, digest in own.items())
    )


def is_whole(value: Any) -> bool:
    """Whether it is a whole number from 0 on that 64 bits hold."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST


def is_amount(value: Any) -> bool:
    """Whether it is a finite number from 0 on."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= sys.float_info.max


def _is_shares(value: Any) -> bool:
    return isinstance(value, dict) and all(is_amount(share) and share <= 1 for share in value.values())


def _is_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _is(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds)


_PARTS: dict[str, Callable[[Any], bool]] = {
    "format": is_whole,
    "generation": is_whole,
    "name": _is(str),
    "study_digest": _is(str),
    "run": _is(str),
    "started": _is(str, type(None)),
    "finished": _is(str, type(None)),
    "wall_seconds": is_amount,
    "chance": _is_shares,
    "versions": _is_texts,
    "devices": lambda devices: isinstance(devices, list) and all(isinstance(kind, str) for kind in devices),
    "hosts": lambda hosts: isinstance(hosts, list) and all(map(_is_texts, hosts)),
    "identity": _is_identity,
    "ops": _is(dict),
    "measures": lambda measures: (
        isinstance(measures, dict) and all(isinstance(said, dict) for said in measures.values())
    ),
    "shards": _is(list),
    "replaced": _is(list),
    "doomed": _is(list),
    "hidden": lambda cells: isinstance(cells, dict) and all(map(_is_hidden, cells.values())),
    "others": lambda digests: isinstance(digests, list) and all(map(_is_digest, digests)),
}


def no_constant(text: str) -> NoReturn:
    """Refuse NaN and infinities, which JSON does not have; ValueError."""
    raise ValueError(f"{text} is no number")


def _require(sound: bool, problem: str) -> None:
    if not sound:
        raise ValueError(problem)

"""The manifest of a run folder, as several drivers read and write it."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sweep.errors import GrownError, StoreError
from sweep.storage.disk import MOST_BYTES
from sweep.storage.manifest import manifest_of
from sweep.storage.manifest import text as manifest_text
from sweep.storage.paths import Folder
from sweep.storage.schema import FORMAT
from sweep.storage.shards import TRIALS, Shard
from sweep.study.paths import MANIFEST


class Listing:
    """What a run folder says that it holds.

    Several drivers may write to one folder: each write of the manifest starts from what is there, so none loses what
    another has listed.

    Attributes:
        folder: where it lies.
        manifest: what it says of itself.
        shards: those that it lists, and those that were added here since.
    """

    def __init__(self, place: str | Path) -> None:
        self.folder = Folder.at(place)
        self.manifest: dict[str, Any] = {}
        self.shards: dict[str, Shard] = {}
        self._new: dict[str, Shard] = {}  # not yet listed
        self._begun: int | None = None  # the generation of the manifest that was found first
        self._either: tuple[str, ...] = ()  # while the run becomes that of another study, the digests of both

    def load(self) -> bool:
        """Read the manifest; False when there is none yet."""
        content = self.folder.read(MANIFEST)
        self._take(content)
        return content is not None

    def _take(self, content: bytes | None) -> None:
        """What is listed now, and what was added here since, unless another driver has merged it."""
        if content is None:
            self._begun = self._begun or 0
            return
        manifest = manifest_of(content, self.folder.uri)
        mine = self.manifest.get("study_digest")
        if mine and manifest.get("study_digest") not in (self._either or (mine,)):
            raise GrownError(f"{self.folder.uri}: has become another study's meanwhile; open it, or run yours, again")
        listed = {s["name"]: Shard(**s) for s in manifest["shards"]}
        replaced = manifest.get("replaced", [])
        generation = manifest.get("generation", 0)
        if self._begun is None:
            self._begun = generation
        if generation != self._begun:  # another driver may have merged what was added here; the name may be used again
            self._new = {n: s for n, s in self._new.items() if n not in replaced and self._is_there(s)}
        hosts = [*manifest.get("hosts", []), *self.manifest.get("hosts", [])]
        manifest["hosts"] = [host for i, host in enumerate(hosts) if host not in hosts[:i]]
        self.manifest = manifest
        self.shards = listed | self._new

    def _is_there(self, shard: Shard) -> bool:
        content = self.folder.read(f"{TRIALS}/{shard.name}")
        return content is not None and hashlib.sha256(content).hexdigest() == shard.sha256

    def save(self, **entries: Any) -> None:
        """Write the manifest, with `entries` added to it; raises StoreError when it is another study's by now.

        With the study goes what the run is known by, whoever asks where: a name drawn by lot, by the first.
        """
        drawn = uuid.uuid4().hex

        def change() -> None:
            mine = entries.get("study_digest")
            if mine and self.manifest.get("study_digest", mine) != mine:
                raise StoreError(f"{self.folder.uri}: another study was begun here at the same time")
            self.manifest |= {"run": self.manifest.get("run", drawn), **entries} if mine else entries

        self._update(change)

    def _update(self, change: Callable[[], None]) -> None:
        """Write the manifest as it is after `change`, which starts from what is listed at that moment."""

        def changed(content: bytes | None) -> bytes:
            self._take(content)
            change()
            self.manifest.setdefault("hosts", [])
            self.manifest["format"] = FORMAT
            self.manifest["shards"] = [asdict(self.shards[name]) for name in sorted(self.shards)]
            written = manifest_text(self.manifest).encode()
            if len(written) > MOST_BYTES:
                raise StoreError(f"{self.folder.uri}: the study has more cells than a manifest can list")
            return written

        self.folder.update(MANIFEST, changed)
        self._new = {}

    def _sign(self) -> None:
        """Others look for what they added then, and none of theirs passes for what is written here."""
        self.manifest["generation"] = self.manifest.get("generation", 0) + 1
        self.manifest["signed"] = uuid.uuid4().hex

    def add(self, shard: Shard) -> None:
        """Count a shard as committed; `save` makes it last."""
        self.shards[shard.name] = self._new[shard.name] = shard

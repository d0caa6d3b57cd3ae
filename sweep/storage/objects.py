"""A run folder in an object store: S3 and what speaks like it, Google Cloud Storage, Azure."""

from __future__ import annotations

import random
import re
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import obstore
from obstore import exceptions
from obstore.store import from_url

from sweep.storage.disk import PART, check_size

if TYPE_CHECKING:
    from obstore import ObjectMeta, UpdateVersion

TRIES = 12
PAUSE, LONGEST_PAUSE = 0.1, 5.0  # s, before the second try, and at most
PATIENCE = 180.0  # s, after which nothing is tried again
PAGE = 1000  # objects in one answer; stores give no more
LEFT = timedelta(hours=1)  # what is as old as that, nobody is writing any more

_STATUS = re.compile(r"status code: ((\d{3})[A-Za-z -]*)")
_FINAL = (
    exceptions.AlreadyExistsError,
    exceptions.InvalidPathError,
    FileNotFoundError,
    exceptions.NotSupportedError,
    exceptions.PermissionDeniedError,
    exceptions.PreconditionError,
    exceptions.UnauthenticatedError,
    exceptions.UnknownConfigurationKeyError,
)
_TAKEN = (exceptions.AlreadyExistsError, exceptions.PreconditionError)

T = TypeVar("T")


class Bucket:
    """Objects below a prefix. What cannot be done is an OSError, after some tries where another may succeed.

    Where the store is and who asks comes from the environment, such as AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and
    AWS_TIMEOUT. An object is there with all its content or not at all, so nothing is written beside it. Requests whose
    reply was lost are sent again; what the first one has done then shows in the content.
    """

    def __init__(self, uri: str) -> None:
        try:
            self._store = from_url(uri, retry_config={"max_retries": 0, "retry_timeout": timedelta(minutes=5)})
        except exceptions.BaseError as error:
            raise OSError(_reason(error)) from None

    def read(self, name: str) -> bytes | None:
        return self._read(name)[0]

    def write(self, name: str, content: bytes) -> None:
        _tried(lambda _: obstore.put(self._store, name, content, use_multipart=False))

    def create(self, name: str, content: bytes) -> bool:
        def put(again: bool) -> bool:
            try:
                obstore.put(self._store, name, content, mode="create", use_multipart=False)
            except exceptions.AlreadyExistsError:
                return again and self.read(name) == content
            return True

        return _tried(put)

    def update(self, name: str, change: Callable[[bytes | None], bytes]) -> None:
        """Replace an object by what `change` makes of it, from the start again when another writer was faster."""
        for again in range(TRIES):
            there, version = self._read(name)
            content = change(there)
            if self._swap(name, content, version) or self.read(name) == content:
                return
            time.sleep(_pause(again))
        raise OSError(f"others kept writing it at the same time, {TRIES} times")

    def move(self, name: str, to: str) -> None:
        content = self.read(name)
        if content is not None:
            self.write(to, content)
            self.remove(name)

    def remove(self, name: str) -> None:
        def delete(_: bool) -> None:
            try:
                obstore.delete(self._store, name)
            except FileNotFoundError as error:
                _check_bucket(error)

        _tried(delete)

    def names(self, under: str) -> list[str]:
        return sorted(name for name in self._listed(under) if not name.startswith("."))

    def tidy(self, under: str) -> None:
        for name, changed in self._listed(under).items():
            if PART.fullmatch(name) and datetime.now(UTC) - changed > LEFT:
                self.remove(f"{under}/{name}".lstrip("/"))

    def probe(self) -> None:
        """Raise OSError unless objects can be made here, listed, and replaced by one writer only."""
        name = f".{uuid.uuid4().hex}.part"
        self.create(name, b"1")
        try:
            self.names("")
            version = self._read(name)[1]
            never_replaced = not self.create(name, b"2")
            if not (never_replaced and self._swap(name, b"3", version) and not self._swap(name, b"4", version)):
                raise OSError("the store ignores the conditions If-None-Match and If-Match, so writers could collide")
        finally:
            self.remove(name)

    def withdraw(self) -> None:
        """Nothing: stores have no empty folders."""

    def _read(self, name: str) -> tuple[bytes | None, UpdateVersion | None]:
        """Content and version of an object."""

        def get(_: bool) -> tuple[bytes | None, UpdateVersion | None]:
            try:
                found = obstore.get(self._store, name)
                check_size(found.meta["size"])
                version: UpdateVersion = {}
                if found.meta["e_tag"]:
                    version["e_tag"] = found.meta["e_tag"]
                if found.meta["version"]:
                    version["version"] = found.meta["version"]
                return bytes(found.bytes()), version
            except FileNotFoundError as error:
                _check_bucket(error)
                return None, None

        return _tried(get)

    def _swap(self, name: str, content: bytes, version: UpdateVersion | None) -> bool:
        """Replace this very version of an object (None: where there is none); False when it has another by now."""

        def put(again: bool) -> bool:
            try:
                obstore.put(self._store, name, content, mode=version or "create", use_multipart=False)
            except _TAKEN:
                return again and self.read(name) == content
            return True

        return _tried(put)

    def _listed(self, under: str) -> dict[str, datetime]:
        """When each object directly below `under` was changed, by its name there."""
        found: dict[str, datetime] = {}
        last: str | None = None
        while page := _tried(partial(self._page, under, last)):  # one request each: what breaks off goes on there
            last = page[-1]["path"]
            names = {entry["path"].removeprefix(f"{under}/"): entry["last_modified"] for entry in page}
            found |= {name: changed for name, changed in names.items() if "/" not in name}
        return found

    def _page(self, under: str, after: str | None, _: bool) -> Sequence[ObjectMeta]:
        return next(iter(obstore.list(self._store, under or None, offset=after, chunk_size=PAGE)), [])


def _tried(request: Callable[[bool], T]) -> T:
    """The answer to a request, which is told whether it has been sent before; tried again where that may help."""
    begun = time.monotonic()
    for number in range(TRIES):
        try:
            return request(number > 0)
        except (exceptions.BaseError, FileNotFoundError) as error:
            reason, final = _reason(error), isinstance(error, _FINAL) or not _may_pass(str(error))
        if final:
            raise OSError(reason)
        if number + 1 == TRIES or time.monotonic() - begun > PATIENCE:
            break
        time.sleep(_pause(number))
    raise OSError(f"{reason}, after {number + 1} tries in {time.monotonic() - begun:.0f} s")


def _pause(number: int) -> float:
    """Seconds, twice as long each time; between the half and all of it, so that tasks do not come back together."""
    return min(LONGEST_PAUSE, PAUSE * 2.0**number) * random.uniform(0.5, 1)


def _check_bucket(error: Exception) -> None:
    if "NoSuchBucket" in str(error):
        raise OSError(_reason(error)) from None


def _may_pass(text: str) -> bool:
    """Whether the same request may be answered later: overload, errors of the server, no or half an answer."""
    status = _STATUS.search(text)
    if status:
        return status[2] in ("408", "409", "429") or status[2].startswith("5")
    return not any(sign in text for sign in ("builder error", "Config", "URL error"))


def _reason(error: Exception) -> str:
    """One line; addresses are left out, because they may hold a secret."""
    text = str(error)
    status = _STATUS.search(text)
    if "169.254.169.254" in text or "metadata.google" in text:
        return "the environment has no credentials (AWS_…, GOOGLE_… or AZURE_…)"
    if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
        return "the store refuses these credentials"
    if "NoSuchBucket" in text:
        return "there is no such bucket"
    if "BadScheme" in text:
        return "the address of the store is not https://; AWS_ALLOW_HTTP=true allows that"
    if status:
        return f"the store answers {status[1].strip()}"
    if "error sending request" in text:
        return "the store does not answer"
    return re.sub(r"\S*://\S*", "…", text.partition("\n")[0])

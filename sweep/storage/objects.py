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

from sweep.storage.disk import MOST_BYTES, PART, check_size
from sweep.storage.profiles import profile

if TYPE_CHECKING:
    from obstore import ObjectMeta, UpdateVersion
    from obstore.store import ObjectStore, RetryConfig

TRIES = 12
PAUSE, LONGEST_PAUSE = 0.1, 5.0  # s, before the second try, and at most
PATIENCE = 180.0  # s, after which nothing is tried again
FIRST_TRIES, FIRST_PATIENCE = 6, 10.0  # of a store that has never answered: the address is wrong, or the network
PAGE = 1000  # objects in one answer; stores give no more
LEFT = timedelta(hours=1)  # what is as old as that, nobody is writing any more

_STATUS = re.compile(r"status code: ((\d{3})[A-Za-z -]*)|\(code: ((\d{3}))\)")
_CODE = re.compile(r"<Code>([A-Za-z]{1,60})</Code>|\(code: ([A-Za-z]{1,60})\)")
_METADATA = re.compile(r"169\.254\.|fd00:ec2|metadata\.google|/latest/(api/token|meta-data)|/metadata/identity")
_NO_BUCKET = re.compile(
    r"NoSuchBucket|Container(NotFound|BeingDeleted)|The specified (bucket|container) does not exist"
)
_REFUSED = ("AccessDenied", "ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch")
_WHO = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile in ~/.aws/credentials",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_WHERE = {"s3": "AWS_ENDPOINT_URL and ", "gs": "", "az": "AZURE_STORAGE_ACCOUNT_NAME and "}
_PREFIX = {"s3": "AWS", "gs": "GOOGLE", "az": "AZURE"}
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
    AWS_TIMEOUT, or for S3 from a profile in ~/.aws. An object is there with all its content or not at all, so nothing
    is written beside it. Requests whose reply was lost are sent again; what the first one has done then shows in the
    content.
    """

    def __init__(self, uri: str) -> None:
        self._kind = uri.partition("://")[0]
        self._answered = False
        retries: RetryConfig = {"max_retries": 0, "retry_timeout": timedelta(minutes=5)}
        try:
            if self._kind == "s3":
                self._store: ObjectStore = from_url(uri, config=profile(), retry_config=retries)
            else:
                self._store = from_url(uri, retry_config=retries)
        except exceptions.BaseError as error:
            raise OSError(_reason(error, self._kind)) from None
        except ValueError as error:
            raise OSError(f"it is no address: {error}") from None

    def read(self, name: str, most: int = MOST_BYTES) -> bytes | None:
        return self._read(name, most)[0]

    def write(self, name: str, content: bytes) -> None:
        self._tried(lambda _: obstore.put(self._store, name, content, use_multipart=False))

    def create(self, name: str, content: bytes) -> bool:
        def put(again: bool) -> bool:
            try:
                obstore.put(self._store, name, content, mode="create", use_multipart=False)
            except exceptions.AlreadyExistsError:
                return again and self.read(name) == content
            return True

        return self._tried(put)

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
                self._check_bucket(error)

        self._tried(delete)

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

    def _read(self, name: str, most: int = MOST_BYTES) -> tuple[bytes | None, UpdateVersion | None]:
        """Content and version of an object."""

        def get(_: bool) -> tuple[bytes | None, UpdateVersion | None]:
            try:
                found = obstore.get(self._store, name)
                check_size(found.meta["size"], most)
                version: UpdateVersion = {}
                if found.meta["e_tag"]:
                    version["e_tag"] = found.meta["e_tag"]
                if found.meta["version"]:
                    version["version"] = found.meta["version"]
                return bytes(found.bytes()), version
            except FileNotFoundError as error:
                self._check_bucket(error)
                return None, None

        return self._tried(get)

    def _swap(self, name: str, content: bytes, version: UpdateVersion | None) -> bool:
        """Replace this very version of an object (None: where there is none); False when it has another by now."""

        def put(again: bool) -> bool:
            try:
                obstore.put(self._store, name, content, mode=version or "create", use_multipart=False)
            except _TAKEN:
                return again and self.read(name) == content
            return True

        return self._tried(put)

    def _listed(self, under: str) -> dict[str, datetime]:
        """When each object directly below `under` was changed, by its name there."""
        found: dict[str, datetime] = {}
        last: str | None = None
        while page := self._tried(partial(self._page, under, last)):  # one request each: what breaks off goes on there
            last = page[-1]["path"]
            names = {entry["path"].removeprefix(f"{under}/"): entry["last_modified"] for entry in page}
            found |= {name: changed for name, changed in names.items() if "/" not in name}
        return found

    def _page(self, under: str, after: str | None, _: bool) -> Sequence[ObjectMeta]:
        """The first objects whose names come after one; some stores, such as Azurite, list the earlier ones, too."""
        for page in obstore.list(self._store, under or None, offset=after, chunk_size=PAGE):
            if fresh := [entry for entry in page if after is None or entry["path"] > after]:
                return fresh
        return []

    def _tried(self, request: Callable[[bool], T]) -> T:
        """The answer to a request, which is told whether it was sent before; tried again where that may help."""
        begun = time.monotonic()
        for number in range(TRIES):
            try:
                found = request(number > 0)
            except (exceptions.BaseError, FileNotFoundError) as error:
                text, reason = str(error), _reason(error, self._kind)
                final = isinstance(error, _FINAL) or not _may_pass(text)
                self._answered = self._answered or bool(_STATUS.search(text))
            else:
                self._answered = True
                return found
            if final:
                raise OSError(reason)
            seconds = time.monotonic() - begun
            hopeless = not self._answered and (number + 1 == FIRST_TRIES or (number > 0 and seconds > FIRST_PATIENCE))
            if hopeless or number + 1 == TRIES or seconds > PATIENCE:
                break
            time.sleep(_pause(number))
        what, _, remedy = reason.partition("; ")
        tries = f"{what}, after {number + 1} tries in {time.monotonic() - begun:.0f} s"
        raise OSError(f"{tries}; {remedy}" if remedy else tries)

    def _check_bucket(self, error: Exception) -> None:
        """A missing object is no mistake, a missing bucket is."""
        if _NO_BUCKET.search(str(error)):
            raise OSError(_reason(error, self._kind)) from None


def _pause(number: int) -> float:
    """Seconds, twice as long each time; between the half and all of it, so that tasks do not come back together."""
    return min(LONGEST_PAUSE, PAUSE * 2.0**number) * random.uniform(0.5, 1)


def _may_pass(text: str) -> bool:
    """Whether the same request may be answered later: overload, errors of the server, no or half an answer."""
    status, code = _STATUS.search(text), _CODE.search(text)
    if status:
        number = status[2] or status[4]
        return number in ("408", "409", "429") or number.startswith("5")
    if _METADATA.search(text) or (code and (code[1] or code[2]) in _REFUSED):
        return False
    return not any(sign in text for sign in ("builder error", "Config", "URL error", "configured region"))


def _reason(error: Exception, kind: str) -> str:
    """One line; addresses are left out, because they may hold a secret."""
    text = str(error)
    status, found = _STATUS.search(text), _CODE.search(text)
    code = (found[1] or found[2]) if found else ""
    if _METADATA.search(text):
        return f"the environment has no credentials; set {_WHO[kind]}"
    if _NO_BUCKET.search(text):
        return f"there is no such {'container' if kind == 'az' else 'bucket'}; make it first, or correct the address"
    if (status and (status[2] or status[4]) in ("401", "403")) or code in _REFUSED:
        said = f" ({code})" if code else ""
        return (
            f"the store refuses these credentials{said}; check {_WHO[kind]}, "
            "and that they may list, read, write and delete there"
        )
    if "BadScheme" in text:
        return f"the address of the store is not https://; {_PREFIX[kind]}_ALLOW_HTTP=true allows that"
    if "configured region" in text:
        return "the bucket is in another region; set AWS_REGION"
    if "Account must be specified" in text:
        return "AZURE_STORAGE_ACCOUNT_NAME is not set"
    if "Invalid Access Key" in text:
        return "AZURE_STORAGE_ACCOUNT_KEY is no key of an account"
    if status:
        return f"the store answers {(status[1] or status[3]).strip()}" + (f" ({code})" if code else "")
    if "error sending request" in text:
        return f"the store does not answer; check {_WHERE[kind]}the network"
    return re.sub(r"\S*://\S*", "…", text.partition("\n")[0])

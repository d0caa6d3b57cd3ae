"""A stand-in for an S3 store, on the loopback interface: a bucket in memory, conditional writes, faults on demand."""

from __future__ import annotations

import contextlib
import hashlib
import random
import threading
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.etree import ElementTree
from xml.sax.saxutils import escape

BUCKET = "bucket"
KEY, SECRET = "AKIASTANDIN", "a+very/secret"
RATES = {"503": 0.08, "429": 0.08, "time-out": 0.08, "lost reply": 0.08}  # 12 tries in a row fail once in a million


class Standin(ThreadingHTTPServer):
    """The server.

    Attributes:
        objects: what is stored, by key.
        rates: how often each kind of fault happens, of all requests.
        refused: methods that these credentials may not use.
        page: names in one page of a listing.
        conditional: whether conditional writes are understood; else they are done without a condition.
        seen: how often each method was called, and each fault happened.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, seed: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.rates: dict[str, float] = {}
        self.refused: set[str] = set()
        self.page = 1000
        self.conditional = True
        self.seen: Counter[str] = Counter()
        self.changing = threading.Lock()
        self.stopping = threading.Event()
        self._rng = random.Random(seed)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fault(self) -> str | None:
        with self.changing:
            draw = self._rng.random()
            for kind, rate in self.rates.items():
                if (draw := draw - rate) < 0:
                    self.seen[kind] += 1
                    return kind
        return None

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has given up is no news."""


def environment(server: Standin) -> dict[str, str]:
    """What points a process to the server; nobody waits long for a lost reply."""
    return {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
        "AWS_TIMEOUT": "300ms",
    }


@contextlib.contextmanager
def standin(seed: int = 0) -> Iterator[Standin]:
    """A server in a thread of its own."""
    server = Standin(seed)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer in one piece
    server: Standin

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.fault()
        if fault in ("503", "429"):
            return self._refuse(int(fault))
        if fault == "time-out":
            self.server.stopping.wait(60)
            return self._hang_up()
        with self.server.changing:
            self.server.seen[self.command] += 1
            status, headers, answer = self._answer(body)
        if fault == "lost reply":
            return self._hang_up()
        return self._send(status, headers, answer)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _handle

    def _answer(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        url = urllib.parse.urlsplit(self.path)
        bucket, _, key = urllib.parse.unquote(url.path).lstrip("/").partition("/")
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        objects = self.server.objects
        if f"Credential={KEY}/" not in self.headers.get("Authorization", "") or self.command in self.server.refused:
            return _error(403, "AccessDenied")
        if bucket != BUCKET:
            return _error(404, "NoSuchBucket")
        if self.command == "GET" and "list-type" in query:
            return 200, {}, _listing(sorted(objects), query, self.server.page)
        if self.command == "POST" and "delete" in query:
            gone = [str(element.text) for element in ElementTree.fromstring(body).iter() if element.tag.endswith("Key")]
            for name in gone:
                objects.pop(name, None)
            deleted = "".join(f"<Deleted><Key>{escape(name)}</Key></Deleted>" for name in gone)
            return 200, {}, f"<DeleteResult>{deleted}</DeleteResult>".encode()
        if self.command == "PUT":
            there = objects.get(key)
            if self.server.conditional:
                if self.headers.get("If-None-Match") == "*" and there is not None:
                    return _error(412, "PreconditionFailed")
                match = self.headers.get("If-Match")
                if match and (there is None or match != _tag(there)):
                    return _error(412, "PreconditionFailed")
            objects[key] = body
            return 200, {"ETag": _tag(body)}, b""
        if self.command == "DELETE":
            objects.pop(key, None)
            return 204, {}, b""
        if key not in objects:
            return _error(404, "NoSuchKey")
        headers = {"ETag": _tag(objects[key]), "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
        return 200, headers, objects[key]

    def _hang_up(self) -> None:
        self.close_connection = True

    def _refuse(self, status: int) -> None:
        self._send(*_error(status, "SlowDown"))

    def _send(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _tag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


def _error(status: int, code: str) -> tuple[int, dict[str, str], bytes]:
    content = f"<Error><Code>{code}</Code><Message>request of {KEY}</Message></Error>".encode()
    return status, {"Content-Type": "application/xml"}, content


def _listing(keys: list[str], query: dict[str, str], size: int) -> bytes:
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    entries: dict[str, str] = {}
    for key in keys:
        if key.startswith(prefix):
            folder, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
            name = prefix + folder + delimiter if found else key
            entries[name] = "CommonPrefixes" if found else "Contents"
    rest = [name for name in entries if name > max(query.get("continuation-token", ""), query.get("start-after", ""))]
    page = rest[:size]
    parts = []
    for name in page:
        if entries[name] == "CommonPrefixes":
            parts.append(f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>")
        else:
            parts.append(
                f"<Contents><Key>{escape(name)}</Key><Size>1</Size><ETag>x</ETag>"
                "<LastModified>2024-01-01T00:00:00.000Z</LastModified></Contents>"
            )
    more = len(rest) > size
    token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
    inner = f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{''.join(parts)}"
    return f"<ListBucketResult>{inner}</ListBucketResult>".encode()

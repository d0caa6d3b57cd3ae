"""A headless Chromium over its debugging pipe: enough of it to open a page, press keys and take pictures."""

import base64
import contextlib
import fcntl
import itertools
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome")
_WAIT = 30  # seconds for an answer


def find() -> str | None:
    """The browser given by the environment variable BROWSER_BINARY, else the first one on the path."""
    return os.environ.get("BROWSER_BINARY") or next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One tab. Exceptions and console messages of level error or warning gather in `problems`."""

    def __init__(self, reader: int, writer: int) -> None:
        self._reader, self._writer = reader, writer
        self._numbers = itertools.count(1)
        self._buffer = b""
        self._events: list[dict[str, Any]] = []
        self.problems: list[str] = []
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self._send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the DevTools protocol, to this tab."""
        return self._send(method, self._session, **parameters)

    def open(self, path: Path, width: int = 1200, dark: bool = False, scripts: bool = True) -> None:
        """Load a local file at a width in CSS pixels."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        mobile = width < 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=mobile)
        self.problems.clear()
        self._events.clear()
        self.call("Page.navigate", url=path.as_uri())
        self._await("Page.loadEventFired")

    def run(self, script: str) -> Any:
        """The value of an expression; promises are awaited."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"])
        return found["result"].get("value")

    def move(self, x: float, y: float) -> None:
        """Put the mouse pointer somewhere."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, x: float, y: float) -> None:
        """Press and release the left button."""
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str) -> None:
        """Press and release a key, by its name and code in the protocol."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowRight": 39}
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key], **text)

    def picture(self, path: Path) -> bytes:
        """A screenshot of the whole page, as PNG."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))
        return path.read_bytes()

    def _send(self, method: str, target: dict[str, str] | None = None, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters, **(target or {})}
        os.write(self._writer, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _await(self, event: str) -> None:
        while all(seen["method"] != event for seen in self._events):
            self._note(self._receive())

    def _note(self, event: dict[str, Any]) -> None:
        if "method" not in event:
            return
        self._events.append(event)
        details = event["params"]
        if event["method"] == "Runtime.exceptionThrown":
            self.problems.append(str(details["exceptionDetails"]))
        elif event["method"] == "Runtime.consoleAPICalled" and details["type"] in ("error", "warning"):
            self.problems.append(str(details["args"]))
        elif event["method"] == "Log.entryAdded" and details["entry"]["level"] in ("error", "warning"):
            self.problems.append(details["entry"]["text"])
        elif event["method"] == "Network.requestWillBeSent" and not details["request"]["url"].startswith(
            ("file:", "data:", "about:")
        ):
            self.problems.append(f"asked for {details['request']['url']}")

    def _receive(self) -> dict[str, Any]:
        end = time.monotonic() + _WAIT
        while b"\0" not in self._buffer:
            if not select.select([self._reader], [], [], max(0, end - time.monotonic()))[0]:
                raise TimeoutError("the browser does not answer")
            part = os.read(self._reader, 1 << 20)
            if not part:
                raise RuntimeError("the browser has ended")
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer


@contextlib.contextmanager
def browse(binary: str, profile: Path) -> Iterator[Page]:
    """A browser with one tab, ended afterwards. It talks over file descriptors 3 and 4."""
    read_there, write_here = os.pipe()
    read_here, write_there = os.pipe()
    spare = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (read_there, write_there)]
    quiet = os.open(os.devnull, os.O_RDWR)
    arguments = [binary, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
    arguments += ["--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]
    process = os.posix_spawn(
        binary,
        arguments,
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, spare[0], 3),
            (os.POSIX_SPAWN_DUP2, spare[1], 4),
            *((os.POSIX_SPAWN_DUP2, quiet, number) for number in (1, 2)),
        ],
        setpgroup=0,
    )
    for end in (read_there, write_there, quiet, *spare):
        os.close(end)
    try:
        yield Page(read_here, write_here)
    finally:
        os.killpg(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(read_here)
        os.close(write_here)

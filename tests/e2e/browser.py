"""A headless Chromium, driven over its DevTools protocol: nothing but a web socket is needed."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
TIMEOUT_S = 60.0


def found() -> str | None:
    """Returns the browser's program, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Tab:
    """One tab.

    Attributes:
        complaints: errors and exceptions that its page has logged.
        requests: addresses that its page has asked for.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._socket = socket
        self._numbers = itertools.count(1)
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.do(f"{domain}.enable")

    def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends a command; returns its result."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(TIMEOUT_S))
            if message.get("id") == number:
                if "error" in message:
                    raise AssertionError(f"{method}: {message['error']}")
                result: dict[str, Any] = message["result"]
                return result
            self._note(message.get("method", ""), message.get("params", {}))

    def open(self, address: str) -> None:
        """Opens a page."""
        self.do("Page.navigate", url=address)

    def value(self, expression: str) -> Any:
        """Returns the value of a JavaScript expression."""
        answer = self.do(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_for(self, expression: str, timeout_s: float = TIMEOUT_S) -> Any:
        """Waits until an expression is true; returns its value."""
        deadline = time.monotonic() + timeout_s
        while not (value := self.value(expression)):
            if time.monotonic() > deadline:
                raise AssertionError(f"never true: {expression}; {self.complaints}")
        return value

    def look_like(self, width: int, height: int, **media: str) -> None:
        """Sets size and media features, such as ``prefers_color_scheme="dark"``."""
        phone = width < 600
        self.do(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        features = [{"name": n.replace("_", "-"), "value": value} for n, value in media.items()]
        self.do("Emulation.setEmulatedMedia", features=features)

    def screenshot(self, path: Path) -> None:
        """Writes the whole page to a PNG file."""
        shot = self.do("Page.captureScreenshot", captureBeyondViewport=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _note(self, method: str, parameters: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(parameters["exceptionDetails"])[:500])
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning"):
            self.complaints.append(json.dumps(parameters["args"])[:500])
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            entry = parameters["entry"]
            self.complaints.append(f"{entry['text']} {entry.get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Network.webSocketCreated":
            self.requests.append(parameters["url"])


@contextlib.contextmanager
def browser(program: str, profile: Path) -> Iterator[Callable[[], Tab]]:
    """Starts a browser; yields a function that opens an empty tab."""
    command = [
        program,
        "--headless=new",
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
        "--no-sandbox",  # in a container there is no right to make one
        "--no-first-run",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
    ]
    with (
        (profile.parent / "chromium.log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
        contextlib.ExitStack() as stack,
    ):
        try:
            port = _port(profile / "DevToolsActivePort", process)

            def tab() -> Tab:
                new = urllib.request.Request(f"http://127.0.0.1:{port}/json/new", method="PUT")
                with urllib.request.urlopen(new, timeout=TIMEOUT_S) as answer:
                    address = json.load(answer)["webSocketDebuggerUrl"]
                return Tab(stack.enter_context(connect(address, max_size=None)))

            yield tab
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _port(file: Path, process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError, IndexError, ValueError):
            return int(file.read_text().splitlines()[0])
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(f"the browser did not start: {file.parent.parent / 'chromium.log'}")

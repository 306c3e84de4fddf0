"""The page: its files, and one socket for each tab that brings the state and the film."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from asyncade_watch.run_state import State, as_json
from asyncade_watch.viewers import NEWEST, Viewer, Viewers

STATIC: Final = Path(__file__).with_name("static")

_TYPES: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}

SECONDS_BETWEEN_STATES: Final = 1.0

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
"""Of every answer: the page loads nothing from elsewhere, and nobody embeds it."""

_POLICY_VIOLATION: Final = 1008


def make_page(state: State, viewers: Viewers, host: str) -> ASGIApp:
    """Returns the application.

    Args:
        state: of what is shown.
        viewers: get the state and the film.
        host: that the page is served on, a name that it may be called by.
    """
    files = {path.name: path.read_bytes() for path in STATIC.iterdir()}
    reading = asyncio.Lock()

    async def news() -> str:
        async with reading:  # a state is read by one thread at a time
            now = await asyncio.to_thread(state.refresh)
        return as_json({**now, "troubles": [*now.get("troubles", ()), *viewers.troubles()]})

    async def file(request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in files:
            return PlainTextResponse("there is no such file\n", 404)
        return Response(files[name], media_type=_TYPES[Path(name).suffix])

    @contextlib.asynccontextmanager
    async def running(app: Starlette) -> AsyncIterator[None]:
        telling = asyncio.create_task(_tell(news, viewers))
        try:
            yield
        finally:
            telling.cancel()
            await asyncio.to_thread(viewers.close)

    async def live(websocket: WebSocket) -> None:
        await _live(websocket, news, viewers)

    app = Starlette(
        routes=[
            Route("/", file),
            Route("/static/{name}", file),
            WebSocketRoute("/live", live),
        ],
        lifespan=running,
    )
    return Guard(app, {host, "localhost", socket.gethostname()})


async def _live(websocket: WebSocket, news: Callable[[], Awaitable[str]], viewers: Viewers) -> None:
    """Sends a tab what it asks for in the address, until it leaves. What it says is not read."""
    asked = websocket.query_params
    viewer = Viewer(asked.get("film") != "0", asked.get("attention") == "1")
    await websocket.accept()
    viewer.offer_state(await news())
    name = viewers.add(viewer, asked.get("model", NEWEST))
    sending = asyncio.create_task(_send(websocket, viewer))
    try:
        said = await websocket.receive()
    finally:
        viewers.remove(viewer, name)
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
            await sending
    if said["type"] != "websocket.disconnect":
        await websocket.close(_POLICY_VIOLATION, "this page is only read")


async def _send(websocket: WebSocket, viewer: Viewer) -> None:
    while True:
        message = await viewer.next()
        if isinstance(message, str):
            await websocket.send_text(message)
        else:
            await websocket.send_bytes(message)


async def _tell(news: Callable[[], Awaitable[str]], viewers: Viewers) -> None:
    """Sends everybody the state whenever it has changed. Reads nothing while nobody looks."""
    told = ""
    while True:
        await asyncio.sleep(SECONDS_BETWEEN_STATES)
        if not len(viewers):
            continue
        now = await news()
        if now != told:
            told = now
            viewers.offer_state(now)


class Guard:
    """Admits only reading, only by a name of this machine, and only from its own page.

    A page elsewhere can have its own name resolve to 127.0.0.1 and then read what is served there
    (DNS rebinding): its name is in the Host header. Addresses in numbers cannot be rebound.

    Args:
        app: guarded.
        names: that the page may be called by, besides addresses in numbers.
    """

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        self._app = app
        self._names = {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or refuses it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is None:
            await self._app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await WebSocket(scope, receive, send).close(_POLICY_VIOLATION, refusal[1])
        else:
            response = PlainTextResponse(refusal[1] + "\n", refusal[0])
            await response(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not self._ours(host):
            return 421, "this page is not served under that name"
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD"):
            return 405, "this page is only read"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return 403, "another page asks"
        return None

    def _ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name.lower() in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
        await send(message)

    return sending

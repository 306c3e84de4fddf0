"""Serves the page: in a process of its own, or in a thread of a service."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from collections.abc import Iterator
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from asyncade_proto import ports
from asyncade_runtime.lifecycle import HttpAddressError

_LARGEST_MESSAGE: Final = 1024  # of a browser, which has nothing to say
_GRACE_S: Final = 1


def listen(host: str, port: int | None, *, setting: str = "--port") -> socket.socket:
    """Returns a listening socket.

    Args:
        host: address to listen on.
        port: 0 picks a free one; None takes the usual one, or a free one if that is taken.
        setting: option that sets the port, for the error message.

    Raises:
        HttpAddressError: the address or port is not available.
    """
    try:
        return _listen(host, ports.WATCH if port is None else port)
    except OSError as error:
        if port is None:
            with contextlib.suppress(OSError):
                return _listen(host, 0)
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise HttpAddressError(
                f"cannot serve the page on {host}: this machine has no such address; name one that"
                f" it has with {setting.replace('port', 'host')} (127.0.0.1 for this machine only,"
                " 0.0.0.0 for the whole network)"
            ) from error
        raise HttpAddressError(
            f"cannot serve the page on {host}:{ports.WATCH if port is None else port}: {error};"
            f" choose another port with {setting} (0 picks a free one)"
        ) from error


def _listen(host: str, port: int) -> socket.socket:
    if host == "::" and not socket.has_dualstack_ipv6():
        host = "0.0.0.0"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, dualstack_ipv6=host == "::")


def address_of(listening: socket.socket) -> str:
    """Returns the address to type into a browser on this machine."""
    host, port = listening.getsockname()[:2]
    local = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)
    return f"http://{f'[{local}]' if ':' in local and '[' not in local else local}:{port}/"


def serve(page: ASGIApp, listening: socket.socket) -> None:
    """Serves until SIGTERM or Ctrl-C. In the main thread only."""
    _server(page).run(sockets=[listening])


@contextlib.contextmanager
def served_beside(page: ASGIApp, listening: socket.socket) -> Iterator[None]:
    """Serves in a thread for the duration of a ``with`` block."""
    server = _server(page)
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [listening]}, name="page", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


def _server(page: ASGIApp) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            page,
            http="h11",
            ws="websockets-sansio",
            loop="asyncio",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            ws_max_size=_LARGEST_MESSAGE,
            ws_per_message_deflate=False,  # the film's messages are small, and time is dear
            timeout_graceful_shutdown=_GRACE_S,
        )
    )

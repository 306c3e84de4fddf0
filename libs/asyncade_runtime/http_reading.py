"""Reads a page of another service, with limits of size and time that hold whatever it answers."""

from __future__ import annotations

import http.client
import io
import socket
import time
from typing import Final, cast
from urllib.parse import urlsplit

LARGEST: Final = 2**20
"""Bytes of an answer, with its header."""

SECONDS: Final = 2.0
"""From the connection to the last byte. Looking up the name comes before."""


class PageError(Exception):
    """The page cannot be read. The message says why."""


def read_page(url: str, *, largest: int = LARGEST, seconds: float = SECONDS) -> bytes:
    """Returns the content of a page. Neither proxies nor redirections are followed.

    Args:
        url: ``http://HOST:PORT/PATH``.
        largest: limit of the answer, in bytes.
        seconds: limit of the time.

    Raises:
        PageError: the page cannot be read, or not within the limits.
    """
    parts = urlsplit(url)
    until = time.monotonic() + seconds
    # HTTP/1.0: the end of the answer is the end of the connection, and no part comes in chunks.
    request = f"GET {parts.path or '/'} HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n"
    try:
        with socket.create_connection((parts.hostname, parts.port or 80), seconds) as connection:
            connection.sendall(request.encode())
            answer = _received(connection, largest, until)
        response = http.client.HTTPResponse(cast(socket.socket, _Received(answer)))
        response.begin()
        content = response.read()
    except TimeoutError as error:
        raise PageError(f"no answer within {seconds:g} seconds") from error
    except (OSError, http.client.HTTPException) as error:
        raise PageError(str(error) or type(error).__name__) from error
    if response.status != 200:
        raise PageError(f"it answers {response.status} {response.reason}")
    return content


def _received(connection: socket.socket, largest: int, until: float) -> bytes:
    """Returns all that comes until the other side has finished."""
    received = bytearray()
    while True:
        if (left := until - time.monotonic()) <= 0:
            raise TimeoutError
        connection.settimeout(left)
        part = connection.recv(2**16)
        if not part:
            return bytes(received)
        received += part
        if len(received) > largest:
            raise PageError(f"its answer is larger than {largest:,} bytes")


class _Received:
    """What `http.client` reads from, instead of a socket."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._content)

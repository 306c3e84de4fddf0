"""A page of another service is read within its limits, whatever the other side does."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from asyncade_runtime.http_reading import PageError, read_page
from asyncade_runtime.lifecycle import Health, serve_http


@contextlib.contextmanager
def answering(*parts: bytes, stays: bool = False) -> Iterator[str]:
    """Yields the address of something that answers these bytes, and then hangs up or does not."""
    over = threading.Event()

    def answer() -> None:
        connection, _ = listening.accept()
        with connection, contextlib.suppress(OSError):  # the reader has had enough
            connection.recv(2**16)
            for part in parts:
                connection.sendall(part)
            if stays:
                over.wait()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/progress"
        over.set()
        thread.join()


def test_a_page_of_a_service_is_read() -> None:
    pages = {"/progress": lambda: b"{}"}
    with serve_http("127.0.0.1", 0, CollectorRegistry(), Health(60), pages=pages) as server:
        address = f"http://127.0.0.1:{server.port}"
        assert read_page(f"{address}/progress") == b"{}"
        assert b"# TYPE" not in read_page(f"{address}/metrics")  # an empty registry
        with pytest.raises(PageError, match="404"):
            read_page(f"{address}/nothing")
    with pytest.raises(PageError, match="refused"):
        read_page(f"{address}/progress")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "BadStatusLine|hang|closed"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", "302"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "IncompleteRead"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2000, "larger than 1,000"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 140, "larger than|headers"),
    ],
)
def test_what_is_no_such_page_is_refused(answer: bytes, words: str) -> None:
    with answering(answer) as address, pytest.raises(PageError, match=words):
        read_page(address, largest=1000)


@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n{"])
def test_an_answer_that_does_not_end_is_given_up(beginning: bytes) -> None:
    with answering(beginning, stays=True) as address, pytest.raises(PageError, match="no answer"):
        read_page(address, seconds=0.2)

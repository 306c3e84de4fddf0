"""Health, its HTTP pages, and signals of a service."""

from __future__ import annotations

import errno
import signal
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType, MappingProxyType
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

WAIT_S: Final = 0.25
"""Longest time in seconds that one step of a service blocks on a socket, and so delays SIGTERM."""

_CLOSE_POLL_S = 0.1  # longest time that close() waits for the server's thread


class Health:
    """Liveness and readiness, as reported to probes.

    Thread-safe: every attribute is one reference, written by one thread.

    Args:
        stall_seconds: the main loop counts as stuck after this long without a tick. Construction
            is the first tick, so start-up is covered too.
        clock: monotonic time in seconds.

    Attributes:
        ready: true once the service can do its work. A service that waits for another one is alive
            but not ready: restarting it would not help.
        waiting_for: what the service waits for while not ready, for humans.
        last_tick: when the main loop ticked last, by the clock.
    """

    def __init__(self, stall_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.stall_seconds = stall_seconds
        self.ready = False
        self.waiting_for = "start-up"
        self._clock = clock
        self.last_tick = clock()

    def tick(self) -> None:
        """Records that the main loop is running. Call it every step."""
        self.last_tick = self._clock()

    def seconds_since_tick(self, now: float | None = None) -> float:
        """Returns the age of the last tick, in seconds, at `now` by the same clock."""
        return (self._clock() if now is None else now) - self.last_tick

    def alive(self, now: float | None = None) -> bool:
        """True if the last tick is at most `stall_seconds` old at `now` by the same clock."""
        return self.seconds_since_tick(now) <= self.stall_seconds


class HttpAddressError(OSError):
    """The HTTP pages cannot be served at this address. The message names the setting."""


class HttpServer(ThreadingHTTPServer):
    """Serves ``/metrics``, ``/healthz`` and ``/readyz`` from a daemon thread until closed.

    Also a context manager. Made by `serve_http`.
    """

    daemon_threads = True

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), handler)
        self._thread = threading.Thread(
            target=self.serve_forever, args=(_CLOSE_POLL_S,), name="http", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The bound port."""
        return self.server_port

    def close(self) -> None:
        """Stops serving and frees the port. A second call does nothing."""
        self.shutdown()
        self.server_close()
        self._thread.join()

    def __exit__(self, *exception: object) -> None:
        self.close()

    def server_bind(self) -> None:
        """Binds, on both families if the host is ``::``."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # HTTPServer.server_bind looks up the host's full name: seconds in some containers.
        socketserver.TCPServer.server_bind(self)
        host, self.server_port = self.server_address[:2]
        self.server_name = str(host)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignores clients that hang up: that is not an error of the service."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def serve_http(
    host: str,
    port: int,
    registry: CollectorRegistry,
    health: Health,
    *,
    setting: str = "--metrics-port",
    pages: Mapping[str, Callable[[], bytes]] = MappingProxyType({}),
) -> HttpServer:
    """Serves the pages for Prometheus and for an orchestrator's probes.

    ``/metrics`` is the registry in the format that the client accepts. ``/healthz`` and ``/readyz``
    answer 200, or 503 with the reason. Paths other than these and those of `pages` are 404.

    Args:
        host: address to listen on: ``::`` in a container, which is IPv6 and IPv4, ``127.0.0.1`` on
            a laptop.
        port: TCP port; 0 picks a free one.
        registry: metrics of this process.
        health: read at every probe.
        setting: option that sets the port, for the error message.
        pages: path to what returns a page's JSON, called in a thread of the server.

    Raises:
        HttpAddressError: the address or port is not available.
    """
    # A class for each server: http.server makes an object of it for every request.
    own = {"registry": registry, "health": health, "pages": pages}
    handler = type("Handler", (_Handler,), own)
    try:
        return _server(host, port, handler)
    except (OSError, OverflowError) as error:
        cure = f"choose another port with {setting} (0 picks a free one)"
        raise HttpAddressError(f"cannot serve HTTP on {host}:{port}: {error}; {cure}") from error


STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def stop_on_signals(*, second_raises: bool = False) -> threading.Event:
    """Turns `STOP_SIGNALS` into an event for the main loop.

    The first SIGINT (Ctrl-C) requests a clean end; a second one ends the process at once. SIGHUP, a
    closed terminal, stays ignored under nohup(1). Call it in the main thread only. Signals do not
    interrupt blocking socket calls (PEP 475), so each call needs a timeout.

    Args:
        second_raises: the second SIGINT raises KeyboardInterrupt instead, for a main thread in
            Python code that has something left to say or to remove.

    Returns:
        An event that is set when the process should end; check it between steps.
    """
    stop = threading.Event()
    second = signal.default_int_handler if second_raises else signal.SIG_DFL

    def request_stop(signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGINT:
            signal.signal(signal.SIGINT, second)
        stop.set()

    for number in STOP_SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, request_stop)
    return stop


def _server(host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> HttpServer:
    """Listens on IPv4, IPv6, or with ``::`` on both; without IPv6 ``::`` is IPv4 only."""
    try:
        return HttpServer(host, port, handler)
    except OSError as error:
        if host != "::" or error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
        return HttpServer("0.0.0.0", port, handler)


class _Handler(BaseHTTPRequestHandler):
    registry: CollectorRegistry
    health: Health
    pages: Mapping[str, Callable[[], bytes]]
    timeout = 10.0  # seconds; a silent client must not hold a thread forever

    def do_GET(self) -> None:
        status, content_type, body = self._answer()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815  the name that http.server calls

    def log_message(self, format: str, *args: object) -> None:
        """Suppresses the log line per probe and scrape."""

    def _answer(self) -> tuple[int, str, bytes]:
        """Returns status, content type and body."""
        match self.path.partition("?")[0]:
            case path if path in self.pages:
                return 200, "application/json", self.pages[path]()
            case "/metrics":
                encoder, content_type = choose_encoder(self.headers.get("Accept", ""))
                return 200, content_type, encoder(self.registry)
            case "/healthz":
                return _plain(*_alive(self.health))
            case "/readyz":
                return _plain(*_ready(self.health))
        return _plain(404, f"try {', '.join(['/metrics', '/healthz', '/readyz', *self.pages])}")


def _alive(health: Health) -> tuple[int, str]:
    seconds = health.seconds_since_tick()
    if not health.alive():
        return 503, f"stalled: last step {seconds:.1f} s ago, limit {health.stall_seconds:g} s"
    return 200, f"ok: last step {seconds:.1f} s ago"


def _ready(health: Health) -> tuple[int, str]:
    status, reason = _alive(health)
    if status == 200 and not health.ready:
        return 503, f"not ready: waiting for {health.waiting_for}"
    return status, reason


def _plain(status: int, text: str) -> tuple[int, str, bytes]:
    return status, "text/plain; charset=utf-8", f"{text}\n".encode()

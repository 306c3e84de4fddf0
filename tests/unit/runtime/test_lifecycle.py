"""Health, its HTTP pages, and signals."""

from __future__ import annotations

import http.client
import os
import signal
import socket
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter

from asyncade_runtime.lifecycle import (
    STOP_SIGNALS,
    Health,
    HttpAddressError,
    HttpServer,
    serve_http,
    stop_on_signals,
)
from builders import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health(stall_seconds=10, clock=clock)


@pytest.fixture
def server(health: Health) -> Iterator[HttpServer]:
    registry = CollectorRegistry()
    Counter("asyncade_test_unrolls", "Unrolls.", registry=registry).inc(3)
    with serve_http("127.0.0.1", 0, registry, health) as server:
        yield server


def get(server: HttpServer, path: str, **headers: str) -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.headers["Content-Type"], response.read().decode()
    finally:
        connection.close()


def test_alive_until_the_loop_stalls(health: Health, clock: Clock) -> None:
    clock.now += 10
    assert health.alive()
    clock.now += 0.5
    assert not health.alive()
    health.tick()
    assert health.alive()


def test_alive_at_a_given_moment(health: Health, clock: Clock) -> None:
    assert health.alive(now=clock.now + 10)
    assert not health.alive(now=clock.now + 11)
    assert health.seconds_since_tick(now=clock.now + 11) == 11


def test_metrics_page_is_the_registry(server: HttpServer) -> None:
    status, content_type, body = get(server, "/metrics")
    assert status == 200
    assert content_type.startswith("text/plain")
    assert "asyncade_test_unrolls_total 3.0" in body


def test_metrics_page_has_the_requested_format(server: HttpServer) -> None:
    status, content_type, body = get(server, "/metrics", Accept="application/openmetrics-text")
    assert status == 200
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith("# EOF\n")


def test_healthz_reports_a_stall_and_its_age(
    server: HttpServer, health: Health, clock: Clock
) -> None:
    assert get(server, "/healthz")[0] == 200
    clock.now += 12.5
    status, _, body = get(server, "/healthz")
    assert status == 503
    assert "12.5 s" in body


def test_readyz_names_what_the_service_waits_for(server: HttpServer, health: Health) -> None:
    health.waiting_for = "the first weights"
    status, _, body = get(server, "/readyz")
    assert status == 503
    assert "the first weights" in body
    health.ready = True
    assert get(server, "/readyz")[0] == 200


def test_a_stalled_service_is_not_ready_but_an_unready_one_is_alive(
    server: HttpServer, health: Health, clock: Clock
) -> None:
    assert get(server, "/healthz")[0] == 200
    health.ready = True
    clock.now += 60
    assert get(server, "/readyz")[0] == 503
    health.ready = False
    assert get(server, "/readyz")[2].startswith("stalled")  # the more serious reason


@pytest.mark.parametrize("path", ["/", "/metricsx", "/healthz/", "/favicon.ico"])
def test_other_pages_are_not_found(server: HttpServer, path: str) -> None:
    assert get(server, path)[0] == 404


def test_a_query_string_is_ignored(server: HttpServer) -> None:
    assert get(server, "/healthz?verbose=1")[0] == 200


def test_requests_and_resets_print_nothing(
    server: HttpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        # A reset, so that the server's thread meets an error.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.sendall(b"GET /metrics HT")
    assert get(server, "/metrics")[0] == 200
    server.close()
    assert capsys.readouterr() == ("", "")


def test_a_taken_port_names_the_setting(server: HttpServer, health: Health) -> None:
    with pytest.raises(HttpAddressError, match=rf"127\.0\.0\.1:{server.port}.*--http-port"):
        serve_http("127.0.0.1", server.port, CollectorRegistry(), health, setting="--http-port")


def test_an_impossible_port_names_the_setting(health: Health) -> None:
    with pytest.raises(HttpAddressError, match="--metrics-port"):
        serve_http("127.0.0.1", 70_000, CollectorRegistry(), health)


def test_close_frees_the_port_and_may_be_repeated(server: HttpServer, health: Health) -> None:
    server.close()
    server.close()
    with serve_http("127.0.0.1", server.port, CollectorRegistry(), health) as again:
        assert again.port == server.port


@pytest.fixture
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_handlers")
@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_sets_stop(number: signal.Signals) -> None:
    stop = stop_on_signals()
    assert not stop.is_set()
    os.kill(os.getpid(), number)
    assert stop.wait(timeout=10)


@pytest.mark.usefixtures("_handlers")
def test_a_hang_up_stays_ignored_under_nohup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stop_on_signals()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@pytest.mark.usefixtures("_handlers")
def test_a_second_ctrl_c_kills_but_a_second_sigterm_does_not() -> None:
    stop = stop_on_signals()
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.wait(timeout=10)
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_DFL
    os.kill(os.getpid(), signal.SIGINT)
    assert stop.wait(timeout=10)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL


@pytest.mark.usefixtures("_handlers")
def test_a_second_ctrl_c_can_raise() -> None:
    stop = stop_on_signals(second_raises=True)
    os.kill(os.getpid(), signal.SIGINT)
    assert stop.wait(timeout=10)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    ("host", "client"),
    [("::", "127.0.0.1"), ("::", "::1"), ("::1", "::1"), ("0.0.0.0", "127.0.0.1")],
)
def test_pages_are_served_on_both_ip_versions(health: Health, host: str, client: str) -> None:
    with serve_http(host, 0, CollectorRegistry(), health) as server:
        connection = http.client.HTTPConnection(client, server.port, timeout=10)
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
        connection.close()


def test_head_is_get_without_a_body(server: HttpServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("HEAD", "/healthz")
    response = connection.getresponse()
    assert response.status == 200
    assert response.read() == b""
    connection.close()

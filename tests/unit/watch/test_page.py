"""The page over real HTTP: read only, by a name of this machine, from its own page only."""

from __future__ import annotations

import collections
import http.client
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from asyncade_runtime.lifecycle import HttpAddressError
from asyncade_watch.of_run import page_of_run
from asyncade_watch.page import STATIC
from asyncade_watch.serve import address_of, listen, served_beside
from rigs.page import Screen, row, run_folder

DEADLINE_S = 60.0


class Served:
    """A page that is served.

    Attributes:
        port: of the page.
    """

    def __init__(self, root: Path, stack: ExitStack) -> None:
        self.folder = run_folder(root)
        listening = stack.enter_context(listen("127.0.0.1", 0))
        self.port = listening.getsockname()[1]
        page = stack.enter_context(page_of_run(self.folder, None, "127.0.0.1", 1))
        stack.enter_context(served_beside(page, listening))

    def answer(
        self, path: str = "/", method: str = "GET", **headers: str
    ) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        with closing(connection):
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            answer.body = answer.read()  # type: ignore[attr-defined]
            return answer

    def live(self, query: str = "", **headers: str) -> ClientConnection:
        address = f"ws://127.0.0.1:{self.port}/live?{query}"
        return connect(address, additional_headers=headers, max_size=None)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with ExitStack() as stack:
        yield Served(tmp_path, stack)


def state(socket: ClientConnection) -> dict[str, Any]:
    """Returns the next state that a socket brings."""
    while True:
        message = socket.recv(DEADLINE_S)
        if isinstance(message, str):
            return dict(json.loads(message))


def test_its_files_are_served_and_ask_for_nothing_elsewhere(served: Served) -> None:
    for file in STATIC.iterdir():
        answer = served.answer("/" if file.name == "index.html" else f"/static/{file.name}")
        assert answer.status == 200
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        text = answer.body.decode()  # type: ignore[attr-defined]
        assert "://" not in text.replace("http://www.w3.org/", "").replace("}://${location", "")


def test_it_is_only_read(served: Served) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert served.answer(method=method).status == 405
        assert served.answer("/live", method=method).status == 405


HOSTS = {
    "localhost": 200,
    "127.0.0.1:1": 200,
    "[::1]:9105": 200,
    "192.168.1.7": 200,  # an address in numbers cannot be rebound
    "evil.example": 421,
    "127.0.0.1.evil.example": 421,
    "localhost.evil.example:9105": 421,
    "[::1": 421,
    "": 421,
}


def test_it_is_served_by_a_name_of_this_machine_only(served: Served) -> None:
    assert {host: served.answer(Host=host).status for host in HOSTS} == HOSTS


def test_no_file_beside_its_own_is_served(served: Served) -> None:
    for path in ("/static/../page.py", "/static/%2e%2e/page.py", "/page.py", "/static/", "/static"):
        assert served.answer(path).status in (307, 404)


def test_the_socket_is_for_its_own_page(served: Served) -> None:
    with served.live(Origin=f"http://127.0.0.1:{served.port}") as socket:
        assert state(socket)["game"] == "catch"
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}):
        with pytest.raises(InvalidStatus):
            served.live(**headers)


def test_whoever_talks_is_shown_out(served: Served) -> None:
    with served.live("film=0") as socket:
        state(socket)
        socket.send("hello")
        with pytest.raises(ConnectionClosed):
            collections.deque(iter(lambda: socket.recv(DEADLINE_S), None), maxlen=0)
    with served.live("film=0") as socket:
        assert state(socket)


def test_a_tab_gets_the_state_and_the_film(served: Served) -> None:
    screen = Screen()
    with served.live("attention=1") as socket:
        assert state(socket)["status"] == "ended"
        for _ in range(20):
            message = socket.recv(DEADLINE_S)
            if isinstance(message, bytes):
                screen.take(message)
        assert screen.header["env_steps"] == 3000  # the newest checkpoint
        assert screen.looked_at is not None


def test_a_tab_gets_the_checkpoint_that_it_asks_for(served: Served) -> None:
    name = served.folder.checkpoint_files()[-1].name
    with served.live(f"model={name}") as socket:
        while isinstance(message := socket.recv(DEADLINE_S), str):
            pass
    screen = Screen()
    screen.take(message)
    assert screen.header["env_steps"] == 1000


def test_what_is_new_is_told(served: Served) -> None:
    with served.live("film=0") as socket:
        before = state(socket)["now"]["env_steps"]
        served.folder.append_metrics(row(before // 100 + 1))
        assert state(socket)["now"]["env_steps"] == before + 100


def test_what_cannot_be_played_is_said(served: Served) -> None:
    path = served.folder.checkpoint_files()[-1]
    with served.live("film=0") as socket:
        assert state(socket)["troubles"] == []  # it has read which checkpoints there are
    os.truncate(path, path.stat().st_size // 2)
    with served.live(f"model={path.name}") as socket:
        while not (troubles := state(socket)["troubles"]):
            pass
    assert path.name in troubles[0]
    assert "cannot be played" in troubles[0]


def test_a_file_of_the_run_that_cannot_be_read_is_said(served: Served) -> None:
    (served.folder.root / "senders.json").write_text("{")
    with served.live("film=0") as socket:
        (trouble,) = state(socket)["troubles"]
    assert "senders.json" in trouble


def test_ten_tabs_and_one_that_reads_nothing(served: Served) -> None:
    with ExitStack() as stack:
        stack.enter_context(served.live())  # its buffers fill up
        tabs = [stack.enter_context(served.live()) for _ in range(10)]
        for tab in tabs:
            films = 0
            while films < 30:
                films += isinstance(tab.recv(DEADLINE_S), bytes)


def test_a_port_that_is_taken() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(HttpAddressError, match="--port"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize("port", [None, 0])
def test_a_host_of_another_machine(port: int | None) -> None:
    with pytest.raises(HttpAddressError, match=r"192\.0\.2\.1: this machine.*--host") as caught:
        listen("192.0.2.1", port)  # an address of documentation, RFC 5737
    assert "None" not in str(caught.value)


def test_the_usual_port_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        monkeypatch.setattr("asyncade_proto.ports.WATCH", port)
        with listen("127.0.0.1", None) as second:
            assert second.getsockname()[1] != port
            assert address_of(second) == f"http://127.0.0.1:{second.getsockname()[1]}/"


@pytest.mark.parametrize(("host", "shown"), [("0.0.0.0", "127.0.0.1"), ("::", "[::1]")])
def test_the_address_of_a_page_for_everybody_is_one_of_this_machine(host: str, shown: str) -> None:
    with listen(host, 0) as listening:
        assert address_of(listening) == f"http://{shown}:{listening.getsockname()[1]}/"

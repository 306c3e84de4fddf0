"""The page that a training starts: its address is said once, and so is its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from asyncade_cli import live_page
from asyncade_cli.live_page import LivePage
from asyncade_runtime.run_folder import RunFolder


class Process:
    """Stands in for the service's process."""

    def __init__(self, *arguments: Any, niceness: int) -> None:
        self.arguments = arguments
        self.code: int | None = None
        self.line = ""
        self.terminated = False

    def start(self) -> None:
        pass

    def exit_code(self) -> int | None:
        return self.code

    def how_it_ended(self) -> str:
        return f"ended with exit code {self.code}"

    def last_lines(self, count: int) -> str:
        return self.line

    def terminate(self) -> None:
        self.terminated = True

    def wait(self, timeout_s: float) -> None:
        pass


class Rig:
    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, open_it: bool) -> None:
        self.said: list[str] = []
        self.opened: list[str] = []
        monkeypatch.setattr(live_page, "Service", Process)
        monkeypatch.setattr("webbrowser.open", self.opened.append)
        self.page = LivePage(RunFolder(root), {}, self.said.append, open_it=open_it)
        self.process: Any = self.page._service
        self.page.start()


@pytest.mark.parametrize("open_it", [True, False])
def test_its_address_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_it: bool
) -> None:
    rig = Rig(tmp_path, monkeypatch, open_it)
    rig.page.note()
    assert rig.said == []
    rig.process.line = "runs/x is shown at http://127.0.0.1:9105/"
    for _ in range(3):
        rig.page.note()
    assert rig.said == ["watch it at http://127.0.0.1:9105/"]
    assert rig.opened == ["http://127.0.0.1:9105/"] * open_it
    rig.page.stop()
    assert rig.process.terminated


def test_its_end_is_said_once_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, monkeypatch, open_it=False)
    rig.process.code, rig.process.line = 2, "pip install 'asyncade[watch]'"
    for _ in range(3):
        rig.page.note()
    (line,) = rig.said
    assert "exit code 2" in line
    assert "asyncade[watch]" in line


def test_a_process_that_cannot_start_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: Process) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(Process, "start", failing)
    rig = Rig(tmp_path, monkeypatch, open_it=False)
    rig.page.note()
    assert len(rig.said) == 1
    assert "no more processes" in rig.said[0]

"""Services as child processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from asyncade_cli.processes import Service


@pytest.mark.parametrize("module", ["asyncade_relay", "asyncade_cli"])
def test_a_service_imports_nothing_from_the_working_folder(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("random", "queue", "select", "signal"):
        Path(f"{name}.py").write_text("raise SystemExit('the file of the user was imported')\n")
    service = Service(module, module, ["--help"], tmp_path / "log", os.environ)
    service.start()
    service.wait(120.0)
    assert service.exit_code() == 0, service.last_lines()
    assert "usage:" in (tmp_path / "log").read_text()

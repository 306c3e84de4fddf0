"""A service as a child process, and its log."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog

from asyncade_cli.processes import PendingLog, Service
from asyncade_runtime.files import RunFolderError
from asyncade_runtime.logs import configure, get_logger


def ended(log: Path) -> Service:
    """A service that was refused: it has written one line."""
    service = Service("learner", "asyncade_cli", ["of-no-such-name"], log, {})
    service.start()
    service.wait(60.0)
    return service


def test_the_last_lines_are_those_of_this_process(tmp_path: Path) -> None:
    log = tmp_path / "learner.log"
    log.write_text("a line of an earlier sitting\n" * 20)
    service = ended(log)
    assert "of-no-such-name" in service.last_lines(50)
    assert "earlier" not in service.last_lines(50)
    assert log.read_text().count("earlier") == 20


def test_a_refusal_is_shown_without_the_log_around_it(tmp_path: Path) -> None:
    service = Service("learner", "none", [], tmp_path / "learner.log", {})
    with service.log.open("w") as log:
        configure("learner", "learner", "text", stream=log)
        get_logger().warning("no encryption", cure="--keys")
        get_logger().error("cannot start", detail="it's of 'catch': choose another")
    structlog.reset_defaults()
    assert service.refusal() == "it's of 'catch': choose another"
    service.log.write_text("killed\nby something\n")
    assert service.refusal() == "killed\nby something"


def test_a_process_that_is_refused_leaves_no_log(tmp_path: Path) -> None:
    path = tmp_path / "run" / "logs" / "learner.log"
    with PendingLog(path) as log:
        log.path.write_text("refused\n")
    assert not list(tmp_path.iterdir())


def test_a_process_that_is_accepted_continues_the_log(tmp_path: Path) -> None:
    path = tmp_path / "learner.log"
    path.write_text("before\n")
    with PendingLog(path) as log, log.path.open("a") as output:
        output.write("up\n")
        output.flush()
        assert path.read_text() == "before\n"
        assert log.accept() == path
        output.write("down\n")  # the process goes on writing
    assert path.read_text() == "before\nup\ndown\n"
    assert [one.name for one in tmp_path.iterdir()] == ["learner.log"]


def test_a_log_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file")
    with pytest.raises(RunFolderError, match="logs"), PendingLog(tmp_path / "logs" / "a.log"):
        pytest.fail("it was made")

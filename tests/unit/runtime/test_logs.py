"""Log lines as JSON for collectors and as text for people."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import structlog

from asyncade_runtime import logs


@pytest.fixture(autouse=True)
def _reset() -> Iterator[None]:
    yield
    structlog.reset_defaults()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def json_lines(stream: io.StringIO) -> list[dict[str, Any]]:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    text = stream.getvalue()
    assert text.endswith("\n")
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def test_json_lines_have_all_fields_in_a_fixed_order() -> None:
    stream = io.StringIO()
    logs.configure("actor", "actor-3", "json", "info", stream)
    logs.get_logger(game="pong").info("weights received", version=7)
    (line,) = json_lines(stream)
    timestamp = datetime.fromisoformat(line.pop("timestamp"))
    assert timestamp.utcoffset() == timedelta(0)
    assert list(line.items()) == [
        ("level", "info"),
        ("service", "actor"),
        ("instance", "actor-3"),
        ("event", "weights received"),
        ("game", "pong"),
        ("version", 7),
    ]


def test_level_is_a_threshold_in_any_case() -> None:
    stream = io.StringIO()
    logs.configure("actor", "0", "json", "WARNING", stream)
    logger = logs.get_logger()
    logger.info("quiet")
    logger.warning("loud")
    assert [line["event"] for line in json_lines(stream)] == ["loud"]


def test_exception_stays_in_its_json_line() -> None:
    stream = io.StringIO()
    logs.configure("learner", "0", "json", "info", stream)
    try:
        raise RuntimeError("diverged")
    except RuntimeError:
        logs.get_logger().exception("update failed", update=3)
    (line,) = json_lines(stream)
    assert line["level"] == "error"
    assert "RuntimeError: diverged" in line["exception"]
    assert "Traceback" in line["exception"]


def test_odd_values_are_one_line_of_json() -> None:
    stream = io.StringIO()
    logs.configure("learner", "0", "json", "info", stream)
    logs.get_logger().info("two\nlines", loss=float("nan"), limit=float("inf"), what=object)
    (line,) = json_lines(stream)
    assert line["event"] == "two\nlines"
    assert line["loss"] == "nan"
    assert line["limit"] == "inf"
    assert "object" in line["what"]


def test_text_is_plain_in_a_file_and_coloured_on_a_terminal() -> None:
    for stream, coloured in ((io.StringIO(), False), (Terminal(), True)):
        logs.configure("actor", "actor-3", "text", "info", stream)
        logs.get_logger().info("weights received", version=7)
        assert ("\x1b[" in stream.getvalue()) is coloured
        assert "weights received" in stream.getvalue()
        assert "actor-3" in stream.getvalue()


def test_text_shows_the_traceback() -> None:
    stream = io.StringIO()
    logs.configure("actor", "0", "text", "info", stream)
    try:
        raise RuntimeError("diverged")
    except RuntimeError:
        logs.get_logger().exception("update failed")
    assert "RuntimeError: diverged" in stream.getvalue()


def test_an_earlier_logger_follows_configure() -> None:
    logger = logs.get_logger()
    for instance in ("a", "b"):
        stream = io.StringIO()
        logs.configure("actor", instance, "json", "info", stream)
        logger.info("hello")
        assert json_lines(stream)[0]["instance"] == instance


def test_unwritable_lines_are_dropped() -> None:
    class Full(io.StringIO):
        room = False

        def write(self, text: str) -> int:
            if not self.room:
                raise OSError(28, "No space left on device")
            return super().write(text)

    stream = Full()
    logs.configure("actor", "actor-3", "json", "info", stream)
    logs.get_logger().error("checkpoint not written")
    logs.get_logger().info("weights received")
    stream.room = True
    logs.get_logger().info("weights received", version=8)
    (line,) = json_lines(stream)
    assert line["version"] == 8

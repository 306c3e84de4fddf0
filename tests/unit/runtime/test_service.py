"""The frame of every service: how it reports that it cannot start."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import structlog

from asyncade_runtime.service import EXIT_BAD_INPUT, Service, ServiceSettings, run_service
from asyncade_runtime.settings import SettingsConfigDict


class Plain(ServiceSettings):
    """A service without settings of its own."""

    model_config = SettingsConfigDict(env_prefix="PLAIN_", cli_prog_name="plain")


def serve(settings: Plain, service: Service) -> None:
    raise AssertionError("it must not start")


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize(
    ("variable", "flags", "as_json"),
    [
        ("json", [], True),
        ("", ["--log-format=json"], True),
        ("", ["--log-format", "json"], True),
        ("json", ["--log-format=text"], False),
        ("xml", [], False),
        ("", [], False),
    ],
)
def test_bad_settings_are_reported_in_the_format_of_the_log(
    variable: str,
    flags: list[str],
    as_json: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PLAIN_LOG_FORMAT", variable)
    assert run_service("plain", Plain, serve, [*flags, "--stall-second=1"]) == EXIT_BAD_INPUT
    said = capsys.readouterr().err
    assert "--stall-seconds" in said  # did you mean ...?
    if as_json:
        (line,) = said.splitlines()
        row = json.loads(line)
        assert (row["level"], row["service"]) == ("error", "plain")
    else:
        assert not said.startswith("{")

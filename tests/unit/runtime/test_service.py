"""The skeleton of every service: exit codes, the format of errors, limits."""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Iterator

import pytest
import structlog

from asyncade_actor.settings import ActorSettings
from asyncade_cli.settings import LoadgenSettings
from asyncade_proto.errors import TooLargeError
from asyncade_relay.settings import RelaySettings
from asyncade_runtime.lifecycle import STOP_SIGNALS
from asyncade_runtime.service import (
    EXIT_BAD_INPUT,
    EXIT_CRASHED,
    EXIT_REFUSED,
    Service,
    ServiceSettings,
    StartError,
    run_service,
)
from asyncade_runtime.settings import Settings, SettingsConfigDict, SettingsError, load
from asyncade_runtime.transport.roles import AccessRefusedError


class TeaSettings(ServiceSettings):
    """Makes tea."""

    model_config = SettingsConfigDict(env_prefix="ASYNCADE_TEA_", cli_prog_name="asyncade tea")
    cups: int = 1


@pytest.fixture(autouse=True)
def _process_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    structlog.reset_defaults()
    for number, handler in handlers.items():
        signal.signal(number, handler)


def ended(*argv: str, error: Exception | None = None) -> int:
    def serve(settings: TeaSettings, service: Service) -> None:
        if error is not None:
            raise error

    return run_service("tea", TeaSettings, serve, argv)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 0),
        (StartError("no kettle"), EXIT_BAD_INPUT),
        (TooLargeError("an unroll"), EXIT_BAD_INPUT),
        (AccessRefusedError("no key"), EXIT_REFUSED),
        (RuntimeError("scalded"), EXIT_CRASHED),
    ],
)
def test_every_end_has_its_exit_code_and_a_line_of_json(
    error: Exception | None, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended("--log-format=json", error=error) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["service"] == "tea"
    assert str(error or "down") in line


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
    monkeypatch.setenv("ASYNCADE_TEA_LOG_FORMAT", variable)
    assert ended(*flags, "--stall-second=1") == EXIT_BAD_INPUT
    said = capsys.readouterr().err
    assert "--stall-seconds" in said  # did you mean ...?
    if as_json:
        (line,) = said.splitlines()
        row = json.loads(line)
        assert (row["level"], row["service"]) == ("error", "tea")
    else:
        assert not said.startswith("{")


@pytest.mark.parametrize("name", ["a\nb", "x" * 129, "\u00e9" * 65, "\udcff"])
@pytest.mark.parametrize(
    ("cls", "flag"),
    [(ActorSettings, "actor-id"), (RelaySettings, "relay-id"), (LoadgenSettings, "actor-id")],
)
def test_an_id_that_no_learner_would_read_is_refused(
    cls: type[Settings], flag: str, name: str
) -> None:
    with pytest.raises(SettingsError, match=flag):
        load(cls, [f"--{flag}={name}"], {})
    assert load(cls, [f"--{flag}=\u00e9{'x' * 100}"], {})


def test_a_low_limit_of_open_files_is_raised() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        assert ended() == 0
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 256
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

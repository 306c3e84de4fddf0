"""The frame that every service runs in: shared settings, start-up, HTTP page, exit codes.

A service's ``__main__`` names its settings and a function that puts its parts together and runs
them; `run_service` does the rest.
"""

from __future__ import annotations

import argparse
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Protocol, TypeAlias, TypeVar

import zmq
from prometheus_client import CollectorRegistry
from pydantic import AfterValidator, Field

from asyncade_proto.errors import DecodeError, TooLargeError
from asyncade_proto.fields import Fields
from asyncade_runtime.allocator import keep_freed_memory
from asyncade_runtime.cores import set_thread_environment
from asyncade_runtime.file_limit import raise_file_limit
from asyncade_runtime.files import RunFolderError
from asyncade_runtime.lifecycle import (
    Health,
    HttpAddressError,
    HttpServer,
    serve_http,
    stop_on_signals,
)
from asyncade_runtime.logs import configure, get_logger
from asyncade_runtime.output import best_effort_output
from asyncade_runtime.run_folder import FolderBusyError
from asyncade_runtime.settings import Settings, SettingsError, load
from asyncade_runtime.transport.addresses import SocketAddressError
from asyncade_runtime.transport.keys import KeysError
from asyncade_runtime.transport.roles import AccessRefusedError
from asyncade_runtime.watchdog import Watchdog

EXIT_CRASHED: Final = 1
"""An unexpected error; the log has its traceback, or where a game hangs."""

EXIT_BAD_INPUT: Final = 2
"""Settings, keys, addresses or files cannot be used, or settings have led nowhere: the same start
would fail again."""

EXIT_REFUSED: Final = 3
"""The peer does not accept this service's key, or has another key than the trusted one."""

EXIT_BUSY: Final = 4
"""Another learner holds the run folder: the same start succeeds once that one has ended."""

Port: TypeAlias = Annotated[
    int, Field(ge=0, le=65535, description="port of these pages; 0 picks a free one")
]


def sendable(name: str) -> str:
    """Returns an id if the wire takes it: the learner would drop every message of another.

    Raises:
        ValueError: it does not; the text says why.
    """
    try:
        return Fields({"the id": name}).text("the id")
    except DecodeError as error:
        raise ValueError(error.detail) from None


SenderId: TypeAlias = Annotated[str, AfterValidator(sendable)]
"""The id of an actor or relay."""


class ServiceSettings(Settings):
    """Settings that all services share. A subclass adds `metrics_port` with its own default."""

    keys: Path | None = None
    """folder of this side's CURVE keys, as made by asyncade keys; null: connections are neither
    encrypted nor authenticated"""
    metrics_host: str = "127.0.0.1"
    """address of /metrics, /healthz, /readyz"""
    metrics_port: Port = 0
    stall_seconds: float = Field(120.0, gt=0)
    """the service is unhealthy after this long without a step, and one that plays games ends
    [seconds]"""
    log_format: Literal["text", "json"] = "text"
    """format of log lines"""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """least severe level to log"""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Orders the fields for ``--help`` and the READMEs: the service's own, then the shared."""
        super().__pydantic_init_subclass__(**kwargs)
        fields = cls.__pydantic_fields__
        shared = {name: fields[name] for name in ServiceSettings.__pydantic_fields__}
        own = {name: field for name, field in fields.items() if name not in shared}
        cls.__pydantic_fields__ = {**own, **shared}


class StartError(Exception):
    """A service cannot start. The message names the setting or file, and the cure."""


class HopelessError(Exception):
    """A service has tried, and its settings do not work. The message names the cure."""


_BAD_INPUT: Final = (
    *(SocketAddressError, HttpAddressError, KeysError, RunFolderError, StartError),
    TooLargeError,  # the settings of learner and actor together exceed a limit of the wire
)


class _Closes(Protocol):
    def close(self) -> None: ...


S = TypeVar("S", bound=ServiceSettings)
C = TypeVar("C", bound=_Closes)


@dataclass(frozen=True, slots=True)
class Service:
    """What a running service's parts are built on.

    Attributes:
        instance: name of this replica, in every log line.
        settings: the shared part is used by `serve_http`.
        log: structured logger.
        registry: of the service's metrics.
        health: reported on /healthz and /readyz.
        stop: set by SIGTERM and SIGINT.
        context: ZeroMQ context, terminated last.
        stack: closes everything entered, in reverse order, when the service ends.
        started: `time.monotonic()` at the start of the process.
    """

    instance: str
    settings: ServiceSettings
    log: Any
    registry: CollectorRegistry
    health: Health
    stop: threading.Event
    context: zmq.SyncContext
    stack: ExitStack
    started: float

    def closing(self, part: C) -> C:
        """Returns `part`, and closes it when the service ends."""
        return self.stack.enter_context(closing(part))

    def end_when_stuck(self) -> None:
        """Ends the process with `EXIT_CRASHED` when the main loop is stuck.

        For services that run games, which may hang for ever.
        """
        self.closing(Watchdog(self.health, self.log, lambda: os._exit(EXIT_CRASHED)))

    def serve_http(self, pages: Mapping[str, Callable[[], bytes]] | None = None) -> HttpServer:
        """Serves the pages that Prometheus and probes read, until the service ends.

        Args:
            pages: of this service alone, as in `lifecycle.serve_http`.

        Raises:
            HttpAddressError: the address or port is not available.
        """
        settings = self.settings
        return self.stack.enter_context(
            serve_http(
                settings.metrics_host,
                settings.metrics_port,
                self.registry,
                self.health,
                pages=pages or {},
            )
        )


def unique_name() -> str:
    """Returns a new name for this replica: host name, process number and eight random digits.

    Host and process alone are the same for all containers that share the host's network.
    """
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


@best_effort_output()
def run_service(
    name: str,
    settings_class: type[S],
    serve: Callable[[S, Service], None],
    argv: Sequence[str] | None,
    *,
    instance: Callable[[S], str] = lambda settings: unique_name(),
    threads: Callable[[S], int] = lambda settings: 1,
    completed: Callable[[S], S] = lambda settings: settings,
) -> int:
    """Reads the settings, runs the service until it ends, and returns the exit code.

    Args:
        name: of the service, in every log line.
        settings_class: read from `argv` and the environment.
        serve: builds the service's parts and runs them until `Service.stop` is set. It imports
            torch itself: thread limits only take effect before that.
        argv: command line without the program's name; None reads the process's own.
        instance: name of this replica.
        threads: limit for OpenMP, MKL and OpenBLAS.
        completed: returns the settings, completed with stored ones.

    Returns:
        0 after a clean end, `EXIT_CRASHED`, `EXIT_BAD_INPUT`, `EXIT_REFUSED` or `EXIT_BUSY`.
    """
    started = time.monotonic()
    try:
        arguments = sys.argv[1:] if argv is None else argv
        settings = completed(load(settings_class, arguments, os.environ))
    except (SettingsError, RunFolderError) as error:
        _report(error, name, settings_class, argv)
        return EXIT_BAD_INPUT
    set_thread_environment(threads(settings), os.environ)
    own_name = instance(settings)
    configure(name, own_name, settings.log_format, settings.log_level, sys.stderr)
    log = get_logger()
    keep_freed_memory()
    raise_file_limit()
    try:
        with ExitStack() as stack:
            context = zmq.Context()
            stack.callback(context.term)
            service = Service(
                instance=own_name,
                settings=settings,
                log=log,
                registry=CollectorRegistry(),
                health=Health(settings.stall_seconds),
                stop=stop_on_signals(),
                context=context,
                stack=stack,
                started=started,
            )
            serve(settings, service)
    except FolderBusyError as error:
        log.error("cannot start", detail=str(error))
        return EXIT_BUSY
    except _BAD_INPUT as error:
        log.error("cannot start", detail=str(error))
        return EXIT_BAD_INPUT
    except HopelessError as error:
        log.error("gave up", detail=str(error))
        return EXIT_BAD_INPUT
    except AccessRefusedError as error:
        log.error("refused by the learner", detail=str(error))
        return EXIT_REFUSED
    except Exception:  # logged rather than printed: a line of JSON where lines are JSON
        log.exception("crashed")
        return EXIT_CRASHED
    log.info("down")
    return 0


def _report(
    error: Exception, name: str, settings_class: type[S], argv: Sequence[str] | None
) -> None:
    """Writes why the settings cannot be used: as a JSON line if they ask for JSON logs."""
    default = os.environ.get(f"{settings_class.model_config['env_prefix']}LOG_FORMAT")
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--log-format", nargs="?", default=default)
    if parser.parse_known_args(argv)[0].log_format == "json":
        configure(name, unique_name(), "json", stream=sys.stderr)
        get_logger().error("cannot start", detail=str(error))
    else:
        print(error, file=sys.stderr)

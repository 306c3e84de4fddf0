"""Structured logs: one line per event, with service and instance.

An event is a short fixed phrase with fields: ``log.info("weights received", version=7)``.
"""

from __future__ import annotations

import logging
import math
import sys
from typing import Literal, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from asyncade_runtime.output import BestEffort


def configure(
    service: str,
    instance: str,
    format: Literal["json", "text"] = "json",
    level: str = "info",
    stream: TextIO | None = None,
) -> None:
    """Configures logging of this process. Only start-up code calls it.

    Args:
        service: such as ``actor``; in every line.
        instance: name of the replica, such as ``actor-3``; in every line.
        format: ``json``, one object per line with ``timestamp`` (UTC, ISO 8601), ``level``,
            ``service``, ``instance``, ``event`` and the fields; or ``text`` for humans, in colour
            on terminals only.
        level: least severe level to log, such as ``info``; the services' settings check it.
        stream: destination; None is standard error. A line that cannot be written is dropped.
    """
    stream = cast(TextIO, BestEffort(sys.stderr if stream is None else stream))
    for_machines = format == "json"

    def add_origin(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        order = dict.fromkeys(("timestamp", "level", "service", "instance", "event"))
        return {**order, "service": service, "instance": instance, **event}

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(
                fmt="iso" if for_machines else "%Y-%m-%d %H:%M:%S", utc=for_machines
            ),
            add_origin,
            *(_json() if for_machines else _text(colors=stream.isatty())),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.WriteLoggerFactory(stream),
        # Loggers created at import must follow a later configure(); costs microseconds per line.
        cache_logger_on_first_use=False,
    )


def get_logger(**fields: object) -> FilteringBoundLogger:
    """Returns a logger that adds `fields` to every line. Safe to call before `configure`."""
    logger: FilteringBoundLogger = structlog.get_logger(**fields)
    return logger


def _json() -> list[Processor]:
    return [
        structlog.processors.format_exc_info,
        _spell_out_non_finite,
        structlog.processors.JSONRenderer(),
    ]


def _text(*, colors: bool) -> list[Processor]:
    return [
        structlog.dev.ConsoleRenderer(
            colors=colors,
            # The default draws boxes if Rich is installed.
            exception_formatter=structlog.dev.plain_traceback,
        ),
    ]


def _spell_out_non_finite(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    # A diverged loss is worth logging, but NaN is not valid JSON.
    for key, value in event.items():
        if isinstance(value, float) and not math.isfinite(value):
            event[key] = str(value)
    return event

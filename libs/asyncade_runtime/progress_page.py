"""The page of a learner that says how its run goes: for people who look, not for Prometheus."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from asyncade_runtime.curve import Curve

PATH: Final = "/progress"
"""Beside /metrics, on the learner's HTTP port."""


class ProgressPage:
    """The newest row, the curve and the senders, as JSON.

    The learner's loop writes; the threads of its HTTP server read what was written last.

    Args:
        about: mode, game and seed of the run.
        clock: Unix time in seconds.
    """

    def __init__(self, about: Mapping[str, Any], clock: Callable[[], float] = time.time) -> None:
        self._about = dict(about)
        self._clock = clock
        self._curve = Curve()
        self._news: dict[str, Any] = {}

    def continues(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Takes the rows of earlier sittings: they belong to the curve."""
        for row in rows:
            self._curve.add(row)

    def report(self, row: Mapping[str, Any], senders: Mapping[str, Any]) -> None:
        """Replaces what is said.

        Args:
            row: as in metrics.jsonl.
            senders: as in senders.json.
        """
        self._curve.add(row)
        self._news = {
            "row": dict(row),
            "senders": dict(senders),
            "curve": self._curve.columns(),
            "reported": self._clock(),
        }

    def content(self) -> bytes:
        """Returns the page; its ``time`` tells by how much another machine's clock differs."""
        return json.dumps({**self._about, **self._news, "time": self._clock()}).encode()

"""What a learner's own page says of its run: for a live page that has no run folder."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Annotated, Any, Final, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from asyncade_runtime.http_reading import PageError, read_page
from asyncade_runtime.progress_page import PATH
from asyncade_watch.run_state import figures

SECONDS_BETWEEN_READINGS: Final = 2.0

_SILENT_S: Final = 20.0

_Number: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
_Count: TypeAlias = Annotated[int, Field(ge=0, le=2**53)]
_Name: TypeAlias = Annotated[str, Field(max_length=256)]
_Numbers: TypeAlias = Annotated[list[_Number | None], Field(max_length=1000)]


class _Part(BaseModel):
    """Fields that the page does not know are left out: the learner may be of a later release."""

    model_config = ConfigDict(extra="ignore")


class _Row(_Part):
    seconds: _Number
    env_steps: _Count
    updates: _Count
    episodes: _Count
    mean_return_100: _Number | None = None
    target: _Number | None = None
    target_env_steps: _Count | None = None
    target_seconds: _Number | None = None
    env_steps_per_second: _Number = 0.0
    policy_lag_mean: _Number | None = None
    active_actors: _Count = 0
    stage_shares: dict[_Name, _Number] = {}


class _Actor(_Part):
    id: _Name
    env_steps_per_second: _Number | None = None
    policy_lag: _Number | None = None
    last_seen: _Number
    late: bool = False


class _Senders(_Part):
    actors: Annotated[list[_Actor], Field(max_length=1000)] = []
    dropped: Annotated[dict[_Name, _Count], Field(max_length=100)] = {}


class _Curve(_Part):
    env_steps: _Numbers = []
    seconds: _Numbers = []
    mean_return_100: _Numbers = []

    @model_validator(mode="after")
    def _columns_are_of_one_length(self) -> Self:
        if len({len(self.env_steps), len(self.seconds), len(self.mean_return_100)}) > 1:
            raise ValueError("its columns are not of one length")
        return self


class _Progress(_Part):
    game: _Name
    mode: _Name
    time: _Number
    reported: _Number | None = None
    row: _Row | None = None
    senders: _Senders = _Senders()
    curve: _Curve = _Curve()


class LearnerProgress:
    """Reads the page at most every two seconds, in a thread, and only while somebody asks.

    One thread at a time uses it.

    Args:
        address: of the learner's HTTP pages, ``http://HOST:PORT``.
        clock: monotonic time in seconds.
    """

    def __init__(self, address: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._address = address.rstrip("/")
        self._clock = clock
        self._read_at = 0.0
        self._reading: threading.Thread | None = None
        self._known: tuple[_Progress, float] | None = None  # and when it was read
        self._trouble: str | None = None

    def refresh(self) -> dict[str, Any]:
        """Returns what the page shows, as far as it is known by now; empty at first. Never waits.

        While the learner cannot be read it is what was read last, with the reason in ``troubles``.
        """
        now = self._clock()
        if now >= self._read_at and (self._reading is None or not self._reading.is_alive()):
            self._read_at = now + SECONDS_BETWEEN_READINGS
            self._reading = threading.Thread(target=self._read, name="progress", daemon=True)
            self._reading.start()
        known, trouble = self._known, self._trouble
        told = {"troubles": [] if trouble is None else [trouble]}
        return told if known is None else {**_state(*known, now), **told}

    def wait(self) -> None:
        """Waits until nothing is being read."""
        if self._reading is not None:
            self._reading.join()

    def _read(self) -> None:
        try:
            content = read_page(self._address + PATH)
            self._known = (_Progress.model_validate_json(content), self._clock())
            self._trouble = None
        except (PageError, ValidationError) as error:
            if isinstance(error, ValidationError):
                first = error.errors(include_url=False, include_input=False)[0]
                why = f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
            else:
                why = str(error)
            self._trouble = (
                f"the learner's figures cannot be read from {self._address}{PATH} ({why}); the game"
                " goes on, and this page tries again"
            )


def _state(progress: _Progress, read_at: float, now: float) -> dict[str, Any]:
    there = progress.time + (now - read_at)  # on the learner's clock
    silent = progress.reported is not None and there - progress.reported > _SILENT_S
    row = {} if progress.row is None else progress.row.model_dump()
    return {
        "game": progress.game,
        "mode": progress.mode,
        "status": "silent" if silent else "training",
        "now": {name: value for name, value in row.items() if name != "stage_shares"},
        "curve_of": "Mean return of the last 100 games",
        "curve": progress.curve.model_dump(),
        **figures(row, progress.senders.model_dump(), there, one_machine=False),
    }

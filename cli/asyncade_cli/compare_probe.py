"""What the processes of a run tell on /metrics while it lasts: CPU time, traffic, stages.

A service's page dies with it, so it is read again and again and the increase is kept.
"""

from __future__ import annotations

import http.client
import re
import threading
import time
import urllib.parse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from asyncade_runtime.run_folder import RunFolder

SHORTEST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 1.0
"""Between two samples: short at first, so that a run of seconds has some; a page costs its process
a few milliseconds."""

_TIMEOUT_S: Final = 2.0
_STAGE: Final = "stage:"
_UPDATES: Final = "updates"
_METRICS_PORT: Final = re.compile(r"metrics_port\W+(\d+)")

# Metric, without its prefix, to the name it is kept by.
_NAMES: Final = {
    "process_cpu_seconds_total": "cpu_seconds",
    "asyncade_learner_env_steps_total": "env_steps",
    "asyncade_learner_updates_total": _UPDATES,
    "asyncade_learner_received_bytes_total": "received_bytes",
    "asyncade_learner_weights_published_total": "published",
    "asyncade_learner_weights_published_bytes_total": "published_bytes",
    "asyncade_actor_env_steps_total": "env_steps",
    "asyncade_actor_messages_sent_total": "messages_sent",
    "asyncade_actor_sent_bytes_total": "sent_bytes",
    "asyncade_actor_weights_received_total": "weights_received",
}
_STAGE_SECONDS: Final = {
    "asyncade_learner_stage_seconds_total",
    "asyncade_actor_stage_seconds_total",
}

Sample = dict[str, float]


def parse_sample(page: str) -> Sample:
    """Returns the counters of a /metrics page that matter here; labels but ``stage`` are summed."""
    sample: Sample = {}
    for family in text_string_to_metric_families(page):
        for one in family.samples:
            name = _NAMES.get(one.name)
            if one.name in _STAGE_SECONDS:
                name = _STAGE + one.labels["stage"]
            if name is not None:
                sample[name] = sample.get(name, 0.0) + one.value
    return sample


class Increase:
    """How much a process's counters grew since the first sample, over its restarts."""

    def __init__(self) -> None:
        self._last: Sample | None = None
        self._grown: Sample = {}

    def add(self, sample: Sample) -> None:
        """Takes the next sample. A counter that fell began anew at zero, as in Prometheus."""
        last = self._last
        if last is not None:
            for name, value in sample.items():
                before = last.get(name, 0.0)
                grown = value - before if value >= before else value
                self._grown[name] = self._grown.get(name, 0.0) + grown
        self._last = dict(sample)

    def grown(self) -> dict[str, Any]:
        """Returns name to increase, stages in a ``stage_seconds`` of their own."""
        plain = {n: v for n, v in self._grown.items() if not n.startswith(_STAGE)}
        stages = {n.removeprefix(_STAGE): v for n, v in self._grown.items() if n.startswith(_STAGE)}
        return {**plain, "stage_seconds": stages} if self._grown else {}


class Window:
    """The time in which a run makes updates, from its processes' samples."""

    def __init__(self) -> None:
        self._learner = Increase()
        self._actors: dict[str, Increase] = {}
        self._first: float | None = None
        self._last: float | None = None

    def add(self, now: float, learner: Sample, actors: Mapping[str, Sample]) -> None:
        """Takes a sample of every process that answered; opens with the learner's first update.

        Args:
            now: monotonic time in seconds.
            learner: its counters.
            actors: name to counters.
        """
        if self._first is None:
            if not learner.get(_UPDATES):
                return
            self._first = now
        self._last = now
        self._learner.add(learner)
        for name, sample in actors.items():
            self._actors.setdefault(name, Increase()).add(sample)

    @property
    def seconds(self) -> float:
        """How long it is by now."""
        return 0.0 if self._first is None or self._last is None else self._last - self._first

    def report(self) -> dict[str, Any] | None:
        """Returns what processes.json holds; None before two samples.

        ``seconds`` of the window; of the ``learner`` and, by name, the ``actors``: cpu_seconds,
        env_steps, messages, bytes, stage_seconds, each as the increase in the window.
        """
        if self.seconds <= 0:
            return None
        return {
            "seconds": round(self.seconds, 3),
            "learner": self._learner.grown(),
            "actors": {name: one.grown() for name, one in sorted(self._actors.items())},
        }


class Probe:
    """Samples a run's processes from a thread of its own, as long as the context lasts.

    Args:
        folder: the run's: where the learner listens is in endpoints.json, where an actor does in
            its log.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._window = Window()
        self._ports: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probe", daemon=True)

    def __enter__(self) -> Probe:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def report(self) -> dict[str, Any] | None:
        """Returns what was sampled, see `Window.report`. Call it after the context."""
        return self._window.report()

    def _run(self) -> None:
        while not self._stop.wait(pause_after(self._window.seconds)):
            learner = _fetch(self._learner_address())
            if learner is not None:
                self._window.add(time.monotonic(), learner, self._sample_actors())

    def _learner_address(self) -> tuple[str, int] | None:
        url = (self._folder.read_endpoints() or {}).get("metrics")
        parts = urllib.parse.urlsplit(str(url or ""))
        return (parts.hostname, parts.port) if parts.hostname and parts.port else None

    def _sample_actors(self) -> dict[str, Sample]:
        samples = {}
        for log in sorted(self._folder.logs.glob("actor-*.log")):
            name = log.stem
            sample = _fetch(self._actor_address(name))
            if sample is None:  # not up yet, or started again on another port
                port = last_metrics_port(_lines(log))
                if port is not None:
                    self._ports[name] = port
                sample = _fetch(self._actor_address(name))
            if sample is not None:
                samples[name] = sample
        return samples

    def _actor_address(self, name: str) -> tuple[str, int] | None:
        return ("127.0.0.1", self._ports[name]) if name in self._ports else None


def pause_after(seconds: float) -> float:
    """Returns how long to wait for the next sample when the window is so many seconds long."""
    return min(LONGEST_PAUSE_S, max(SHORTEST_PAUSE_S, seconds / 5))


def last_metrics_port(lines: Iterable[str]) -> int | None:
    """Returns the port that a service's log named last, in either form of log line."""
    ports = [int(found[1]) for line in lines if (found := _METRICS_PORT.search(line))]
    return ports[-1] if ports else None


def _lines(log: Path) -> list[str]:
    try:
        return log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _fetch(address: tuple[str, int] | None) -> Sample | None:
    """Returns a service's counters; None while it does not answer."""
    if address is None:
        return None
    connection = http.client.HTTPConnection(*address, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        if response.status != 200:
            return None
        return parse_sample(response.read().decode())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()

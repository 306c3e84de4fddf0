"""Unit costs, and the file a plan reads them from: this package's, or the user's own."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from asyncade_runtime.cores import learner_threads

SHIPPED: Final = Path(__file__).with_name("plan_costs.json")
"""A copy of bench/results/unit-costs.json; `python -m bench.table` makes it, a test compares."""

_CURE: Final = "make one with `python -m bench.unit_costs`, or leave out --costs"


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What each piece of work costs on one core of the machine where it was measured.

    Attributes:
        environment: core-seconds per env step of the emulator, while a network plays with it.
        inference: core-seconds per env step of the policy and the player's bookkeeping.
        encode: core-seconds per env step of making a trajectory message.
        intake: core-seconds per env step to receive, decode and rebuild trajectories.
        update: core-seconds per env step of the learner's passes over a batch, data mode.
        passes: times that each sample is used in `update` and `gradient_work`.
        threads: with which the two speed-ups were measured.
        thread_speedup: how many times as fast the update is with so many threads of torch.
        environment_speedup: how many times as fast the games are in play with so many threads.
        actor_crowding: how many times as much processor time an actor takes in data mode where
            learner and actors share all cores of one machine, and its caches.
        gradient_work: core-seconds per env step of all gradients over an unroll, without the next.
        gradient_call: core-seconds per gradient, however small.
        gradient_send: core-seconds per gradient of its actor, to encode and send it.
        gradient_intake: core-seconds per gradient of its receiver, to receive and decode it.
        gradient_transfer: seconds per gradient from one process to another of the same machine,
            one after the other. Both ends copy through the same memory, so it is more than either
            costs alone and less than their sum. A cluster has a link instead.
        gradient_crowding: as `actor_crowding`, of all work in gradient mode, the learner's too.
        average: core-seconds per gradient to add it to the average.
        optimise: core-seconds per update.
        publish: core-seconds per version, to make the weights message.
        takeover: core-seconds per version and actor, to decode and load it.
        broadcast_byte: core-seconds per byte of a broadcast, however many receive it.
        send_message: core-seconds per message of the socket that sends, the kernel's included.
        send_byte: core-seconds per byte of it.
        receive_message: core-seconds per message of the socket that receives.
        receive_byte: core-seconds per byte of it.
        trajectory_bytes: bytes per env step.
        gradient_bytes: bytes of a gradient.
        weights_bytes: bytes of a weights message.
    """

    environment: float
    inference: float
    encode: float
    intake: float
    update: float
    passes: float
    threads: float
    thread_speedup: float
    environment_speedup: float
    actor_crowding: float
    gradient_work: float
    gradient_call: float
    gradient_send: float
    gradient_intake: float
    gradient_transfer: float
    gradient_crowding: float
    average: float
    optimise: float
    publish: float
    takeover: float
    broadcast_byte: float
    send_message: float
    send_byte: float
    receive_message: float
    receive_byte: float
    trajectory_bytes: float
    gradient_bytes: float
    weights_bytes: float

    def sending(self, size: float) -> float:
        """Returns core-seconds to send a message of so many bytes to one receiver."""
        return self.send_message + self.send_byte * size

    def broadcasting(self, size: float, receivers: int) -> float:
        """Returns core-seconds to publish a message of so many bytes to so many receivers."""
        return self.broadcast_byte * size + receivers * self.sending(size)

    def receiving(self, size: float) -> float:
        """Returns core-seconds to receive a message of so many bytes."""
        return self.receive_message + self.receive_byte * size

    def speedup(self, cores: float) -> float:
        """Returns how many times as fast an update is on so many cores.

        torch gets no more threads than `learner_threads` allows.
        """
        return amdahl(learner_threads(math.ceil(cores)), self.threads, self.thread_speedup)


def amdahl(threads: float, measured_with: float, measured: float) -> float:
    """Returns the speed-up with so many threads, from the one that was measured with others.

    Args:
        threads: at least one.
        measured_with: threads of the measurement.
        measured: how many times as fast it was.

    Source: Amdahl 1967; the part of the work that threads share is what fits the measurement.
    """
    if measured_with <= 1 or measured <= 1:
        return 1.0
    shared = (1 - 1 / measured) / (1 - 1 / measured_with)
    return 1 / (1 - shared + shared / threads)


def is_time(name: str) -> bool:
    """Whether a cost is a time, and not a size, a count or a ratio."""
    return not name.endswith(("passes", "threads", "_bytes", "_speedup", "_crowding"))


class CostsError(ValueError):
    """A file of costs that cannot be used. The message names the cure."""


@dataclass(frozen=True, kw_only=True)
class MeasuredCosts:
    """Costs, and where they come from.

    Attributes:
        costs: of each piece of work.
        origin: file, commit, machine, command, in words.
    """

    costs: Costs
    origin: str


def read_costs(path: Path = SHIPPED) -> MeasuredCosts:
    """Reads a file of unit costs.

    Raises:
        CostsError: it is not there, not JSON, or a cost is missing or no positive number.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CostsError(f"--costs {path} cannot be read ({error.strerror}): {_CURE}") from error
    except ValueError as error:
        raise CostsError(f"--costs {path} is not JSON ({error}): {_CURE}") from error
    given = found.get("costs") if isinstance(found, dict) else None
    if not isinstance(given, dict):
        raise CostsError(f"--costs {path} has no object `costs`: {_CURE}")
    names = [field.name for field in fields(Costs)]
    wrong = [name for name in names if not _positive(given.get(name))]
    if wrong:
        raise CostsError(
            f"--costs {path}: no positive number for {', '.join(wrong)} in `costs`: {_CURE}"
        )
    costs = Costs(**{name: float(given[name]) for name in names})
    return MeasuredCosts(costs=costs, origin=_origin(found, path))


def _positive(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0


def _origin(found: dict[str, Any], path: Path) -> str:
    def of(name: str) -> str:
        return str(found.get(name, "not told"))

    return (
        f"{path.name}: {of('game')}, {of('processor')}, {of('cores')} cores, commit {of('commit')},"
        f" `{of('command')}`"
    )

"""A plan as a table and in words. Every claim is decided by a number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from asyncade_cli.compare_costs import LINKS, UnitCosts
from asyncade_cli.compare_words import NAMES
from asyncade_cli.plan_costs import MeasuredCosts
from asyncade_cli.plan_model import MAX_ACTORS, Limit, Round, Setup
from asyncade_proto.limits import MAX_SENDERS

Ranges = Sequence[tuple[int, int]]
"""Of numbers of actors, both ends included."""

_RANGES: Final = 3

_LIMITS: Final[dict[Limit, str]] = {
    "actors": "the actors' own work",
    "learner": "the learner's work",
    "link": "the network",
    "publish": "the core that sends the weights",
    "relays": "the relays' averaging",
    "cores": "the cores that all processes share",
}

_CURES: Final[dict[Limit, str]] = {
    "actors": "more actors make it faster",
    "learner": "a faster learner does (--learner-speedup), more actors hardly",
    "link": "a faster network does (--link-gbits), or relays (--actors-per-relay)",
    "publish": "relays do (--actors-per-relay)",
    "relays": "smaller groups do (--actors-per-relay)",
    "cores": "only more cores do, or less work per env step",
}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The plan of one mode.

    Attributes:
        setup: what it is for.
        round: of the actors that were given, or needed.
        units: costs per env step with so many actors.
        asked: env steps/s that were asked for; None where actors were given.
        reached: whether a number of actors reaches them; if not, `round` is near the fastest one.
        top: the highest rate of any number of actors, env steps/s.
        batch_bytes: the learner's memory for a batch; None in gradient mode.
        speedup_needed: cores that a device must be worth; None where none is needed or would do.
    """

    setup: Setup
    round: Round
    units: UnitCosts
    asked: float | None
    reached: bool
    top: float
    batch_bytes: float | None
    speedup_needed: float | None

    @property
    def relays(self) -> int:
        """How many relays there are."""
        return self.setup.relays(self.round.actors)

    def as_json(self) -> dict[str, Any]:
        """Returns it as JSON has it."""
        one = self.round
        return {
            "reached": self.reached,
            "actors": one.actors,
            "relays": self.relays,
            "env_steps_per_second": one.rate,
            "highest_env_steps_per_second": self.top,
            "limit": one.limit,
            "round_seconds": one.seconds,
            "round_parts_seconds": one.parts,
            "learner_busy": one.learner_share,
            "learner_bytes_in_per_second": one.bytes_up / one.seconds,
            "learner_bytes_out_per_second": one.bytes_down / one.seconds,
            "all_actors_bytes_in_per_second": one.bytes_down_all / one.seconds,
            "learner_batch_bytes": self.batch_bytes,
            "learner_core_seconds_per_env_step": self.units.learner,
            "actor_core_seconds_per_env_step": self.units.actor,
            "env_steps_per_message": self.units.env_steps_per_message,
            "learner_speedup_needed": self.speedup_needed,
        }


def plan_table(answers: Sequence[Answer]) -> str:
    """Returns a table with a column for each mode."""
    rows: list[list[str]] = [
        ["", *(NAMES[answer.setup.mode] for answer in answers)],
        ["actors", *(f"{a.round.actors:,}" for a in answers)],
        ["relays", *(f"{a.relays:,}" for a in answers)],
        ["env steps/s", *(f"{a.round.rate:,.0f}" for a in answers)],
        ["limited first by", *(a.round.limit for a in answers)],
        ["learner's time at work", *(f"{a.round.learner_share:.0%}" for a in answers)],
        ["into the learner", *(byte_rate(a.round.bytes_up / a.round.seconds) for a in answers)],
        ["out of the learner", *(byte_rate(a.round.bytes_down / a.round.seconds) for a in answers)],
        ["learner's batch in memory", *(_memory(a.batch_bytes) for a in answers)],
        ["env steps a message", *(f"{a.units.env_steps_per_message:,.1f}" for a in answers)],
        ["one round", *(f"{a.round.seconds * 1e3:,.1f} ms" for a in answers)],
    ]
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return "".join(
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)),
            ]
        ).rstrip()
        + "\n"
        for row in rows
    )


def byte_rate(rate: float) -> str:
    """Returns bytes/s as a person says them."""
    for unit, size in (("GB/s", 1e9), ("MB/s", 1e6), ("kB/s", 1e3)):
        if rate >= size:
            return f"{rate / size:,.1f} {unit}"
    return f"{rate:,.0f} B/s"


def _memory(size: float | None) -> str:
    return "-" if size is None else f"{size / 1e9:,.2f} GB"


def plan_words(
    answers: Sequence[Answer], lead: Ranges | None, measured: MeasuredCosts
) -> list[str]:
    """Returns what the plan says, sentence by sentence.

    Args:
        answers: of each mode.
        lead: ranges of actors in which gradient mode is faster; None where that is not asked.
        measured: the costs.
    """
    words = [line for answer in answers for line in _answer_words(answer)]
    if lead is not None:
        words.append(f"By env steps/s alone gradient mode is faster {leading(lead)}.")
    return [*words, *_caveats(answers), f"Costs: {measured.origin}."]


def leading(lead: Ranges) -> str:
    """Returns the ranges of actors in words; relays, which come whole, can make many of them."""
    if not lead:
        return "with no number of actors"
    said = []
    for first, last in lead[:_RANGES]:
        if last == MAX_ACTORS:
            said.append(f"from {first:,} actors on")
        else:
            said.append(f"with {first:,} to {last:,}" if last > first else f"with {first:,}")
    return " and ".join(said) + (", and so on" if len(lead) > _RANGES else "")


def _answer_words(answer: Answer) -> list[str]:
    one, name = answer.round, NAMES[answer.setup.mode]
    name = name[0].upper() + name[1:]
    if not answer.reached:
        assert answer.asked is not None
        return [_out_of_reach(answer, name, answer.asked)]
    parts = ", ".join(
        f"{part} {seconds / sum(one.parts.values()):.0%}"
        for part, seconds in one.parts.items()
        if seconds / sum(one.parts.values()) >= 0.005
    )
    words = [
        f"{name}: {one.actors:,} actors give {one.rate:,.0f} env steps/s; first limit:"
        f" {_LIMITS[one.limit]} ({parts} of a round's work); {_CURES[one.limit]}. No number of"
        f" actors gives more than {answer.top:,.0f}."
    ]
    if answer.setup.relays(one.actors) == 0 and one.actors > MAX_SENDERS:
        words.append(
            f"{name}: the learner names {MAX_SENDERS:,} actors in its credit; more are only held"
            " back by what they may send per version."
        )
    return words


def _out_of_reach(answer: Answer, name: str, asked: float) -> str:
    one = answer.round
    words = (
        f"{name}: no number of actors gives {asked:,.0f} env steps/s. The most is"
        f" {answer.top:,.0f}, and {one.actors:,} come near it; {_LIMITS[one.limit]} is the limit"
    )
    if answer.speedup_needed is not None:
        return f"{words}: --learner-speedup {math.ceil(answer.speedup_needed):,} would do."
    if answer.setup.mode == "gradients" and not answer.setup.shared_cores:
        return f"{words}: relays (--actors-per-relay) or a larger --minibatch-size move it."
    if answer.setup.mode == "data" and not answer.setup.shared_cores:
        return (
            f"{words}, and no learner however fast would do: one learner's intake, network and"
            " sending are too small. Try --messages-in-flight 2, --link-gbits, --actors-per-relay,"
            " or more than one run."
        )
    return f"{words}: {_CURES[one.limit]}."


def _caveats(answers: Sequence[Answer]) -> list[str]:
    words = []
    data = next((a.setup for a in answers if a.setup.mode == "data"), None)
    if data is not None and data.device_speedup is not None:
        words.append(
            f"The learner's device is taken as {data.device_speedup:,.1f} times as fast as a core"
            " in updates: your figure, not measured here. Gradient mode trains on the actors' cores"
            " and gains nothing by it."
        )
    elif data is not None and not data.shared_cores and data.learner_cores > 2:
        words.append(
            f"{data.learner_cores} learner cores are an extrapolation from two by Amdahl's law."
        )
    if data is not None and data.in_flight > 1:
        words.append(
            "More than one message in flight makes data a version old: that learned much more"
            " slowly with the default recipe (docs/decisions/0007)."
        )
    needed = max(max(a.round.bytes_up, a.round.bytes_down) / a.round.seconds for a in answers)
    link = next((name for name, size in LINKS.items() if size >= needed), None)
    words.append(
        "The learner's busiest direction averages"
        f" {byte_rate(needed)}: {f'{link} carries it' if link else 'more than 100 Gbit/s'}."
    )
    return words

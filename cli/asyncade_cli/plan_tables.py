"""The tables of docs/scaling.md, from the shipped costs: they change when those do."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Final

from asyncade_cli.plan_costs import Costs, is_time, read_costs
from asyncade_cli.plan_model import Setup, batch_bytes, highest_rate, leads, round_of
from asyncade_cli.plan_words import byte_rate, leading

ACTORS: Final = (100, 1_000, 10_000)
PER_RELAY: Final = 32
"""Actors of a relay where their number is left open."""

SAMPLES: Final = 256
"""Samples of each actor's gradient, where it is larger than by default."""

LARGEST: Final = 2**20
"""Samples that the learner's settings allow an update."""

_LINK: Final = 10e9 / 8
_SPEEDUPS: Final = (None, 10.0, 100.0)


def per_relay(actors: int) -> int:
    """Returns the actors of a relay with which learner and relays send to equally many."""
    return math.isqrt(actors)


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def costs_table() -> str:
    """Returns the shipped costs, and of what machine and commit they are."""
    measured = read_costs()
    rows = []
    for field in fields(Costs):
        value = getattr(measured.costs, field.name)
        name = f"`{field.name}`"
        if field.name.endswith("_bytes"):
            rows.append([name, f"{value:,.0f} bytes"])
        elif not is_time(field.name):
            rows.append([name, f"{value:,.3g}"])
        elif field.name.endswith("_byte"):
            rows.append([name, f"{value * 1e12:,.0f} µs per MB"])
        else:
            rows.append([name, f"{value * 1e6:,.1f} µs"])
    return _markdown(["cost", "measured"], rows) + f"\n{measured.origin}.\n"


def data_table() -> str:
    """Returns what numbers of actors give in data mode, by the learner's device."""
    costs = read_costs().costs
    rows = []
    for actors in ACTORS:
        for speedup in _SPEEDUPS:
            setup = Setup(
                mode="data",
                learner_cores=16,
                device_speedup=speedup,
                link=_LINK,
                actors_per_relay=per_relay(actors),
            )
            one = round_of(costs, setup, actors)
            memory = batch_bytes(setup, actors) or 0.0
            rows.append(
                [
                    f"{actors:,}",
                    "16 cores" if speedup is None else f"device worth {speedup:,.0f} cores",
                    f"{setup.relays(actors):,}",
                    f"{one.rate:,.0f}",
                    one.limit,
                    f"{one.actor / one.seconds:.0%}",
                    byte_rate(one.bytes_up / one.seconds),
                    byte_rate(one.bytes_down / one.seconds),
                    f"{memory / 1e9:,.1f} GB",
                ]
            )
    return _markdown(
        [
            "actors",
            "learner",
            "relays",
            "env steps/s",
            "limit",
            "actors' time at work",
            "into the learner",
            "out of it",
            "batch in memory",
        ],
        rows,
    )


def gradients_table() -> str:
    """Returns what numbers of actors give in gradient mode, with two sizes of a gradient."""
    costs = read_costs().costs
    rows = []
    for actors in ACTORS:
        for samples in (None, SAMPLES):
            for group in (None, per_relay(actors)):
                setup = Setup(
                    mode="gradients",
                    minibatch_size=samples and min(samples * actors, LARGEST),
                    link=_LINK,
                    actors_per_relay=group,
                )
                one = round_of(costs, setup, actors)
                rows.append(
                    [
                        f"{actors:,}",
                        f"{one.env_steps / actors * costs.passes:,.0f}",
                        f"{setup.relays(actors):,}",
                        f"{one.rate:,.0f}",
                        one.limit,
                        f"{one.actor / one.seconds:.0%}",
                        byte_rate(one.bytes_up / one.seconds),
                        byte_rate(one.bytes_down / one.seconds),
                    ]
                )
    return _markdown(
        [
            "actors",
            "samples of a gradient",
            "relays",
            "env steps/s",
            "limit",
            "actors' time at work",
            "into the learner",
            "out of it",
        ],
        rows,
    )


def limits_table() -> str:
    """Returns the highest rates of each mode, and where gradient mode leads."""
    costs = read_costs().costs
    rows = []
    for name, link in (("10 Gbit/s", _LINK), ("no limit", math.inf)):
        for speedup in _SPEEDUPS:
            for group in (None, PER_RELAY):
                data, gradients = (
                    Setup(
                        mode=mode,
                        learner_cores=16,
                        device_speedup=speedup,
                        link=link,
                        actors_per_relay=group,
                    )
                    for mode in ("data", "gradients")
                )
                rows.append(
                    [
                        name,
                        "16 cores" if speedup is None else f"worth {speedup:,.0f} cores",
                        "none" if group is None else f"one per {group} actors",
                        f"{highest_rate(costs, data):,.0f}",
                        f"{highest_rate(costs, gradients):,.0f}",
                        leading(leads(costs, data, gradients)),
                    ]
                )
    return _markdown(
        [
            "network",
            "data mode's learner",
            "relays",
            "data mode at most",
            "gradient mode at most",
            "gradient mode ahead",
        ],
        rows,
    )


TABLES: Final[dict[str, Callable[[], str]]] = {
    "plan costs": costs_table,
    "plan data": data_table,
    "plan gradients": gradients_table,
    "plan limits": limits_table,
}

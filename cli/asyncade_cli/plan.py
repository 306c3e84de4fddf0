"""``asyncade plan``: from settings and a file of costs to a table, words, or JSON."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any, Final

from asyncade_cli.plan_costs import SHIPPED, Costs, MeasuredCosts, read_costs
from asyncade_cli.plan_model import (
    Mode,
    Setup,
    actors_for,
    batch_bytes,
    highest_rate,
    leads,
    round_of,
    unit_costs,
)
from asyncade_cli.plan_words import Answer, Ranges, plan_table, plan_words
from asyncade_cli.settings import PlanSettings

NEAR: Final = 0.95
"""Of the highest rate: the last twentieth costs more actors than the rest."""

_GBIT: Final = 1e9 / 8
"""Bytes/s of one Gbit/s."""

_MODES: Final[tuple[Mode, ...]] = ("data", "gradients")


def plan(settings: PlanSettings) -> str:
    """Returns the plan as it is printed.

    Raises:
        CostsError: the file of costs cannot be used.
    """
    measured = read_costs(settings.costs or SHIPPED)
    answers = answers_of(settings, measured.costs)
    lead = _leads(settings, measured.costs) if settings.mode == "both" else None
    if settings.display == "json":
        return json.dumps(as_json(settings, measured, answers, lead), indent=2) + "\n"
    words = plan_words(answers, lead, measured)
    return plan_table(answers) + "\n" + "".join(f"{line}\n" for line in words)


def setup_of(settings: PlanSettings, costs: Costs, mode: Mode) -> Setup:
    """Returns the model's setup of a mode."""
    speedup = settings.learner_speedup
    if settings.learner_samples is not None:
        speedup = settings.learner_samples * costs.update / costs.passes
    return Setup(
        mode=mode,
        envs=settings.envs,
        unroll_length=settings.unroll_length,
        minibatch_size=settings.minibatch_size,
        in_flight=settings.messages_in_flight,
        learner_cores=settings.learner_cores,
        device_speedup=speedup,
        link=math.inf if settings.link_gbits is None else settings.link_gbits * _GBIT,
        actors_per_relay=settings.actors_per_relay,
        shared_cores=settings.shared_cores,
    )


def answers_of(settings: PlanSettings, costs: Costs) -> list[Answer]:
    """Returns the answer for each mode that was asked for."""
    modes: tuple[Mode, ...] = _MODES if settings.mode == "both" else (settings.mode,)
    return [_answer(settings, costs, setup_of(settings, costs, mode)) for mode in modes]


def _answer(settings: PlanSettings, costs: Costs, setup: Setup) -> Answer:
    """Returns the round of the actors that were given or that the rate needs.

    Where no number of actors reaches the rate, that of the fewest that come near the highest.
    """
    top, rate = highest_rate(costs, setup), settings.rate
    reached = rate is None or rate <= top
    actors = settings.actors
    if rate is not None:
        actors = actors_for(costs, setup, rate if reached else NEAR * top)
    assert actors is not None  # one of both is given, and the rate is one that is reached
    one = round_of(costs, setup, actors)
    return Answer(
        setup=setup,
        round=one,
        units=unit_costs(costs, setup, one.actors),
        asked=rate,
        reached=reached,
        top=top,
        batch_bytes=batch_bytes(setup, one.actors),
        speedup_needed=None if reached else _speedup_needed(costs, setup, rate or 0.0),
    )


def _speedup_needed(costs: Costs, setup: Setup, rate: float) -> float | None:
    """Returns how many cores a device must be worth to reach a rate; None if none would do."""
    if setup.mode == "gradients" or setup.shared_cores:
        return None
    low, high = 0.0, 1e6

    def does(speedup: float) -> bool:
        return highest_rate(costs, replace(setup, device_speedup=speedup)) >= rate

    if not does(high):
        return None
    while high - low > 0.01 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if does(middle) else (middle, high)
    return high


def _leads(settings: PlanSettings, costs: Costs) -> Ranges:
    data, gradients = (setup_of(settings, costs, mode) for mode in _MODES)
    return leads(costs, data, gradients)


def as_json(
    settings: PlanSettings, measured: MeasuredCosts, answers: list[Answer], lead: Ranges | None
) -> dict[str, Any]:
    """Returns the plan as JSON has it; rates per second, sizes in bytes, times in seconds."""
    return {
        "asked": settings.model_dump(mode="json", exclude={"display"}),
        "costs": measured.origin,
        "actors_with_which_gradient_mode_is_faster": lead,
        "modes": {answer.setup.mode: answer.as_json() for answer in answers},
        "words": plan_words(answers, lead, measured),
    }

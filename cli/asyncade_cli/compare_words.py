"""What the figures of two modes say, in sentences. Every claim is decided by a number."""

from __future__ import annotations

from typing import Final

from asyncade_cli.compare_costs import LINKS, Cluster, UnitCosts
from asyncade_cli.compare_figures import busiest_stage, idle_share
from asyncade_cli.compare_seeds import Equal, ModeFigures, Spread

FULL_MACHINE: Final = 0.9
"""From this part of the cores on, the cores themselves are what a run waits for."""

BUSY: Final = 0.8
"""A process that works this part of its time is what the others wait for."""

NAMES: Final = {"data": "data mode", "gradients": "gradient mode"}
_NEAR: Final = 0.05
"""Ratios this near to one are called equal."""


def machine_words(data: ModeFigures, gradients: ModeFigures, equal: Equal) -> list[str]:
    """Returns which mode to choose on this machine, and why."""
    return [
        *_target_words(data, gradients),
        *_equal_words(data, gradients, equal),
        *_decomposition(data, gradients),
        bottleneck_words(data),
        bottleneck_words(gradients),
        *_cost_words(data, gradients),
    ]


def faster_to_target(data: ModeFigures, gradients: ModeFigures) -> ModeFigures | None:
    """Returns the mode with the smaller median wall time to the target; None if there is none."""
    one, other = data.median("seconds_to_target"), gradients.median("seconds_to_target")
    if one is None or other is None:
        return data if one is not None else gradients if other is not None else None
    return data if one < other else gradients if other < one else None


def _target_words(data: ModeFigures, gradients: ModeFigures) -> list[str]:
    target = data.runs[0].target
    if target is None:
        return ["No target was set, so nothing is said about the time to one."]
    words = [
        f"The target (mean of the last 100 games above {target:g}) was reached in"
        f" {data.reached} of {len(data.runs)} data-mode runs and {gradients.reached} of"
        f" {len(gradients.runs)} gradient-mode runs."
    ]
    best = faster_to_target(data, gradients)
    if best is None:
        if data.reached + gradients.reached == 0:
            words.append("Neither mode reached it within the budget: equal time must decide.")
        return words
    other = gradients if best is data else data
    mine = best.spreads["seconds_to_target"]
    theirs = other.spreads["seconds_to_target"]
    assert mine.median is not None
    choice = f"**To the target, {NAMES[best.mode]} is the choice on this machine**"
    if theirs.median is None:
        words.append(
            f"{choice}: median {duration(mine.median)}, while {NAMES[other.mode]} did not get"
            " there in at least half of its runs."
        )
        return [*words, *_certainty(mine, theirs)]
    medians = (
        f"{theirs.median / mine.median:.2f} times as fast (median {duration(mine.median)} against"
        f" {duration(theirs.median)})"
    )
    if min(mine.runs, theirs.runs) > 1 and not _apart(mine, theirs):
        words.append(
            "**To the target, neither mode is clearly the choice on this machine**:"
            f" {NAMES[best.mode]} was {medians}, but the seeds' ranges overlap."
        )
        return words
    return [*words, f"{choice}: {medians}.", *_certainty(mine, theirs)]


def _certainty(mine: Spread, theirs: Spread) -> list[str]:
    """Says how far the seeds carry the claim that `mine` is smaller."""
    if min(mine.runs, theirs.runs) < 2:
        return ["One seed of a mode is an anecdote: repeat it with more (--seeds 1,2,3)."]
    if _apart(mine, theirs):
        return ["Every seed of the one was ahead of every seed of the other."]
    return ["The seeds' ranges overlap, so the order of the two is not certain."]


def _apart(mine: Spread, theirs: Spread) -> bool:
    """Tells whether every seed of `mine` was ahead of every one of `theirs`."""
    return not mine.absent and (
        theirs.low is None or (mine.high is not None and mine.high < theirs.low)
    )


def _equal_words(data: ModeFigures, gradients: ModeFigures, equal: Equal) -> list[str]:
    words = []
    seconds, env_steps = equal.seconds, equal.env_steps
    if seconds is None or env_steps is None:
        return []
    for name, said in (
        ("return_at_equal_seconds", f"{duration(seconds)} of wall time"),
        ("return_at_equal_env_steps", f"{env_steps:,.0f} env steps"),
    ):
        one, other = data.median(name), gradients.median(name)
        if one is None or other is None:
            words.append(f"After {said} no game had ended in one of the modes.")
            continue
        ahead = "the two are equal"
        if one != other:
            best = data if one > other else gradients
            ahead = f"{NAMES[best.mode]} is ahead by {abs(one - other):.2f}"
        words.append(
            f"After {said}, as far as the shortest run went, the mean return is {one:.2f} in"
            f" data mode and {other:.2f} in gradient mode (medians): {ahead}."
        )
    return words


def _decomposition(data: ModeFigures, gradients: ModeFigures) -> list[str]:
    """Splits the difference into env steps per second and env steps needed."""
    one, other = data.median("env_steps_per_second"), gradients.median("env_steps_per_second")
    if not one or not other:
        return ["A run was too short for a rate of env steps."]
    words = [
        f"Gradient mode plays {other / one:.2f} times as many env steps/s as data mode"
        f" ({other:,.0f} against {one:,.0f})."
    ]
    needs, others = data.median("env_steps_to_target"), gradients.median("env_steps_to_target")
    if needs and others:
        rate, need = other / one, others / needs
        weightier = "rate" if abs(rate - 1) > abs(1 / need - 1) else "need for env steps"
        words.append(
            f"It needs {need:.2f} times as many of them to the target ({others:,.0f} against"
            f" {needs:,.0f}); of the two, the {weightier} makes the larger difference."
        )
    return words


def bottleneck_words(figures: ModeFigures) -> str:
    """Returns what a mode's speed hangs on, by stage shares and CPU time."""
    name = NAMES[figures.mode].capitalize()
    learner_idle = idle_share(figures.learner_shares, "learner")
    actor_idle = idle_share(figures.actor_shares, "actor")
    if learner_idle is None:
        return f"{name}: the learner's stage shares are not known, so neither is the bottleneck."
    learner = (
        f"the learner works {1 - learner_idle:.0%} of its time"
        f" (most of it: {busiest_stage(figures.learner_shares, 'learner')})"
    )
    if actor_idle is None or figures.actor_shares is None:
        whose = "the learner" if 1 - learner_idle >= BUSY else "not the learner"
        return f"{name}: the bottleneck is {whose}: {learner}; the actors were not sampled."
    both = (
        f"{learner}, the actors {1 - actor_idle:.0%} of theirs"
        f" ({busiest_stage(figures.actor_shares, 'actor')})"
    )
    used, cores = figures.median("cores_used"), figures.cores
    if used is not None and cores and used >= FULL_MACHINE * cores:
        return (
            f"{name}: the bottleneck is the machine: its processes use {used:.2f} of {cores} cores,"
            f" so only less work per env step would make it faster. {both[0].upper()}{both[1:]}."
        )
    if 1 - learner_idle >= BUSY and learner_idle <= actor_idle:
        whose = "the learner, which the actors wait for"
    elif 1 - actor_idle >= BUSY:
        whose = "the actors, which the learner waits for"
    else:
        whose = "neither side, which wait for each other in turn"
    return f"{name}: the bottleneck is {whose}: {both}."


def _cost_words(data: ModeFigures, gradients: ModeFigures) -> list[str]:
    def total(figures: ModeFigures) -> float | None:
        learner = figures.median("learner_core_seconds")
        actor = figures.median("actor_core_seconds")
        return None if learner is None or actor is None else learner + actor

    words = []
    one, other = total(data), total(gradients)
    if one and other:
        words.append(
            f"An env step costs {one * 1e3:.3f} core-milliseconds in data mode and"
            f" {other * 1e3:.3f} in gradient mode, learner and actor together:"
            f" {_compared(other / one, 'gradient mode', 'data mode')}."
        )
    up, others = data.median("bytes_up_per_env_step"), gradients.median("bytes_up_per_env_step")
    if up and others:
        more = "more" if others > up else "fewer"
        factor = others / up if others > up else up / others
        words.append(
            f"Gradient mode sends {factor:,.1f} times {more} bytes up per env step"
            f" ({others:,.1f} against {up:,.1f})."
        )
    return words


def _compared(ratio: float, subject: str, other: str) -> str:
    if abs(ratio - 1) <= _NEAR:
        return "about the same"
    if ratio > 1:
        return f"{subject} does {ratio:.2f} times the work, so on full cores {other} is faster"
    return f"{subject} does {ratio:.2f} times the work, so on full cores it is faster"


def cluster_words(figures: Cluster | None) -> list[str]:
    """Returns what the measured costs foretell for a cluster, formulae beside the numbers."""
    if figures is None:
        return [
            "Not computable: CPU time or traffic of the processes was not sampled in both modes"
            " (runs that `asyncade compare` starts are sampled; so short ones are not)."
        ]
    data, gradients = figures.data, figures.gradients
    return [
        _saturation(data),
        _saturation(gradients),
        *_crossover_words(figures),
        _network_words(gradients),
        f"An actor works {data.seconds_per_message * 1e3:.1f} ms for a message in data mode and"
        f" {gradients.seconds_per_message * 1e3:.1f} ms in gradient mode (c_A x"
        f" {data.env_steps_per_message:,.1f} and {gradients.env_steps_per_message:,.1f} env steps):"
        " a round trip to the learner of that length halves its rate.",
    ]


def _saturation(costs: UnitCosts) -> str:
    actors = costs.saturating_actors
    return (
        f"In {NAMES[costs.mode]} a learner of one core is saturated by c_A / c_L ="
        f" {costs.actor * 1e3:.3f} ms / {costs.learner * 1e3:.3f} ms = **{actors:.1f} actors**, at"
        f" 1 / c_L = {costs.learner_ceiling:,.0f} env steps/s; K learner cores, or a device K times"
        " as fast, by K times as many."
    )


def _crossover_words(figures: Cluster) -> list[str]:
    cross, data, gradients = figures.crossover, figures.data, figures.gradients
    g = cross.step_ratio
    basis = (
        f"with g = {g:.2f}, gradient mode's env steps to the target over data mode's"
        if cross.step_ratio_known
        else "by env steps/s alone (g = 1: the target was not reached in both modes)"
    )
    sides = (
        f"g c_A' = {g * gradients.actor * 1e3:.3f} ms against c_A = {data.actor * 1e3:.3f} ms with"
        f" few actors, g c_L' = {g * gradients.learner * 1e3:.3f} ms against c_L ="
        f" {data.learner * 1e3:.3f} ms with many ({basis}; primes: gradient mode)"
    )
    match cross.winner:
        case "data":
            return [
                f"**Data mode with any number of actors**: {sides}. Gradient mode is cheaper"
                " neither for an actor nor for the learner."
            ]
        case "gradients":
            return [f"**Gradient mode with any number of actors**: {sides}.", _needs(figures)]
        case "data then gradients":
            return [
                f"**Data mode below N = g c_A' / c_L = {cross.actors:.1f} actors per learner core,"
                f" gradient mode above**: {sides}. Below, data mode's cheaper actors win; above,"
                " its learner is saturated.",
                _needs(figures),
            ]
        case "gradients then data":
            return [
                f"**Gradient mode below N = c_A / (g c_L') = {cross.actors:.1f} actors per learner"
                f" core, data mode above**: {sides}."
            ]


def _needs(figures: Cluster) -> str:
    cross = figures.crossover
    words = (
        "To pass a saturated data learner, gradient mode's network must carry g u' / c_L ="
        f" {cross.bytes_up_per_second / 1e6:,.1f} MB/s up and g w' / c_L ="
        f" {cross.bytes_down_per_second / 1e6:,.1f} MB/s down"
        f" ({cross.link_needed * 8 / 1e9:.2f} Gbit/s each way), K times as much against a learner"
        " K times as fast: "
    )
    enough = [name for name, rate in LINKS.items() if rate >= cross.link_needed]
    short = [name for name, rate in LINKS.items() if rate < cross.link_needed]
    if not short:
        return f"{words}{enough[0]} is enough."
    if not enough:
        return f"{words}not even {short[-1]} is enough, so **data mode stays ahead**."
    return (
        f"{words}{enough[0]} is enough; {short[-1]} is not, so there data mode stays ahead with"
        " many actors."
    )


def _network_words(gradients: UnitCosts) -> str:
    ceilings = ", ".join(
        f"{gradients.network_ceiling(rate):,.0f} on {name}" for name, rate in LINKS.items()
    )
    at = gradients.learner_ceiling
    return (
        f"The network bounds gradient mode at B / max(u', w') env steps/s: {ceilings}. To keep a"
        f" gradient learner of one core busy it takes u' / c_L' ="
        f" {at * gradients.bytes_up / 1e6:,.1f} MB/s up and w' / c_L' ="
        f" {at * gradients.bytes_down / 1e6:,.1f} MB/s down."
    )


def duration(seconds: float) -> str:
    """Returns seconds as a person says them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"

"""The model of `asyncade plan` against measurements on this machine.

python -m bench.scaling [--seconds 15] [--seed 1] [--game pong] [--parts train,load,fanout]

train   asyncade train with 1, 2, 4, 8 actors, both modes
load    asyncade learner under 1 to 256 synthetic actors, both modes
fanout  1 to 512 weight subscribers, directly and through relays

Unit costs are measured before and after every rate (`bench.turns`), crowding before and after each
mode's (`bench.crowding`); their medians become unit-costs.json. A part that is left out keeps what
scaling.json has of it.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from asyncade_cli.plan_costs import Costs
from asyncade_cli.plan_model import Mode, Round, Setup, round_of
from asyncade_proto.codec import encode
from asyncade_runtime.cores import available_cores
from bench import fanout, relay, unit_costs
from bench.crowding import crowding, in_runs, typical
from bench.intake import loaded_learner
from bench.pipeline import NEVER
from bench.report import MODES, about, command_line, markdown_table, read_result, write_result
from bench.runs import RunFailedError, settled_training
from bench.scrape import read_page
from bench.turns import CostsInTurn

ACTORS: Final = (1, 2, 4, 8)
SYNTHETIC: Final = (1, 4, 16, 64, 256)
SUBSCRIBERS: Final = (1, 4, 16, 64, 256, 512)
RELAYS: Final = 4
PARTS: Final = ("train", "load", "fanout")

AIM: Final = 0.2
"""How far a prediction may be off."""

_COST_S: Final = 0.4
"""To measure each piece; all pieces take about half a minute."""

_POLL_S: Final = 0.1
_START_TIMEOUT_S: Final = 120.0
_UPDATES: Final = re.compile(r"^asyncade_learner_updates_total (\S+)", re.MULTILINE)

Counts = Callable[[], float]


def updates_per_second(updates: Counts, seconds: float, timeout_s: float = 120.0) -> float:
    """Watches a counter and returns its rate from one of its steps to another.

    Batches of many actors take seconds and all their updates show at once: between two arbitrary
    moments the rate would be off by a batch.

    Args:
        updates: reads the counter.
        seconds: to watch, or to the second step if that takes longer.
        timeout_s: give up after so long.

    Raises:
        RunFailedError: it does not move.
    """
    began = time.monotonic()
    last = updates()
    first: tuple[float, float] | None = None
    while time.monotonic() - began < timeout_s:
        time.sleep(_POLL_S)
        count, now = updates(), time.monotonic()
        if count == last:
            continue
        last = count
        if first is None:
            first = (now, count)
        elif now - first[0] >= seconds:
            return (count - first[1]) / (now - first[0])
    raise RunFailedError(f"no two updates in {timeout_s:g} s")


def counter(page: str) -> Counts:
    """Returns what reads the learner's updates from its page."""

    def read() -> float:
        found = _UPDATES.search(read_page(page))
        if found is None:
            raise RunFailedError(f"{page} tells of no updates")
        return float(found[1])

    return read


def updates_per_round(setup: Setup, actors: int, minibatch: int = 128) -> float:
    """Returns the updates of a round: one in gradient mode, in data mode one a minibatch."""
    if setup.mode == "gradients":
        return 1.0
    return 4 * max(1, round(actors * setup.unroll / minibatch))


def point(measured: float, model: float) -> dict[str, float]:
    """Returns a measurement, what the model says, and how far that is off, as a part of it."""
    return {"measured": measured, "model": model, "error": model / measured - 1}


def trained(
    turns: CostsInTurn, mode: Mode, actors: int, seconds: float, game: str, seed: int
) -> dict[str, Any]:
    """Returns updates/s of asyncade train, on this machine's cores."""
    arguments = {"mode": mode, "game": game, "seed": seed, "actors": actors, "target": NEVER}
    updates, turn = turns.around(lambda: _updates_of_training(arguments, seconds))
    return {"mode": mode, "actors": actors, "turn": turn, "updates_per_second": updates}


def rates(
    turns: CostsInTurn, parts: Sequence[str], seconds: float, game: str, seed: int
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, float]]:
    """Measures the points of parts ``train`` and ``load``, and crowding around each mode's.

    Returns:
        The points by part, and the crowding that stands for all of them.
    """
    taken: dict[str, list[dict[str, Any]]] = {}
    crowds = [turns.around(lambda: in_runs(game, seed, seconds))]
    for part, measure, counts, lasting in (
        ("train", trained, ACTORS, seconds),
        ("load", loaded, SYNTHETIC, seconds / 2),
    ):
        if part not in parts:
            continue
        taken[part] = []
        for mode in MODES:
            taken[part] += [measure(turns, mode, count, lasting, game, seed) for count in counts]
            crowds.append(turns.around(lambda: in_runs(game, seed, seconds)))
    return taken, typical([crowding(turns.costs(turn), running) for running, turn in crowds])


def against_model(
    turns: CostsInTurn, crowded: Mapping[str, float], measured: Mapping[str, Any], loaded: bool
) -> dict[str, Any]:
    """Returns a measured point in env steps/s, with what the model says of it.

    Args:
        turns: all of them.
        crowded: of `bench.crowding.crowding`.
        measured: of `trained` or `loaded`.
        loaded: which of them.
    """
    one = dict(measured)
    updates, turn = one.pop("updates_per_second"), one.pop("turn")
    setup = Setup(mode=one["mode"], envs=one.get("envs", 8), shared_cores=available_cores())
    make = loaded_round if loaded else round_of
    costs = Costs(**turns.costs(turn), **crowded)
    expected = make(costs, setup, one["actors"])
    rate = updates / updates_per_round(setup, one["actors"]) * expected.env_steps
    return one | {"slowness": turns.slowness(turn)} | point(rate, expected.rate)


def _updates_of_training(arguments: Mapping[str, object], seconds: float) -> float:
    with settled_training(arguments) as (run, _):
        return updates_per_second(counter(run.learner_page() or ""), seconds)


def games_of(actors: int) -> int:
    """Returns the games of a synthetic actor: with many actors a batch must fit into seconds."""
    return min(8, max(1, 32 // actors))


def loaded_round(costs: Costs, setup: Setup, actors: int) -> Round:
    """Returns the model's round with synthetic actors, which are one process and only send.

    They send while the learner takes in. Of trajectories the shorter of both is hidden; gradients
    keep the memory of both busy, and take what was measured between two processes.
    """
    usual = round_of(costs, setup, actors)
    message = costs.sending(usual.bytes_up / actors)
    actor = costs.receiving(costs.weights_bytes)  # into no network
    if setup.mode == "gradients":
        actor += actors * max(costs.gradient_transfer - costs.gradient_intake, 0.0)
        hidden = 0.0
    else:
        actor += actors * message
        hidden = min(actor, usual.learner)
    sending = costs.broadcasting(costs.weights_bytes, 1)  # one subscription serves them all
    return replace(
        usual,
        actor=actor,
        hidden=hidden,
        sending=sending,
        core_seconds=actor + usual.learner + sending,
    )


def loaded(
    turns: CostsInTurn, mode: Mode, actors: int, seconds: float, game: str, seed: int
) -> dict[str, Any]:
    """Returns updates/s of a learner under synthetic actors."""
    envs = games_of(actors)
    flags = {"mode": mode, "game": game, "seed": seed}

    def updates_under_load() -> float:
        with loaded_learner(flags, actors, seed, envs=envs) as under:
            under.run.wait_for_row(0.0, _START_TIMEOUT_S, trained=True)
            return updates_per_second(counter(under.run.learner_page() or ""), seconds)

    updates, turn = turns.around(updates_under_load)
    found = {"mode": mode, "actors": actors, "envs": envs}
    return found | {"turn": turn, "updates_per_second": updates}


def rising_weights(game: str, seed: int) -> fanout.Frames:
    """Returns weights messages of the real size, each of which a relay takes for new."""
    weights = relay.real_weights(game, seed, "data")
    before = 2**40  # integers of one length on the wire, and the lowest byte counts from 0
    return lambda number: encode(replace(weights, policy_version=before + number))


def fanned_out(
    turns: CostsInTurn, subscribers: int, relays: int, frames: fanout.Frames
) -> dict[str, Any]:
    """Returns CPU time of a publication, by the model too, and how late the last subscriber is.

    The latter has no model: it depends on how subscribers and relays share this machine's cores.
    """
    found, turn = turns.around(
        lambda: fanout.measure(subscribers, frames, 2.0, relays, relay.relayed)
    )
    costs = turns.costs(turn)
    sending = costs["send_message"] + costs["send_byte"] * len(frames(0))
    model = costs["broadcast_byte"] * len(frames(0)) + (relays or subscribers) * sending
    return {
        "subscribers": subscribers,
        "relays": relays,
        "publications": found["publications"],
        "cpu_seconds": point(found["cpu_seconds"], model),
        "latency_seconds": found["latency_seconds"],
    }


def fan_outs(turns: CostsInTurn, frames: fanout.Frames) -> list[dict[str, Any]]:
    """Returns all fan-outs, without relays and with them."""
    points = [(count, 0) for count in SUBSCRIBERS]
    points += [(count, RELAYS) for count in SUBSCRIBERS if count >= RELAYS]
    return [fanned_out(turns, subscribers, relays, frames) for subscribers, relays in points]


def table(result: Mapping[str, Any]) -> str:
    """Returns the Markdown tables: rates, then fan-out."""
    rows: list[list[object]] = []
    for part, name in (("train", "asyncade train"), ("load", "learner under loadgen")):
        rows.extend(
            [name, one["mode"], one["actors"], one["measured"], one["model"], _percent(one)]
            for one in result.get(part, [])
        )
    head = ["run", "mode", "actors", "env steps/s, measured", "model", "model is off by"]
    text = markdown_table(head, rows)
    rows = [
        [
            one["subscribers"],
            one["relays"],
            one["cpu_seconds"]["measured"] * 1e3,
            one["cpu_seconds"]["model"] * 1e3,
            _percent(one["cpu_seconds"]),
            one["latency_seconds"] * 1e3,
        ]
        for one in result.get("fanout", [])
    ]
    head = ["weight subscribers", "relays", "CPU of a publication, ms", "model", "off by"]
    head += ["until the last one has it, ms"]
    return text + ("\n" + markdown_table(head, rows) if rows else "")


def in_short(result: Mapping[str, Any]) -> str:
    """Returns a Markdown table of how far the model is off, a row for each kind of point."""
    kinds = {
        "env steps/s, `asyncade train`, 1 to 8 actors": result.get("train", []),
        "env steps/s, learner under loadgen, 1 to 256 actors": result.get("load", []),
        "CPU of a publication, 1 to 512 subscribers": [
            one["cpu_seconds"] for one in result.get("fanout", [])
        ],
    }
    rows: list[list[object]] = []
    for kind, points in kinds.items():
        errors = sorted(one["error"] for one in points)
        if errors:
            within = f"{sum(abs(error) <= AIM for error in errors)} of {len(errors)}"
            rows.append([kind, within, *(f"{error:+.0%}" for error in (errors[0], errors[-1]))])
    head = ["`asyncade plan` predicts", f"within {AIM:.0%}", "furthest below", "furthest above"]
    return markdown_table(head, rows)


def _percent(one: Mapping[str, float]) -> str:
    return f"{one['error']:+.0%}"


def run(
    seconds: float, game: str, seed: int, command: str, parts: Sequence[str] = PARTS
) -> dict[str, Any]:
    """Measures, writes scaling.json after each part, prints the tables."""
    result = (read_result("scaling") or {}) | about(command, seed=seed, torch_threads=1)
    result["game"] = game
    origins = result.setdefault("origins", {})

    def keep(part: str, found: list[dict[str, Any]]) -> None:
        result[part] = found
        origins[part] = f"{command} at {result['commit']}"
        write_result("scaling", result)

    if {"train", "load"} & set(parts):
        with unit_costs.metering(game, seed) as measure:
            turns = CostsInTurn(lambda: measure(_COST_S))
            taken, crowded = rates(turns, parts, seconds, game, seed)
        for part, points in taken.items():
            keep(part, [against_model(turns, crowded, one, part == "load") for one in points])
        costs = turns.median() | crowded
        unit_costs.keep(costs, game, seed, command)
    if "fanout" in parts:
        _, *sizes = unit_costs.samples_of_wire(game, seed)
        turns = CostsInTurn(lambda: unit_costs.time_broadcast((sizes[0], sizes[1]), _COST_S))
        keep("fanout", fan_outs(turns, rising_weights(game, seed)))
        costs = (read_result("unit-costs") or {}).get("costs", {})
        unit_costs.keep(costs | turns.median(), game, seed, command)
    write_result("scaling", result)
    print(table(result), flush=True)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Runs it; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.scaling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=15.0, help="of each training")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--game", default="pong")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(argv)
    parts = asked.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}: choose from {', '.join(PARTS)}")
    run(asked.seconds, asked.game, asked.seed, command_line("scaling", argv), parts)
    return 0


if __name__ == "__main__":
    sys.exit(main())

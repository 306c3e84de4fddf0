"""The model of `asyncade plan` against measurements on this machine.

python -m bench.scaling [--seconds 15] [--seed 1] [--game pong] [--parts costs,train,load,fanout]

costs   bench.unit_costs, anew: costs of another hour would be held against rates of this one
train   asyncade train with 1, 2, 4, 8 actors, both modes
load    asyncade learner under 1 to 256 synthetic actors, both modes
fanout  1 to 512 weight subscribers, directly and through relays

A part that is left out keeps what scaling.json has of it.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from asyncade_cli.plan_costs import read_costs
from asyncade_cli.plan_model import Costs, Mode, Round, Setup, round_of
from asyncade_proto.codec import encode
from asyncade_runtime.cores import available_cores
from bench import fanout, relay, unit_costs
from bench.intake import loaded_learner
from bench.pipeline import NEVER
from bench.report import RESULTS, about, command_line, markdown_table, read_result, write_result
from bench.runs import RunFailedError, training
from bench.scrape import read_page

MODES: Final[tuple[Mode, ...]] = ("data", "gradients")
ACTORS: Final = (1, 2, 4, 8)
SYNTHETIC: Final = (1, 4, 16, 64, 256)
SUBSCRIBERS: Final = (1, 4, 16, 64, 256, 512)
RELAYS: Final = 4
PARTS: Final = ("costs", "train", "load", "fanout")

_SETTLE_S: Final = 4.0
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
    costs: Costs, mode: Mode, actors: int, seconds: float, game: str, seed: int
) -> dict[str, Any]:
    """Returns env steps/s of asyncade train, and of the model on this machine's cores."""
    setup = Setup(mode=mode, shared_cores=available_cores())
    folder = Path(tempfile.mkdtemp(prefix="asyncade-bench-"))
    arguments = {"mode": mode, "game": game, "seed": seed, "actors": actors, "target": NEVER}
    try:
        with training(folder / "run", arguments) as run:
            row = run.wait_for_row(0.0, _START_TIMEOUT_S, trained=True)
            run.wait_for_row(row["seconds"] + _SETTLE_S, _START_TIMEOUT_S, trained=True)
            updates = updates_per_second(counter(run.learner_page() or ""), seconds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    one = round_of(costs, setup, actors)
    rate = updates / updates_per_round(setup, actors) * one.env_steps
    return {"mode": mode, "actors": actors} | point(rate, one.rate)


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
    actor = costs.receiving(costs.weights_bytes) + costs.takeover
    if setup.mode == "gradients":
        actor += actors * max(costs.gradient_transfer - costs.gradient_intake, 0.0)
        hidden = 0.0
    else:
        actor += actors * message
        hidden = min(actor, usual.learner)
    sending = costs.sending(costs.weights_bytes)  # one subscription serves them all
    return replace(
        usual,
        actor=actor,
        hidden=hidden,
        sending=sending,
        core_seconds=actor + usual.learner + sending,
    )


def loaded(
    costs: Costs, mode: Mode, actors: int, seconds: float, game: str, seed: int
) -> dict[str, Any]:
    """Returns env steps/s that a learner takes in from synthetic actors, and of the model."""
    setup = Setup(mode=mode, envs=games_of(actors), shared_cores=available_cores())
    flags = {"mode": mode, "game": game, "seed": seed}
    with loaded_learner(flags, actors, seed, envs=setup.envs) as under:
        under.run.wait_for_row(0.0, _START_TIMEOUT_S, trained=True)
        updates = updates_per_second(counter(under.run.learner_page() or ""), seconds)
    one = loaded_round(costs, setup, actors)
    rate = updates / updates_per_round(setup, actors) * one.env_steps
    return {"mode": mode, "actors": actors, "envs": setup.envs} | point(rate, one.rate)


def weights_of_two_runs(game: str, seed: int) -> tuple[bytes, bytes]:
    """Returns two weights messages of the real size, each of which a relay takes for new."""
    weights = relay.real_weights(game, seed, "data")
    return encode(weights), encode(replace(weights, run=weights.run + 1))


def fanned_out(
    costs: Costs, subscribers: int, relays: int, frames: tuple[bytes, bytes]
) -> dict[str, Any]:
    """Returns CPU time of a publication, by the model too, and how late the last subscriber is.

    The latter has no model: it depends on how subscribers and relays share this machine's cores.
    """
    found = fanout.measure(subscribers, frames, 2.0, relays, relay.relayed)
    model = (relays or subscribers) * costs.sending(len(frames[0]))
    return {
        "subscribers": subscribers,
        "relays": relays,
        "publications": found["publications"],
        "cpu_seconds": point(found["cpu_seconds"], model),
        "latency_seconds": found["latency_seconds"],
    }


def fan_outs(costs: Costs, frames: tuple[bytes, bytes]) -> list[dict[str, Any]]:
    """Returns all fan-outs, without relays and with them."""
    points = [(count, 0) for count in SUBSCRIBERS]
    points += [(count, RELAYS) for count in SUBSCRIBERS if count >= RELAYS]
    return [fanned_out(costs, subscribers, relays, frames) for subscribers, relays in points]


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


def _percent(one: Mapping[str, float]) -> str:
    return f"{one['error']:+.0%}"


def run(
    seconds: float, game: str, seed: int, command: str, parts: Sequence[str] = PARTS
) -> dict[str, Any]:
    """Measures, writes scaling.json after each part, prints the tables."""
    if "costs" in parts:
        unit_costs.run(1.0, game, seed, command)
    costs = read_costs(RESULTS / "unit-costs.json").costs
    result = (read_result("scaling") or {}) | about(command, seed=seed, torch_threads=1)
    result |= {"game": game, "costs_commit": (read_result("unit-costs") or {})["commit"]}

    def keep(part: str, found: list[dict[str, Any]]) -> None:
        result[part] = found
        write_result("scaling", result)

    every = [(mode, actors) for mode in MODES for actors in ACTORS]
    if "train" in parts:
        keep("train", [trained(costs, *one, seconds, game, seed) for one in every])
    every = [(mode, actors) for mode in MODES for actors in SYNTHETIC]
    if "load" in parts:
        keep("load", [loaded(costs, *one, seconds / 2, game, seed) for one in every])
    if "fanout" in parts:
        keep("fanout", fan_outs(costs, weights_of_two_runs(game, seed)))
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

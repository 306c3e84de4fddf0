"""What each piece of work costs: the file that `asyncade plan` reckons with.

python -m bench.unit_costs [--seconds 1] [--run-seconds 15] [--seed 1] [--game pong]

Pieces that grow with the number of actors are timed at two sizes, and the line through both is
taken. Core-seconds are measured with every core at the same piece: an actor's neighbours work too.
Emulators are timed in play, less what inference takes alone; what is done once per message or
version, with cold caches. What all of that costs beside each other is read off a running
``asyncade train`` (`bench.crowding`).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import multiprocessing
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from asyncade_cli.plan_costs import is_time
from asyncade_cli.plan_model import Mode
from asyncade_runtime.allocator import keep_freed_memory
from asyncade_runtime.cores import available_cores
from bench import fanout
from bench.crowding import crowding, in_runs, typical
from bench.report import about, command_line, markdown_table, write_result

FEW: Final = 1
MANY: Final = 8
"""Numbers of actors at which pieces are timed; from 8 on an actor's gradient stays as small."""

_CACHES_BYTES: Final = 32 * 2**20
"""More than a core's own."""

_BARRIER_TIMEOUT_S: Final = 300.0
_barrier: Any = None  # of a worker process


def line(few: float, many: float, at_few: float, at_many: float) -> tuple[float, float]:
    """Returns fixed cost and slope of a line through two points, neither below zero.

    Args:
        few: cost of the smaller size.
        many: cost of the larger size.
        at_few: the smaller size.
        at_many: the larger size.
    """
    slope = max(0.0, (many - few) / (at_many - at_few))
    return max(0.0, few - slope * at_few), slope


@contextlib.contextmanager
def metering(game: str, seed: int) -> Iterator[Callable[[float], dict[str, float]]]:
    """Starts the processes that measure; yields what measures all costs once, for so long a piece.

    They keep what they work on, so that measuring again is quick. Meanwhile they only wait. Names
    are those of `asyncade_cli.plan_costs.Costs`, all but crowding.
    """
    cores = available_cores()
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(cores)
    with contextlib.ExitStack() as stack:

        def pool(workers: int, *barrier: Any) -> ProcessPoolExecutor:
            made = ProcessPoolExecutor(
                workers, mp_context=spawn, initializer=_begin_worker, initargs=barrier
            )
            return stack.enter_context(made)

        beside = [pool(1, barrier) for _ in range(cores)]  # each worker keeps to its core
        threads, ends = pool(1), pool(1)

        def measure(seconds: float) -> dict[str, float]:
            workers = [
                one.submit(time_pieces, game, seed + n, seconds, n) for n, one in enumerate(beside)
            ]
            each = [worker.result() for worker in workers]
            mean = {name: statistics.fmean(one[name] for one in each) for name in each[0]}
            alone = threads.submit(time_threads, game, seed, seconds).result()
            return costs_of(mean, alone | ends.submit(time_ends, game, seed, seconds).result())

        yield measure


def costs_of(pieces: dict[str, float], alone: dict[str, float]) -> dict[str, float]:
    """Returns the costs but for crowding, from seconds of single pieces of work.

    Args:
        pieces: of `time_pieces`.
        alone: of `time_threads` and `time_ends`.
    """
    unroll = pieces["unroll"]
    optimise, average = line(pieces["average_few"], pieces["average_many"], FEW, MANY)
    # All samples are the same: what more turns cost is the cost of a turn as such.
    work, turn = line(
        pieces["turns_few"], pieces["turns_many"], pieces["calls_few"], pieces["calls_many"]
    )
    played = pieces["inference"]
    return {
        "environment": max(pieces["play"] - played, 0.0),
        "inference": played,
        "encode": pieces["encode"] / unroll,
        "intake": alone["intake"],
        "update": pieces["update"],
        "passes": pieces["passes"],
        "threads": alone["threads"],
        "thread_speedup": alone["update_one_thread"] / alone["update_threads"],
        "environment_speedup": _emulators_speedup(alone),
        "gradient_work": max(work / unroll - pieces["play"], 0.0),
        "gradient_call": max(turn - pieces["takeover"], 0.0),
        "gradient_send": alone["gradient_send"],
        "gradient_intake": alone["gradient_intake"],
        "gradient_transfer": alone["gradient_transfer"],
        "average": average,
        "optimise": optimise,
        "publish": pieces["publish"],
        "takeover": pieces["takeover"],
        "broadcast_byte": alone["broadcast_byte"],
        "send_message": alone["send_message"],
        "send_byte": alone["send_byte"],
        "receive_message": alone["receive_message"],
        "receive_byte": alone["receive_byte"],
        "trajectory_bytes": pieces["trajectory_bytes"] / unroll,
        "gradient_bytes": pieces["gradient_bytes"],
        "weights_bytes": alone["weights_bytes"],
    }


def _emulators_speedup(alone: dict[str, float]) -> float:
    """Returns what threads are worth to emulators in play: the network's part has but one."""
    one, several = (
        max(alone[name] - alone["play_without_emulators"], 0.0)
        for name in ("play_one_thread", "play_threads")
    )
    return max(1.0, one / several) if several > 0 else 1.0


def _begin_worker(barrier: Any = None) -> None:
    global _barrier
    _barrier = barrier
    keep_freed_memory()  # as the services do


@functools.cache
def _keep_to(core: int) -> None:
    everywhere = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {everywhere[core % len(everywhere)]})


def time_pieces(game: str, seed: int, seconds: float, core: int) -> dict[str, float]:
    """In a worker process, on one core: times the pieces beside the other workers.

    Args:
        game: to play.
        seed: of play and weights.
        seconds: for each piece.
        core: which of those that this process may use.
    """
    _keep_to(core)
    from bench.clock import cost_of

    def timed(run: Callable[[], object], cold: bool = False) -> float:
        _barrier.wait(_BARRIER_TIMEOUT_S)
        return cost_of(run, seconds, _empty_caches if cold else None).seconds

    return _of_trajectories(game, seed, timed) | _of_gradients(game, seed, timed)


@functools.cache
def _elsewhere() -> npt.NDArray[np.float32]:
    return np.zeros(_CACHES_BYTES // 4, np.float32)


def _empty_caches() -> None:
    """Works on other memory, as between one message and the next everybody does.

    What takes milliseconds, a few times a second, finds nothing in the caches; timed in a loop, it
    would cost half.
    """
    memory = _elsewhere()
    memory += 1


def _of_trajectories(game: str, seed: int, timed: Callable[..., float]) -> dict[str, float]:
    shop = _shop("data", game, seed)
    pieces = _pieces(shop)
    update = pieces["update"]
    return {
        "unroll": float(shop.unroll),
        "passes": float(shop.settings.passes),
        "play": timed(pieces["play"].run) / shop.unroll,
        "inference": timed(pieces["inference"].run) / shop.unroll,
        "encode": timed(pieces["encode"].run),
        "update": timed(update.run) / update.env_steps,
        "trajectory_bytes": _mean_bytes(shop),
    }


def _of_gradients(game: str, seed: int, timed: Callable[..., float]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, actors in (("few", FEW), ("many", MANY)):
        shop = _shop("gradients", game, seed, actors)
        pieces = _pieces(shop)
        found |= {
            f"average_{name}": timed(pieces["update"].run, True),
            f"turns_{name}": timed(pieces["turns"].run),
            f"calls_{name}": float(shop.gradients_per_unroll),
        }
    return found | {
        "publish": timed(pieces["publication"].run, True),
        "takeover": timed(pieces["takeover"].run, True),
        "gradient_bytes": _mean_bytes(shop),
    }


@functools.cache
def _shop(mode: Mode, game: str, seed: int, actors: int | None = None) -> Any:
    from bench.work import Workshop

    return Workshop(mode, game, seed, actors)


@functools.cache
def _pieces(shop: Any) -> Any:
    more = {"publication": shop.publication(), "takeover": shop.takeover(), "play": shop.play()}
    if shop.mode == "gradients":
        more["turns"] = shop.turns()
    return shop.pieces() | more


@functools.cache
def _mean_bytes(shop: Any) -> float:
    from asyncade_proto.codec import encode

    return statistics.fmean(len(encode(message)) for message in shop.record())


@functools.cache
def _play(shop: Any, threads: int) -> Any:
    return shop.play(threads)


def time_threads(game: str, seed: int, seconds: float) -> dict[str, float]:
    """In a process of its own: times update and games with one thread and with every core."""
    import torch

    from bench.clock import cost_of

    shop = _shop("data", game, seed)
    threads = shop.settings.threads(available_cores())
    update = _pieces(shop)["update"]
    found = {"threads": float(threads)}
    for name, count in (("threads", threads), ("one_thread", 1)):
        torch.set_num_threads(count)
        found[f"update_{name}"] = cost_of(update.run, 3 * seconds).seconds
        found[f"play_{name}"] = cost_of(_play(shop, count).run, seconds).seconds
    found["play_without_emulators"] = cost_of(_pieces(shop)["inference"].run, seconds).seconds
    return found


def time_ends(game: str, seed: int, seconds: float) -> dict[str, float]:
    """In a process of its own: times both ends of the wire."""
    from bench import fanin
    from bench.intake import over_sockets

    gradient, small, large = samples_of_wire(game, seed)
    up = fanin.measure(gradient, seconds)
    taken = over_sockets(4 * seconds, game, seed, actors=16)
    return {
        "gradient_send": up["send_cpu_seconds"],
        "gradient_intake": up["receive_cpu_seconds"],
        "gradient_transfer": up["transfer_seconds"],
        "intake": 1 / taken["env_steps_per_second"],
        "weights_bytes": float(large),
    } | time_broadcast((small, large), seconds)


@functools.cache
def samples_of_wire(game: str, seed: int) -> tuple[bytes, int, int]:
    """Returns a gradient's frame, and the bytes of a trajectory's and of a weights message."""
    from bench.encryption import messages

    (small, _, _), (gradient, weights, _) = messages(game, seed).values()
    return gradient, len(small), len(weights)


def time_broadcast(sizes: tuple[int, int], seconds: float) -> dict[str, float]:
    """Times publisher and subscribers; CPU time per message and receiver, and per byte of it.

    Args:
        sizes: of two messages, the second one by far the larger.
        seconds: for each.
    """
    small, large = (fanout.measure(MANY, fanout.blank(size), seconds) for size in sizes)
    to_few = fanout.measure(FEW, fanout.blank(sizes[1]), seconds)
    broadcast, each = line(to_few["cpu_seconds"], large["cpu_seconds"], FEW, MANY)
    send = line(small["cpu_seconds"] / MANY, each, *sizes)
    end = "receivers_cpu_seconds"
    receive = line(small[end] / MANY, large[end] / MANY, *sizes)
    return {
        "broadcast_byte": broadcast / sizes[1],
        "send_message": send[0],
        "send_byte": send[1],
        "receive_message": receive[0],
        "receive_byte": receive[1],
    }


def table(result: dict[str, Any]) -> str:
    """Returns the Markdown table."""
    rows: list[list[object]] = []
    for name, value in result["costs"].items():
        if not is_time(name):
            rows.append([name.replace("_", " "), value])
        elif name.endswith("_byte"):
            rows.append([f"{name.removesuffix('_byte')}, µs per MB", value * 1e12])
        else:
            rows.append([f"{name.replace('_', ' ')}, µs", value * 1e6])
    return markdown_table(["cost", ""], rows)


def keep(costs: dict[str, float], game: str, seed: int, command: str) -> dict[str, Any]:
    """Writes unit-costs.json."""
    result = about(command, seed=seed, torch_threads=1) | {"game": game, "costs": costs}
    write_result("unit-costs", result)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Runs it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.unit_costs", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each piece")
    parser.add_argument("--run-seconds", type=float, default=15.0, help="of the running training")
    parser.add_argument("--game", default="pong")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(argv)
    with metering(asked.game, asked.seed) as measure:
        costs = measure(asked.seconds)
        running = in_runs(asked.game, asked.seed, asked.run_seconds)
        costs |= typical([crowding(costs, running)])
    print(table(keep(costs, asked.game, asked.seed, command_line("unit_costs", argv))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

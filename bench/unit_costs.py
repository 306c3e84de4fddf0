"""What each piece of work costs: the file that `asyncade plan` reckons with.

python -m bench.unit_costs [--seconds 1] [--seed 1] [--game pong]

Pieces that grow with the number of actors are timed at two sizes, and the line through both is
taken. Core-seconds are measured with every core at the same piece: an actor's neighbours work too.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final

from asyncade_runtime.allocator import keep_freed_memory
from asyncade_runtime.cores import available_cores
from bench.report import about, command_line, markdown_table, write_result

FEW: Final = 1
MANY: Final = 8
"""Numbers of actors at which pieces are timed; from 8 on an actor's gradient stays as small."""

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


def measure(seconds: float, game: str, seed: int) -> dict[str, float]:
    """Returns the costs by name, see `asyncade_cli.plan_model.Costs`."""
    cores = available_cores()
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(cores)
    with ProcessPoolExecutor(
        cores, mp_context=spawn, initializer=_begin_worker, initargs=(barrier,)
    ) as pool:
        workers = [pool.submit(time_pieces, game, seed + n, seconds, n) for n in range(cores)]
        each = [worker.result() for worker in workers]
    mean = {name: statistics.fmean(one[name] for one in each) for name in each[0]}
    alone: dict[str, float] = {}
    for job in (time_threads, time_ends):
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            alone |= pool.submit(job, game, seed, seconds).result()
    return costs_of(mean, alone)


def costs_of(pieces: dict[str, float], alone: dict[str, float]) -> dict[str, float]:
    """Returns the costs, from seconds of single pieces of work.

    Args:
        pieces: of `time_pieces`.
        alone: of `time_threads` and `time_ends`.
    """
    unroll = pieces["unroll"]
    publish, takeover = line(pieces["weights_few"], pieces["weights_many"], FEW, MANY)
    optimise, average = line(pieces["average_few"], pieces["average_many"], FEW, MANY)
    # All samples are the same: what more gradients cost is the cost of a gradient as such.
    work, call = line(
        pieces["gradient_few"], pieces["gradient_many"], pieces["calls_few"], pieces["calls_many"]
    )
    sizes = alone["bytes_few"], alone["bytes_many"]
    send = line(alone["send_few"], alone["send_many"], *sizes)
    receive = line(alone["receive_few"], alone["receive_many"], *sizes)
    played = pieces["inference"]
    return {
        "environment": pieces["environment"],
        "inference": played,
        "encode": pieces["encode"] / unroll,
        "intake": alone["intake"],
        "update": pieces["update"],
        "passes": pieces["passes"],
        "threads": alone["threads"],
        "thread_speedup": alone["update_one_thread"] / alone["update_threads"],
        "environment_speedup": alone["environment_one_thread"] / alone["environment_threads"],
        "gradient_work": max(work / unroll - played, 0.0),
        "gradient_call": call,
        "gradient_send": alone["gradient_send"],
        "gradient_intake": alone["gradient_intake"],
        "gradient_transfer": alone["gradient_transfer"],
        "average": average,
        "optimise": optimise,
        "publish": publish,
        "takeover": takeover,
        "send_message": send[0],
        "send_byte": send[1],
        "receive_message": receive[0],
        "receive_byte": receive[1],
        "trajectory_bytes": pieces["trajectory_bytes"] / unroll,
        "gradient_bytes": pieces["gradient_bytes"],
        "weights_bytes": alone["bytes_many"],
    }


def _begin_worker(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


def time_pieces(game: str, seed: int, seconds: float, core: int) -> dict[str, float]:
    """In a worker process, on one core: times the pieces beside the other workers.

    Args:
        game: to play.
        seed: of play and weights.
        seconds: for each piece.
        core: which of those that this process may use.
    """
    everywhere = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {everywhere[core % len(everywhere)]})
    from bench.clock import cost_of

    keep_freed_memory()  # as the services do

    def timed(run: Callable[[], object]) -> float:
        _barrier.wait(_BARRIER_TIMEOUT_S)
        return cost_of(run, seconds).seconds

    return _of_trajectories(game, seed, timed) | _of_gradients(game, seed, timed)


def _of_trajectories(
    game: str, seed: int, timed: Callable[[Callable[[], object]], float]
) -> dict[str, float]:
    from asyncade_proto.codec import encode
    from bench.work import Workshop

    shop = Workshop("data", game, seed)
    pieces = shop.pieces()
    environment, update = pieces["environment"], pieces["update"]
    return {
        "unroll": float(shop.unroll),
        "passes": float(shop.settings.passes),
        "environment": timed(environment.run) / environment.env_steps,
        "inference": timed(pieces["inference"].run) / shop.unroll,
        "encode": timed(pieces["encode"].run),
        "update": timed(update.run) / update.env_steps,
        "trajectory_bytes": statistics.fmean(len(encode(m)) for m in shop.record()),
    }


def _of_gradients(
    game: str, seed: int, timed: Callable[[Callable[[], object]], float]
) -> dict[str, float]:
    from asyncade_proto.codec import encode
    from bench.work import Workshop

    found: dict[str, float] = {}
    for name, actors in (("few", FEW), ("many", MANY)):
        shop = Workshop("gradients", game, seed, actors)
        messages = shop.record()
        found |= {
            f"weights_{name}": timed(shop.weights().run),
            f"average_{name}": timed(shop.update(messages).run),
            f"gradient_{name}": timed(shop.gradient().run),
            f"calls_{name}": float(shop.gradients_per_unroll),
            "gradient_bytes": float(len(encode(messages[0]))),
        }
    return found


def time_threads(game: str, seed: int, seconds: float) -> dict[str, float]:
    """In a process of its own: times update and games with one thread and with every core."""
    from bench.clock import cost_of
    from bench.work import Workshop

    keep_freed_memory()
    import torch

    shop = Workshop("data", game, seed)
    threads = shop.settings.threads(available_cores())
    update = shop.update(shop.record())
    found = {"threads": float(threads)}
    for name, count in (("threads", threads), ("one_thread", 1)):
        torch.set_num_threads(count)
        found[f"update_{name}"] = cost_of(update.run, 3 * seconds).seconds
        found[f"environment_{name}"] = cost_of(shop.environment(count).run, seconds).seconds
    return found


def time_ends(game: str, seed: int, seconds: float) -> dict[str, float]:
    """In a process of its own: times both ends of the wire."""
    from bench import fanin, fanout
    from bench.encryption import messages
    from bench.intake import over_sockets

    found: dict[str, float] = {}
    (small, _, _), (gradient, large, _) = messages(game, seed).values()
    up = fanin.measure(gradient, seconds)
    found["gradient_send"] = up["send_cpu_seconds"]
    found["gradient_intake"] = up["receive_cpu_seconds"]
    found["gradient_transfer"] = up["transfer_seconds"]
    for name, size in (("few", len(small)), ("many", len(large))):
        ends = fanout.measure(MANY, fanout.blank(size), seconds)
        found[f"send_{name}"] = ends["cpu_seconds"] / MANY
        found[f"receive_{name}"] = ends["receivers_cpu_seconds"] / MANY
        found[f"bytes_{name}"] = float(size)
    taken = over_sockets(4 * seconds, game, seed, actors=16)
    found["intake"] = 1 / taken["env_steps_per_second"]
    return found


def table(result: dict[str, Any]) -> str:
    """Returns the Markdown table."""
    rows: list[list[object]] = []
    for name, value in result["costs"].items():
        if name in ("passes", "threads") or name.endswith(("_bytes", "_speedup")):
            rows.append([name.replace("_", " "), value])
        elif name.endswith("_byte"):
            rows.append([f"{name.removesuffix('_byte')}, µs per MB", value * 1e12])
        else:
            rows.append([f"{name.replace('_', ' ')}, µs", value * 1e6])
    return markdown_table(["cost", ""], rows)


def run(seconds: float, game: str, seed: int, command: str) -> dict[str, Any]:
    """Measures, writes unit-costs.json, prints the table."""
    result = about(command, seed=seed, torch_threads=1) | {
        "game": game,
        "costs": measure(seconds, game, seed),
    }
    write_result("unit-costs", result)
    print(table(result), flush=True)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Runs it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.unit_costs", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each piece")
    parser.add_argument("--game", default="pong")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(argv)
    run(asked.seconds, asked.game, asked.seed, command_line("unit_costs", argv))
    return 0


if __name__ == "__main__":
    sys.exit(main())

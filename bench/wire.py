"""What an env step costs on the wire, by part of the message, and how fast messages are made.

python -m bench.wire [--seconds 2] [--unrolls 8] [--seed 1] [--game pong]

Recorded play is nearly random; the bytes of a run that learns are in pipeline.json and in every
run's metrics.jsonl. Policy lag and weights latency are properties of a run: see bench.pipeline.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import msgpack

from bench.pipeline import shown_counts
from bench.report import about, command_line, markdown_table, read_result, write_result


def parts(frame: bytes) -> dict[str, int]:
    """Returns bytes by part of a message: each buffer, the header, the preamble before it.

    Buffers of parameters count together, as ``tensors``.
    """
    end = 8 + int.from_bytes(frame[4:8], "little")
    header = msgpack.unpackb(frame[8:end])
    found = {"preamble": 8, "header": end - 8}
    for buffer in header["buffers"]:
        name = buffer["name"].partition("/")[0]
        found[name] = found.get(name, 0) + buffer["bytes"]
    assert sum(found.values()) == len(frame)
    return found


def per_env_step(frames: Sequence[bytes], env_steps: float) -> dict[str, float]:
    """Returns mean bytes per env step by part, of messages of so many env steps each."""
    each = [parts(frame) for frame in frames]
    return {name: statistics.fmean(p[name] for p in each) / env_steps for name in each[0]}


def measure(mode: str, game: str, seed: int, seconds: float, unrolls: int) -> dict[str, Any]:
    """Returns bytes and speeds of one mode's messages."""
    from asyncade_cli.replay import record_messages
    from asyncade_proto.codec import decode, encode
    from asyncade_rl.games import num_actions
    from asyncade_rl.network import make_network
    from asyncade_rl.params import fingerprint, to_safetensors
    from bench.clock import cost_of
    from bench.work import Workshop, weights_message

    shop = Workshop("gradients" if mode == "gradients" else "data", game, seed)
    messages = record_messages(shop.assignment, game=game, envs=shop.envs, count=unrolls, seed=seed)
    frames = [encode(message) for message in messages]
    message_turn, frame_turn = itertools.cycle(messages), itertools.cycle(frames)
    encoding = cost_of(lambda: encode(next(message_turn)), seconds)
    decoding = cost_of(lambda: decode(next(frame_turn)), seconds)
    network = make_network(num_actions(game), shop.settings.network, seed)
    names = {f"actor-{n}": 10**6 for n in range(shop.actors)}
    weights = encode(
        weights_message(to_safetensors(network), fingerprint(network), shop.assignment, names)
    )
    steps = shop.env_steps_per_message
    split = per_env_step(frames, steps)
    return {
        "messages": len(messages),
        "env_steps_per_message": steps,
        "bytes_per_message": statistics.fmean(map(len, frames)),
        "bytes_per_env_step": sum(split.values()),
        "bytes_per_env_step_by_part": split,
        "encode_env_steps_per_second": steps / encoding.seconds,
        "decode_env_steps_per_second": steps / decoding.seconds,
        "encode_cpu_share": encoding.cpu_share,
        "decode_cpu_share": decoding.cpu_share,
        "weights_bytes": len(weights),
    }


def table(result: Mapping[str, Any]) -> str:
    """Returns the Markdown table."""
    modes = result["modes"]
    names = list(dict.fromkeys(n for m in modes.values() for n in m["bytes_per_env_step_by_part"]))
    rows: list[list[object]] = [
        [f"{name}, bytes", *(m["bytes_per_env_step_by_part"].get(name) for m in modes.values())]
        for name in names
    ]
    for label, key in (
        ("**all, bytes per env step**", "bytes_per_env_step"),
        ("encode, env steps/s", "encode_env_steps_per_second"),
        ("decode, env steps/s", "decode_env_steps_per_second"),
        ("weights message, bytes", "weights_bytes"),
    ):
        rows.append([label, *(m[key] for m in modes.values())])
    for label, key in (
        ("bytes per env step of a run", "bytes_per_env_step"),
        ("weights latency of a run, median ms", "weights_latency_seconds"),
        ("policy lag of a run", "policy_lag_counts"),
    ):
        rows.append([label, *(_of_run(m.get("run") or {}, key) for m in modes.values())])
    return markdown_table(["per env step", *modes], rows)


def run(
    seconds: float, unrolls: int, game: str, seed: int, command: str, modes: Sequence[str]
) -> dict[str, Any]:
    """Measures, takes over what bench.pipeline saw of a run, writes wire.json, prints the table."""
    pipeline = read_result("pipeline") or {}
    found = {mode: measure(mode, game, seed, seconds, unrolls) for mode in modes}
    wanted = ("bytes_per_env_step", "policy_lag_counts", "weights_latency_seconds")
    for mode, measured in found.items():
        seen = pipeline.get("modes", {}).get(mode)
        measured["run"] = seen and {key: seen.get(key) for key in wanted} | {
            "commit": pipeline["commit"]
        }
    result = about(command, seed=seed, torch_threads=1) | {"game": game, "modes": found}
    write_result("wire", result)
    print(table(result), flush=True)
    return result


def _of_run(run: Mapping[str, Any], key: str) -> object:
    """Returns a figure of a run as the table shows it; None where it was not measured."""
    found = run.get(key)
    if key == "weights_latency_seconds":
        median = (found or {}).get("median")
        return None if median is None else median * 1000
    return shown_counts(found) if key == "policy_lag_counts" else found


def main(argv: Sequence[str] | None = None) -> int:
    """Runs it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.wire", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each timing")
    parser.add_argument("--unrolls", type=int, default=8, help="recorded")
    parser.add_argument("--modes", default="data,gradients")
    parser.add_argument("--game", default="pong")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(argv)
    command = command_line("wire", argv)
    run(asked.seconds, asked.unrolls, asked.game, asked.seed, command, asked.modes.split(","))
    return 0


if __name__ == "__main__":
    sys.exit(main())

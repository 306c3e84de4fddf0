"""Bytes per env step by part of a message.

python -m bench.wire [--seed 1] [--game pong]

The messages hold nearly random play. `bench.pipeline` has the bytes per env step of a training, and
`bench.unit_costs` what encoding and decoding cost.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping
from typing import Any

from asyncade_cli.markdown import table as markdown
from asyncade_proto.codec import encode, split
from asyncade_rl.choices import MODES, Mode
from bench.pieces import Pieces
from bench.result_files import options, record


def bytes_by_part(frame: bytes) -> dict[str, int]:
    """Returns the bytes of a message's preamble, header and arrays.

    All arrays of a gradient count together, as ``tensors``.
    """
    header, arrays = split(frame)
    found = {"preamble": 8, "header": len(frame) - 8 - len(arrays)}
    for buffer in header["buffers"]:
        name = buffer["name"].partition("/")[0]
        found[name] = found.get(name, 0) + buffer["bytes"]
    return found


def sizes(mode: Mode, game: str, seed: int) -> dict[str, Any]:
    """Returns bytes per env step, by part and in all, and bytes per weights message."""
    work = Pieces(mode, game, seed)
    parts = [bytes_by_part(encode(message)) for message in work.messages]
    split = {
        name: statistics.fmean(part[name] for part in parts) / work.unroll for name in parts[0]
    }
    return {
        "env_steps_per_message": work.unroll,
        "bytes_per_env_step": sum(split.values()),
        "bytes_per_env_step_by_part": split,
        "weights_bytes": len(encode(work.weights_message())),
    }


def table(result: Mapping[str, Any]) -> str:
    """Returns sizes of both modes as a Markdown table."""
    header = ["mode", "bytes per env step", "largest parts", "weights message, bytes"]
    rows: list[list[object]] = []
    for mode, found in result["modes"].items():
        parts = sorted(found["bytes_per_env_step_by_part"].items(), key=lambda part: -part[1])
        rows.append(
            [
                mode,
                f"{found['bytes_per_env_step']:,.1f}",
                ", ".join(f"{name} {size:,.1f}" for name, size in parts[:3]),
                found["weights_bytes"],
            ]
        )
    return markdown(header, rows)


def main() -> int:
    """Runs the benchmark; returns the exit code."""
    asked = options("wire", __doc__).parse_args()
    modes = {mode: sizes(mode, asked.game, asked.seed) for mode in MODES}
    record("wire", "wire", asked, {"modes": modes}, table)
    return 0


if __name__ == "__main__":
    sys.exit(main())

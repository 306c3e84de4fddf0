"""`make bench`: ceiling, pipeline, wire and intake in one go: their figures belong together.

python -m bench [--seed 1] [--game pong] [--seconds 45]
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

from bench import intake, pipeline, wire
from bench.report import MODES


def main(argv: Sequence[str] | None = None) -> int:
    """Runs all four; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=45.0, help="of each mode's pipeline")
    parser.add_argument("--short-seconds", type=float, default=2.0, help="of each isolated piece")
    parser.add_argument("--game", default="pong")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(argv)
    given = sys.argv[1:] if argv is None else list(argv)
    command = shlex.join(["make", "bench", *([f"ARGS={shlex.join(given)}"] if given else [])])
    game, seed, short = asked.game, asked.seed, asked.short_seconds
    pipeline.run(asked.seconds, short, game, seed, command)
    wire.run(short, 8, game, seed, command, MODES)
    intake.run(5 * short, game, seed, 16, command)
    return 0


if __name__ == "__main__":
    sys.exit(main())

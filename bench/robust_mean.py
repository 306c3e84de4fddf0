"""What claims and the robust mean cost the learner for each gradient.

python -m bench.robust_mean [--seconds 2] [--seed 1] [--game pong]

The learner's work on one message in gradient mode: decode, check and add. Plain: the mean and the
squared norm. Robust: the same with claims and `RobustMean`. In turn, in one process, on one core.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from asyncade_cli.markdown import table as markdown
from asyncade_proto.codec import decode, encode
from asyncade_proto.messages import Gradients
from asyncade_runtime.claims import Claims
from asyncade_runtime.gradient_mean import GradientMean
from asyncade_runtime.robust_mean import RobustMean
from bench.pieces import Pieces
from bench.result_files import options, record

ROUND: Final = 4
"""Messages in an update."""


def measure(seconds: float, game: str, seed: int) -> dict[str, Any]:
    """Returns the median seconds of a message, with the plain mean and with the robust one."""
    pieces = Pieces("gradients", game, seed)
    frames = [encode(message) for message in pieces.messages[:1]] * ROUND
    robust, claims = RobustMean(), Claims(pieces.settings.most_asked())

    def plain() -> None:
        mean, squared = GradientMean(), 0.0
        for frame in frames:
            message = decode(frame)
            assert isinstance(message, Gradients)
            mean.add(message.tensors, message.samples)
            squared += sum(float(np.vdot(one, one)) for one in message.tensors.values())
        mean.tensors()

    def checked() -> None:
        for number, frame in enumerate(frames):
            message = decode(frame)
            assert isinstance(message, Gradients)
            assert claims.check(message, 1) is None
            sender = str(number)
            assert robust.problem(sender, message.tensors) is None
            robust.add(sender, message.tensors, message.samples)
        robust.take()

    found: dict[str, list[float]] = {"plain": [], "robust": []}
    pairs: list[tuple[str, Callable[[], None]]] = [("plain", plain), ("robust", checked)]
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(found["robust"]) < ROUND:
        for name, work in pairs:
            began = time.perf_counter()
            work()
            found[name].append((time.perf_counter() - began) / ROUND)
    return {name: statistics.median(each) for name, each in found.items()}


def table(result: Mapping[str, Any]) -> str:
    """Returns both times and their ratio as a Markdown table."""
    plain, robust = result["seconds"]["plain"], result["seconds"]["robust"]
    header = ["mean", "ms per gradient", "ratio"]
    return markdown(
        header, [["plain", plain * 1000, 1.0], ["robust", robust * 1000, robust / plain]]
    )


def main() -> int:
    """Runs the benchmark; returns the exit code."""
    asked = options("robust_mean", __doc__, seconds=2.0).parse_args()
    seconds = measure(asked.seconds, asked.game, asked.seed)
    record("robust_mean", "robust-mean", asked, {"seconds": seconds}, table)
    return 0


if __name__ == "__main__":
    sys.exit(main())

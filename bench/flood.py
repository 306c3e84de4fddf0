"""What a flood of tiny frames costs a learner: a million of them, from a peer that is shut out.

python -m bench.flood [--frames 1000000]

Another process sends them over loopback TCP as fast as they are taken; nobody else sends, so the
learner's loop does nothing but receive and drop. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import structlog
import zmq
from prometheus_client import CollectorRegistry

from asyncade_learner.metrics import LearnerMetrics
from asyncade_learner.settings import LearnerSettings
from asyncade_learner.wiring import make_learner
from asyncade_runtime.lifecycle import Health
from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.settings import load
from asyncade_runtime.transport.zmq_sockets import ZmqInbox, ZmqPublisher

ADDRESS: Final = "tcp://127.0.0.1:*"
FRAME: Final = b"junk"
INFO: Final = 20


def _send(address: str) -> None:
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.set(zmq.LINGER, 0)
        socket.connect(address)
        while True:
            socket.send(FRAME)


def measure(
    frames: int, step: Callable[[], None], dropped: Callable[[], float]
) -> dict[str, float]:
    """Returns rates and costs of the first `frames` frames.

    Args:
        frames: to drop.
        step: of the learner.
        dropped: frames so far.
    """
    while not dropped():
        step()
    wall, cpu = time.perf_counter(), time.thread_time()
    while dropped() < frames:
        step()
    seconds, spent, count = time.perf_counter() - wall, time.thread_time() - cpu, dropped()
    return {
        "frames": count,
        "seconds": round(seconds, 2),
        "frames_per_second": round(count / seconds),
        "learner_cpu_microseconds_per_frame": round(spent / count * 1e6, 2),
    }


def main() -> int:
    """Runs the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=1_000_000)
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(INFO))
    registry = CollectorRegistry()
    with (
        tempfile.TemporaryDirectory() as folder,
        zmq.Context() as context,
        closing(ZmqInbox(context, ADDRESS)) as inbox,
        closing(ZmqPublisher(context, ADDRESS)) as publisher,
    ):
        learner = make_learner(
            load(LearnerSettings, ["--game=catch", "--device=cpu", f"--run-dir={folder}"], {}),
            inbox=inbox,
            publisher=publisher,
            folder=RunFolder.create(Path(folder)),
            metrics=LearnerMetrics(registry),
            health=Health(60.0),
        )
        learner.begin()
        name, labels = "asyncade_learner_messages_dropped_total", {"reason": "shut_out"}
        sender = multiprocessing.Process(target=_send, args=(inbox.endpoint,), daemon=True)
        sender.start()
        found = measure(
            asked.frames, learner.step, lambda: registry.get_sample_value(name, labels) or 0.0
        )
        sender.terminate()
        sender.join()
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What encryption adds to an env step; and that what is measured really is encrypted."""

from __future__ import annotations

from pathlib import Path

import pytest
import zmq
from bench.encryption import added_per_env_step, downstream, table, upstream

from asyncade_runtime.transport.keys import (
    ACTOR,
    LEARNER,
    authenticating,
    load_actor_keys,
    load_learner_keys,
    make_keys,
)


def costs(plain: float, encrypted: float) -> dict[str, object]:
    return {
        "bytes": 1000,
        "plain": {"cpu_seconds": plain, "latency_seconds": plain},
        "encrypted": {"cpu_seconds": encrypted, "latency_seconds": encrypted},
    }


MODE = {"up": costs(0.001, 0.003), "weights": costs(0.002, 0.006), "env_steps_per_message": 100}


def test_an_env_step_bears_its_share_of_both_messages() -> None:
    assert added_per_env_step(MODE) == pytest.approx((0.002 + 0.004) / 100)


def test_the_table_names_the_messages_of_each_mode() -> None:
    shown = table({"modes": {"data": MODE, "gradients": MODE}})
    assert "| data | trajectory |" in shown
    assert "| gradients | gradient |" in shown


@pytest.mark.parametrize("encrypted", [False, True])
def test_messages_come_through(tmp_path: Path, encrypted: bool) -> None:
    make_keys(tmp_path)
    pair = (load_learner_keys(tmp_path / LEARNER), load_actor_keys(tmp_path / ACTOR))
    keys = pair if encrypted else None
    with zmq.Context() as context, authenticating(context, keys and keys[0]):
        for way in (upstream, downstream):
            with way(context, keys) as send:
                assert send(b"frame")

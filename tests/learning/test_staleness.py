"""Catch is learned, to the same target, from data that are several versions old.

Whether V-trace is on makes no difference that a few seeds would show here: what changes in Catch
between four versions is little. On Pong it does: docs/decisions/0007.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path

import pytest
import test_catch
from test_catch import BUDGET_ENV_STEPS, TARGET, HastySubscriber, playing

from asyncade_runtime.memory import MemoryBroadcast

LAG = 4


class LateSubscriber(HastySubscriber):
    """Hands out weights only when `LAG` newer ones have been published; the first at once."""

    def __init__(self, broadcast: MemoryBroadcast) -> None:
        super().__init__(broadcast)
        self._held: deque[bytes] = deque()
        self._begun = False

    def latest(self, timeout_s: float) -> bytes | None:
        newest = super().latest(timeout_s)
        if newest is not None:
            self._held.append(newest)
            if not self._begun:
                self._begun = True
                return newest
        return self._held.popleft() if len(self._held) > LAG else None


def test_data_of_four_versions_ago_reach_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_catch, "HastySubscriber", LateSubscriber)
    # Credit comes with the weights, so late too: more messages may be on their way.
    flow = {"messages_in_flight": LAG + 2, "max_policy_lag": LAG}
    with playing(tmp_path, envs=16, mode="data", seed=3, **flow) as turns:
        for learner in turns:
            progress = learner.progress
            if progress.reached(TARGET) or progress.env_steps >= BUDGET_ENV_STEPS:
                break
    rows = test_catch.RunFolder(tmp_path).read_metrics()
    lags = {row["policy_lag_mean"] for row in rows if row["policy_version"] > 2 * LAG}
    assert lags == {float(LAG)}
    assert not any(row["messages_dropped"] for row in rows)
    assert progress.reached(TARGET), f"{progress.mean_return()} after {progress.env_steps}"

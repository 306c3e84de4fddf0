"""A game that hangs or takes all memory, once: the file FAULT_DONE says that it has.

FAULT is one of hang-reset, hang-step, memory.
"""

from __future__ import annotations

import os
import resource
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asyncade_rl.games import Game

if TYPE_CHECKING:
    import gymnasium


def make() -> gymnasium.Env[Any, Any]:
    import gymnasium
    import numpy as np
    from gymnasium.spaces import Box, Discrete

    class Faulty(gymnasium.Env[Any, Any]):
        def __init__(self) -> None:
            self.observation_space = Box(0, 255, (84, 84), np.uint8)
            self.action_space = Discrete(3)
            self._steps = 0

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            super().reset(seed=seed)
            self._steps = 0
            _fail("hang-reset")
            return np.zeros((84, 84), np.uint8), {}

        def step(self, action: Any) -> Any:
            self._steps += 1
            if self._steps == 10:
                _fail("hang-step")
                _fail("memory")
            return np.full((84, 84), self._steps, np.uint8), 1.0, self._steps == 20, False, {}

    return Faulty()


def _fail(fault: str) -> None:
    if os.environ["FAULT"] != fault:
        return
    try:
        Path(os.environ["FAULT_DONE"]).touch(exist_ok=False)
    except FileExistsError:
        return
    if fault == "memory":
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used, used))
        bytearray(2**40)
    threading.Event().wait()


FAULTY = Game(num_actions=3, make=make)

"""A run folder to show, and the page's messages taken apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from asyncade_learner.checkpoint import Checkpoint, save
from asyncade_learner.progress import Progress
from asyncade_rl.games import num_actions
from asyncade_rl.network import make_network
from asyncade_rl.params import fingerprint
from asyncade_runtime.run_folder import RunFolder
from asyncade_watch.frames import WHOLE


def run_folder(root: Path, game: str = "catch", checkpoints: int = 3) -> RunFolder:
    """Returns the folder of a finished run."""
    folder = RunFolder.create(root)
    about = {"game": game, "mode": "data", "seed": 1}
    folder.write_config("learner", {**about, "target": 0.9, "repeat_action_probability": 0.0})
    for number in range(1, checkpoints + 1):
        add_checkpoint(folder, number, game)
    for number in range(1, 11):
        folder.append_metrics(row(number))
    folder.write_summary({**about, "ended_by": "target"})
    return folder


def add_checkpoint(folder: RunFolder, number: int, game: str = "catch") -> Path:
    network = make_network(num_actions(game), "small", seed=number)
    progress = Progress(env_steps=1000 * number, policy_version=number, seconds=10.0 * number)
    about = {"game": game, "network": "small", "model": fingerprint(network)}
    state = Checkpoint(progress, network.state_dict(), {}, torch.Generator().get_state(), about)
    return save(folder, state, keep=100)


def row(number: int, **columns: Any) -> dict[str, Any]:
    return {
        "seconds": 2.0 * number,
        "env_steps": 100 * number,
        "episodes": 10 * number,
        "mean_return_100": number / 10 - 0.5,
        "target": 0.9,
        "env_steps_per_second": 50.0,
        "policy_lag_mean": 1.5,
        "active_actors": 2,
        "stage_shares": {"wait": 0.8, "forward_backward": 0.2},
        **columns,
    }


class Screen:
    """What a browser makes of the film's messages."""

    def __init__(self) -> None:
        self.header: dict[str, Any] = {}
        self.pixels = np.zeros(0, dtype=np.uint8)
        self.palette = ""
        self.looked_at: npt.NDArray[np.uint8] | None = None

    def take(self, message: bytes) -> list[npt.NDArray[np.uint8]]:
        """Returns the screens of a message, uint8 [H, W]."""
        end = 4 + int.from_bytes(message[:4], "little")
        self.header = json.loads(message[4:end])
        self.palette = self.header.get("palette", self.palette)
        height, width = self.header["size"]
        screens = []
        for _ in range(self.header["screens"]):
            count, end = int.from_bytes(message[end : end + 4], "little"), end + 4
            if count == WHOLE:
                self.pixels = np.frombuffer(message[end : end + height * width], np.uint8).copy()
                end += height * width
            else:
                places = np.frombuffer(message[end : end + 2 * count], "<u2")
                end += 2 * count
                self.pixels[places] = np.frombuffer(message[end : end + count], np.uint8)
                end += count
            screens.append(self.pixels.reshape(height, width).copy())
        side = self.header["looked_at"]
        rest = np.frombuffer(message[end:], np.uint8)
        self.looked_at = rest.reshape(side, side) if side else None
        assert side or not rest.size
        return screens

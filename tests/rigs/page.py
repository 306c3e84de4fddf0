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
        "updates": number,
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
    """What a browser makes of the film's messages.

    Attributes:
        picture: uint8 [H, W, 3], the last one.
    """

    def __init__(self) -> None:
        self.header: dict[str, Any] = {}
        self.picture = np.zeros((0, 0, 3), dtype=np.uint8)
        self.looked_at: npt.NDArray[np.uint8] | None = None

    def take(self, message: bytes) -> list[npt.NDArray[np.uint8]]:
        """Returns the pictures of a message."""
        at = 4 + int.from_bytes(message[:4], "little")
        self.header = json.loads(message[4:at])
        height, width = self.header["size"]
        pictures = []
        for _ in range(self.header["pictures"]):
            count, at = int.from_bytes(message[at : at + 4], "little"), at + 4
            places = np.arange(height * width)
            if count == WHOLE:
                self.picture = np.zeros((height, width, 3), dtype=np.uint8)
            else:
                places, at = np.frombuffer(message, "<u2", count, at), at + 2 * count
            rgb, at = np.frombuffer(message, np.uint8, 3 * len(places), at), at + 3 * len(places)
            self.picture = self.picture.copy()
            self.picture.reshape(-1, 3)[places] = rgb.reshape(-1, 3)
            pictures.append(self.picture)
        side = self.header["looked_at"]
        rest = np.frombuffer(message[at:], np.uint8)
        self.looked_at = rest.reshape(side, side) if side else None
        assert side or not rest.size
        return pictures

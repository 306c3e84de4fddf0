"""Checkpoints of networks that nobody has trained."""

from __future__ import annotations

from pathlib import Path

import torch

from asyncade_learner import checkpoint
from asyncade_learner.checkpoint import Checkpoint
from asyncade_learner.progress import Progress
from asyncade_rl.games import num_actions
from asyncade_rl.network import ActorCritic, make_network
from asyncade_runtime.run_folder import RunFolder


def make_model(game: str, seed: int = 0) -> ActorCritic:
    """Returns a network that normalises its input, as after calibration."""
    network = make_network(num_actions(game), "small", seed=seed)
    generator = torch.Generator().manual_seed(seed)
    network.frame_mean.copy_(100 * torch.rand(network.frame_mean.shape, generator=generator))
    network.frame_scale.fill_(37.0)
    return network


def write_model(folder: RunFolder, game: str, seed: int = 0, **counters: int) -> Path:
    """Writes a checkpoint; counters are those of `Progress`."""
    state = Checkpoint(
        progress=Progress(**counters),
        model=make_model(game, seed).state_dict(),
        optimiser={},
        generator=torch.Generator().get_state(),
        about={"game": game, "network": "small", "model": "any"},
    )
    return checkpoint.save(folder, state, keep=10)

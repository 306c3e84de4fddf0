"""The bytes of a checkpoint file: `load`, `resume` and `saved_model`."""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final
from unittest.mock import Mock

import torch
from torch import nn

from asyncade_learner.checkpoint import Checkpoint, CheckpointError, load, resume, save
from asyncade_learner.progress import GAMES_OF_THE_TARGET, Milestone, Progress
from asyncade_learner.settings import LearnerSettings
from asyncade_learner.trainer import Trainer
from asyncade_rl.params import fingerprint
from asyncade_rl.saved_models import SavedModelError, saved_model
from asyncade_runtime.stages import Stages
from fuzz import frames
from fuzz.scratch import scratch
from fuzz.targets import Mutation, Target

MEMORY: Final = 256 * 2**20
"""Far more than the file: torch's own beginnings are not the file's doing."""


class _Tiny(nn.Module):
    """A network whose checkpoint is small."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 3))
        self.bias = nn.Parameter(torch.zeros(3))


_folder = cache(scratch)


def _trainer() -> tuple[Trainer, dict[str, str]]:
    network: Any = _Tiny()
    trainer = Trainer(network, LearnerSettings(game="catch"), Mock(spec=Stages))
    return trainer, {"game": "catch", "network": "small", "model": fingerprint(network)}


def run(data: bytes) -> None:
    """Reads one file; what is accepted can be saved, and is then the same."""
    folder = _folder()
    for old in folder.checkpoints.iterdir():
        old.unlink()
    path = folder.checkpoint_file(1)
    path.write_bytes(data)
    try:
        model = saved_model(path)
        assert math.isfinite(model.seconds)
        model.tensors()
    except SavedModelError:
        pass
    try:
        checkpoint = load(path)
    except CheckpointError:
        with_errors = True
    else:
        with_errors = False
        _within_limits(checkpoint)
    trainer, about = _trainer()
    try:
        resumed = resume(folder, trainer, about, "must", Mock())
    except CheckpointError:
        return
    assert not with_errors
    assert resumed is not None
    again = load(save(folder, _captured(trainer, resumed.progress, about), keep=1))
    assert again.progress == resumed.progress
    torch.randperm(4, generator=trainer.generator)
    for parameter in trainer.network.parameters():
        parameter.grad = torch.ones_like(parameter)
    trainer.optimiser.step(1e-3)


def _captured(trainer: Trainer, progress: Progress, about: Mapping[str, Any]) -> Checkpoint:
    return Checkpoint(
        progress=progress,
        model=trainer.network.state_dict(),
        optimiser=trainer.optimiser.state(),
        generator=trainer.generator.get_state(),
        about=about,
    )


def _within_limits(checkpoint: Checkpoint) -> None:
    progress = checkpoint.progress
    for count in ("env_steps", "updates", "policy_version", "episodes", "received_bytes"):
        value = getattr(progress, count)
        assert type(value) is int, count
        assert value >= 0, count
    assert math.isfinite(progress.seconds)
    returns = list(progress.recent_returns)
    assert len(returns) <= GAMES_OF_THE_TARGET
    assert all(isinstance(one, float) and math.isfinite(one) for one in returns)
    assert progress.milestone is None or isinstance(progress.milestone, Milestone)
    assert progress.mean_return() is None or returns
    progress.reached(0.0)
    progress.passed(0.0)
    assert isinstance(checkpoint.about, dict)


@cache
def seeds() -> Sequence[bytes]:
    """Returns checkpoints of a run at its beginning, and later."""
    found = []
    for milestone in (None, Milestone(18.0, 4000, 12.0)):
        trainer, about = _trainer()
        progress = Progress(env_steps=4096, updates=31, policy_version=7, seconds=12.5)
        progress.milestone = milestone
        if milestone:
            progress.count_episodes([1.0, -1.0])
            for parameter in trainer.network.parameters():
                parameter.grad = torch.ones_like(parameter)
            trainer.optimiser.step(1e-3)
        path = save(_folder(), _captured(trainer, progress, about), keep=1)
        found.append(path.read_bytes())
    return found


def mutate(data: bytes, rng: random.Random, plainly: Mutation) -> bytes:
    """Changes the header, which is JSON with more JSON in its metadata, or the tensors' bytes."""
    try:
        size = struct.unpack_from("<Q", data)[0]
        header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
        header.get("__metadata__", {}).pop("digest", None)  # of a changed file it says just that
        if rng.random() < 0.08:
            return plainly(data)
        if rng.random() < 0.15:
            body = plainly(body)
        else:
            _edit(header, rng, plainly)
        packed = json.dumps(header).encode()
        return struct.pack("<Q", len(packed)) + packed + body
    except (struct.error, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return rng.choice(seeds())


def _edit(header: Any, rng: random.Random, plainly: Mutation) -> None:
    metadata = header.get("__metadata__", {})
    if metadata and rng.random() < 0.6:
        name = rng.choice(list(metadata))
        if rng.random() < 0.2:
            metadata[name] = rng.choice(("[" * 100_000, "1", "null", "{}", "[]", '""', "NaN", "{"))
            return
        inside = json.loads(metadata[name])
        if isinstance(inside, dict) and inside:
            edit(inside, rng, plainly)
            metadata[name] = json.dumps(inside)
        else:
            metadata[name] = json.dumps(_json(frames.odd(inside, rng, plainly)))
    elif rng.random() < 0.2:
        one, other = rng.sample(list(header), 2)
        header[one], header[other] = header[other], header[one]
    else:
        edit(header, rng, plainly)


def edit(inside: Any, rng: random.Random, plainly: Mutation) -> None:
    """Changes one value, or one key, of a JSON object."""
    key = rng.choice(list(inside) if isinstance(inside, dict) else range(len(inside)))
    value = inside[key]
    if isinstance(value, dict | list) and value and rng.random() < 0.7:
        edit(value, rng, plainly)
    elif rng.random() < 0.15:
        del inside[key]
    elif isinstance(inside, dict) and rng.random() < 0.15:
        inside[rng.choice(("recent_returns", "milestone", "x", ""))] = value
    else:
        inside[key] = _json(frames.odd(value, rng, plainly))


def _json(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


TARGET: Final = Target(run=run, seeds=seeds, mutate=mutate, memory=MEMORY, largest=128 * 2**10)

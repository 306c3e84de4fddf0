"""Checkpoints: safetensors files that are there whole or not at all, and never unpickled.

Tensors: ``model.*`` (parameters and normalisation statistics), ``optimiser.*``,
``rng.minibatches``, ``recent_returns``. Counters and what the run is about lie in the file's
metadata as JSON, and so does the last target that was passed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from asyncade_learner.progress import Milestone, Progress
from asyncade_runtime.run_folder import write_atomically

FORMAT: Final = "asyncade-checkpoint-1"
_COUNTERS: Final = (
    "env_steps",
    "updates",
    "policy_version",
    "episodes",
    "seconds",
    "received_bytes",
)


class CheckpointError(ValueError):
    """A checkpoint that cannot be used. The message names the file and the cure."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything a learner needs to go on.

    Attributes:
        progress: counters and recent returns.
        model: state of the network.
        optimiser: state of the optimiser.
        generator: state of the generator that cuts minibatches, uint8.
        about: the game, the network and its fingerprint: they must be the same on resuming.
    """

    progress: Progress
    model: Mapping[str, Tensor]
    optimiser: Mapping[str, Tensor]
    generator: Tensor
    about: Mapping[str, Any]


def save(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Writes a checkpoint and removes all but the newest `keep`.

    Raises:
        OSError: it could not be written; older ones are untouched.
    """
    progress = checkpoint.progress
    tensors = {
        **{f"model.{name}": tensor for name, tensor in checkpoint.model.items()},
        **{f"optimiser.{name}": tensor for name, tensor in checkpoint.optimiser.items()},
        "rng.minibatches": checkpoint.generator,
        "recent_returns": torch.tensor(list(progress.recent_returns), dtype=torch.float64),
    }
    counters = {name: getattr(progress, name) for name in _COUNTERS}
    milestone = None if progress.milestone is None else asdict(progress.milestone)
    metadata = {
        "format": FORMAT,
        "counters": json.dumps(counters),
        "milestone": json.dumps(milestone),
        "about": json.dumps(dict(checkpoint.about)),
    }
    path = folder / f"{progress.policy_version:012d}.safetensors"
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_atomically(path, safetensors.torch.save(contiguous, metadata))
    for old in found(folder)[keep:]:
        old.unlink(missing_ok=True)
    return path


def found(folder: Path) -> list[Path]:
    """Returns the folder's checkpoints, newest first."""
    return sorted(folder.glob("*.safetensors"), reverse=True)


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint.

    Raises:
        CheckpointError: it is damaged, or of another format.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata.get("format") != FORMAT:
            raise CheckpointError(
                f"{path} is of format {metadata.get('format')!r}, not {FORMAT!r}: "
                "resume it with the release that wrote it"
            )
        progress = Progress(**json.loads(metadata["counters"]))
        progress.recent_returns.extend(tensors["recent_returns"].tolist())
        milestone = json.loads(metadata.get("milestone", "null"))  # older ones have none
        progress.milestone = milestone and Milestone(**milestone)
        return Checkpoint(
            progress=progress,
            model=_under("model.", tensors),
            optimiser=_under("optimiser.", tensors),
            generator=tensors["rng.minibatches"],
            about=json.loads(metadata["about"]),
        )
    except (OSError, KeyError, TypeError, json.JSONDecodeError, safetensors.SafetensorError) as e:
        raise CheckpointError(
            f"{path} cannot be read ({type(e).__name__}: {e}); remove it to use the one before"
        ) from e


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

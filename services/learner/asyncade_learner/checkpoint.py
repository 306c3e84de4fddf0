"""Checkpoints: safetensors files that exist whole or not at all, and hold no pickled code.

Tensors: ``model.*`` (parameters and normalisation statistics), ``optimiser.*``,
``rng.minibatches``, ``recent_returns``. The file's metadata holds the format, counters, the last
target that was reached, and what the run is about, as JSON, and a digest of the whole file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from asyncade_learner.progress import Milestone, Progress
from asyncade_learner.trainer import Trainer
from asyncade_rl.params import ModelMismatchError, copy_into
from asyncade_rl.saved_models import DIGEST, FORMAT, MODEL, is_intact, sealed
from asyncade_runtime.run_folder import RunFolder, write_atomically

SPREAD_OVER_THE_RUN: Final = 5
"""Checkpoints kept besides the newest ones, for whoever looks at how the run has learned."""

_COUNTERS: Final = (
    "env_steps",
    "updates",
    "policy_version",
    "episodes",
    "seconds",
    "received_bytes",
)


class CheckpointError(ValueError):
    """A checkpoint cannot be used. The message names the file and the cure."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything a learner needs to continue.

    Attributes:
        progress: counters and recent returns.
        model: state of the network.
        optimiser: state of the optimiser.
        generator: state of the generator that cuts minibatches, uint8.
        about: game, network and its fingerprint, which must be the same on resuming.
    """

    progress: Progress
    model: Mapping[str, Tensor]
    optimiser: Mapping[str, Tensor]
    generator: Tensor
    about: Mapping[str, Any]


def capture(trainer: Trainer, progress: Progress, about: Mapping[str, Any]) -> Checkpoint:
    """Returns the present state of a run."""
    return Checkpoint(
        progress=progress,
        model=trainer.network.state_dict(),
        optimiser=trainer.optimiser.state(),
        generator=trainer.generator.get_state(),
        about=about,
    )


def resume(
    folder: RunFolder,
    trainer: Trainer,
    about: Mapping[str, Any],
    how: Literal["auto", "must", "never"],
    log: Any,
) -> Progress:
    """Restores the newest readable checkpoint. Reads the folder and changes nothing in it.

    Args:
        folder: of the run.
        trainer: gets the state.
        about: as in `Checkpoint`.
        how: the setting `resume`.
        log: structured logger.

    Returns:
        The run's progress; a new one if there is no checkpoint.

    Raises:
        CheckpointError: there is none but must be, there is one but must not be, none can be read,
            or it does not fit the settings.
    """
    paths = folder.checkpoint_files()
    if how == "never" and paths:
        raise CheckpointError(f"{folder.root} holds a run; resume it, or choose another folder")
    if how == "must" and not paths:
        raise CheckpointError(f"{folder.root} holds no checkpoint to resume from")
    for path in paths:
        try:
            checkpoint = load(path)
        except CheckpointError as error:
            log.error("checkpoint damaged; trying the one before", detail=str(error))
            continue
        _restore(checkpoint, trainer, about)
        log.info("resumed", checkpoint=path.name, env_steps=checkpoint.progress.env_steps)
        return checkpoint.progress
    if paths:
        raise CheckpointError(
            f"no checkpoint in {folder.checkpoints} can be read; choose another folder"
        )
    return Progress()


def _restore(checkpoint: Checkpoint, trainer: Trainer, about: Mapping[str, Any]) -> None:
    if checkpoint.about != about:
        raise CheckpointError(
            f"the checkpoint is of {checkpoint.about}, the settings say {about}: "
            "resume with the same game and network, or choose another folder"
        )
    try:
        copy_into(trainer.network.state_dict(), checkpoint.model)
    except ModelMismatchError as error:
        raise CheckpointError(str(error)) from error
    trainer.optimiser.load_state(checkpoint.optimiser)
    trainer.generator.set_state(checkpoint.generator)


def save(folder: RunFolder, checkpoint: Checkpoint, keep: int) -> Path:
    """Writes a checkpoint and removes older ones, and halves that killed learners have left.

    With it `keep` are left, and `SPREAD_OVER_THE_RUN` of the older ones, the first of all among
    them. Newer ones stay: they are damaged, and the run has fallen back to an older one.

    Raises:
        OSError: it could not be written; older ones are untouched.
    """
    progress = checkpoint.progress
    tensors = {
        **{f"{MODEL}{name}": tensor for name, tensor in checkpoint.model.items()},
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
        **DIGEST,
    }
    path = folder.checkpoint_file(progress.policy_version)
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_atomically(path, sealed(safetensors.torch.save(contiguous, metadata)))
    folder.remove_unfinished_checkpoints()
    not_newer = [other for other in folder.checkpoint_files() if other.name <= path.name]
    for old in _crowded([int(other.stem) for other in not_newer], keep):
        folder.checkpoint_file(old).unlink(missing_ok=True)
    return path


def _crowded(versions: Sequence[int], keep: int) -> list[int]:
    """Returns the versions to remove: one by one, that whose neighbours are closest together.

    So the rest is spread evenly over the run however long it becomes: no gap is more than about
    twice another.

    Args:
        versions: newest first; the first `keep` stay, and so does the last one.
        keep: at least 1.
    """
    left, removed = list(versions), []
    while len(left) > keep + SPREAD_OVER_THE_RUN:
        inner = range(keep, len(left) - 1)
        removed.append(left.pop(min(inner, key=lambda at: left[at - 1] - left[at + 1])))
    return removed


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint.

    Raises:
        CheckpointError: it is damaged, or of another format.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        content = path.read_bytes()
        if not is_intact(content, metadata.get("digest")):
            raise CheckpointError(f"{path} is damaged (its digest does not fit)")
        tensors = safetensors.torch.load(content)
        if metadata.get("format") != FORMAT:
            raise CheckpointError(
                f"{path} has format {metadata.get('format')!r}, not {FORMAT!r}: "
                "resume it with the release that wrote it"
            )
        progress = Progress(**json.loads(metadata["counters"]))
        progress.recent_returns.extend(tensors["recent_returns"].tolist())
        milestone = json.loads(metadata.get("milestone", "null"))  # older files have none
        progress.milestone = milestone and Milestone(**milestone)
        return Checkpoint(
            progress=progress,
            model=_under(MODEL, tensors),
            optimiser=_under("optimiser.", tensors),
            generator=tensors["rng.minibatches"],
            about=json.loads(metadata["about"]),
        )
    except (OSError, KeyError, TypeError, json.JSONDecodeError, safetensors.SafetensorError) as e:
        raise CheckpointError(f"{path} cannot be read ({type(e).__name__}: {e})") from e


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

"""Checkpoints: safetensors files that exist whole or not at all, and hold no pickled code.

Tensors: ``model.*`` (parameters and normalisation statistics), ``optimiser.*``,
``rng.minibatches``, ``recent_returns``, and ``calibration.*`` until calibration is over. The file's
metadata holds the format, counters, the last target that was reached, what the run is about, and
`Kept`, as JSON, and a digest of the whole file. Every number is finite: poison is neither saved nor
loaded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import pydantic
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from asyncade_learner.kept import Kept
from asyncade_learner.progress import Milestone, Progress
from asyncade_learner.recovery import RecentNorms
from asyncade_learner.trainer import Trainer
from asyncade_rl.params import ModelMismatchError, copy_into
from asyncade_rl.saved_models import (
    DIGEST,
    FORMAT,
    MODEL,
    UNREADABLE,
    counters,
    is_intact,
    sealed,
)
from asyncade_runtime.files import write_atomically
from asyncade_runtime.run_folder import RunFolder

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


class NotFiniteError(ValueError):
    """A state holds NaN or infinity, and is not saved."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything a learner needs to continue.

    Attributes:
        progress: counters and recent returns.
        model: state of the network.
        optimiser: state of the optimiser.
        generator: state of the generator that cuts minibatches, uint8.
        about: game, network and its fingerprint, which must be the same on resuming.
        kept: what else changes the updates to come.
        calibration: `FrameStatistics.kept`; empty once calibration is over.
    """

    progress: Progress
    model: Mapping[str, Tensor]
    optimiser: Mapping[str, Tensor]
    generator: Tensor
    about: Mapping[str, Any]
    kept: Kept = field(default_factory=Kept)
    calibration: Mapping[str, Tensor] = field(default_factory=dict)

    def finite(self) -> bool:
        """Returns whether model and optimiser hold finite numbers only."""
        tensors = (*self.model.values(), *self.optimiser.values())
        return all(bool(one.isfinite().all()) for one in tensors)


def resume(
    folder: RunFolder,
    trainer: Trainer,
    about: Mapping[str, Any],
    how: Literal["auto", "must", "never"],
    log: Any,
) -> Checkpoint | None:
    """Restores the newest readable checkpoint. Reads the folder and changes nothing in it.

    Args:
        folder: of the run.
        trainer: gets the state.
        about: as in `Checkpoint`.
        how: the setting `resume`.
        log: structured logger.

    Returns:
        The checkpoint, with what is not the trainer's; None if there is none.

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
        return checkpoint
    if paths:
        raise CheckpointError(
            f"no checkpoint in {folder.checkpoints} can be read; choose another folder"
        )
    return None


def roll_back(
    folder: RunFolder, trainer: Trainer, about: Mapping[str, Any], earlier: int, log: Any
) -> Path | None:
    """Gives the trainer the state of an earlier checkpoint of this run.

    Args:
        folder: of the run.
        trainer: gets model, optimiser, generator and norms; the counters are not touched.
        about: as in `Checkpoint`.
        earlier: how many of the newest to leave out, since going back to them has not helped.
        log: structured logger.

    Returns:
        The checkpoint; None if none can be used.
    """
    paths = folder.checkpoint_files()
    for path in paths[min(earlier, len(paths) - 1) :] if paths else []:
        try:
            checkpoint = load(path)
            _restore(checkpoint, trainer, about)
        except CheckpointError as error:
            log.error("checkpoint damaged; trying the one before", detail=str(error))
            continue
        trainer.norms = RecentNorms(checkpoint.kept.norms)
        return path
    return None


def _restore(checkpoint: Checkpoint, trainer: Trainer, about: Mapping[str, Any]) -> None:
    if checkpoint.about != about:
        raise CheckpointError(
            f"the checkpoint is of {checkpoint.about}, the settings say {about}: "
            "resume with the same game and network, or choose another folder"
        )
    try:
        copy_into(trainer.network.state_dict(), checkpoint.model)
        trainer.optimiser.load_state(checkpoint.optimiser)
    except ModelMismatchError as error:
        raise CheckpointError(str(error)) from error
    trainer.generator.set_state(checkpoint.generator)


def save(folder: RunFolder, checkpoint: Checkpoint, keep: int) -> Path:
    """Writes a checkpoint and removes older ones, and halves that killed learners have left.

    With it `keep` are left, and `SPREAD_OVER_THE_RUN` of the older ones, the first of all among
    them. Newer ones stay: they are damaged, and the run has fallen back to an older one.

    Raises:
        NotFiniteError: it must not be written.
        OSError: it could not be written. In both cases older ones are untouched.
    """
    if not checkpoint.finite():
        raise NotFiniteError("the model or its optimiser is not finite")
    progress = checkpoint.progress
    tensors = {
        **{f"{MODEL}{name}": tensor for name, tensor in checkpoint.model.items()},
        **{f"optimiser.{name}": tensor for name, tensor in checkpoint.optimiser.items()},
        "rng.minibatches": checkpoint.generator,
        **{f"calibration.{name}": one for name, one in checkpoint.calibration.items()},
        "recent_returns": torch.tensor(list(progress.recent_returns), dtype=torch.float64),
    }
    milestone = None if progress.milestone is None else asdict(progress.milestone)
    metadata = {
        "format": FORMAT,
        "counters": json.dumps({name: getattr(progress, name) for name in _COUNTERS}),
        "milestone": json.dumps(milestone),
        "about": json.dumps(dict(checkpoint.about)),
        "kept": json.dumps(checkpoint.kept.model_dump()),
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
        if not all(t.isfinite().all() for t in tensors.values() if t.is_floating_point()):
            raise CheckpointError(f"{path} holds numbers that are not finite")
        about = json.loads(metadata["about"])
        if not isinstance(about, dict):
            raise TypeError("about is not an object")
        torch.Generator().set_state(tensors["rng.minibatches"])  # refuses what is no state
        return Checkpoint(
            progress=_progress(metadata, tensors["recent_returns"]),
            model=_under(MODEL, tensors),
            optimiser=_under("optimiser.", tensors),
            generator=tensors["rng.minibatches"],
            about=about,
            kept=Kept.model_validate(json.loads(metadata.get("kept", "{}"))),
            calibration=_under("calibration.", tensors),
        )
    except CheckpointError:
        raise
    except (*UNREADABLE, pydantic.ValidationError) as e:
        raise CheckpointError(f"{path} cannot be read ({type(e).__name__}: {e})") from e


def _progress(metadata: Mapping[str, str], recent_returns: Tensor) -> Progress:
    """Returns a checkpoint's progress; raises one of `UNREADABLE` if it is none."""
    counts = counters(metadata["counters"])
    if odd := counts.keys() - set(_COUNTERS):
        raise ValueError(f"unknown counters: {', '.join(sorted(odd)[:4])}")
    progress = Progress(**counts)
    if recent_returns.dtype != torch.float64 or recent_returns.dim() != 1:
        raise TypeError("recent_returns is no list of numbers")
    progress.recent_returns.extend(recent_returns.tolist())
    milestone = json.loads(metadata.get("milestone", "null"))  # older files have none
    if milestone is not None:
        target = float(milestone.pop("target"))
        if not math.isfinite(target):
            raise ValueError("the target is not finite")
        progress.milestone = Milestone(target, **counters(json.dumps(milestone)))
    return progress


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

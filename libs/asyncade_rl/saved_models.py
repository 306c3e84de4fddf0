"""The models in a run's checkpoints, for whoever only plays: no optimiser, no learner's state.

`asyncade_learner.checkpoint` writes the files and reads them whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import safetensors

from asyncade_proto.limits import MAX_COUNT

if TYPE_CHECKING:
    from torch import Tensor  # takes seconds to load, and a list of checkpoints needs none

FORMAT: Final = "asyncade-checkpoint-1"
"""In the metadata of every checkpoint."""

MODEL: Final = "model."
"""Begins the names of the model's tensors in a checkpoint."""

UNREADABLE: Final = (
    *(OSError, ValueError, TypeError, AttributeError, LookupError),  # JSON of another shape
    *(RuntimeError, safetensors.SafetensorError),  # RecursionError; what torch makes of odd tensors
)
"""What reading a damaged checkpoint raises, `SavedModelError` included."""


_UNSEALED: Final = b"0" * 64
"""Stands for the digest while it is computed."""

DIGEST: Final = {"digest": _UNSEALED.decode()}
"""Metadata of a checkpoint that `sealed` completes."""


class SavedModelError(ValueError):
    """A checkpoint cannot be played. The message names the file."""


@dataclass(frozen=True, slots=True)
class SavedModel:
    """A checkpoint's model, not yet loaded.

    Attributes:
        path: of the file.
        game: that it plays.
        network: a key of `asyncade_rl.choices.NETWORKS`.
        env_steps: of the run until then.
        seconds: of the run until then.
        policy_version: of the weights.
        digest: of the file; None in files of older releases.
    """

    path: Path
    game: str
    network: str
    env_steps: int
    seconds: float
    policy_version: int
    digest: str | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Returns the network's parameters and buffers by name.

        Raises:
            SavedModelError: the file cannot be read, or is damaged; it may have been removed
                meanwhile.
        """
        self.check()
        try:
            with safetensors.safe_open(self.path, framework="pt") as file:
                names = [name for name in file.keys() if name.startswith(MODEL)]  # noqa: SIM118
                return {name.removeprefix(MODEL): file.get_tensor(name) for name in names}
        except UNREADABLE as error:
            raise SavedModelError(f"{self.path} cannot be read ({error})") from error

    def check(self) -> None:
        """Reads the whole file.

        Raises:
            SavedModelError: it cannot be read, or its digest does not fit.
        """
        try:
            intact = is_intact(self.path.read_bytes(), self.digest)
        except OSError as error:
            raise SavedModelError(f"{self.path} cannot be read ({error})") from error
        if not intact:
            raise SavedModelError(f"{self.path} is damaged (its digest does not fit)")


def sealed(content: bytes) -> bytes:
    """Returns a safetensors file with its digest, SHA-256 in hexadecimal.

    safetensors checks that lengths fit and no more: a flipped bit in a weight would be loaded.

    Args:
        content: the file, with `DIGEST` among its metadata.
    """
    digest = hashlib.sha256(content).hexdigest().encode()
    return content.replace(_UNSEALED, digest, 1)  # the header comes first


def is_intact(content: bytes, digest: str | None) -> bool:
    """Returns whether a file is what was sealed; true without a digest, which older files lack."""
    if digest is None:
        return True
    unsealed = content.replace(digest.encode(), _UNSEALED, 1)
    return hashlib.sha256(unsealed).hexdigest() == digest


def counters(text: str) -> dict[str, Any]:
    """Returns the numbers in a JSON object: whole ones, but for ``seconds``; from 0 to `MAX_COUNT`.

    Raises:
        Exception: one of `UNREADABLE`: it is something else.
    """
    counts: dict[str, Any] = json.loads(text)
    for name, value in counts.items():
        whole = type(value) is int
        if not (whole or (type(value) is float and name == "seconds")):
            raise TypeError(f"{name} is no number of its kind")
        if not 0 <= value <= MAX_COUNT:
            raise ValueError(f"{name} is out of range")
    return counts


def saved_model(path: Path) -> SavedModel:
    """Reads what a checkpoint is, not its tensors.

    Raises:
        SavedModelError: it is damaged, or of another format.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
        if metadata.get("format") != FORMAT:
            raise SavedModelError(f"{path} has format {metadata.get('format')!r}, not {FORMAT!r}")
        counts, about = counters(metadata["counters"]), json.loads(metadata["about"])
        return SavedModel(
            path=path,
            game=str(about["game"]),
            network=str(about["network"]),
            env_steps=counts["env_steps"],
            seconds=counts["seconds"],
            policy_version=counts["policy_version"],
            digest=metadata.get("digest"),
        )
    except safetensors.SafetensorError as error:
        raise SavedModelError(f"{path} is not a checkpoint, or damaged ({error})") from error
    except SavedModelError:
        raise
    except UNREADABLE as e:
        raise SavedModelError(f"{path} cannot be read ({type(e).__name__}: {e})") from e


def saved_models(paths: Iterable[Path]) -> list[SavedModel]:
    """Returns the readable ones of these checkpoints, in the order of their env steps."""
    found = []
    for path in paths:
        try:
            found.append(saved_model(path))
        except SavedModelError:
            continue
    return sorted(found, key=lambda model: model.env_steps)

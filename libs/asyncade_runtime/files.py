"""Files that are written completely or not at all, and JSON in them."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


class RunFolderError(ValueError):
    """The run folder is unusable. The message names the cure."""


def write_atomically(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Writes a file completely or not at all.

    Writes to a temporary file in the same folder, flushes it to disk, and renames it.

    Args:
        path: of the file.
        data: its content.
        durable: also across a power cut; waits for the disk.

    Raises:
        OSError: it could not be written. What was written takes no space any more.
    """
    neighbour = path.with_name(f".{path.name}.tmp")
    try:
        with neighbour.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        neighbour.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            neighbour.unlink(missing_ok=True)
        raise
    if not durable:
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def made_if_missing(folder: Path) -> Iterator[None]:
    """Creates a folder and its parents; at the end removes those of them that are empty.

    Raises:
        RunFolderError: the folder cannot be created.
    """
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"cannot create {folder} ({error}); choose another one") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            for one in missing:
                one.rmdir()


def read_json(path: Path) -> dict[str, Any] | None:
    """Returns the object in a JSON file; None if the file is missing.

    Raises:
        RunFolderError: the file cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise RunFolderError(f"{path} cannot be read ({error}); repair or remove it") from error
    if not isinstance(content, dict):
        raise RunFolderError(f"{path} is not a JSON object; repair or remove it")
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes an object to a JSON file, completely or not at all.

    Raises:
        RunFolderError: the file cannot be written.
    """
    try:
        write_atomically(path, (json.dumps(dict(content), indent=2) + "\n").encode())
    except OSError as error:
        raise RunFolderError(
            f"{path} cannot be written ({error}); free disk space, or choose another folder"
        ) from error

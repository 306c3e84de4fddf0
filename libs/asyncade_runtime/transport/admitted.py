"""The public keys that are admitted now: a folder of files, read again when it changes.

So a key is added or revoked while a run goes on: by adding or removing its file.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import zmq.auth

from asyncade_runtime.logs import get_logger

PUBLIC: Final = ".key"
"""Suffix of a file with a public key."""

_LOOK_AGAIN_S: Final = 1.0


class Admitted:
    """The keys of a folder's ``.key`` files; none if the folder cannot be read. Thread-safe.

    Args:
        folder: of the files; links are followed.
        clock: monotonic time in seconds.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._lock = threading.Lock()
        self._revocations = 0
        self._seen = _state(folder)
        self._keys = self._read()
        self._look_at = clock() + _LOOK_AGAIN_S

    def callback(self, domain: str, key: bytes) -> bool:
        """Decides about a peer that connects: called by pyzmq's authenticator.

        Args:
            domain: of the sockets.
            key: its public key, 40 characters of Z85, which it has proved to hold.
        """
        self._look(at_once=key not in self._keys)
        return key in self._keys

    def revocations(self) -> int:
        """Returns how often keys were revoked; looks at the folder at most once a second.

        libzmq cannot end a single connection: when this number has risen, sockets must be opened
        anew, so that every peer authenticates again.
        """
        self._look()
        return self._revocations

    def _look(self, *, at_once: bool = False) -> None:
        with self._lock:
            now = self._clock()
            if now < self._look_at and not at_once:
                return
            self._look_at = now + _LOOK_AGAIN_S
            seen = _state(self._folder)
            if seen == self._seen:
                return
            before, self._seen = self._keys, seen
            self._keys = self._read()
            added, revoked = len(self._keys - before), len(before - self._keys)
            self._revocations += revoked > 0
        get_logger().info("keys changed", admitted=len(self._keys), added=added, revoked=revoked)

    def _read(self) -> frozenset[bytes]:
        keys = set[bytes]()
        for path in self._seen:
            try:
                key, _ = zmq.auth.load_certificate(path)
            except (OSError, ValueError) as error:
                get_logger().warning("key not read", path=path, detail=str(error))
            else:
                keys.add(key)
        return frozenset(keys)


def _state(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Returns inode, time of change and size of every file with a public key."""
    found = {}
    for path in folder.glob(f"*{PUBLIC}"):
        try:
            status = path.stat()
        except OSError:
            continue  # removed since, or a link to nothing
        found[os.fspath(path)] = status.st_ino, status.st_mtime_ns, status.st_size
    return found

"""The film's messages: the pictures of one env step as what has changed, and what the agent thinks.

A message is a header and the pictures::

    uint32       length of the header
    bytes        header, JSON, UTF-8
    per picture  uint32 n, n uint16 places, n x 3 uint8 RGB     what differs from the one before
             or  uint32 0xFFFFFFFF, H x W x 3 uint8 RGB         the whole picture
    bytes        what the network looks at, SIDE x SIDE uint8, if the header says so

All numbers are little-endian. Of Pong a step is about a kilobyte, and takes no compression.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from asyncade_rl.envs.shown import Pictures

WHOLE: Final = 0xFFFFFFFF
"""In place of the number of changes: a whole picture follows."""

_BYTES_PER_PLACE: Final = 2


@dataclass(frozen=True, eq=False, slots=True)
class Shown:
    """One env step, as it is shown.

    Attributes:
        header: what the agent thinks, as `asyncade_watch.player` makes it.
        pictures: of every emulator frame.
        changes: the message for whoever has seen the step before.
        looked_at: uint8 [N, N], or None.
    """

    header: Mapping[str, Any]
    pictures: Pictures
    changes: bytes
    looked_at: npt.NDArray[np.uint8] | None

    def whole(self) -> bytes:
        """Returns the message for whoever has not seen the step before."""
        return _message(self.header, None, self.pictures, self.looked_at)


class Encoder:
    """Encodes a film's steps."""

    def __init__(self) -> None:
        self._before: npt.NDArray[np.uint8] | None = None

    def shown(
        self,
        header: Mapping[str, Any],
        pictures: Pictures,
        looked_at: npt.NDArray[np.uint8] | None,
    ) -> Shown:
        """Returns a step, encoded."""
        count, height, width, _ = pictures.shape
        header = {**header, "size": [height, width], "pictures": count}
        header["looked_at"] = 0 if looked_at is None else len(looked_at)
        changes = _message(header, self._before, pictures, looked_at)
        self._before = pictures[-1]
        return Shown(header, pictures, changes, looked_at)


def _message(
    header: Mapping[str, Any],
    before: npt.NDArray[np.uint8] | None,
    pictures: Pictures,
    looked_at: npt.NDArray[np.uint8] | None,
) -> bytes:
    text = json.dumps(header, separators=(",", ":")).encode()
    parts = [len(text).to_bytes(4, "little"), text]
    for picture in pictures:
        parts.extend(_changed(before, picture))
        before = picture
    if looked_at is not None:
        parts.append(looked_at.tobytes())
    return b"".join(parts)


def _changed(before: npt.NDArray[np.uint8] | None, picture: npt.NDArray[np.uint8]) -> list[bytes]:
    if before is not None and before.shape == picture.shape:
        # Bytes first, then pixels: comparing pixels as such takes numpy several times as long.
        places = np.unique(np.flatnonzero(picture != before) // 3)
        rgb = picture.reshape(-1, 3)[places]
        if _BYTES_PER_PLACE * len(places) + rgb.size < picture.size:
            count = len(places).to_bytes(4, "little")
            return [count, places.astype("<u2").tobytes(), rgb.tobytes()]
    return [WHOLE.to_bytes(4, "little"), picture.tobytes()]

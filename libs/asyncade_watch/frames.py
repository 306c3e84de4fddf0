"""The film's messages: the screens of one env step as what has changed, and what the agent thinks.

A message is a header and the screens::

    uint32      length of the header
    bytes       header, JSON, UTF-8
    per screen  uint32 n, n uint16 places, n uint8 colours     what differs from the screen before
            or  uint32 0xFFFFFFFF, H x W uint8 colours         the whole screen
    bytes       what the network looks at, SIDE x SIDE uint8, if the header says so

All numbers are little-endian. Of Pong a step is about a kilobyte, and takes no compression.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from asyncade_rl.envs.screens import Screen, ScreenGame

WHOLE: Final = 0xFFFFFFFF
"""In place of the number of changes: a whole screen follows."""

_BYTES_PER_CHANGE: Final = 3


@dataclass(frozen=True, eq=False, slots=True)
class Shown:
    """One env step, as it is shown.

    Attributes:
        header: what the agent thinks, as `asyncade_watch.player` makes it.
        screens: of every emulator frame.
        palette: colour of every index.
        changes: the message for whoever has seen the step before.
        looked_at: uint8 [N, N], or None.
    """

    header: Mapping[str, Any]
    screens: list[Screen]
    palette: npt.NDArray[np.uint8]
    changes: bytes
    looked_at: npt.NDArray[np.uint8] | None

    def whole(self) -> bytes:
        """Returns the message for whoever has not seen the step before."""
        header = {**self.header, "palette": self.palette.tobytes().hex()}
        return _message(header, [None, *self.screens[:-1]], self.screens, self.looked_at)


class Encoder:
    """Encodes the steps of one game.

    Args:
        game: whose colours are sent as they appear.
    """

    def __init__(self, game: ScreenGame) -> None:
        self._game = game
        self._before: Screen | None = None
        self._palette = np.zeros((256, 3), dtype=np.uint8)
        self._known = np.zeros(256, dtype=bool)

    def shown(
        self,
        header: Mapping[str, Any],
        screens: list[Screen],
        looked_at: npt.NDArray[np.uint8] | None,
    ) -> Shown:
        """Returns a step, encoded."""
        header = {**header, "size": list(screens[0].shape), "screens": len(screens)}
        header["looked_at"] = 0 if looked_at is None else len(looked_at)
        full = header
        if self._learn_colours(screens[-1]):
            full = {**header, "palette": self._palette.tobytes().hex()}
        changes = _message(full, [self._before, *screens[:-1]], screens, looked_at)
        self._before = screens[-1]
        return Shown(header, screens, self._palette, changes, looked_at)

    def _learn_colours(self, screen: Screen) -> bool:
        """Adds the colours of the newest screen; returns whether there were new ones."""
        found = np.bincount(screen.ravel(), minlength=256) > 0
        if not (found & ~self._known).any():
            return False
        colours = self._game.colours()
        self._palette = np.where((found & ~self._known)[:, None], colours, self._palette)
        self._known |= found
        return True


def _message(
    header: Mapping[str, Any],
    before: list[Screen | None],
    screens: list[Screen],
    looked_at: npt.NDArray[np.uint8] | None,
) -> bytes:
    text = json.dumps(header, separators=(",", ":")).encode()
    parts = [len(text).to_bytes(4, "little"), text]
    for earlier, screen in zip(before, screens, strict=True):
        parts.extend(_changed(earlier, screen))
    if looked_at is not None:
        parts.append(looked_at.tobytes())
    return b"".join(parts)


def _changed(before: Screen | None, screen: Screen) -> list[bytes]:
    flat = screen.ravel()
    if before is not None and before.shape == screen.shape:
        places = np.flatnonzero(flat != before.ravel())
        if _BYTES_PER_CHANGE * len(places) < flat.size:
            count = len(places).to_bytes(4, "little")
            return [count, places.astype("<u2").tobytes(), flat[places].tobytes()]
    return [WHOLE.to_bytes(4, "little"), flat.tobytes()]

"""Draws what the agent scores, chooses and expects beside the game's picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from asyncade_rl.envs.shown import Pictures

Colour = tuple[int, int, int]

HEIGHT: Final = 420
"""Of the film [pixels], about: games are enlarged by a whole factor."""

_WIDTH: Final = 216
_LEFT: Final = 16
_BARS: Final = 120
_BACKGROUND: Final[Colour] = (20, 23, 28)
_DIM: Final[Colour] = (139, 148, 158)
_BRIGHT: Final[Colour] = (240, 246, 252)
_BAR: Final[Colour] = (61, 84, 120)
_CHOSEN: Final[Colour] = (255, 183, 77)


class Overlay:
    """Enlarges pictures and adds a panel on the right.

    Args:
        title: at the top of the panel.
        action_names: one for each of A actions.
    """

    def __init__(self, title: str, action_names: Sequence[str]) -> None:
        self._title = title
        self._names = action_names
        self._small: Any = ImageFont.load_default(13)
        self._large: Any = ImageFont.load_default(40)
        self._middle: Any = ImageFont.load_default(22)

    def draw(
        self,
        pictures: Pictures,
        score: float,
        action: int,
        probabilities: npt.NDArray[np.float32],
        value: float,
    ) -> Pictures:
        """Returns the pictures of an env step with the panel.

        Args:
            pictures: uint8 [P, H, W, 3].
            score: of the game so far.
            action: index of the chosen action.
            probabilities: float32 [A].
            value: that the network expects from here.

        Returns:
            uint8 [P, H', W', 3] with even H' and W', as encoders want them.
        """
        scale = max(1, round(HEIGHT / pictures.shape[1]))
        large = pictures.repeat(scale, axis=1).repeat(scale, axis=2)
        height = large.shape[1] + large.shape[1] % 2
        panel = self._panel(height, score, action, probabilities, value)
        width = large.shape[2] + panel.shape[1]
        drawn = np.empty((len(large), height, width + width % 2, 3), dtype=np.uint8)
        drawn[:] = _BACKGROUND
        drawn[:, : large.shape[1], : large.shape[2]] = large
        drawn[:, :, large.shape[2] : width] = panel
        return drawn

    def _panel(
        self,
        height: int,
        score: float,
        action: int,
        probabilities: npt.NDArray[np.float32],
        value: float,
    ) -> npt.NDArray[np.uint8]:
        image = Image.new("RGB", (_WIDTH, height), _BACKGROUND)
        draw = ImageDraw.Draw(image)
        draw.text((_LEFT, 14), self._title, _BRIGHT, self._small)
        draw.text((_LEFT, 40), "score of this game", _DIM, self._small)
        draw.text((_LEFT, 52), f"{score:,.0f}", _BRIGHT, self._large)
        draw.text((_LEFT, 104), "expected return (value)", _DIM, self._small)
        draw.text((_LEFT, 119), f"{value:+.2f}", _BRIGHT, self._middle)
        draw.text((_LEFT, 156), "next action", _DIM, self._small)
        top = 176
        step = min(26, (height - top - 8) // len(self._names))
        font = self._small if step >= 15 else ImageFont.load_default(max(8, step - 2))
        for number, (name, share) in enumerate(zip(self._names, probabilities, strict=True)):
            y, chosen = top + number * step, number == action
            text, bar = (_CHOSEN, _CHOSEN) if chosen else (_BRIGHT, _BAR)
            draw.text((_LEFT, y + step // 2), name, text, font, anchor="lm")
            length = round((_WIDTH - _BARS - _LEFT) * float(share))
            draw.rectangle((_BARS, y + 3, _BARS + length, y + step - 4), bar)
        return np.asarray(image)

"""What is drawn beside the game."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from asyncade_cli.overlay import Overlay

NAMES = ("NOOP", "LEFT", "RIGHT")
GAME = np.random.default_rng(0).integers(255, size=(2, 210, 160, 3), dtype=np.uint8)


def drawn(
    pictures: npt.NDArray[np.uint8] = GAME,
    score: float = 3.0,
    action: int = 1,
    probabilities: tuple[float, ...] = (0.2, 0.7, 0.1),
    value: float = 0.5,
) -> npt.NDArray[np.uint8]:
    overlay = Overlay("pong", NAMES)
    return overlay.draw(pictures, score, action, np.array(probabilities, np.float32), value)


def test_the_game_is_enlarged_and_unchanged() -> None:
    shown = drawn()
    np.testing.assert_array_equal(shown[:, : 2 * 210 : 2, : 2 * 160 : 2], GAME)
    assert shown.dtype == np.uint8
    assert len({panel.tobytes() for panel in shown[:, :, 2 * 160 :]}) == 1


@pytest.mark.parametrize(
    "change",
    [{"score": 4.0}, {"action": 2}, {"probabilities": (0.6, 0.3, 0.1)}, {"value": -0.5}],
)
def test_every_figure_is_shown(change: dict[str, float]) -> None:
    assert not np.array_equal(drawn(), drawn(**change))  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(84, 84), (210, 160), (250, 161), (501, 301)])
def test_sides_are_even_as_encoders_want_them(size: tuple[int, int]) -> None:
    shown = drawn(np.zeros((1, *size, 3), np.uint8))
    assert shown.shape[1] % 2 == shown.shape[2] % 2 == 0


def test_all_actions_of_the_largest_set_fit() -> None:
    names = [f"ACTION{number}" for number in range(18)]
    shares = np.zeros(18, np.float32)
    shares[17] = 1.0
    shown = Overlay("alien", names).draw(GAME, 0.0, 17, shares, 0.0)
    last = shown[0, -24:, 2 * 160 :]
    assert (last != last[-1, -1]).any(), "the last bar is inside the picture"

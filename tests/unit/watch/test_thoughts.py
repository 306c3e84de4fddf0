"""What the network makes of an observation, and what that depends on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from asyncade_rl.network import ActorCritic, make_network
from asyncade_watch.thoughts import attribution, think


@pytest.fixture
def network() -> ActorCritic:
    network = make_network(6, "small", seed=1)
    network.hold_for_inference()
    return network


def observations(*spots: tuple[int, int]) -> np.ndarray:
    seen = np.zeros((1, 4, 84, 84), dtype=np.uint8)
    for row, column in spots:
        seen[:, :, row : row + 4, column : column + 4] = 200
    return seen


def test_actions_are_drawn_by_their_probabilities(network: ActorCritic) -> None:
    seen = observations((40, 40))
    draws = np.linspace(0, 1, 1000, endpoint=False)
    thoughts = [think(network, seen, float(drawn), False) for drawn in draws]
    counts = np.bincount([thought.action for thought in thoughts], minlength=6)
    assert counts / 1000 == pytest.approx(thoughts[0].probabilities, abs=2e-3)
    with torch.inference_mode():
        _, value = network(torch.from_numpy(seen))
    assert thoughts[0].value == pytest.approx(value.item())
    assert thoughts[0].looked_at is None


def test_the_last_action_is_drawn_by_the_greatest_number(network: ActorCritic) -> None:
    assert think(network, observations(), np.nextafter(1, 0), False).action == 5


def test_what_is_as_always_is_not_looked_at(network: ActorCritic) -> None:
    looked_at = think(network, observations((40, 40)), 0.5, True).looked_at
    assert looked_at is not None
    assert (looked_at.shape, looked_at.max()) == ((21, 21), 255)
    assert np.argwhere(looked_at > 0).tolist() == [[10, 10]]
    nothing = attribution(network, torch.from_numpy(observations()), 0)
    assert not nothing.any()

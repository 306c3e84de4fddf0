"""What real players send is never taken for a lie: games come and go, messages are lost."""

from __future__ import annotations

import random
from contextlib import closing

import numpy as np
import pytest

from asyncade_actor.player import Player
from asyncade_proto.messages import GOES_ON
from asyncade_rl.envs import make_environments
from asyncade_rl.envs.groups import in_groups
from asyncade_rl.network import make_network
from asyncade_runtime.claims import Asked, Claims
from rigs.honest import as_gradients
from rigs.play import actor_stages, header

T, GAMES = 8, 4
ASKED = Asked(games=GAMES, env_steps=T * GAMES)


@pytest.mark.parametrize("seed", range(3))
def test_no_unroll_of_a_player_is_refused(seed: int) -> None:
    """Nor is the same play, reported with gradients."""
    draw = random.Random(seed)
    network = make_network(3, "small", seed=seed)
    with closing(in_groups(make_environments)("catch", 2 * GAMES)) as environments:
        player = Player(environments, seed, actor_stages(), games=1)
        unrolls, gradients = (Claims(ASKED, largest_reward=1.0) for _ in range(2))
        finished = 0
        for number in range(60):
            if draw.random() < 0.05:  # the learner restarts
                unrolls, gradients = (Claims(ASKED, largest_reward=1.0) for _ in range(2))
            steps, games = draw.randint(1, T), draw.randint(1, GAMES)
            for _ in player.play(network, steps, games):
                pass
            unroll = player.trajectory(header(sequence=number))
            assert len(unroll.episodes.returns) == np.count_nonzero(unroll.ends != GOES_ON)
            finished += len(unroll.episodes.returns)
            if draw.random() < 0.3:
                continue  # lost
            assert unrolls.check(unroll, number) is None
            assert gradients.check(as_gradients(unroll), number) is None
    assert finished > 25

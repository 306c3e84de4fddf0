"""What a relay makes of honest actors' messages is never refused by its learner."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from asyncade_proto.messages import Gradients
from asyncade_relay.gathering import Gathering
from asyncade_runtime.admission import Accepted, Roster
from asyncade_runtime.claims import Asked, Claims
from rigs.honest import HonestPlayer, as_gradients
from rigs.relay import ME, weights

T, GAMES, ACTORS = 8, 2, 3


def learner() -> Claims:
    asked = Asked(games=GAMES, env_steps=T * GAMES)
    return Claims(asked, largest_reward=1.0, actors_behind_relay=ACTORS)


@pytest.mark.parametrize("seed", range(6))
def test_no_mean_of_honest_actors_is_refused(seed: int) -> None:
    """Though means wait for credit while actors play on, are lost, and learners restart."""
    draw = random.Random(seed)
    relay = Gathering(ME, Roster(), max_policy_lag=16, patience_seconds=1.0)
    players = [HonestPlayer(draw, str(n), 8, draw.choice([(3, 3), (5, 60)]), 1.0) for n in "abc"]
    claims, version, run, received, arrived = learner(), 10, 1, 0, 0

    def receive(message: Gradients) -> None:
        nonlocal arrived, received
        if draw.random() > 0.1:
            assert claims.check(message, version) is None
            arrived, received = arrived + 1, message.sequence + 1

    for turn in range(300):
        version += 1
        if draw.random() < 0.02:
            claims, version, run = learner(), max(1, version - 7), run + 1
        named = draw.choice([{ME: received}, {ME: received}, {}, {"another": 1}])
        published = weights(version, run=run, received=named, games=GAMES, unroll_length=T)
        if (late := relay.renew(published)) is not None:
            receive(late)
        for number, one in enumerate(players):
            if draw.random() < 0.01:
                one = players[number] = HonestPlayer(draw, one.actor_id, 8, one.lengths, 1.0)
            one.resize(draw.randint(1, GAMES))
            unroll = as_gradients(one.unroll(draw.randint(1, T)))
            tensors = {"w": np.ones(64, np.float32)}
            message = replace(unroll, policy_version=version, tensors=tensors)
            if draw.random() > 0.1:
                assert isinstance(relay.offer(message, float(turn)), Accepted)
        if relay.due(float(turn)):
            receive(relay.take())
    assert arrived > 50

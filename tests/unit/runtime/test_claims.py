"""What a message may claim: lies are found, and no honest player is ever taken for a liar."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import builders
from asyncade_proto.messages import (
    TERMINATED,
    TRUNCATED,
    Episodes,
    Gradients,
    Trajectory,
    Upstream,
)
from asyncade_runtime.claims import Asked, Claims
from rigs.honest import HonestPlayer, as_gradients

T, E = 8, 4
ASKED = Asked(games=E, env_steps=T * E)


def claims(largest_reward: float = 1.0, **options: Any) -> Claims:
    return Claims(ASKED, largest_reward=largest_reward, **options)


def played(*games: tuple[float, int], **fields: Any) -> Gradients:
    """A message of T x E env steps whose finished games have these returns and lengths."""
    episodes = Episodes(
        returns=np.array([one for one, _ in games], np.float32),
        lengths=np.array([length for _, length in games], np.int32),
    )
    given = {"samples": T * E, "env_steps": T * E, "episodes": episodes}
    return builders.gradients(**given | fields)


def unroll(
    rewards: dict[tuple[int, int], float],
    ends: dict[tuple[int, int], int],
    *games: tuple[float, int],
    **fields: Any,
) -> Trajectory:
    """An unroll with these rewards and ends by (step, game)."""
    arrays = np.zeros((T, E), np.float32), np.zeros((T, E), np.uint8)
    for array, given in zip(arrays, (rewards, ends), strict=True):
        for place, value in given.items():
            array[place] = value
    episodes = played(*games).episodes
    return builders.trajectory(T, E, rewards=arrays[0], ends=arrays[1], episodes=episodes, **fields)


def refused(message: Upstream, check: Claims | None = None, **options: Any) -> bool:
    outcome = (check or claims(**options)).check(message, 1)
    assert outcome is None or outcome.reason == "claim"
    return outcome is not None


# --- one message ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "lie"),
    [
        ({}, False),
        ({"samples": 2 * T * E, "env_steps": 2 * T * E}, False),  # games that have not ended yet
        ({"samples": 2 * T * E + 1}, True),
        ({"env_steps": 2 * T * E + 1}, True),
        ({"samples": 2**20, "env_steps": 2**20}, True),
        ({"points_won": float(T * E), "points_lost": 0.0}, False),
        ({"points_won": float(T * E), "points_lost": 1.0}, True),
    ],
)
def test_samples_env_steps_and_points_are_bounded(fields: dict[str, Any], lie: bool) -> None:
    assert refused(played(**fields)) is lie


def test_an_unroll_is_as_long_as_was_asked_for_at_most() -> None:
    assert not refused(builders.trajectory(T, 2 * E))
    assert refused(builders.trajectory(T, 2 * E + 1))


def test_a_message_may_be_the_mean_of_several_actors_if_a_setting_says_so() -> None:
    mean = played(samples=5 * T * E, env_steps=5 * T * E)
    outcome = claims().check(mean, 1)
    assert outcome is not None
    assert "--actors-behind-relay" in outcome.detail
    assert not refused(mean, actors_behind_relay=5)
    assert refused(builders.trajectory(T, 2 * E + 1), actors_behind_relay=5)


@pytest.mark.parametrize(
    ("games", "largest_reward", "lie"),
    [
        ([(21.0, 21)], 1.0, False),
        ([(21.0, 20)], 1.0, True),
        ([(-21.0, 20)], 1.0, True),
        ([(21.0, 20)], 4.0, False),
        ([(1e6, 20)], np.inf, False),
        ([(0.0, 1)] * T * E, 1.0, False),
        ([(0.0, 1)] * (T * E + 1), 1.0, True),  # more games than env steps
    ],
)
def test_returns_fit_the_lengths_of_their_games(
    games: list[tuple[float, int]], largest_reward: float, lie: bool
) -> None:
    message = played(*games, points_won=10.0, points_lost=10.0)
    assert refused(message, largest_reward=largest_reward) is lie


END = {(5, 1): TERMINATED}


@pytest.mark.parametrize(
    ("message", "largest_reward", "lie"),
    [
        (unroll({}, END, (0.0, 6)), 1.0, False),
        (unroll({}, END), 1.0, True),  # not reported
        (unroll({}, END, (0.0, 6), (0.0, 6)), 1.0, True),  # reported twice
        (unroll({}, {}, (0.0, 6)), 1.0, True),  # never ended
        (unroll({}, END, (0.0, 5)), 1.0, True),  # shorter than the unroll shows
        (unroll({}, END, (-3.0, 60)), 1.0, False),  # began before
        (unroll({}, END | {(7, 1): TRUNCATED}, (0.0, 6), (0.0, 2)), 1.0, False),
        (unroll({}, END | {(7, 1): TRUNCATED}, (0.0, 6), (0.0, 3)), 1.0, True),
        (unroll({(5, 1): 1.0}, END, (1.0, 6)), 1.0, False),
        (unroll({(5, 1): 1.0}, END, (2.0, 6)), 1.0, True),
        (unroll({(5, 1): 1.0}, END, (2.0, 6)), 7.0, False),  # the reward was clipped
        (unroll({(5, 1): 1.0}, END, (8.0, 6)), 7.0, True),
        (unroll({(5, 1): 1.0}, END, (1e6, 6)), np.inf, False),
        (unroll({(5, 1): 1.0}, END, (0.0, 6)), np.inf, True),
        (unroll({(5, 1): -1.0}, END, (3.0, 6)), np.inf, True),  # the other sign
        (unroll({(5, 2): 1.0}, END, (1.0, 6)), np.inf, True),  # in another game
        (unroll({(5, 1): 0.5, (1, 1): 0.25}, END, (0.75, 6)), np.inf, False),
        (unroll({(5, 1): 0.5}, END, (0.75, 6)), np.inf, True),  # not clipped, so the sum is known
        (unroll({(5, 1): 1.5}, END, (1.5, 6)), np.inf, True),  # rewards are clipped
    ],
)
def test_an_unrolls_games_fit_its_own_ends_and_rewards(
    message: Trajectory, largest_reward: float, lie: bool
) -> None:
    assert refused(message, largest_reward=largest_reward) is lie


# --- an account ----------------------------------------------------------------------------------


def accepted(check: Claims, first: int, count: int, *games: tuple[float, int], **more: Any) -> int:
    """Sends messages until one is refused; returns how many were not."""
    for number in range(count):
        if check.check(played(*games, sequence=first + number, **more), first + number):
            return number
    return count


def test_games_cannot_have_lasted_longer_than_their_sender_has_played() -> None:
    """The first 2E may have begun before anybody listened; the others cannot."""
    check = claims()
    assert accepted(check, 0, 1000, *[(0.0, 2 * T)] * E) < 10
    assert accepted(claims(), 0, 1000, *[(0.0, T)] * E) == 1000


def test_returns_cannot_hold_more_points_than_were_reported() -> None:
    games = [(1.0, T)] * E
    assert accepted(claims(), 0, 1000, *games, points_won=float(E)) == 1000
    assert accepted(claims(), 0, 1000, *games, points_won=E - 1.0) < 20
    assert accepted(claims(), 0, 1000, *games, points_lost=float(E)) < 10  # the other sign


def test_without_a_largest_reward_points_of_the_right_sign_are_enough() -> None:
    games = [(1e5, T)] * E
    assert accepted(claims(np.inf), 0, 100, *games, points_won=1.0) == 100
    assert accepted(claims(np.inf), 0, 100, *games, points_lost=1.0) < 10


def test_a_sender_that_restarted_may_have_lost_its_first_messages() -> None:
    check = claims()
    assert (
        check.check(played(*[(0.0, 10**6)] * 2 * E, sequence=100), 1) is None
    )  # none is spared now
    assert check.check(played(*[(0.0, 7 * T)] * E, sequence=6), 10) is None
    assert check.check(played(*[(0.0, 70 * T)] * E, sequence=7), 11) is not None


def test_a_lie_is_not_on_the_account() -> None:
    check = claims()
    assert not refused(played(), check)
    assert refused(played((0.0, 10**6), *[(0.0, 10**5)] * 3 * E, sequence=1), check)
    assert accepted(check, 2, 100, *[(0.0, T)] * E) == 100


# --- honest players are never refused ------------------------------------------------------------


def honest_run(seed: int) -> Iterator[tuple[Claims, Upstream, int]]:
    """Yields what arrives of honest players: messages are lost, players and learner restart."""
    draw = random.Random(seed)
    largest = draw.choice([1.0, 1.0, 7.0, np.inf])
    lengths = draw.choice([(11, 11), (1, 30), (50, 400)])
    kind = draw.choice([as_gradients, lambda one: one])
    games, in_flight = draw.choice([1, 4]), draw.choice([1, 3])
    asked = Asked(games, games * T, in_flight)
    numbers = range(draw.choice([1, 3]))
    players = [
        HonestPlayer(draw, str(n), draw.choice([1, 2, 8]), lengths, largest) for n in numbers
    ]
    check, version = Claims(asked, largest_reward=largest), 1
    for _ in range(300):
        version += 1
        if draw.random() < 0.01:
            check, version = Claims(asked, largest_reward=largest), max(1, version - 5)
        for number, one in enumerate(players):
            if draw.random() < 0.01:  # restarted, under its old name
                one = players[number] = HonestPlayer(draw, one.actor_id, 8, lengths, largest)
            one.resize(draw.randint(1, games))
            for _ in range(draw.randint(0, in_flight)):
                message = one.unroll(draw.randint(1, T))
                if draw.random() > draw.choice([0.0, 0.0, 0.6]):
                    yield check, kind(message), version


@pytest.mark.parametrize("seed", range(24))
def test_no_honest_message_is_ever_refused(seed: int) -> None:
    """Whatever the game, the losses, restarts on both sides and the number of games."""
    arrived = 0
    for check, message, version in honest_run(seed):
        outcome = check.check(message, version)
        assert outcome is None, outcome
        arrived += 1
    assert arrived > 50

"""Counters of a run, and when it reaches its target."""

from __future__ import annotations

import pytest

from asyncade_learner.progress import (
    GAMES_OF_THE_TARGET,
    WINDOW_ENV_STEPS,
    Milestone,
    Progress,
    RecentPoints,
)


def test_without_games_there_are_no_means() -> None:
    progress = Progress()
    assert progress.mean_return() is None
    assert progress.bytes_per_env_step() is None
    assert not progress.reached(-100.0)


def test_the_mean_is_over_the_last_games_but_all_are_counted() -> None:
    progress = Progress()
    progress.count_episodes([3.0, 5.0])
    assert progress.mean_return() == 4.0
    progress.count_episodes([1.0] * 99)
    assert progress.episodes == 101
    assert progress.mean_return() == pytest.approx((5.0 + 99.0) / 100)


@pytest.mark.parametrize(
    ("returns", "target", "reached"),
    [
        ([20.0] * 99, 18.0, False),  # fewer than a hundred games
        ([20.0] * 100, 18.0, True),
        ([18.0] * 100, 18.0, False),  # must be exceeded
        ([-21.0] * 500 + [18.5] * 100, 18.0, True),  # only the last games count
        ([20.0] * 100 + [-21.0] * 100, 18.0, False),
    ],
)
def test_the_target_is_reached_over_a_hundred_games(
    returns: list[float], target: float, reached: bool
) -> None:
    progress = Progress()
    progress.count_episodes(returns)
    assert GAMES_OF_THE_TARGET == 100
    assert progress.reached(target) is reached


def reported(games: dict[str, list[float]], active: int) -> Progress:
    """Returns the progress of a run whose senders reported games in turn, one each."""
    progress, left = Progress(), {player: list(returns) for player, returns in games.items()}
    while any(left.values()):
        for player, returns in left.items():
            if returns:
                progress.count_episodes([returns.pop(0)], player, active)
    return progress


@pytest.mark.parametrize(
    ("players", "active", "reached"),
    [(1, 1, True), (1, 2, False), (2, 2, True), (2, 4, False), (3, 4, True), (49, 1000, False)],
)
def test_the_target_needs_games_of_most_active_senders(
    players: int, active: int, reached: bool
) -> None:
    games = {str(number): [20.0] * 120 for number in range(players)}
    assert reported(games, players).reached(18.0, active) is reached


def test_a_hundred_games_cannot_be_of_most_of_a_thousand_senders() -> None:
    """Then fifty senders are enough."""
    assert reported({str(n): [20.0] * 2 for n in range(50)}, 1000).reached(18.0, 1000)


def test_no_sender_has_more_than_twice_its_share_of_the_recent_games() -> None:
    progress = reported({str(number): [-21.0] * 25 for number in range(4)}, 4)
    progress.count_episodes([21.0] * 1000, "0", 4)
    assert progress.recent_returns.count(21.0) == 50
    assert len(progress.recent_returns) == 100
    assert progress.episodes == 1100
    assert not progress.reached(1.0, 4)


def test_a_resumed_run_reaches_its_target_without_knowing_who_played_before() -> None:
    resumed = Progress()
    resumed.recent_returns.extend([20.0] * 100)
    assert resumed.reached(18.0, 4)
    resumed.count_episodes([-21.0] * 5 + [20.0] * 10, "0", 4)
    assert resumed.reached(17.0, 4)
    assert list(resumed.recent_returns)[-15:] == [-21.0] * 5 + [20.0] * 10
    resumed.count_episodes([20.0] * 200, "0", 4)
    assert resumed.recent_players.count("0") == 50
    assert len(resumed.recent_returns) == 100


def test_a_passed_target_stays_passed() -> None:
    progress = Progress(env_steps=800, seconds=4.0)
    progress.count_episodes([20.0] * 100)
    assert not progress.note_passed(None)
    assert not progress.note_passed(20.0)
    assert progress.passed(18.0) is None
    assert progress.note_passed(18.0)
    progress.env_steps, progress.seconds = 900, 5.0
    progress.count_episodes([-21.0] * 100)
    assert not progress.note_passed(18.0)
    assert progress.passed(18.0) == Milestone(18.0, env_steps=800, seconds=4.0)


def test_another_target_has_to_be_passed_again() -> None:
    progress = Progress(env_steps=800)
    progress.count_episodes([20.0] * 100)
    assert progress.note_passed(18.0)
    assert progress.passed(19.0) is None
    progress.env_steps = 900
    assert progress.note_passed(19.0)
    assert progress.passed(19.0) == Milestone(19.0, env_steps=900, seconds=0.0)


def test_bytes_per_env_step() -> None:
    assert Progress(env_steps=8, received_bytes=400).bytes_per_env_step() == 50.0


def test_two_runs_share_no_games() -> None:
    Progress().count_episodes([1.0])
    assert Progress().mean_return() is None


# --- points --------------------------------------------------------------------------------------


def test_without_play_there_is_no_point_share() -> None:
    points = RecentPoints()
    assert (points.share(), points.reward_per_env_step(), points.full) == (None, None, False)
    points.count(10, 0.0, 0.0)
    assert (points.share(), points.reward_per_env_step()) == (None, 0.0)


def test_the_share_is_of_the_points_played() -> None:
    points = RecentPoints()
    points.count(100, 1.0, 3.0)
    points.count(100, 6.0, 0.0)
    assert points.share() == pytest.approx((7 - 3) / (7 + 3))
    assert points.reward_per_env_step() == pytest.approx(4 / 200)


def test_a_game_that_takes_no_points_has_no_share() -> None:
    points = RecentPoints()
    points.count(100, 5.0, 0.0)
    assert points.share() is None
    assert points.reward_per_env_step() == 0.05


def test_only_the_last_env_steps_count() -> None:
    points = RecentPoints()
    half = WINDOW_ENV_STEPS // 2
    points.count(half, 0.0, 8.0)
    assert not points.full
    points.count(half, 3.0, 1.0)
    assert points.full
    assert points.share() == pytest.approx((3 - 9) / 12)
    points.count(half - 1, 4.0, 0.0)  # the first message is still needed to fill the window
    assert points.share() == pytest.approx((7 - 9) / 16)
    points.count(1, 0.0, 0.0)
    assert points.full
    assert points.share() == pytest.approx((7 - 1) / 8)
    assert points.reward_per_env_step() == pytest.approx(6 / WINDOW_ENV_STEPS)
    points.count(10 * WINDOW_ENV_STEPS, 2.0, 0.0)
    assert points.share() == 1.0  # nothing was lost any more, though it can be

"""Conclusions: when the numbers flip, so do the sentences."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from asyncade_cli.compare_costs import UnitCosts, cluster, crossover, step_ratio
from asyncade_cli.compare_figures import RunFigures, figures_of
from asyncade_cli.compare_report import Comparison, draw_curves, render, spread_text
from asyncade_cli.compare_seeds import Equal, ModeFigures, Spread, mode_figures
from asyncade_cli.compare_words import bottleneck_words, cluster_words, duration, machine_words

EQUAL = Equal(seconds=100.0, env_steps=1000)


def rows_to(seconds: float | None, env_steps: int, mean: float = -10.0) -> list[dict[str, Any]]:
    """Rows of a run that is at `mean` in between, and reaches 18 at these seconds, or never."""
    end = 400.0 if seconds is None else seconds
    last = {"mean_return_100": 10.0 if seconds is None else 18.5, "episodes": 200}
    return [
        {"seconds": 1.0, "env_steps": 0, "updates": 1, "episodes": 0, "mean_return_100": None},
        {"seconds": 50, "env_steps": 900, "updates": 2, "episodes": 50, "mean_return_100": mean},
        {"seconds": end, "env_steps": env_steps, "updates": 9, "policy_lag_mean": 1.0} | last,
    ]


def processes(learner: float, actor: float, cores: float = 1.0) -> dict[str, Any]:
    """Costs of an env step in milliseconds; 1000 bytes a version, one version in 100 env steps."""
    seconds = (learner + actor) / cores
    return {
        "seconds": seconds,
        "learner": {
            "cpu_seconds": learner,
            "env_steps": 1000,
            "published": 10,
            "published_bytes": 10_000,
        },
        "actors": {
            "actor-0": {
                "cpu_seconds": actor,
                "env_steps": 1000,
                "messages_sent": 20,
                "stage_seconds": {"wait": 1.0, "environment": 9.0},
            }
        },
    }


Run = tuple[RunFigures, list[dict[str, Any]]]


def a_run(mode: str, rows: list[dict[str, Any]], up: float, told: Any, seed: int = 1) -> Run:
    last = rows[-1]
    summary = {
        **{"mode": mode, "game": "pong", "seed": seed, "actors": 1, "cores": 2, "commit": "c0ffee"},
        **{name: last[name] for name in ("seconds", "env_steps", "updates", "mean_return_100")},
        **{"ended_by": "target", "bytes_per_env_step": up, "torch_threads": 1, "episodes": 200},
    }
    return figures_of(f"runs/{mode}-{seed}", summary, rows, told, 18.0), rows


def a_mode(
    mode: str,
    seconds: Sequence[float | None],
    env_steps: int = 10_000,
    *,
    mean: float = -10.0,
    up: float = 50.0,
    told: Any = None,
) -> ModeFigures:
    runs = [
        a_run(mode, rows_to(end, env_steps, mean), up, told, seed)
        for seed, end in enumerate(seconds, 1)
    ]
    return mode_figures(mode, runs, EQUAL)


def said(data: ModeFigures, gradients: ModeFigures) -> str:
    return "\n".join(machine_words(data, gradients, EQUAL))


@pytest.mark.parametrize(
    ("data", "gradients", "choice"), [(200, 300, "data mode"), (300, 200, "gradient mode")]
)
def test_the_mode_that_is_sooner_at_the_target_is_the_choice(
    data: float, gradients: float, choice: str
) -> None:
    words = said(a_mode("data", [data]), a_mode("gradients", [gradients]))
    assert f"To the target, {choice} is the choice on this machine**: 1.50 times as fast" in words
    assert "One seed of a mode is an anecdote" in words


@pytest.mark.parametrize(
    ("data", "gradients", "choice", "loser"),
    [
        ([200], [None], "data mode", "gradient mode"),
        ([None, None, 200], [100, 390, None], "gradient mode", "data mode"),
    ],
)
def test_a_target_that_is_not_reached_is_said_plainly(
    data: list[float | None], gradients: list[float | None], choice: str, loser: str
) -> None:
    words = said(a_mode("data", data), a_mode("gradients", gradients))
    assert f"{choice} is the choice on this machine" in words
    assert f"{loser} did not get there in at least half of its runs" in words


def test_when_neither_gets_there_equal_time_decides() -> None:
    words = said(a_mode("data", [None], mean=-5), a_mode("gradients", [None], mean=-7))
    assert "reached in 0 of 1 data-mode runs and 0 of 1 gradient-mode runs" in words
    assert "Neither mode reached it within the budget" in words
    assert "the choice on this machine" not in words
    assert "data mode is ahead by 2.00" in words
    words = said(a_mode("data", [None], mean=-9), a_mode("gradients", [None], mean=-7))
    assert "gradient mode is ahead by 2.00" in words
    assert "the two are equal" in said(a_mode("data", [None]), a_mode("gradients", [None]))


@pytest.mark.parametrize(
    ("data", "gradients", "certain"),
    [
        ([100, 200], [300, 390], True),
        ([100, 310], [300, 390], False),
        ([100, 150, None], [300, 390, 380], False),
        ([100, 200], [None, None], True),
    ],
)
def test_overlapping_seeds_leave_the_order_open(
    data: list[float | None], gradients: list[float | None], certain: bool
) -> None:
    words = said(a_mode("data", data), a_mode("gradients", gradients))
    assert ("Every seed of the one was ahead of every seed of the other" in words) == certain
    assert ("ranges overlap" in words) == (not certain)
    assert ("data mode is the choice on this machine" in words) == certain
    assert ("neither mode is clearly the choice" in words) == (not certain)


def test_the_difference_is_split_into_rate_and_need() -> None:
    words = said(a_mode("data", [201], 10_000), a_mode("gradients", [201], 40_000))
    assert "Gradient mode plays 4.00 times as many env steps/s" in words
    assert "It needs 4.00 times as many of them to the target (40,000 against 10,000)" in words


def with_shares(learner_wait: float, actor_wait: float | None, cores_used: float) -> ModeFigures:
    figures = a_mode("data", [200])
    actor = None if actor_wait is None else {"wait": actor_wait, "environment": 1 - actor_wait}
    spreads = {**figures.spreads, "cores_used": Spread.of([cores_used])}
    learner = {"wait": learner_wait, "forward_backward": 1 - learner_wait}
    return dataclasses.replace(figures, learner_shares=learner, actor_shares=actor, spreads=spreads)


@pytest.mark.parametrize(
    ("learner_wait", "actor_wait", "cores_used", "bottleneck"),
    [
        (0.05, 0.60, 1.2, "the learner, which the actors wait for"),
        (0.60, 0.05, 1.2, "the actors, which the learner waits for"),
        (0.50, 0.50, 1.2, "neither side, which wait for each other in turn"),
        (0.05, 0.60, 1.9, "the machine: its processes use 1.90 of 2 cores"),
        (0.05, None, 1.2, "the learner: the learner works 95%"),
        (0.60, None, 1.2, "not the learner: the learner works 40%"),
    ],
)
def test_the_bottleneck_is_the_process_that_does_not_wait(
    learner_wait: float, actor_wait: float | None, cores_used: float, bottleneck: str
) -> None:
    words = bottleneck_words(with_shares(learner_wait, actor_wait, cores_used))
    assert f"Data mode: the bottleneck is {bottleneck}" in words
    assert "forward_backward" in words


def costs(mode: str, learner: float, actor: float, up: float = 50.0) -> UnitCosts:
    """Costs in milliseconds."""
    return UnitCosts(
        mode=mode,
        learner=learner / 1e3,
        actor=actor / 1e3,
        bytes_up=up,
        bytes_down=100.0,
        bytes_down_per_version=1000.0,
        env_steps_per_message=50.0,
    )


def test_actors_saturate_a_learner_where_their_rates_meet() -> None:
    one = costs("data", learner=0.25, actor=1.0)
    assert one.saturating_actors == pytest.approx(4.0)
    assert one.learner_ceiling == pytest.approx(4000)
    assert one.rate(3) == pytest.approx(3000)
    assert one.rate(5) == pytest.approx(4000)
    assert one.rate(5, link=100_000) == pytest.approx(1000)  # 100 bytes down per env step
    assert one.seconds_per_message == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("learner", "actor", "ratio", "winner", "actors"),
    [
        (0.1, 2.0, None, "data then gradients", 4.0),
        (0.1, 2.0, 1.5, "data then gradients", 6.0),  # it needs more env steps
        (0.1, 2.0, 6.0, "data", None),  # so many that its learner gains nothing
        (0.6, 2.0, None, "data", None),
        (0.1, 0.9, None, "gradients", None),
        (0.6, 0.5, None, "gradients then data", 1 / 0.6),
    ],
)
def test_where_the_lead_changes_follows_from_the_costs(
    learner: float, actor: float, ratio: float | None, winner: str, actors: float | None
) -> None:
    data, gradients = costs("data", 0.5, 1.0), costs("gradients", learner, actor)
    found = crossover(data, gradients, ratio)
    assert found.winner == winner
    assert found.actors == (None if actors is None else pytest.approx(actors))
    if found.actors is not None:
        g = ratio or 1.0
        for near, sign in ((found.actors * 0.99, -1), (found.actors * 1.01, 1)):
            ahead = gradients.rate(near) / g - data.rate(near)
            assert ahead * sign * (1 if winner.startswith("data") else -1) > 0


def test_the_network_that_is_needed_follows_from_the_bytes() -> None:
    found = crossover(costs("data", 0.5, 1.0), costs("gradients", 0.1, 2.0, up=100_000), 1.5)
    assert found.env_steps_per_second == pytest.approx(3000)
    assert found.link_needed == pytest.approx(3000 * 100_000)


def cluster_said(learner: float, actor: float, up: float) -> str:
    data = a_mode("data", [200], told=processes(0.5, 1.0))
    gradients = a_mode("gradients", [200], up=up, told=processes(learner, actor))
    return "\n".join(cluster_words(cluster(data, gradients)))


def test_the_cluster_is_told_in_formulae_and_numbers() -> None:
    words = cluster_said(learner=0.1, actor=2.0, up=100_000)
    assert (
        "c_A / c_L = 1.000 ms / 0.500 ms = **2.0 actors**, at 1 / c_L = 2,000 env steps/s" in words
    )
    assert "**20.0 actors**" in words  # in gradient mode
    assert "Data mode below N = g c_A' / c_L = 4.0 actors per learner core" in words
    assert "g u' / c_L = 200.0 MB/s up" in words
    assert "(1.60 Gbit/s each way)" in words
    assert "10 Gbit/s is enough; 1 Gbit/s is not" in words


@pytest.mark.parametrize(
    ("learner", "actor", "up", "conclusion"),
    [
        (0.6, 2.0, 50.0, "**Data mode with any number of actors**"),
        (0.1, 0.9, 50.0, "**Gradient mode with any number of actors**"),
        (0.6, 0.5, 50.0, "**Gradient mode below N = c_A / (g c_L') = 1.7 actors"),
        (0.1, 2.0, 50.0, "1 Gbit/s is enough."),
        (0.1, 2.0, 1e8, "not even 100 Gbit/s is enough, so **data mode stays ahead**"),
    ],
)
def test_the_cluster_conclusion_flips_with_the_costs(
    learner: float, actor: float, up: float, conclusion: str
) -> None:
    assert conclusion in cluster_said(learner, actor, up)


def test_the_env_steps_needed_weigh_in_only_if_both_got_there() -> None:
    data = a_mode("data", [200], 10_000, told=processes(0.5, 1.0))
    slow = a_mode("gradients", [200], 20_000, told=processes(0.1, 2.0))
    lost = a_mode("gradients", [None], 20_000, told=processes(0.1, 2.0))
    assert step_ratio(data, slow) == 2.0
    assert step_ratio(data, lost) is None
    assert "= 8.0 actors per learner core" in "\n".join(cluster_words(cluster(data, slow)))
    words = "\n".join(cluster_words(cluster(data, lost)))
    assert "= 4.0 actors per learner core" in words
    assert "by env steps/s alone (g = 1: the target was not reached in both modes)" in words


def test_without_samples_nothing_is_foretold() -> None:
    data, gradients = a_mode("data", [200], told=processes(1, 1)), a_mode("gradients", [200])
    assert cluster(data, gradients) is None
    assert cluster_words(None)[0].startswith("Not computable")


def comparison(told: Any) -> Comparison:
    data = a_mode("data", [200, 220, None], told=told)
    gradients = a_mode("gradients", [None, None, None], up=150_000.0, told=told)
    return Comparison(
        title="pong, 1 actors",
        command="asyncade compare --seeds 1,2,3",
        data=data,
        gradients=gradients,
        equal=EQUAL,
        cluster=cluster(data, gradients),
    )


def test_the_report_holds_figures_words_and_assumptions() -> None:
    text = render(comparison(processes(0.5, 1.0)))
    assert "Made by `asyncade compare --seeds 1,2,3`" in text
    spread = "3 min 40 s (3 min 20 s to 3 min 40 s; not reached in 1 of 3)"
    assert f"| wall time to the target | {spread} | not reached |" in text
    assert "| learner core time per env step | 0.500 ms (0.500 ms to 0.500 ms) |" in text
    assert "| environment | 90.0% | 90.0% |" in text
    assert "| actors | data, 1 Gbit/s |" in text
    assert "Assumptions:" in text
    assert "commit c0ffee, 2 cores" in text.replace("Commit", "commit")


def test_a_report_says_what_was_not_measured() -> None:
    text = render(comparison(None))
    assert "Stage shares of the actors: not measured" in text
    assert "| cores used | not measured | not measured |" in text
    assert "Not computable" in text
    assert "Assumptions" not in text


def test_a_spread_is_written_with_its_ends() -> None:
    assert spread_text(Spread.of([2.0]), str) == "2.0"
    assert spread_text(Spread.of([1.0, 3.0]), str) == "2.0 (1.0 to 3.0)"
    lost = Spread.of([1.0, None], absent_is_more=True)
    assert spread_text(lost, str, "not reached") == "not reached in 1 of 2; else from 1.0"


def test_durations_are_readable() -> None:
    assert [duration(s) for s in (0.25, 59.94, 59.99, 119.6)] == [
        *("0.2 s", "59.9 s", "60.0 s", "2 min 0 s"),
    ]


def test_the_curves_are_a_png(tmp_path: Path) -> None:
    runs = [
        a_run("data", rows_to(200, 10_000), 50.0, None),
        a_run("gradients", rows_to(None, 10_000), 50.0, None),
    ]
    draw_curves(runs, "pong", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")

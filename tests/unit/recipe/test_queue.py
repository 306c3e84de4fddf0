from __future__ import annotations

from collections.abc import Mapping

from bench.recipe.queue import behind, missing


def runs_of(steps: Mapping[str, list[int]]) -> dict[str, list[dict[str, int]]]:
    return {
        arm: [{"seed": seed, "share": one} for seed, one in enumerate(played, start=1)]
        for arm, played in steps.items()
    }


BASE = [200_000, 240_000, 180_000, 220_000]


def test_seeds_come_before_arms_so_that_arms_can_be_compared_early() -> None:
    order, runs = [], runs_of({"base": [], "other": []})
    while (following := missing(["base", "other"], [1, 2], runs, [])) is not None:
        order.append(following)
        runs[following[0]].append({"seed": following[1], "share": 200_000})
    assert order == [("base", 1), ("other", 1), ("base", 2), ("other", 2)]


def test_what_was_played_or_is_under_way_is_not_played_again() -> None:
    runs = runs_of({"base": [200_000], "other": []})
    assert missing(["base", "other"], [1], runs, [("other", 1)]) is None


def test_an_arm_that_is_clearly_behind_after_four_seeds_is_not_played_on() -> None:
    twice = [2 * one for one in BASE]
    runs = runs_of({"base": BASE, "slow": twice})
    assert behind(runs, "slow", "base")
    assert missing(["base", "slow"], [1, 2, 3, 4, 5], runs, [("base", 5)]) is None


def test_an_arm_is_not_behind_by_luck_or_after_three_seeds() -> None:
    by_luck = [240_000, 200_000, 230_000, 190_000]
    assert not behind(runs_of({"base": BASE, "even": by_luck}), "even", "base")
    three = [5 * one for one in BASE[:3]]
    assert not behind(runs_of({"base": BASE[:3], "slow": three}), "slow", "base")


def test_only_seeds_that_both_have_played_are_compared() -> None:
    runs = runs_of({"base": BASE, "other": BASE})
    runs["other"] += [{"seed": seed, "share": 300_000} for seed in range(5, 12)]
    assert not behind(runs, "other", "base")


def test_the_base_is_never_behind() -> None:
    assert not behind(runs_of({"base": BASE}), "base", "base")

from __future__ import annotations

import pytest

from asyncade_learner.metrics import STAGES
from asyncade_runtime import bottleneck as module
from asyncade_runtime.bottleneck import bottleneck


@pytest.mark.parametrize(
    ("shares", "name", "cure"),
    [
        ({"wait": 0.8, "optimise": 0.2}, "actors", "add actors"),
        ({"wait": 0.2, "forward_backward": 0.5, "optimise": 0.3}, "learner", "GPU"),
        ({"decode": 0.7, "wait": 0.3}, "messages", "relays"),
        ({"publish": 0.7, "wait": 0.3}, "writing", "relays"),
        ({"wait": 0.5, "forward_backward": 0.5}, "turns", "more actors"),
    ],
)
def test_the_largest_share_names_the_limit_and_its_cure(
    shares: dict[str, float], name: str, cure: str
) -> None:
    found = bottleneck(shares)

    assert found is not None
    assert found.name == name
    assert cure in found.cure


def test_on_one_machine_more_actors_are_no_cure() -> None:
    for shares in ({"wait": 0.8}, {"wait": 0.5, "optimise": 0.5}):
        found = bottleneck(shares, one_machine=True)
        assert found is not None
        assert "actors" not in found.cure


def test_nothing_measured_names_nothing() -> None:
    assert bottleneck({}) is None


def test_every_stage_of_the_learner_is_counted() -> None:
    counted = module._WAITING + module._RECEIVING + module._TRAINING + module._WRITING
    assert sorted(counted) == sorted(STAGES)

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from asyncade_rl.games import UnknownGameError
from asyncade_rl.network import ActorCritic, make_network
from asyncade_rl.params import ModelMismatchError, fingerprint, to_safetensors
from asyncade_rl.session import Session
from builders import ASSIGNMENT
from rigs.play import Arcade, weights_of


def make_session(**options: Any) -> tuple[Session, Arcade]:
    arcade = Arcade()
    plain = {"envs": 2, "make_environments": arcade}
    return Session("catch", "small", **plain | options), arcade


def outputs(network: ActorCritic) -> torch.Tensor:
    with torch.inference_mode():
        return network(torch.arange(4 * 84 * 84).view(1, 4, 84, 84).to(torch.uint8))[0]


def test_environments_start_once_and_as_configured() -> None:
    session, arcade = make_session(repeat_action_probability=0.25, env_threads=3)
    assert arcade.asked == []
    assert session.environments is session.environments is arcade.made[0]
    assert arcade.asked == [("catch", 2, {"repeat_action_probability": 0.25, "num_threads": 3})]
    session.close()
    assert arcade.closed() == [True]


def test_closing_starts_no_environments() -> None:
    session, arcade = make_session()
    session.close()
    assert arcade.asked == []


def test_inference_uses_the_loaded_weights() -> None:
    """Inference holds converted parameters, which every load must renew."""
    session, _ = make_session(precision="bfloat16")  # which publication does not change
    one, other = (make_network(3, "small", seed=seed) for seed in (1, 2))
    one.precision = other.precision = "bfloat16"
    session.load(weights_of(one))
    with torch.no_grad():
        session.network.convolutions[0].weight.zero_()  # not the divided ones that are held
    assert torch.equal(outputs(session.network), outputs(one))
    session.load(weights_of(other))
    assert torch.equal(outputs(session.network), outputs(other))
    session.load_tensors(one.state_dict())
    assert torch.equal(outputs(session.network), outputs(one))


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": "0123456789abcdef"},
        {"safetensors": b"no safetensors"},
        {"safetensors": to_safetensors(make_network(4, "small"))},
    ],
    ids=["fingerprint", "bytes", "tensors"],
)
def test_refused_weights_change_nothing_and_start_no_games(wrong: dict[str, Any]) -> None:
    session, arcade = make_session(seed=5)
    before = outputs(session.network)
    with pytest.raises(ModelMismatchError):
        session.load(weights_of(make_network(3, "small", seed=1), **wrong))
    assert torch.equal(outputs(session.network), before)
    assert arcade.asked == []


def test_a_session_plays_assignments_of_its_game_network_and_stickiness() -> None:
    session, _ = make_session(repeat_action_probability=0.25)
    made_for = replace(ASSIGNMENT, repeat_action_probability=0.25)
    assert session.plays(made_for)
    assert session.plays(replace(made_for, unroll_length=99, request="gradients"))
    for change in ({"game": "pong"}, {"network": "nature"}, {"repeat_action_probability": 0.0}):
        assert not session.plays(replace(made_for, **change))


def test_the_network_is_as_configured() -> None:
    session, _ = make_session(precision="bfloat16", seed=3)
    assert session.network.precision == "bfloat16"
    assert session.model == fingerprint(session.network)
    twin = make_network(3, "small", seed=3)
    assert torch.equal(session.network.policy.weight, twin.policy.weight)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnknownGameError):
        Session("pongg", "small", envs=1)
    with pytest.raises(ValueError, match="large"):
        Session("pong", "large", envs=1)

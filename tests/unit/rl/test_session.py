from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

import builders
from asyncade_proto.messages import Weights
from asyncade_rl.envs.catch import Catch
from asyncade_rl.games import UnknownGameError
from asyncade_rl.network import ActorCritic, make_network
from asyncade_rl.params import ModelMismatchError, fingerprint, to_safetensors
from asyncade_rl.session import Session
from builders import ASSIGNMENT


class Games(Catch):
    closed = False

    def close(self) -> None:
        self.closed = True


class Rig:
    """A session, and what it asked for."""

    def __init__(self, **options: Any) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.games: list[Games] = []
        plain = {"envs": 2, "make_environments": self.make_environments}
        self.session = Session("catch", "small", **plain | options)

    def make_environments(self, game: str, envs: int, **options: Any) -> Games:
        self.asked.append((game, envs, options))
        self.games.append(Games(envs))
        return self.games[-1]


def published(network: ActorCritic, **fields: Any) -> Weights:
    plain = {"model": fingerprint(network), "safetensors": to_safetensors(network)}
    return builders.weights(**plain | fields)


def outputs(network: ActorCritic) -> torch.Tensor:
    with torch.inference_mode():
        return network(torch.arange(4 * 84 * 84).view(1, 4, 84, 84).to(torch.uint8))[0]


def test_environments_start_once_and_as_asked() -> None:
    rig = Rig(repeat_action_probability=0.25, env_threads=3)
    assert rig.asked == []
    assert rig.session.environments is rig.session.environments is rig.games[0]
    assert rig.asked == [("catch", 2, {"repeat_action_probability": 0.25, "num_threads": 3})]
    rig.session.close()
    assert rig.games[0].closed


def test_closing_starts_nothing() -> None:
    rig = Rig()
    rig.session.close()
    assert rig.asked == []


def test_loaded_weights_are_the_ones_inference_uses() -> None:
    """Inference holds converted parameters, which every load must renew."""
    session = Rig().session
    one, other = (make_network(3, "small", seed=seed) for seed in (1, 2))
    session.load(published(one))
    with torch.no_grad():
        session.network.convolutions[0].weight.zero_()  # not the divided ones that are held
    assert torch.equal(outputs(session.network), outputs(one))
    session.load(published(other))
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
def test_other_weights_change_nothing_and_start_no_games(wrong: dict[str, Any]) -> None:
    rig = Rig(seed=5)
    before = outputs(rig.session.network)
    with pytest.raises(ModelMismatchError):
        rig.session.load(published(make_network(3, "small", seed=1), **wrong))
    assert torch.equal(outputs(rig.session.network), before)
    assert rig.asked == []


def test_it_plays_what_it_was_made_for() -> None:
    session = Rig(repeat_action_probability=0.25).session
    made_for = replace(ASSIGNMENT, repeat_action_probability=0.25)
    assert session.plays(made_for)
    assert session.plays(replace(made_for, unroll_length=99, request="gradients"))
    for change in ({"game": "pong"}, {"network": "nature"}, {"repeat_action_probability": 0.0}):
        assert not session.plays(replace(made_for, **change))


def test_the_network_is_as_asked() -> None:
    session = Rig(precision="bfloat16", seed=3).session
    assert session.network.precision == "bfloat16"
    assert session.model == fingerprint(session.network)
    twin = make_network(3, "small", seed=3)
    assert torch.equal(session.network.policy.weight, twin.policy.weight)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnknownGameError):
        Session("pongg", "small", envs=1)
    with pytest.raises(ValueError, match="large"):
        Session("pong", "large", envs=1)

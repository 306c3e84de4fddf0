"""What playing needs: environments that record how they are used, a header, weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

from prometheus_client import CollectorRegistry

import builders
from asyncade_actor.metrics import ActorMetrics
from asyncade_actor.player import Header, Player
from asyncade_proto.messages import Trajectory, Weights
from asyncade_rl.envs.catch import Catch
from asyncade_rl.network import ActorCritic
from asyncade_rl.params import fingerprint, to_safetensors
from asyncade_runtime.stages import Stages


class Games(Catch):
    """Catch that counts its steps and runs callbacks before some of them."""

    def __init__(self, num_envs: int, before_step: dict[int, Callable[[], None]]) -> None:
        super().__init__(num_envs)
        self.before_step = before_step
        self.steps = 0
        self.closed = False

    def close(self) -> None:
        self.closed = True

    def step(self, actions: Any) -> Any:
        assert not self.closed
        self.before_step.pop(self.steps, lambda: None)()
        self.steps += 1
        return super().step(actions)


class Arcade:
    """A `make_environments` that makes Catch for every game.

    Attributes:
        asked: game, number of environments and keyword arguments of each call.
        made: the environments, in order.
        before_step: callbacks by the number of the step that they precede.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, dict[str, Any]]] = []
        self.made: list[Games] = []
        self.before_step: dict[int, Callable[[], None]] = {}

    def __call__(self, game: str, envs: int, **options: Any) -> Games:
        self.asked.append((game, envs, options))
        self.made.append(Games(envs, self.before_step))
        return self.made[-1]

    def closed(self) -> list[bool]:
        return [games.closed for games in self.made]


class Replay(Player):
    """A player that has played given unrolls."""

    def __init__(self, *unrolls: Trajectory) -> None:
        self._unrolls = list(unrolls)

    def play(self, *_: object, **__: object) -> Iterator[None]:
        return iter(())

    def trajectory(self, header: Header) -> Trajectory:
        return replace(self._unrolls.pop(0), **asdict(header))


def weights_of(network: ActorCritic, **fields: Any) -> Weights:
    plain = {"model": fingerprint(network), "safetensors": to_safetensors(network)}
    return builders.weights(**plain | fields)


def header(**fields: Any) -> Header:
    """Returns the first fields of a message of actor "a"."""
    plain = {"actor_id": "a", "sequence": 0, "policy_version": 1, "model": builders.MODEL}
    return Header(**plain | fields)


def actor_stages() -> Stages:
    return ActorMetrics(CollectorRegistry()).stages

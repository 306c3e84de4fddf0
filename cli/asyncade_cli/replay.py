"""Messages that are recorded once and sent many times with new headers, for `loadgen`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

import torch
from prometheus_client import CollectorRegistry

from asyncade_actor.metrics import ActorMetrics
from asyncade_actor.modes import make_mode, next_message
from asyncade_actor.player import Header, Player
from asyncade_cli.settings import LoadgenSettings
from asyncade_proto.codec import encode, join, split
from asyncade_proto.messages import Assignment, Upstream
from asyncade_rl.devices import fastest_precision
from asyncade_rl.games import num_actions
from asyncade_rl.objective import minibatches_per_pass
from asyncade_rl.session import Session

_MAX_GRADIENTS_OF_AN_UNROLL: Final = 1024


class LoadgenError(RuntimeError):
    """The learner is missing or not the intended one. The message names the remedy."""


class RecordedMessage:
    """An encoded message whose header can be replaced.

    Args:
        frame: made by `encode`.
        env_steps: reported by the message.
    """

    def __init__(self, frame: bytes, env_steps: int) -> None:
        self._header, self._arrays = split(frame)
        self.env_steps = env_steps

    def frame(self, **fields: object) -> bytes:
        """Returns the frame with these header fields replaced."""
        return join(self._header | fields, [self._arrays])


@dataclass(frozen=True, slots=True)
class Recording:
    """Messages to replay in turn.

    Attributes:
        messages: in order.
        sent_per_message: times each is sent in a row: 1 for a trajectory, the number of gradients
            per unroll for a gradient. Only the first reports the unroll's env steps.
    """

    messages: Sequence[RecordedMessage]
    sent_per_message: int = 1


def record_messages(
    assignment: Assignment, *, game: str, envs: int, count: int, seed: int
) -> list[Upstream]:
    """Plays with an untrained network and returns the messages an actor would send.

    Args:
        assignment: kind of message, unroll length and objective.
        game: game to play; it decides the network's number of actions.
        envs: games in parallel.
        count: trajectories to record; of gradients one is recorded, as values do not affect costs.
        seed: of network and games.
    """
    stages = ActorMetrics(CollectorRegistry()).stages
    session = Session(
        game,
        assignment.network,
        envs=envs,
        repeat_action_probability=assignment.repeat_action_probability,
        precision=fastest_precision(torch.device("cpu")),
        seed=seed,
    )
    header = Header(actor_id="recorded", sequence=0, policy_version=0, model=session.model)
    with closing(session):
        player = Player(session.environments, seed, stages)
        mode = make_mode(assignment.request, player, session.network, stages, seed)
        messages = 1 if assignment.request == "gradients" else count
        return [next_message(mode, assignment, header) for _ in range(messages)]


def record(assignment: Assignment, settings: LoadgenSettings) -> Recording:
    """Records the messages of an assignment.

    Raises:
        LoadgenError: the game has actions that the learner's game lacks.
    """
    game = settings.game or assignment.game
    if num_actions(game) > num_actions(assignment.game):
        raise LoadgenError(
            f"{game} has {num_actions(game)} actions, the learner's {assignment.game} has "
            f"{num_actions(assignment.game)}: choose another --game, or leave it out"
        )
    torch.set_num_threads(1)
    envs = min(settings.envs, assignment.games or settings.envs)
    played = record_messages(
        assignment, game=game, envs=envs, count=settings.unrolls, seed=settings.seed
    )
    messages = [RecordedMessage(encode(message), message.env_steps) for message in played]
    if assignment.request == "trajectories":
        return Recording(messages)
    objective = assignment.objective
    samples = envs * assignment.unroll_length
    gradients = objective.passes * minibatches_per_pass(samples, objective)
    return Recording(messages, min(gradients, _MAX_GRADIENTS_OF_AN_UNROLL))

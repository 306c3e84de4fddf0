"""Messages that are recorded once and sent many times with new headers, for `loadgen`."""

from __future__ import annotations

from contextlib import closing

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
from asyncade_rl.session import Session


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


def record(assignment: Assignment, settings: LoadgenSettings) -> list[RecordedMessage]:
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
    return [RecordedMessage(encode(message), message.env_steps) for message in played]

"""Players that report what they have played, of games of random lengths and points."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np

import builders
from asyncade_proto.messages import (
    STACK,
    TERMINATED,
    TRUNCATED,
    Episodes,
    Gradients,
    Trajectory,
)


@dataclass
class HonestPlayer:
    """Plays games of random lengths and points; their number and the unroll's length change."""

    draw: random.Random
    actor_id: str
    envs: int
    lengths: tuple[int, int]
    largest_reward: float
    sequence: int = 0
    running: list[list[float]] = field(default_factory=list)  # env steps, return, length of each

    def resize(self, asked: int) -> None:
        """As `GameGroups`: a game may be dropped where its episode has just begun."""
        self.running = [one for one in self.running if one[0] or self.draw.random() < 0.5]
        while len(self.running) < min(asked, self.envs):
            self.running.append([0.0, 0.0, self._length()])

    def unroll(self, steps: int) -> Trajectory:
        games = len(self.running)
        rewards, ends = np.zeros((steps, games), np.float32), np.zeros((steps, games), np.uint8)
        returns, lengths = [], []
        for step in range(steps):
            for number, one in enumerate(self.running):
                reward = self._reward()
                one[0], one[1] = one[0] + 1, one[1] + reward
                rewards[step, number] = max(-1.0, min(1.0, reward))
                if one[0] >= one[2]:
                    ends[step, number] = self.draw.choice((TERMINATED, TRUNCATED))
                    returns.append(one[1])
                    lengths.append(one[0])
                    self.running[number] = [0.0, 0.0, self._length()]
        self.sequence += 1
        return Trajectory(
            actor_id=self.actor_id,
            sequence=self.sequence - 1,
            policy_version=0,
            model="",
            frames=np.zeros((games, steps + STACK, 1, 1), np.uint8),
            actions=np.zeros((steps, games), np.uint8),
            behaviour_log_probs=np.zeros((steps, games), np.float32),
            rewards=rewards,
            ends=ends,
            bootstrap_values=np.zeros(int((ends == TRUNCATED).sum()), np.float32),
            episodes=Episodes(
                returns=np.array(returns, np.float32), lengths=np.array(lengths, np.int32)
            ),
        )

    def _length(self) -> float:
        return float(self.draw.randint(*self.lengths))

    def _reward(self) -> float:
        if self.draw.random() < 0.7:
            return 0.0
        largest = self.largest_reward if self.largest_reward < np.inf else 300.0
        return self.draw.uniform(-largest, largest) if largest > 1 else self.draw.choice((-1, 1))


def as_gradients(one: Trajectory) -> Gradients:
    return builders.gradients(
        actor_id=one.actor_id,
        sequence=one.sequence,
        samples=one.env_steps,
        env_steps=one.env_steps,
        episodes=one.episodes,
        points_won=one.points_won,
        points_lost=one.points_lost,
    )

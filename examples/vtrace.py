"""V-trace on your own data, without the services: python examples/vtrace.py.

A walker on five fields goes right or left; beyond the right end is a reward of 1, beyond the left
end nothing. The data come from a policy that goes right half of the time. What we want to know is
each field's value under another one, which goes right four times in five. V-trace learns it from
those data, with a table of five values in place of a network.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from asyncade_rl.vtrace import vtrace

FIELDS = 5
DISCOUNT = 0.95
BEHAVIOUR, TARGET = 0.5, 0.8  # probabilities of going right
T, B = 20, 64  # steps of an unroll, unrolls

Record = tuple[Tensor, Tensor, Tensor, Tensor]


def play(rng: np.random.Generator) -> Record:
    """Returns what a data set has to hold.

    The fields walked on, int64 [T + 1, B]; whether each step went right, bool [T, B]; rewards and
    discounts, float32 [T, B]. The discount is 0 where an episode ended; the next step begins
    another one, in the same unroll.
    """
    fields = np.zeros((T + 1, B), dtype=np.int64)
    fields[0] = rng.integers(FIELDS, size=B)
    right = rng.random((T, B)) < BEHAVIOUR
    rewards, discounts = np.zeros((2, T, B), dtype=np.float32)
    for t in range(T):
        then = fields[t] + np.where(right[t], 1, -1)
        over = (then < 0) | (then == FIELDS)
        rewards[t], discounts[t] = then == FIELDS, np.where(over, 0, DISCOUNT)
        fields[t + 1] = np.where(over, rng.integers(FIELDS, size=B), then)
    return (
        torch.from_numpy(fields),
        torch.from_numpy(right),
        torch.from_numpy(rewards),
        torch.from_numpy(discounts),
    )


def log_probs(right: Tensor, probability: float) -> Tensor:
    """Returns the log-probabilities of what was done, under a policy that goes right this often."""
    return torch.where(right, probability, 1 - probability).log()


def learn(seed: int = 0, batches: int = 300, step_size: float = 0.1) -> Tensor:
    """Returns the values of the fields under the target policy, float32 [FIELDS]."""
    rng = np.random.default_rng(seed)
    values = torch.zeros(FIELDS)
    for _ in range(batches):
        fields, right, rewards, discounts = play(rng)
        targets = vtrace(
            behaviour_log_probs=log_probs(right, BEHAVIOUR),
            target_log_probs=log_probs(right, TARGET),
            rewards=rewards,
            discounts=discounts,
            values=values[fields[:-1]],
            bootstrap_values=values[fields[-1]],
            rho_clip=TARGET / BEHAVIOUR,  # lower, V-trace learns the values of a policy in between
            c_clip=1.0,
        )
        for field in range(FIELDS):
            here = fields[:-1] == field
            values[field] += step_size * (targets.vs[here].mean() - values[field])
    return values


def exact(probability: float) -> Tensor:
    """Returns the values under a policy, by solving its equations, float32 [FIELDS]."""
    moves = probability * np.eye(FIELDS, k=1) + (1 - probability) * np.eye(FIELDS, k=-1)
    rewards = np.zeros(FIELDS)
    rewards[-1] = probability
    return torch.from_numpy(np.linalg.solve(np.eye(FIELDS) - DISCOUNT * moves, rewards)).float()


def main() -> None:
    """Prints the learnt values beside the exact ones."""
    print("field  behaviour  target  V-trace")
    rows = zip(exact(BEHAVIOUR), exact(TARGET), learn(), strict=True)
    for field, (behaviour, target, learnt) in enumerate(rows):
        print(f"{field:5d}  {behaviour:9.3f}  {target:6.3f}  {learnt:7.3f}")


if __name__ == "__main__":
    main()

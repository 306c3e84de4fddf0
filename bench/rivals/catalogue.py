"""The rivals: how each one is run, and its published result on Pong.

README.md says how the published figures were read, and where settings differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_ZOO: Final = (
    "https://github.com/DLR-RM/rl-trained-agents/blob/"
    "60fac6404448c7c9e5c4abe91e8e5aef099d107e/{algo}/PongNoFrameskip-v4_1/0.monitor.csv"
)
_BOOK: Final = (
    "https://github.com/PacktPublishing/Deep-Reinforcement-Learning-Hands-On-Second-Edition"
    "/tree/e71e346/plots/ch13"
)


@dataclass(frozen=True, kw_only=True)
class Rival:
    """One row of the benchmark.

    Attributes:
        name: as in `--only`.
        env_steps: published env steps (after frame skip) to the target.
        source: URL of the published figure.
        at_least: the published training ended at env_steps without reaching the target.
        minutes: published wall time to the target on the publisher's machine.
        driver: file in this folder; empty for a rival that is quoted and not run.
        venv: name of its environment and of its requirements file.
        arguments: arguments of the driver.
        omp_threads: OMP_NUM_THREADS; 0 for the number of cores.
    """

    name: str
    env_steps: int
    source: str
    at_least: bool = False
    minutes: float | None = None
    driver: str = ""
    venv: str = ""
    arguments: tuple[str, ...] = ()
    omp_threads: int = 0

    def published(self) -> dict[str, object]:
        """Returns the published result as it is stored."""
        names = ("env_steps", "source", "at_least", "minutes")
        return {name: getattr(self, name) for name in names}


RIVALS: Final = (
    Rival(
        name="rl-games-ppo",
        driver="rl_games_ppo.py",
        venv="rl-games",
        env_steps=1_466_368,
        source="https://github.com/Denys88/rl_games/blob/"
        "037a0dab1b9c23d5b676a28889d69851e4e20527/docs/ENVPOOL.md",
        minutes=3.2,
    ),
    Rival(
        name="sb3-ppo",
        driver="sb3.py",
        venv="sb3",
        arguments=("--algo=ppo",),
        env_steps=2_160_000,
        source=_ZOO.format(algo="ppo"),
    ),
    Rival(
        name="sb3-a2c",
        driver="sb3.py",
        venv="sb3",
        arguments=("--algo=a2c",),
        env_steps=10_000_000,
        source=_ZOO.format(algo="a2c"),
        at_least=True,
    ),
    Rival(
        name="sample-factory-appo",
        driver="sample_factory_appo.py",
        venv="sample-factory",
        omp_threads=1,  # its own setting: it runs more processes than there are cores
        env_steps=2_500_000,
        source="https://github.com/ray-project/ray/blob/"
        "0e6eed02353b340972d9b4699286cbd000e47040/rllib/tuned_examples/appo/pong-appo.yaml",
    ),
    Rival(
        name="book-a3c-data",
        env_steps=7_193_824,
        source=f"{_BOOK}/data_reward.csv",
        minutes=45.6,
    ),
    Rival(name="book-a3c-gradients", env_steps=7_750_783, source=_BOOK, minutes=87.0),
)

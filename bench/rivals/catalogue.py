"""The rivals: how each is run, what differs from its published settings, what it has published."""

from __future__ import annotations

from dataclasses import dataclass, field

RL_GAMES_SOURCE = (
    "https://github.com/Denys88/rl_games/blob/037a0dab1b9c23d5b676a28889d69851e4e20527"
    "/docs/ENVPOOL.md"
)
SB3_SOURCE = (
    "https://github.com/DLR-RM/rl-trained-agents/blob/"
    "60fac6404448c7c9e5c4abe91e8e5aef099d107e/{algo}/PongNoFrameskip-v4_1/0.monitor.csv"
)
RLLIB_SOURCE = (
    "https://github.com/ray-project/ray/blob/0e6eed02353b340972d9b4699286cbd000e47040"
    "/rllib/tuned_examples/appo/pong-appo.yaml"
)
BOOK_SOURCE = (
    "https://github.com/PacktPublishing/Deep-Reinforcement-Learning-Hands-On-Second-Edition"
    "/tree/e71e346/plots/ch13"
)


@dataclass(frozen=True)
class Published:
    """What a rival's own documents say about Pong.

    Attributes:
        env_steps: agent steps (after frame skip) to the target.
        target: the mean return that was reached.
        source: URL.
        note: how the figure was got from the source.
        at_least: the published run ended at env_steps without having reached the target.
        of: whose figure it is, when it is not the rival's own.
        minutes: wall time on the publisher's machine, where known.
        machine: that machine.
    """

    env_steps: int
    target: float
    source: str
    note: str
    at_least: bool = False
    of: str | None = None
    minutes: float | None = None
    machine: str | None = None


@dataclass(frozen=True)
class Rival:
    """One row of the benchmark.

    Attributes:
        name: as in `--only`.
        published: see there.
        driver: file beside this one; empty for a rival that is only quoted.
        venv: its folder in .venvs/ and its requirements-VENV.txt.
        arguments: of the driver.
        omp_threads: OMP_NUM_THREADS; 0 for the number of cores.
        differs: settings that are not the published ones, and why.
        protocol: where its environment is not quite ours.
    """

    name: str
    published: Published
    driver: str = ""
    venv: str = ""
    arguments: tuple[str, ...] = ()
    omp_threads: int = 0
    differs: dict[str, str] = field(default_factory=dict)
    protocol: tuple[str, ...] = ()


_FIRE = "presses FIRE once after a reset (its Atari wrapper's habit; Pong starts without)"
_GYMNASIUM = "every frame goes through gymnasium and OpenCV in Python, as its wrapper does it"
_SB3_DIFFERS = {
    "n_timesteps": "1e7 kept for the schedules, training is ended by the clock",
    "vec_env": "whichever of dummy (the zoo's) and subproc steps faster on this machine",
    "torch threads": "all cores",
}

RIVALS = (
    Rival(
        name="rl-games-ppo",
        driver="rl_games_ppo.py",
        venv="rl-games",
        published=Published(
            env_steps=1_466_368,
            target=20.0,
            source=RL_GAMES_SOURCE,
            note="179 epochs x 64 environments x 128 steps; target 20, not 18",
            minutes=3.2,
            machine="M5 Max, 16 cores, GPU",
        ),
        differs={
            "device": "cpu: there is no GPU",
            "torch_compile": "False: compiling for the CPU takes minutes of the cap",
            "max_epochs, score_to_win": "off: the clock and our target end the training",
            "seed": "ours",
            "envpool num_threads, torch_threads": "all cores",
        },
        protocol=(_FIRE, "EnvPool resizes by its own inter-area code"),
    ),
    Rival(
        name="sb3-ppo",
        driver="sb3.py",
        venv="sb3",
        arguments=("--algo", "ppo"),
        published=Published(
            env_steps=2_160_000,
            target=18.0,
            source=SB3_SOURCE.format(algo="ppo"),
            note="first crossing of the mean of 13 games of one of its 8 environments, about 100 "
            "games of all; frames of that one x 8 / 4",
        ),
        differs=_SB3_DIFFERS,
        protocol=(_FIRE, _GYMNASIUM),
    ),
    Rival(
        name="sb3-a2c",
        driver="sb3.py",
        venv="sb3",
        arguments=("--algo", "a2c"),
        published=Published(
            env_steps=10_000_000,
            target=18.0,
            at_least=True,
            source=SB3_SOURCE.format(algo="a2c"),
            note="the published training ends at 10 M env steps with a mean of about 15 in its "
            "last games (17.3 in the zoo's evaluation)",
        ),
        differs=_SB3_DIFFERS,
        protocol=(_FIRE, _GYMNASIUM),
    ),
    Rival(
        name="sample-factory-appo",
        driver="sample_factory_appo.py",
        venv="sample-factory",
        omp_threads=1,
        published=Published(
            env_steps=2_500_000,
            target=18.0,
            of="RLlib APPO",
            source=RLLIB_SOURCE,
            note="borrowed from RLlib's APPO (42x42 pixels, 256 environments): Sample Factory "
            "publishes no env steps to a score on Pong",
        ),
        differs={
            "num_workers": "one per core (documentation: 16)",
            "env": "Pong (documentation: Breakout)",
            "device": "cpu: there is no GPU",
            "train_for_env_steps": "1e7, its default, kept for the schedule; ended by the clock",
            "torch threads": "1 in each process: its own setting, it runs more processes than "
            "there are cores",
            "ale-py": "0.10.1 brings its ROMs; 0.8.1, which it asks for, does not",
        },
        protocol=(_FIRE, _GYMNASIUM, "resizes before it makes grey"),
    ),
    Rival(
        name="book-a3c-data",
        published=Published(
            env_steps=7_193_824,
            target=18.0,
            source=BOOK_SOURCE + "/data_reward.csv",
            note="the method's author's own run, 4 processes x 8 environments; quoted, not run",
            minutes=45.6,
            machine="with a GPU, probably a GTX 1080 Ti",
        ),
    ),
    Rival(
        name="book-a3c-gradients",
        published=Published(
            env_steps=7_750_783,
            target=18.0,
            source=BOOK_SOURCE,
            note="the method's author's own run, 4 processes x 8 environments, first of four to "
            "reach it; quoted, not run",
            minutes=87.0,
            machine="with a GPU, probably a GTX 1080 Ti",
        ),
    ),
)

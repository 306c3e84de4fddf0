"""The actors of a training: checked before it starts, restarted, and given up."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from asyncade_cli import actors as module
from asyncade_cli.actors import Actors, check_actors
from asyncade_cli.processes import Service
from asyncade_cli.settings import TrainSettings
from asyncade_learner.settings import LearnerSettings
from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.settings import SettingsError

PAUSES = (0.5, 2.0, 10.0, 30.0)


class Process(Service):
    """A process that only the test ends."""

    made: list[Process]

    def __init__(self, name: str, module: str, arguments: Any, log: Path, *_: Any, **__: Any):
        super().__init__(name, module, arguments, log, {})
        self.starts = 0
        self.code: int | None = None
        type(self).made.append(self)

    def start(self) -> None:
        self.starts += 1
        self.code = None

    def end(self, code: int, line: str = "") -> None:
        self.code = code
        self.log.write_text(f"an earlier line\n{line}\n")

    def exit_code(self) -> int | None:
        return self.code


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=0.0)
    said: list[str] = []
    Process.made = []
    monkeypatch.setattr(module, "Service", Process)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    settings = TrainSettings(actors=2)
    actors = Actors(settings, RunFolder.create(tmp_path), {}, said.append)
    actors.start("tcp://127.0.0.1:1", "tcp://127.0.0.1:2")
    return SimpleNamespace(clock=clock, said=said, actors=actors, processes=Process.made)


@pytest.mark.parametrize("code", [2, 3])
def test_a_permanent_error_ends_the_run_with_its_last_line(rig: SimpleNamespace, code: int) -> None:
    rig.processes[0].end(code, "--env-threads cannot be 'two'")
    rig.actors.restart_dead(useful=True)
    assert rig.actors.failed == code
    assert "--env-threads cannot be 'two'" in rig.said[-1]
    assert "an earlier line" not in rig.said[-1]
    assert "actor-0.log" in rig.said[-1]


@pytest.mark.parametrize("code", [1, -9])
def test_an_actor_that_dies_is_restarted_after_ever_longer_pauses(
    rig: SimpleNamespace, code: int
) -> None:
    for starts, pause in enumerate([*PAUSES, PAUSES[-1]], 1):
        rig.processes[0].end(code)
        rig.actors.restart_dead(useful=True)
        assert f"{pause:g} s" in rig.said[-1]
        rig.clock.now += pause - 0.25
        rig.actors.restart_dead(useful=True)
        assert rig.processes[0].starts == starts
        rig.clock.now += 0.25
        rig.actors.restart_dead(useful=True)
        assert rig.processes[0].starts == starts + 1
    assert rig.processes[1].starts == 1
    assert rig.actors.failed is None
    assert rig.actors.alive() == 2


def deaths(rig: SimpleNamespace, count: int, processes: list[Process], *, useful: bool) -> None:
    for _ in range(count):
        for process in processes:
            process.end(1, "ModuleNotFoundError")
        rig.actors.restart_dead(useful=useful)
        rig.clock.now += PAUSES[-1]
        rig.actors.restart_dead(useful=useful)


def test_actors_that_all_die_again_and_again_without_an_env_step_end_the_run(
    rig: SimpleNamespace,
) -> None:
    deaths(rig, 3, rig.processes, useful=False)
    assert rig.actors.failed is None
    deaths(rig, 1, rig.processes, useful=False)
    assert rig.actors.failed == 1
    assert "ModuleNotFoundError" in rig.said[-1]


def test_they_do_not_while_one_lives_or_has_played(rig: SimpleNamespace) -> None:
    deaths(rig, 10, rig.processes[:1], useful=False)
    assert rig.actors.failed is None
    deaths(rig, 10, rig.processes, useful=True)
    assert rig.actors.failed is None


@pytest.mark.parametrize(
    ("envs", "learner", "environ", "named"),
    [
        (8, {}, {"ASYNCADE_ACTOR_ENV_THREAD": "2"}, "ASYNCADE_ACTOR_ENV_THREADS"),
        (8, {}, {"ASYNCADE_ACTOR_TORCH_THREADS": "two"}, "ASYNCADE_ACTOR_TORCH_THREADS"),
        (600, {}, {}, "--envs"),
        (600, {"mode": "gradients"}, {}, "--envs"),  # its calibration asks for trajectories
        (100, {"unroll_length": 1024}, {}, "ASYNCADE_LEARNER_UNROLL_LENGTH"),
    ],
)
def test_what_no_actor_could_do_is_refused_before_the_start(
    envs: int, learner: dict[str, Any], environ: Mapping[str, str], named: str
) -> None:
    with pytest.raises(SettingsError, match=named):
        check_actors(TrainSettings(envs=envs), LearnerSettings(**learner), environ)


def test_large_unrolls_may_stay_with_their_actor() -> None:
    learner = LearnerSettings(mode="gradients", calibration_env_steps=0)
    check_actors(TrainSettings(envs=600), learner, {})

"""What ``asyncade train`` is told, and which folder it takes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from asyncade_actor.settings import ActorSettings
from asyncade_cli.settings import TrainSettings, default_actors
from asyncade_cli.train import choose_folder, resumed_settings
from asyncade_runtime.run_folder import RunFolder, RunFolderError
from asyncade_runtime.settings import SettingsError, load


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def given(*arguments: str) -> TrainSettings:
    return load(TrainSettings, arguments, {})


def a_run(root: Path, *, checkpoint: bool = True, **settings: object) -> RunFolder:
    """A folder as a training leaves it."""
    folder = RunFolder(root)
    written = TrainSettings(**settings, run_dir=root).model_dump(mode="json")
    folder.write_config("train", written)
    if checkpoint:
        (folder.checkpoints / "000000000001.safetensors").write_bytes(b"x")
    return folder


@pytest.mark.parametrize(
    ("arguments", "target"),
    [
        ([], 18.0),
        (["--game=catch"], 0.9),
        (["--game=breakout"], None),
        (["--target=3"], 3.0),
        (["--target=0"], 0.0),
        (["--game=breakout", "--target=40"], 40.0),
    ],
)
def test_the_target_is_customary_unless_given(arguments: list[str], target: float | None) -> None:
    assert given(*arguments).target_of_the_game() == target


def test_an_actor_plays_as_many_games_as_the_service_does_unless_told_otherwise() -> None:
    assert given().envs == ActorSettings().envs
    assert given("--envs=3").envs == 3


@pytest.mark.parametrize(("cores", "actors"), [(1, 2), (2, 2), (4, 4), (8, 8), (64, 8)])
def test_there_is_an_actor_for_each_core_within_bounds(cores: int, actors: int) -> None:
    assert default_actors(cores) == actors


def test_the_cores_of_this_container_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncade_cli.settings.available_cores", lambda: 8)
    assert given().actors == 8
    assert given("--actors=1").actors == 1


@pytest.mark.parametrize(
    ("cores", "actors", "threads"), [(2, 2, 1), (8, 8, 1), (64, 8, 8), (64, 1, 8), (1, 2, 1)]
)
def test_cores_beyond_the_actors_step_their_games(cores: int, actors: int, threads: int) -> None:
    assert given(f"--actors={actors}", "--envs=8").env_threads(cores) == threads


def test_an_unknown_game_names_the_nearest() -> None:
    with pytest.raises(SettingsError, match="did you mean breakout"):
        given("--game=brekout")


def test_a_new_run_gets_a_folder_of_its_own(here: Path) -> None:
    folder = choose_folder(given("--game=catch", "--mode=gradients"))
    assert folder.root.parent == Path("runs")
    assert folder.root.name.startswith("catch-gradients-2")
    assert (here / folder.root / "checkpoints").is_dir()


def test_a_run_is_never_written_over(here: Path) -> None:
    a_run(here / "one")
    with pytest.raises(RunFolderError, match=r"one holds a run already: add --resume .* --run-dir"):
        choose_folder(given(f"--run-dir={here / 'one'}"))


def test_a_run_that_died_before_its_first_checkpoint_can_be_begun_anew(here: Path) -> None:
    a_run(here / "young", checkpoint=False)
    assert choose_folder(given(f"--run-dir={here / 'young'}")).root == here / "young"


def test_resuming_takes_the_folder_named(here: Path) -> None:
    a_run(here / "one")
    assert choose_folder(given("--resume", f"--run-dir={here / 'one'}")).root == here / "one"


def test_resuming_without_a_name_takes_the_newest(here: Path) -> None:
    for age, name in enumerate(["c", "a", "b"]):
        a_run(here / "runs" / name)
        os.utime(here / "runs" / name / "config.json", (1000 - age, 1000 - age))
    assert choose_folder(given("--resume")).root == Path("runs/c")


def test_nothing_to_resume_is_said(here: Path) -> None:
    with pytest.raises(RunFolderError, match="no run in runs/; name one with --run-dir"):
        choose_folder(given("--resume"))
    with pytest.raises(RunFolderError, match="absent holds no run"):
        choose_folder(given("--resume", "--run-dir=absent"))
    assert not (here / "absent").exists()
    a_run(here / "young", checkpoint=False)
    with pytest.raises(RunFolderError, match="young has no checkpoint to resume from"):
        choose_folder(given("--resume", "--run-dir=young"))


def test_a_resumed_run_keeps_its_settings(here: Path) -> None:
    folder = a_run(here / "one", game="catch", mode="gradients", actors=5, target=0.5, seed=9)
    settings = resumed_settings(given("--resume"), folder)
    assert (settings.game, settings.mode, settings.actors) == ("catch", "gradients", 5)
    assert (settings.target, settings.seed) == (0.5, 9)
    assert settings.resume
    assert settings.run_dir == here / "one"


def test_what_is_given_anew_is_taken(here: Path) -> None:
    folder = a_run(here / "one", game="catch", actors=5, seed=9, target=0.5)
    now = given("--resume", "--actors=2", "--target=null", "--max-minutes=3")
    settings = resumed_settings(now, folder)
    assert (settings.actors, settings.seed, settings.target) == (2, 9, None)
    assert settings.max_minutes == 3


def test_a_variable_counts_as_given(here: Path) -> None:
    folder = a_run(here / "one", actors=5)
    now = load(TrainSettings, ["--resume"], {"ASYNCADE_TRAIN_ACTORS": "3"})
    assert resumed_settings(now, folder).actors == 3


def test_limits_are_of_one_sitting(here: Path) -> None:
    folder = a_run(here / "one", max_env_steps=1000, max_minutes=1)
    settings = resumed_settings(given("--resume"), folder)
    assert (settings.max_env_steps, settings.max_minutes) == (None, None)


def test_settings_of_another_release_are_passed_over(here: Path) -> None:
    folder = a_run(here / "one", actors=5)
    old = folder.read_config()["train"] | {"no_longer_there": 1}
    folder.write_config("train", old)
    assert resumed_settings(given("--resume"), folder).actors == 5


def test_a_run_of_a_bare_learner_can_be_resumed(here: Path) -> None:
    folder = RunFolder(here / "bare")
    folder.write_config("learner", {"game": "catch"})
    assert resumed_settings(given("--resume", "--game=catch"), folder).game == "catch"

"""``asyncade train``: settings, choice of the run folder, signal handlers."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from asyncade_actor.settings import ActorSettings
from asyncade_cli import train as train_module
from asyncade_cli.settings import TrainSettings
from asyncade_cli.start import choose_folder, prepare
from asyncade_cli.train import train
from asyncade_learner.settings import LearnerSettings
from asyncade_runtime.files import RunFolderError
from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.settings import SettingsError, load


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def given(*arguments: str) -> TrainSettings:
    return load(TrainSettings, arguments, {})


def a_run(
    root: Path, *, checkpoint: bool = True, actors: int = 2, envs: int = 8, **learner: object
) -> RunFolder:
    """Makes the folder of a run."""
    folder = RunFolder.create(root)
    written = TrainSettings(actors=actors, envs=envs, run_dir=root).model_dump(mode="json")
    folder.write_config("train", written)
    folder.write_config("learner", LearnerSettings(**learner).model_dump(mode="json"))
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
        (["--target=null"], None),
        (["--game=catch", "--target=null"], None),
    ],
)
def test_the_target_defaults_to_that_of_the_game(
    arguments: list[str], target: float | None
) -> None:
    start = prepare(given(*arguments), {})
    assert start.settings.target == target
    assert load(LearnerSettings, start.learner_arguments, {}).target == target


@pytest.mark.parametrize(("variable", "target"), [("null", None), ("3", 3.0)])
def test_a_target_for_the_learner_counts_as_given(variable: str, target: float | None) -> None:
    environ = {"ASYNCADE_LEARNER_TARGET": variable}
    start = prepare(given(), environ)
    assert start.settings.target == target
    assert load(LearnerSettings, start.learner_arguments, environ).target == target


@pytest.mark.parametrize(
    ("actors", "variables", "admitted"),
    [(2, {}, 64), (256, {}, 512), (256, {"ASYNCADE_LEARNER_ACTORS_PER_PEER": "300"}, 300)],
)
def test_the_learner_admits_all_actors_of_this_machine(
    actors: int, variables: dict[str, str], admitted: int
) -> None:
    start = prepare(given(f"--actors={actors}", "--envs=1"), variables)
    assert start.learner.actors_per_peer == admitted


def test_settings_of_the_learner_are_checked_before_anything_is_written(here: Path) -> None:
    with pytest.raises(SettingsError, match="ASYNCADE_LEARNER_DISCOUNT"):
        train(given("--game=catch"), {"ASYNCADE_LEARNER_DISCOUNT": "2"})
    assert not list(here.iterdir())


def test_games_per_actor_default_to_those_of_the_service() -> None:
    assert given().envs == ActorSettings().envs
    assert given("--envs=3").envs == 3


@pytest.mark.parametrize(("cores", "actors"), [(1, 2), (2, 2), (4, 4), (8, 8), (64, 8)])
def test_actors_default_to_the_available_cores_within_bounds(
    cores: int, actors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncade_cli.settings.available_cores", lambda: cores)
    assert given().actors == actors
    assert given("--actors=1").actors == 1


@pytest.mark.parametrize(
    ("cores", "actors", "threads"), [(2, 2, 1), (8, 8, 1), (64, 8, 8), (64, 1, 8), (1, 2, 1)]
)
def test_cores_beyond_the_actors_step_their_games(cores: int, actors: int, threads: int) -> None:
    assert given(f"--actors={actors}", "--envs=8").env_threads(cores) == threads


def test_an_unknown_game_names_the_nearest() -> None:
    with pytest.raises(SettingsError, match="breakout"):
        given("--game=brekout")


def test_a_new_run_gets_a_folder_of_its_own(here: Path) -> None:
    folder = choose_folder(given("--game=catch"), {"ASYNCADE_LEARNER_MODE": "gradients"})
    assert folder.root.parent == Path("runs")
    assert folder.root.name.startswith("catch-gradients-2")
    assert not list(here.iterdir())  # it is created once the learner accepts it


def test_a_run_is_never_overwritten(here: Path) -> None:
    a_run(here / "one")
    with pytest.raises(RunFolderError, match=r"one .*--resume.*--run-dir"):
        choose_folder(given(f"--run-dir={here / 'one'}"), {})


def test_a_run_without_a_checkpoint_can_be_started_again(here: Path) -> None:
    a_run(here / "young", checkpoint=False)
    assert choose_folder(given(f"--run-dir={here / 'young'}"), {}).root == here / "young"


def test_resuming_uses_the_given_folder(here: Path) -> None:
    a_run(here / "one")
    assert choose_folder(given("--resume", f"--run-dir={here / 'one'}"), {}).root == here / "one"


def test_resuming_without_a_folder_uses_the_newest(here: Path) -> None:
    for age, name in enumerate(["c", "a", "b"]):
        a_run(here / "runs" / name)
        os.utime(here / "runs" / name / "config.json", (1000 - age, 1000 - age))
    assert choose_folder(given("--resume"), {}).root == Path("runs/c")


def test_resuming_without_a_run_is_refused(here: Path) -> None:
    with pytest.raises(RunFolderError, match="--run-dir"):
        choose_folder(given("--resume"), {})
    with pytest.raises(RunFolderError, match="absent"):
        choose_folder(given("--resume", "--run-dir=absent"), {})
    assert not (here / "absent").exists()
    a_run(here / "young", checkpoint=False)
    with pytest.raises(RunFolderError, match=r"young.*checkpoint"):
        choose_folder(given("--resume", "--run-dir=young"), {})


def resumed(folder: RunFolder, *arguments: str, **environ: str) -> tuple[TrainSettings, str]:
    """The settings that a resumed training has, and the line about those given anew."""
    asked = load(TrainSettings, ["--resume", f"--run-dir={folder.root}", *arguments], environ)
    start = prepare(asked, environ)
    assert "--resume=must" in start.learner_arguments
    return start.settings, ", ".join(map(" ".join, start.changed.items()))


def test_a_resumed_run_keeps_its_settings(here: Path) -> None:
    folder = a_run(here / "one", game="catch", mode="gradients", actors=5, target=0.5, seed=9)
    settings, changed = resumed(folder)
    assert (settings.game, settings.mode, settings.actors) == ("catch", "gradients", 5)
    assert (settings.target, settings.seed) == (0.5, 9)
    assert settings.resume
    assert settings.run_dir == here / "one"
    assert changed == ""


def test_given_settings_override_those_of_the_run(here: Path) -> None:
    folder = a_run(here / "one", game="catch", actors=5, seed=9, target=0.5)
    settings, changed = resumed(folder, "--actors=2", "--target=null", "--max-minutes=3")
    assert (settings.actors, settings.seed, settings.target) == (2, 9, None)
    assert settings.max_minutes == 3
    assert changed == "actors 5 -> 2, target 0.5 -> None"


def test_variables_override_settings_of_the_run(here: Path) -> None:
    folder = a_run(here / "one", actors=5, learning_rate=0.5)
    environ = {"ASYNCADE_TRAIN_ACTORS": "3", "ASYNCADE_LEARNER_LEARNING_RATE": "0.25"}
    settings, changed = resumed(folder, **environ)
    assert settings.actors == 3
    assert changed == "actors 5 -> 3, learning_rate 0.5 -> 0.25"


def test_no_target_stays_no_target(here: Path) -> None:
    folder = a_run(here / "one", game="catch", target=None)
    assert resumed(folder)[0].target is None
    assert resumed(folder, ASYNCADE_LEARNER_TARGET="0.3")[0].target == 0.3


def test_limits_and_device_are_not_resumed(here: Path) -> None:
    folder = a_run(here / "one", max_env_steps=1000, max_minutes=1, device="cuda")
    settings, changed = resumed(folder)
    assert (settings.max_env_steps, settings.max_minutes) == (None, None)
    assert (settings.device, changed) == ("auto", "")


def test_settings_of_another_release_are_ignored(here: Path) -> None:
    folder = a_run(here / "one", actors=5)
    for section in ("train", "learner"):
        folder.write_config(section, folder.read_config()[section] | {"no_longer_there": 1})
    assert resumed(folder)[0].actors == 5


def test_a_run_of_asyncade_learner_can_be_resumed(here: Path) -> None:
    folder = a_run(here / "bare")
    (folder.root / "config.json").unlink()
    folder.write_config("learner", {"game": "catch"})
    assert resumed(folder)[0].game == "catch"


def test_a_second_ctrl_c_says_where_the_run_is_and_how_to_resume(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(training: train_module.Training) -> int:
        training.accepted = True
        raise KeyboardInterrupt

    monkeypatch.setattr(train_module.Training, "run", interrupted)
    folder = a_run(here / "interrupted")
    assert train(given("--resume", f"--run-dir={folder.root}"), {}) == 130
    assert f"asyncade train --resume --run-dir {folder.root}" in capsys.readouterr().err


def test_training_restores_the_signal_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> int:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return 130

    monkeypatch.setattr(train_module, "_train", interrupted)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert train(given(), {}) == 130
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before

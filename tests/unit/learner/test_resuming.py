"""When the learner saves checkpoints, and how a run resumes from them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from asyncade_learner import checkpoint
from asyncade_learner.checkpoint import CheckpointError
from asyncade_runtime.admission import ACTIVE_WINDOW_S
from asyncade_runtime.run_folder import RunFolder
from rigs.learner import (
    CHECKPOINT_S,
    REPORT_S,
    STEPS,
    UPDATES,
    Rig,
    begun,
    computed,
    parameters,
    played,
    same,
)


def test_checkpoints_are_written_when_due_and_at_the_end(tmp_path: Path) -> None:
    rig = begun(tmp_path, checkpoints_kept=2)
    rig.step(played()[0])
    rig.clock.now += CHECKPOINT_S - 1
    rig.step(played()[1])
    assert rig.checkpoints() == []
    rig.wait(1)
    assert rig.checkpoints() == ["000000000003.safetensors"]
    rig.wait(1)
    rig.step(played()[2])
    rig.end()
    assert rig.checkpoints() == ["000000000004.safetensors", "000000000003.safetensors"]
    saved = checkpoint.load(rig.folder.checkpoints / rig.checkpoints()[0])
    assert saved.progress == rig.progress
    assert saved.about["game"] == "catch"


def test_a_full_disk_is_counted_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = begun(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        rig.wait(CHECKPOINT_S)
    assert rig.metric("checkpoint_failures_total") == 1
    rig.step(played()[0])
    assert rig.progress.updates == UPDATES
    rig.wait(CHECKPOINT_S)
    assert len(rig.checkpoints()) == 1


def test_a_disk_slower_than_the_interval_leaves_time_to_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = begun(tmp_path)
    save = checkpoint.save
    saves = list[float]()

    def slow(*arguments: Any) -> Path:
        saves.append(rig.clock.now)
        rig.clock.now += 2 * CHECKPOINT_S
        return save(*arguments)

    monkeypatch.setattr("asyncade_learner.keeper.save", slow)
    rig.wait(CHECKPOINT_S)
    for message in played()[:3]:
        rig.step(message)
    assert len(saves) == 1
    rig.wait(CHECKPOINT_S)
    assert len(saves) == 2


@pytest.mark.parametrize("mode", ["data", "gradients"])
def test_a_resumed_run_equals_one_without_interruption(tmp_path: Path, mode: str) -> None:
    messages = played() if mode == "data" else computed()
    settings = {"mode": mode, "max_policy_lag": 10 * UPDATES}
    twin = begun(tmp_path / "twin", **settings)
    for message in messages[:4]:
        twin.step(message)

    first = begun(tmp_path / "one", **settings)
    for message in messages[:2]:
        first.clock.now += 1.5
        first.step(message)
    first.clock.now += 2.0
    before = first.newest()
    first.end()

    second = Rig(tmp_path / "one", resume="must", **settings)
    assert second.progress == first.progress
    assert second.progress is not first.progress
    second.learner.begin()
    again = second.newest()
    assert again.policy_version == before.policy_version  # the same weights
    assert again.run != before.run
    assert again.received == {}  # what was under way is lost with the sockets: full credit for all
    for message in messages[2:4]:
        second.step(message)
    expected, actual = twin.progress, second.progress
    for name in ("env_steps", "updates", "recent_returns", "received_bytes"):
        assert getattr(actual, name) == getattr(expected, name), name
    assert same(parameters(second.newest()), parameters(twin.newest()))
    second.wait(2.0)
    seconds = [row["seconds"] for row in second.folder.read_metrics()]
    assert seconds == sorted(seconds)
    assert seconds[-1] == 7.0  # 1.5 + 1.5 + 2, then 2 more


@pytest.mark.parametrize("away", [0.0, 60.0])
def test_a_resumed_learner_gives_full_credit_and_knows_who_was_active(
    tmp_path: Path, away: float
) -> None:
    """By the wall clock: each process has its own monotonic one. Messages are lost with sockets."""
    first = begun(tmp_path)
    first.step(played()[0])
    first.learner.keeper.wall_clock = lambda: time.time() - away
    first.learner.finish()
    second = begun(tmp_path)
    assert second.newest().received == {}
    assert len(second.learner.intake.roster) == (0 if away > ACTIVE_WINDOW_S else 1)


def test_the_agent_is_saved_before_it_has_learned_anything(tmp_path: Path) -> None:
    rig = begun(tmp_path, calibration_env_steps=STEPS)
    rig.step(played()[0])
    (path,) = rig.folder.checkpoint_files()
    saved = checkpoint.load(path)
    assert (saved.progress.env_steps, saved.progress.updates) == (STEPS, 0)
    assert saved.model["frame_mean"].any()  # but sees as it will see


def test_a_resumed_run_is_not_calibrated_again(tmp_path: Path) -> None:
    settings = {"calibration_env_steps": STEPS, "max_policy_lag": 10 * UPDATES}
    first = begun(tmp_path, **settings)
    first.step(played()[0])
    first.step(played()[1])
    before = parameters(first.newest())
    first.end()
    second = begun(tmp_path, **settings)
    assert same(before, parameters(second.newest()))
    second.step(played()[2])
    assert second.progress.updates == 2 * UPDATES


def test_resuming_removes_rows_newer_than_the_checkpoint(tmp_path: Path) -> None:
    killed = begun(tmp_path)
    killed.step(played()[0])
    killed.wait(CHECKPOINT_S)
    for message in played()[1:3]:
        killed.clock.now += REPORT_S
        killed.step(message)
    assert [row["env_steps"] for row in killed.folder.read_metrics()] == [STEPS, 32, 48]
    resumed = begun(tmp_path)
    assert [row["env_steps"] for row in resumed.folder.read_metrics()] == [STEPS]


def two_checkpoints(run_dir: Path) -> list[Path]:
    """Trains with two checkpoints; returns them, newest first."""
    rig = begun(run_dir)
    for message in played()[:2]:
        rig.clock.now += CHECKPOINT_S
        rig.step(message)
    assert rig.checkpoints() == ["000000000003.safetensors", "000000000002.safetensors"]
    return rig.folder.checkpoint_files()


def test_a_damaged_checkpoint_is_passed_over_for_an_older_one(tmp_path: Path) -> None:
    newest, older = two_checkpoints(tmp_path)
    newest.write_bytes(newest.read_bytes()[:1000])
    rig = Rig(tmp_path, resume="must")
    assert (rig.progress.policy_version, rig.progress.env_steps) == (2, STEPS)
    older.write_bytes(b"")
    with pytest.raises(CheckpointError, match="checkpoints"):
        Rig(tmp_path)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"game": "pong"}, "'catch'.*'pong'"),
        ({"network": "nature"}, "'small'.*'nature'"),
        ({"resume": "never"}, "holds a run"),
    ],
)
def test_a_folder_of_another_run_is_refused_untouched(
    tmp_path: Path, settings: dict[str, str], named: str
) -> None:
    before = two_checkpoints(tmp_path)
    with pytest.raises(CheckpointError, match=named):
        Rig(tmp_path, **settings)
    assert RunFolder(tmp_path).checkpoint_files() == before


def test_resuming_needs_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        Rig(tmp_path, resume="must")


@pytest.mark.parametrize("resume", ["auto", "never"])
def test_a_folder_without_a_checkpoint_is_a_new_run(tmp_path: Path, resume: str) -> None:
    RunFolder.create(tmp_path).append_metrics({"env_steps": 0})  # of a run without checkpoints
    rig = Rig(tmp_path, resume=resume)
    assert rig.progress.env_steps == 0
    rig.learner.begin()
    assert rig.folder.read_metrics() == []

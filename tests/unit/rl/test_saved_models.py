"""The models of a run's checkpoints are found by their env steps, and load without the learner."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch

from asyncade_learner.checkpoint import Checkpoint, save
from asyncade_learner.progress import Progress
from asyncade_rl.saved_models import SavedModelError, saved_model, saved_models
from asyncade_runtime.run_folder import RunFolder


def written(folder: RunFolder, version: int, env_steps: int) -> Path:
    progress = Progress(env_steps=env_steps, policy_version=version, seconds=env_steps / 100)
    model = {"weight": torch.full((2, 3), float(version))}
    about = {"game": "catch", "network": "small", "model": "0123456789abcdef"}
    generator = torch.Generator().get_state()
    optimiser = {"exp_avg.weight": torch.ones(2, 3)}
    return save(folder, Checkpoint(progress, model, optimiser, generator, about), keep=3)


def test_models_are_in_the_order_of_env_steps(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path)
    late, early = written(folder, 1, 900), written(folder, 2, 100)
    first, second = saved_models(folder.checkpoint_files())
    assert (first.path, second.path) == (early, late)
    assert (first.game, first.network, first.env_steps) == ("catch", "small", 100)
    assert (second.seconds, second.policy_version) == (9.0, 1)
    assert list(second.tensors()) == ["weight"]  # without the optimiser's
    assert torch.equal(second.tensors()["weight"], torch.ones(2, 3))


def test_a_damaged_checkpoint_is_left_out(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path)
    whole = written(folder, 1, 100)
    damaged = folder.checkpoint_file(2)
    damaged.write_bytes(whole.read_bytes()[:-5])
    folder.checkpoint_file(3).write_bytes(b"")
    assert [model.path for model in saved_models(folder.checkpoint_files())] == [whole]
    with pytest.raises(SavedModelError, match=damaged.name):
        saved_model(damaged)


@pytest.mark.parametrize(
    "counters",
    ["[]", "[" * 100_000, '{"env_steps": "x"}', '{"env_steps": 1e400}', "9" * 5000],
)
def test_counters_that_are_none_are_an_error(tmp_path: Path, counters: str) -> None:
    path = written(RunFolder.create(tmp_path), 1, 100)
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata() | {"counters": counters}
    safetensors.torch.save_file(safetensors.torch.load(path.read_bytes()), path, metadata)
    with pytest.raises(SavedModelError, match=path.name):
        saved_model(path)


def test_a_checkpoint_that_was_removed_meanwhile_is_an_error(tmp_path: Path) -> None:
    model = saved_model(written(RunFolder.create(tmp_path), 1, 100))
    model.path.unlink()
    with pytest.raises(SavedModelError, match=model.path.name):
        model.tensors()


def test_a_flipped_weight_is_never_played(tmp_path: Path) -> None:
    path = written(RunFolder.create(tmp_path), 1, 100)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    model = saved_model(path)
    with pytest.raises(SavedModelError, match=path.name):
        model.tensors()

"""Checkpoints are restored exactly, written atomically, and contain no code."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch

from asyncade_learner.checkpoint import (
    SPREAD_OVER_THE_RUN,
    Checkpoint,
    CheckpointError,
    load,
    save,
)
from asyncade_learner.progress import Milestone, Progress
from asyncade_rl.saved_models import DIGEST, FORMAT, sealed
from asyncade_runtime.run_folder import RunFolder

ABOUT = {"game": "catch", "network": "small", "model": "0123456789abcdef"}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path)


def checkpoint(version: int = 7, games: int = 130) -> Checkpoint:
    progress = Progress(
        env_steps=4096,
        updates=31,
        policy_version=version,
        seconds=12.5,
        received_bytes=2**40,
    )
    progress.count_episodes(float(game) / 3 for game in range(games))
    random = torch.Generator().manual_seed(version)
    tensors = {"body.0.weight": torch.randn(3, 2, generator=random), "scale": torch.tensor(10.0)}
    moments = {f"exp_avg.{name}": tensor.square() for name, tensor in tensors.items()}
    return Checkpoint(progress, tensors, moments, random.get_state(), ABOUT)


def test_a_checkpoint_is_restored_exactly(folder: RunFolder) -> None:
    written = checkpoint()
    path = save(folder, written, keep=3)
    read = load(path)
    assert path.name == "000000000007.safetensors"
    assert read.progress == written.progress
    assert read.progress.episodes == 130
    assert list(read.progress.recent_returns) == [game / 3 for game in range(30, 130)]
    assert read.progress.recent_returns.maxlen == 100
    assert dict(read.about) == ABOUT
    for part in ("model", "optimiser"):
        one, other = getattr(read, part), getattr(written, part)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    go_on = torch.Generator()
    go_on.set_state(read.generator)
    expected = torch.Generator()
    expected.set_state(written.generator)
    assert torch.equal(torch.randperm(9, generator=go_on), torch.randperm(9, generator=expected))


def test_a_passed_target_is_restored(folder: RunFolder) -> None:
    written = checkpoint()
    written.progress.milestone = Milestone(18.0, env_steps=4000, seconds=12.0)
    assert load(save(folder, written, keep=1)).progress.milestone == written.progress.milestone


def test_a_checkpoint_without_a_milestone_is_read(folder: RunFolder) -> None:
    path = save(folder, checkpoint(), keep=1)
    with safetensors.safe_open(path, framework="pt") as file:
        older = {"milestone", "digest"}
        metadata = {n: v for n, v in file.metadata().items() if n not in older}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    path.write_bytes(safetensors.torch.save(tensors, metadata))
    assert load(path).progress == checkpoint().progress


def test_a_run_without_games_is_restored(folder: RunFolder) -> None:
    read = load(save(folder, checkpoint(games=0), keep=1))
    assert read.progress.mean_return() is None
    read.progress.count_episodes([1.0])
    assert read.progress.mean_return() == 1.0


def test_tensors_in_another_memory_order_are_restored(folder: RunFolder) -> None:
    weight = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    whole = checkpoint()
    written = Checkpoint(whole.progress, {"w": weight}, {}, whole.generator, ABOUT)
    assert torch.equal(load(save(folder, written, keep=1)).model["w"], weight)


def versions(folder: RunFolder) -> list[int]:
    return [load(path).progress.policy_version for path in folder.checkpoint_files()]


def test_the_newest_are_kept_and_others_spread_over_the_run(folder: RunFolder) -> None:
    for version in range(1, 41):
        save(folder, checkpoint(version), keep=3)
    newest, spread = versions(folder)[:3], versions(folder)[3:]
    assert newest == [40, 39, 38]
    assert len(spread) == SPREAD_OVER_THE_RUN
    assert spread[-1] == 1  # the agent as it began
    gaps = [later - earlier for later, earlier in itertools.pairwise([newest[-1], *spread])]
    assert max(gaps) <= 2 * min(gaps[1:])


def test_the_newest_file_is_never_pruned(folder: RunFolder) -> None:
    """A learner with damaged checkpoints falls back, and writes lower version numbers."""
    for version in (100, 101, 102):
        save(folder, checkpoint(version), keep=3)
    for version in range(10, 24):
        assert save(folder, checkpoint(version), keep=2) in folder.checkpoint_files()
    assert versions(folder)[:5] == [102, 101, 100, 23, 22]
    assert len(versions(folder)) == 5 + SPREAD_OVER_THE_RUN


@pytest.mark.parametrize(
    "name", ["best.safetensors", "000000000009-copy.safetensors", "9.safetensors", "backup"]
)
def test_other_files_are_not_removed(folder: RunFolder, name: str) -> None:
    theirs = folder.checkpoints / name
    theirs.write_bytes(b"theirs")
    for version in range(1, 12):
        newest = save(folder, checkpoint(version), keep=1)
        assert folder.checkpoint_files()[0] == newest
    assert len(folder.checkpoint_files()) == 1 + SPREAD_OVER_THE_RUN
    assert theirs.read_bytes() == b"theirs"


@pytest.mark.parametrize("step", ["replace", "open"])
def test_a_failed_write_keeps_the_older_checkpoints(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    older = save(folder, checkpoint(1), keep=1)

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, step, full_disk)
        with pytest.raises(OSError, match="No space left"):
            save(folder, checkpoint(2), keep=1)
    assert [*folder.checkpoints.iterdir()] == [older]
    assert load(older).progress.policy_version == 1
    save(folder, checkpoint(2), keep=1)  # remains of the failed write are no obstacle
    assert set(folder.checkpoints.iterdir()) == set(folder.checkpoint_files())


@pytest.mark.parametrize("damage", ["cut", "empty", "garbage", "header", "absent"])
def test_a_damaged_file_is_refused_and_named(folder: RunFolder, damage: str) -> None:
    path = save(folder, checkpoint(), keep=1)
    whole = path.read_bytes()
    match damage:
        case "cut":
            path.write_bytes(whole[: len(whole) // 2])
        case "empty":
            path.write_bytes(b"")
        case "garbage":
            path.write_bytes(bytes(range(256)))
        case "header":
            path.write_bytes(whole[:8] + b"\xff" + whole[9:])
        case "absent":
            path.unlink()
    with pytest.raises(CheckpointError, match=re.escape(str(path))):
        load(path)


def test_no_flipped_bit_is_loaded(folder: RunFolder) -> None:
    """In the names, the counters, the tensors: safetensors itself checks lengths only."""
    path = save(folder, checkpoint(), keep=1)
    whole = path.read_bytes()
    before = load(path)
    for at in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(damaged)
        with contextlib.suppress(CheckpointError):
            after = load(path)
            assert b'"digest"' not in damaged  # there is none then, and the content is whole
            assert (after.progress, after.about) == (before.progress, before.about)
            assert all(torch.equal(after.model[n], before.model[n]) for n in before.model)


def test_a_checkpoint_without_a_digest_is_read(folder: RunFolder) -> None:
    path = rewritten(save(folder, checkpoint(), keep=1), {"digest": None})
    assert load(path).progress == checkpoint().progress


def test_halves_of_killed_learners_are_removed_and_other_files_are_not(folder: RunFolder) -> None:
    half = folder.checkpoints / ".000000000003.safetensors.tmp"
    theirs = folder.checkpoints / ".best.safetensors.tmp"
    for path in (half, theirs):
        path.write_bytes(b"half")
    save(folder, checkpoint(), keep=1)
    assert (half.exists(), theirs.exists()) == (False, True)


def rewritten(path: Path, change: dict[str, str | None], drop: str = "") -> Path:
    """Changes a file's metadata, or drops a tensor."""
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata() | change
        tensors = {name: file.get_tensor(name) for name in file.keys() if name != drop}  # noqa: SIM118
    kept = {name: value for name, value in metadata.items() if value is not None}
    if "digest" in kept:
        kept |= DIGEST
    path.write_bytes(sealed(safetensors.torch.save(tensors, kept)))
    return path


@pytest.mark.parametrize("name", ["asyncade-checkpoint-2", None])
def test_another_format_is_refused(folder: RunFolder, name: str | None) -> None:
    path = rewritten(save(folder, checkpoint(), keep=1), {"format": name})
    with pytest.raises(CheckpointError, match=re.escape(str(path))):
        load(path)


@pytest.mark.parametrize(
    ("change", "drop"),
    [
        ({"counters": None}, ""),
        ({"counters": "{"}, ""),
        ({"counters": json.dumps({"what": 1})}, ""),
        *(
            ({"counters": json.dumps({"env_steps": bad})}, "")
            for bad in ("1", -1, 0.5, None, 2**54)
        ),
        ({"counters": json.dumps({"seconds": float("nan")})}, ""),
        ({"counters": json.dumps({"recent_returns": 1})}, ""),
        ({"counters": json.dumps({"milestone": 31})}, ""),
        ({"counters": "[]"}, ""),
        ({"counters": "[" * 100_000}, ""),  # deeper than Python's stack
        ({"counters": '{"updates": ' + "9" * 5000 + "}"}, ""),  # longer than Python reads
        ({"milestone": "5"}, ""),
        ({"milestone": json.dumps({"target": float("nan"), "env_steps": 1, "seconds": 1})}, ""),
        ({"milestone": json.dumps({"target": 1})}, ""),
        ({"about": None}, ""),
        ({"about": "[]"}, ""),
        ({}, "rng.minibatches"),
        ({}, "recent_returns"),
    ],
)
def test_an_incomplete_file_is_refused(
    folder: RunFolder, change: dict[str, str | None], drop: str
) -> None:
    path = rewritten(save(folder, checkpoint(), keep=1), change, drop)
    with pytest.raises(CheckpointError, match=re.escape(str(path))):
        load(path)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("rng.minibatches", torch.zeros(5056)),
        ("rng.minibatches", torch.zeros(5, dtype=torch.uint8)),
        ("recent_returns", torch.zeros(2, 2, dtype=torch.float64)),
        ("recent_returns", torch.zeros(2, dtype=torch.int64)),
        ("recent_returns", torch.tensor([torch.nan], dtype=torch.float64)),
        ("model.scale", torch.tensor(torch.inf)),
        ("optimiser.exp_avg.scale", torch.tensor(torch.nan)),
    ],
)
def test_a_tensor_that_is_something_else_is_refused(
    folder: RunFolder, name: str, tensor: torch.Tensor
) -> None:
    path = save(folder, checkpoint(), keep=1)
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = {key: value for key, value in file.metadata().items() if key not in DIGEST}
    tensors = safetensors.torch.load(path.read_bytes()) | {name: tensor}
    safetensors.torch.save_file(tensors, path, metadata)
    with pytest.raises(CheckpointError, match=re.escape(str(path))):
        load(path)


def test_the_file_is_plain_safetensors(folder: RunFolder) -> None:
    path = save(folder, checkpoint(), keep=1)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert header["__metadata__"]["format"] == FORMAT
    assert {name.partition(".")[0] for name in header} == {
        "__metadata__",
        "model",
        "optimiser",
        "rng",
        "recent_returns",
    }
    assert set(safetensors.torch.load(content)) == header.keys() - {"__metadata__"}

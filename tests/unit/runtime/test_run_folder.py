"""The files of a run: written atomically, locked, read back with errors that name the file."""

from __future__ import annotations

import fcntl
import json
import os
import tracemalloc
from pathlib import Path
from typing import IO

import pytest

from asyncade_runtime.files import RunFolderError, write_atomically
from asyncade_runtime.run_folder import FolderBusyError, RunFolder, source_commit


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "runs" / "one")


def test_create_makes_the_folder_and_its_parts(folder: RunFolder) -> None:
    assert {path.name for path in folder.root.iterdir()} == {"checkpoints", "tensorboard", "logs"}
    RunFolder.create(folder.root)  # may exist already


def test_an_existing_run_has_a_config_or_a_checkpoint(folder: RunFolder) -> None:
    with pytest.raises(RunFolderError, match=r"one .*config\.json"):
        RunFolder.existing(folder.root)
    checkpoint = folder.checkpoints / "000000000001.safetensors"
    checkpoint.touch()
    assert RunFolder.existing(folder.root).root == folder.root
    checkpoint.unlink()
    folder.write_config("train", {})
    assert RunFolder.existing(folder.root).root == folder.root


def test_existing_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError):
        RunFolder.existing(tmp_path / "typo")
    assert not (tmp_path / "typo").exists()


def test_only_one_learner_can_claim_a_folder(folder: RunFolder) -> None:
    other = RunFolder.create(folder.root)
    with folder.claimed():
        with (
            pytest.raises(FolderBusyError, match="another learner"),
            other.claimed(),
        ):
            pytest.fail("two have it")
        with (
            pytest.raises(RunFolderError),
            other.claimed(),
        ):  # and keeps the lock
            pytest.fail("two have it")
    with other.claimed():
        pass


def test_a_claim_that_writes_nothing_leaves_nothing(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs" / "new")
    with folder.claimed():
        assert (folder.root / ".lock").exists()
    assert not list(tmp_path.iterdir())
    with folder.claimed():
        folder.write_config("learner", {})
    assert [path.name for path in folder.root.iterdir()] == ["config.json"]


def test_a_removed_lock_is_no_claim(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its holder removes it at its end, after another process has opened it."""
    flock = fcntl.flock

    def removed_before(file: IO[bytes], operation: int) -> None:
        (folder.root / ".lock").unlink()
        flock(file, operation)

    monkeypatch.setattr("fcntl.flock", removed_before)
    with pytest.raises(FolderBusyError), folder.claimed():
        pytest.fail("another may have it too")


def test_a_lock_that_fails_is_named(folder: RunFolder) -> None:
    (folder.root / ".lock").mkdir()
    with pytest.raises(RunFolderError, match=r"\.lock cannot be locked"), folder.claimed():
        pytest.fail("it has it")


def test_config_has_a_section_per_program(folder: RunFolder) -> None:
    assert folder.read_config() == {}
    folder.write_config("train", {"actors": 2, "seed": 1})
    folder.write_config("learner", {"mode": "data"})
    folder.write_config("train", {"actors": 3})
    assert folder.read_config() == {"train": {"actors": 3}, "learner": {"mode": "data"}}


def test_metrics_are_rows_in_order(folder: RunFolder) -> None:
    assert folder.read_metrics() == []
    rows = [{"env_steps": n, "mean_return_100": None} for n in range(3)]
    for row in rows:
        folder.append_metrics(row)
    assert folder.read_metrics() == rows


@pytest.mark.parametrize(
    "half",
    ['{"env_steps": 1', '{"env_steps": 1{"env_steps": 2}\n', "3\n", "[" * 100_000],
)
def test_truncated_lines_are_skipped(folder: RunFolder, half: str) -> None:
    folder.append_metrics({"env_steps": 0})
    with (folder.root / "metrics.jsonl").open("a") as file:
        file.write(half)
    assert folder.read_metrics() == [{"env_steps": 0}]


def test_a_row_after_half_a_line_is_a_row(folder: RunFolder) -> None:
    folder.append_metrics({"env_steps": 1})
    with (folder.root / "metrics.jsonl").open("a") as file:
        file.write('{"env_st')
    folder.append_metrics({"env_steps": 2})
    assert folder.read_metrics() == [{"env_steps": 1}, {"env_steps": 2}]


def test_last_metrics_is_the_last_complete_row(folder: RunFolder) -> None:
    assert folder.last_metrics() is None
    for n in range(3000):
        folder.append_metrics({"env_steps": n, "seconds": 2.0 * n})
        if n in (0, 2999):
            assert (
                folder.last_metrics()
                == folder.read_metrics()[-1]
                == {"env_steps": n, "seconds": 2.0 * n}
            )
    with (folder.root / "metrics.jsonl").open("a") as file:
        file.write('{"env_steps": 30')  # being written
    assert folder.last_metrics() == {"env_steps": 2999, "seconds": 5998.0}


def test_rows_after_a_checkpoint_are_removed(folder: RunFolder) -> None:
    for env_steps in (0, 10, 20, 30):
        folder.append_metrics({"env_steps": env_steps})
    folder.forget_metrics_after(20, 1e9)
    folder.append_metrics({"env_steps": 25})
    assert [row["env_steps"] for row in folder.read_metrics()] == [0, 10, 20, 25]


@pytest.mark.parametrize("cut", ['{"env_steps": 25', '{"env_steps": 20}'])
def test_truncated_lines_are_removed_too(folder: RunFolder, cut: str) -> None:
    path = folder.root / "metrics.jsonl"
    path.write_text('{"env_steps": 1{"env_steps": 2}\n{"env_steps": 20}\n' + cut)
    folder.forget_metrics_after(20, 1e9)
    folder.append_metrics({"env_steps": 21})
    assert [row["env_steps"] for row in folder.read_metrics()] == [20, 21]


def test_without_later_rows_the_file_is_not_written(folder: RunFolder) -> None:
    folder.forget_metrics_after(20, 1e9)
    assert not (folder.root / "metrics.jsonl").exists()
    folder.append_metrics({"env_steps": 20})
    path = folder.root / "metrics.jsonl"
    os.utime(path, (1, 1))
    folder.forget_metrics_after(20, 1e9)
    assert path.stat().st_mtime == 1
    folder.forget_metrics_after(-1, -1)
    assert path.read_bytes() == b""


def test_reading_rows_takes_constant_memory(folder: RunFolder) -> None:
    count, filling = 20_000, "x" * 300
    with (folder.root / "metrics.jsonl").open("w") as file:
        for n in range(count):
            file.write(json.dumps({"env_steps": n, "seconds": n, "filling": filling}) + "\n")
    tracemalloc.start()
    try:
        assert (folder.last_metrics() or {})["env_steps"] == count - 1
        assert sum(1 for _ in folder.metrics) == count
        folder.forget_metrics_after(count // 2, count)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000  # of a file of 7 MB
    assert [row["env_steps"] for row in folder.metrics] == list(range(count // 2 + 1))


def test_a_summary_can_be_removed(folder: RunFolder) -> None:
    assert folder.read_summary() is None
    folder.remove_summary()
    folder.write_summary({"ended_by": "signal"})
    assert folder.read_summary() == {"ended_by": "signal"}
    folder.remove_summary()
    assert folder.read_summary() is None


def test_endpoints_are_written_and_removed(folder: RunFolder) -> None:
    assert folder.read_endpoints() is None
    folder.write_endpoints({"upstream": "tcp://127.0.0.1:1"})
    assert folder.read_endpoints() == {"upstream": "tcp://127.0.0.1:1"}
    folder.remove_endpoints()
    folder.remove_endpoints()
    assert folder.read_endpoints() is None


@pytest.mark.parametrize("content", ["{", "[]", "[" * 100_000, '{"a": ' + "9" * 5000 + "}"])
def test_a_broken_file_is_named(folder: RunFolder, content: str) -> None:
    (folder.root / "config.json").write_text(content)
    with pytest.raises(RunFolderError, match=r"config\.json"):
        folder.read_config()


@pytest.mark.parametrize("section", ["[]", "null", "1", '"text"'])
def test_a_section_that_is_no_object_is_named(folder: RunFolder, section: str) -> None:
    (folder.root / "config.json").write_text(f'{{"learner": {section}}}')
    with pytest.raises(RunFolderError, match=r"'learner' in .*config\.json"):
        folder.read_config()


@pytest.mark.parametrize("value", ["text", None, [0.1], -0.5, 1, float("nan")])
def test_a_probability_that_is_none_is_named(folder: RunFolder, value: object) -> None:
    folder.write_config("learner", {"repeat_action_probability": value})
    with pytest.raises(RunFolderError, match="repeat_action_probability"):
        folder.sticky()


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.json"
    write_atomically(path, b"old")

    def power_cut(*_: object) -> None:
        raise OSError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", power_cut)
        with pytest.raises(OSError, match="power cut"):
            write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [one.name for one in tmp_path.iterdir()] == ["file.json"]


def test_a_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut there is the old file or the new one; the folder is flushed last."""
    path, order = tmp_path / "file.json", list[str]()
    fsync, replace = os.fsync, Path.replace

    def flush(file: int) -> None:
        order.append("folder" if Path(f"/proc/self/fd/{file}").resolve() == tmp_path else "file")
        fsync(file)

    def rename(self: Path, target: Path) -> Path:
        order.append("name")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(Path, "replace", rename)
    write_atomically(path, b"new")
    assert order == ["file", "name", "folder"]


def test_a_full_disk_names_the_file(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    folder.append_metrics({"env_steps": 1})
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(RunFolderError, match=r"config\.json.*No space left on device"):
        folder.write_config("train", {})


def test_the_commit_is_short_or_unknown() -> None:
    commit = source_commit().removesuffix("+")
    assert commit == "unknown" or (len(commit) == 12 and int(commit, 16) >= 0)


def test_a_growing_file_is_read_on_from_where_it_ended(folder: RunFolder) -> None:
    assert folder.metrics.after(0) == ([], 0)
    folder.append_metrics({"a": 1})
    rows, offset = folder.metrics.after(0)
    assert rows == [{"a": 1}]
    assert folder.metrics.after(offset) == ([], offset)
    path = folder.root / "metrics.jsonl"
    with path.open("a") as file:
        file.write('{"a": 2}\n{"a"')  # half written
    rows, offset = folder.metrics.after(offset)
    assert rows == [{"a": 2}]
    with path.open("a") as file:
        file.write(": 3}\n")
    assert folder.metrics.after(offset)[0] == [{"a": 3}]
    path.write_text('{"a": 4}\n')  # shorter, as after resuming
    assert folder.metrics.after(offset)[0] == [{"a": 4}]

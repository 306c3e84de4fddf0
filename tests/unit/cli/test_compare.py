"""`asyncade compare`: the runs it trains, the runs it reads, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from asyncade_cli import compare as compare_module
from asyncade_cli.compare import compare, is_complete, plan
from asyncade_cli.settings import CompareSettings, TrainSettings, join_runs
from asyncade_runtime.files import RunFolderError
from asyncade_runtime.settings import SettingsError, load


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def given(*arguments: str) -> CompareSettings:
    return load(CompareSettings, join_runs(arguments), {})


def run(*arguments: str, environ: dict[str, str] | None = None) -> int:
    return compare(given(*arguments), environ or {}, ["asyncade", "compare", *arguments])


def write_run(root: Path, mode: str = "data", **changes: Any) -> Path:
    """Writes a finished run folder, with a truncated last row."""
    root.mkdir(parents=True)
    summary = {
        **{"mode": mode, "game": "catch", "seed": 1, "actors": 2, "cores": 2, "target": 0.9},
        **{"env_steps": 2000, "seconds": 60.0, "updates": 20, "episodes": 200},
        **{"mean_return_100": 0.95, "bytes_per_env_step": 50.0, "ended_by": "target"},
        **changes,
    }
    rows = [
        {"seconds": 30.0, "env_steps": 1000, "updates": 10, "episodes": 90, "mean_return_100": 0.5},
        {"seconds": 60.0, "env_steps": 2000, "updates": 20, "episodes": 200}
        | {"mean_return_100": 0.95, "stage_shares": {"wait": 0.1, "optimise": 0.9}},
    ]
    (root / "summary.json").write_text(json.dumps(summary))
    (root / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"se')
    return root


def figures(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "compare.json").read_text())
    return found


# --- settings and plan ---------------------------------------------------------------------------


def test_runs_alternate_between_modes() -> None:
    planned = plan(given("--seeds=3,5"), Path("out"), {})
    assert [(str(root), run.mode, run.seed) for root, run in planned.items()] == [
        ("out/data-seed-3", "data", 3),
        ("out/gradients-seed-3", "gradients", 3),
        ("out/data-seed-5", "data", 5),
        ("out/gradients-seed-5", "gradients", 5),
    ]


def test_runs_differ_only_in_mode_and_seed() -> None:
    settings = given("--game=catch", "--seeds=1,2", "--max-env-steps=500", "--actors=3")
    planned = plan(settings, Path("out"), {"ASYNCADE_TRAIN_ENVS": "5"})
    runs = [run.model_dump(exclude={"mode", "seed", "run_dir"}) for run in planned.values()]
    assert all(run == runs[0] for run in runs)
    assert (runs[0]["game"], runs[0]["actors"], runs[0]["max_env_steps"]) == ("catch", 3, 500)
    assert (runs[0]["envs"], runs[0]["max_minutes"], runs[0]["resume"]) == (5, None, False)


@pytest.mark.parametrize(
    ("arguments", "minutes"),
    [([], 20.0), (["--max-minutes=3"], 3.0), (["--max-env-steps=9"], None)],
)
def test_every_comparison_has_a_budget(arguments: list[str], minutes: float | None) -> None:
    assert given(*arguments).minutes() == minutes


def test_an_interrupted_run_is_resumed_for_its_remaining_minutes(here: Path) -> None:
    root = write_run(here / "data-seed-1", ended_by="signal")
    (root / "checkpoints").mkdir()
    (root / "checkpoints" / "000000000001.safetensors").write_bytes(b"x")
    resumed = plan(given("--max-minutes=3"), here, {})[root]
    assert resumed.resume
    assert resumed.max_minutes == pytest.approx(2)
    assert not is_complete(root)


@pytest.mark.parametrize(
    ("arguments", "joined"),
    [
        (["--runs", "a", "b"], ["--runs=a,b"]),
        (["--runs", "a", "b", "--out=c"], ["--runs=a,b", "--out=c"]),
        (["--out", "c", "--runs", "a"], ["--out", "c", "--runs=a"]),
        (["--runs=a,b"], ["--runs=a,b"]),
        (["--runs"], ["--runs="]),
        ([], []),
    ],
)
def test_runs_may_be_separated_by_spaces(arguments: list[str], joined: list[str]) -> None:
    assert join_runs(arguments) == joined


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--runs"], "--runs"),
        (["--runs", "a", "b", "--seeds=1"], "--seeds"),
        (["--seeds=1,1"], "--seeds"),
        (["--seeds=x"], "--seeds"),
        (["--seeds="], "--seeds"),
        (["--game=pnog"], "pong"),
    ],
)
def test_bad_settings_are_named(arguments: list[str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        given(*arguments)


# --- finished runs -------------------------------------------------------------------------------


def test_finished_runs_are_reported(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(here / "a")
    write_run(here / "b", "gradients", target=0.5)
    assert run("--runs", "a", "b", "--target=0.4", "--out=report") == 0
    found = figures(here / "report")
    assert found["modes"]["data"]["minutes_to_target"]["median"] == 1.0
    assert [(one["run"], one["mode"]) for one in found["runs"]] == [
        ("a", "data"),
        ("b", "gradients"),
    ]
    page = (here / "report" / "report.html").read_text()
    assert "--target=0.4" in page
    assert "Median of the seeds" in page
    printed = capsys.readouterr().out
    assert "| seeds_at_target | 1 of 1 | 1 of 1 |" in printed
    assert "report/report.html" in printed
    assert {path.name for path in (here / "a").iterdir()} == {"summary.json", "metrics.jsonl"}


@pytest.mark.parametrize("files", [[], ["config.json"], ["summary.json"], ["metrics.jsonl"]])
def test_a_folder_without_a_finished_run_is_refused(here: Path, files: list[str]) -> None:
    (here / "a").mkdir()
    for name in files:
        (here / "a" / name).write_text("{}")
    if files == ["summary.json"]:
        (here / "a" / "metrics.jsonl").touch()
    before = sorted((here / "a").iterdir())
    with pytest.raises(RunFolderError, match=r"^a .*summary\.json"):
        run("--runs", "a")
    assert sorted((here / "a").iterdir()) == before


def test_a_broken_summary_is_named(here: Path) -> None:
    (write_run(here / "a") / "summary.json").write_text("{")
    with pytest.raises(RunFolderError, match=r"a/summary\.json"):
        run("--runs", "a")


def test_one_mode_is_refused(here: Path) -> None:
    write_run(here / "a")
    write_run(here / "b")
    with pytest.raises(RunFolderError, match="gradients"):
        run("--runs", "a", "b", "--out=out")
    assert not (here / "out").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"game": "pong"}, "game is catch in a and pong in b"),
        ({"target": 0.5}, "target is 0.9 in a and 0.5 in b: .*--target"),
        ({"actors": 4}, "actors is 2 in a and 4 in b"),
        ({"cores": 4}, "cores is 2 in a and 4 in b"),
    ],
)
def test_unlike_runs_are_refused(here: Path, change: dict[str, Any], named: str) -> None:
    write_run(here / "a")
    write_run(here / "b", "gradients", **change)
    with pytest.raises(RunFolderError, match=named):
        run("--runs", "a", "b")


def test_a_folder_with_a_report_on_other_runs_is_refused(here: Path) -> None:
    write_run(here / "a")
    write_run(here / "b", "gradients")
    assert run("--runs", "a", "b", "--out=out") == 0
    with pytest.raises(RunFolderError, match="--out"):
        run("--out=out", "--game=catch")


def test_an_impossible_out_folder_is_named(here: Path) -> None:
    (here / "file").touch()
    with pytest.raises(RunFolderError, match=r"file/out .*--out"):
        run("--game=catch", "--out=file/out")


# --- training, with `train` replaced -------------------------------------------------------------


class Trainings:
    """Replaces `train`: returns given exit codes and records its arguments."""

    def __init__(self) -> None:
        self.folders: list[str] = []
        self.codes: list[int] = []
        self.cooldowns: list[str] = []
        self.interrupted = False

    def __call__(self, settings: TrainSettings, environ: Mapping[str, str]) -> int:
        assert settings.run_dir is not None
        self.cooldowns.append(environ["ASYNCADE_LEARNER_COOLDOWN"])
        self.folders.append(settings.run_dir.name)
        if self.interrupted:
            raise KeyboardInterrupt
        code = self.codes.pop(0) if self.codes else 0
        write_run(settings.run_dir, settings.mode, **({"ended_by": "signal"} if code else {}))
        return code


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    trainings = Trainings()
    monkeypatch.setattr(compare_module, "train", trainings)
    return trainings


CATCH = ("--game=catch", "--seeds=1", "--max-env-steps=2000", "--out=out")


def test_finished_runs_are_not_repeated(here: Path, trainings: Trainings) -> None:
    assert run(*CATCH) == 0
    assert trainings.folders == ["data-seed-1", "gradients-seed-1"]
    assert (here / "out" / "report.html").is_file()
    assert run("--out=out", "--seeds=2") == 0  # other settings come from the folder
    assert trainings.folders[2:] == ["data-seed-2", "gradients-seed-2"]
    found = figures(here / "out")
    assert found["asked"]["seeds"] == [1, 2]
    assert len(found["runs"]) == 4


@pytest.mark.parametrize("code", [1, 130])
def test_the_first_run_that_fails_ends_the_comparison(
    here: Path, trainings: Trainings, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    trainings.codes = [0, code]
    assert run(*CATCH) == code
    assert "asyncade compare --out out" in capsys.readouterr().out
    assert not (here / "out" / "report.html").exists()
    (here / "out" / "gradients-seed-1").rename(here / "gone")
    assert run("--out=out") == 0
    assert trainings.folders == ["data-seed-1", "gradients-seed-1", "gradients-seed-1"]
    assert (here / "out" / "report.html").is_file()


def test_runs_finished_before_an_interrupt_are_reported(here: Path, trainings: Trainings) -> None:
    trainings.codes = [0, 0, 130]
    assert run("--game=catch", "--seeds=1,2", "--out=out") == 130
    assert len(figures(here / "out")["runs"]) == 2
    trainings.interrupted = True
    (here / "out" / "data-seed-2").rename(here / "gone")
    assert run("--out=out") == 130
    assert len(figures(here / "out")["runs"]) == 2


@pytest.mark.parametrize("other", [["--max-env-steps=3000"], ["--game=pong"], ["--actors=7"]])
def test_a_folder_keeps_its_settings(here: Path, trainings: Trainings, other: list[str]) -> None:
    assert run(*CATCH) == 0
    with pytest.raises(RunFolderError, match="--out"):
        run("--out=out", *other)


def test_a_folder_keeps_its_environment_variables(trainings: Trainings) -> None:
    first = {"ASYNCADE_LEARNER_LEARNING_RATE": "1e-4", "ASYNCADE_TRAIN_ENVS": "4"}
    assert run(*CATCH, environ={**first, "HOME": "/x"}) == 0
    assert run("--out=out", environ=first) == 0
    added = {**first, "ASYNCADE_ACTOR_PRECISION": "float32"}
    changed = {**first, "ASYNCADE_TRAIN_ENVS": "5"}
    for environ, cure in (
        ({}, "set ASYNCADE_LEARNER_LEARNING_RATE=1e-4, ASYNCADE_TRAIN_ENVS=4 to"),
        (added, "unset ASYNCADE_ACTOR_PRECISION to"),
        (changed, "set ASYNCADE_TRAIN_ENVS=4 to"),
    ):
        with pytest.raises(RunFolderError, match=cure):
            run("--out=out", environ=environ)


def test_a_wrong_environment_variable_leaves_no_folder(here: Path, trainings: Trainings) -> None:
    with pytest.raises(SettingsError, match="ASYNCADE_TRAIN_ENVZ"):
        run(*CATCH, environ={"ASYNCADE_TRAIN_ENVZ": "1"})
    assert not (here / "out").exists()


def test_runs_end_at_the_target_unless_a_cooldown_is_set(trainings: Trainings) -> None:
    assert run(*CATCH) == 0
    longer = {"ASYNCADE_LEARNER_COOLDOWN": "0.3"}
    assert run(*CATCH[:-1], "--out=other", environ=longer) == 0
    assert trainings.cooldowns == ["0", "0", "0.3", "0.3"]

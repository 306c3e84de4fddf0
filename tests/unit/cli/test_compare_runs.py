"""Which runs a comparison makes, which it takes, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from asyncade_cli import compare as comparing
from asyncade_cli.compare import compare
from asyncade_cli.compare_runs import is_finished, plan, read_run, runs_joined
from asyncade_cli.settings import CompareSettings, TrainSettings
from asyncade_runtime.run_folder import RunFolderError
from asyncade_runtime.settings import SettingsError, load, settings_table


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def given(*arguments: str) -> CompareSettings:
    return load(CompareSettings, runs_joined(arguments), {})


def write_run(root: Path, mode: str = "data", **changes: Any) -> Path:
    """A run folder as a training leaves it."""
    root.mkdir(parents=True)
    summary = {
        **{"mode": mode, "game": "catch", "seed": 1, "actors": 2, "cores": 2, "target": 0.9},
        **{"env_steps": 2000, "seconds": 20.0, "updates": 20, "episodes": 200},
        **{"mean_return_100": 0.95, "bytes_per_env_step": 50.0, "ended_by": "target"},
        **changes,
    }
    rows = [
        {"seconds": 10.0, "env_steps": 1000, "updates": 10, "episodes": 90, "mean_return_100": 0.5},
        {"seconds": 20.0, "env_steps": 2000, "updates": 20, "episodes": 200}
        | {"mean_return_100": 0.95, "stage_shares": {"wait": 0.1, "optimise": 0.9}},
    ]
    (root / "summary.json").write_text(json.dumps(summary))
    (root / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"se')
    return root


def test_modes_take_turns() -> None:
    runs = plan(given("--seeds=3,5"), Path("out"))
    assert [(run.mode, run.seed, str(run.root)) for run in runs] == [
        ("data", 3, "out/data-seed-3"),
        ("gradients", 3, "out/gradients-seed-3"),
        ("data", 5, "out/data-seed-5"),
        ("gradients", 5, "out/gradients-seed-5"),
    ]


def test_all_runs_are_told_the_same_but_mode_and_seed() -> None:
    settings = given("--game=catch", "--seeds=1,2", "--max-env-steps=500", "--actors=3")
    told = [
        load(TrainSettings, run.arguments(), {}).model_dump(exclude={"mode", "seed", "run_dir"})
        for run in plan(settings, Path("out"))
    ]
    assert all(one == told[0] for one in told)
    assert (told[0]["game"], told[0]["actors"], told[0]["max_env_steps"]) == ("catch", 3, 500)
    assert told[0]["max_minutes"] is None
    assert not told[0]["resume"]


@pytest.mark.parametrize(
    ("arguments", "minutes"),
    [([], 20.0), (["--max-minutes=3"], 3.0), (["--max-env-steps=9"], None)],
)
def test_every_comparison_has_a_budget(arguments: list[str], minutes: float | None) -> None:
    assert given(*arguments).minutes() == minutes


def test_an_interrupted_run_gets_the_minutes_that_are_left(here: Path) -> None:
    run = plan(given("--max-minutes=2"), here)[0]
    write_run(run.root, ended_by="signal")
    (run.root / "checkpoints").mkdir()
    (run.root / "checkpoints" / "1.safetensors").write_bytes(b"x")
    told = load(TrainSettings, run.arguments(), {})
    assert told.resume
    assert told.max_minutes == pytest.approx(2 - 20 / 60)
    assert not is_finished(run.root)


@pytest.mark.parametrize(
    ("arguments", "joined"),
    [
        (["--runs", "a", "b"], ["--runs=a,b"]),
        (["--runs", "a", "b", "--out=c"], ["--runs=a,b", "--out=c"]),
        (["--out", "c", "--runs", "a"], ["--out", "c", "--runs=a"]),
        (["--runs=a,b"], ["--runs=a,b"]),
        (["--runs"], ["--runs="]),
    ],
)
def test_runs_are_named_side_by_side(arguments: list[str], joined: list[str]) -> None:
    assert runs_joined(arguments) == joined


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        (["--runs", "a", "b", "--seeds=1"], "leave out --seeds"),
        (["--seeds=1,1"], "name each seed once"),
        (["--seeds=x"], "valid integer"),
        (["--seeds="], "at least 1 item"),
        (["--game=pnog"], "did you mean pong"),
    ],
)
def test_bad_settings_name_the_cure(arguments: list[str], cure: str) -> None:
    with pytest.raises(SettingsError, match=cure):
        given(*arguments)


def refused(*arguments: str) -> str:
    with pytest.raises(RunFolderError) as error:
        compare(given(*arguments), {}, ["asyncade", "compare", *arguments])
    return str(error.value)


def test_a_folder_without_a_run_is_refused(here: Path) -> None:
    (here / "empty").mkdir()
    assert "empty holds no run (no summary.json)" in refused("--runs", "empty")
    assert list((here / "empty").iterdir()) == []  # looking at it changes nothing
    (here / "empty" / "config.json").write_text("{}")
    assert "is not over" in refused("--runs", "empty")


def test_one_mode_is_no_comparison(here: Path) -> None:
    write_run(here / "a")
    write_run(here / "b")
    assert "there is no gradients run to compare with" in refused("--runs", "a", "b")


@pytest.mark.parametrize(
    ("change", "cure"),
    [
        ({"game": "pong"}, "game is catch in a and pong in b; compare the games one by one"),
        ({"target": 0.5}, "target is 0.9 in a and 0.5 in b; judge all by one with --target"),
        ({"actors": 4}, "actors is 2 in a and 4 in b; name runs with as many actors"),
    ],
)
def test_unlike_runs_are_refused(here: Path, change: dict[str, Any], cure: str) -> None:
    write_run(here / "a")
    write_run(here / "b", "gradients", **change)
    assert cure in refused("--runs", "a", "b")


def test_runs_that_exist_are_reported_on(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(here / "a")
    write_run(here / "b", "gradients", target=0.5)
    settings = given("--runs", "a", "b", "--target=0.4", "--out=report")
    assert compare(settings, {}, ["asyncade", "compare"]) == 0
    figures = json.loads((here / "report" / "compare.json").read_text())
    assert figures["modes"]["data"]["spreads"]["seconds_to_target"]["median"] == 20.0
    assert figures["modes"]["data"]["actor_shares"] is None
    assert figures["cluster"] is None
    assert "gradient mode" in (here / "report" / "report.md").read_text()
    assert (here / "report" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "report/report.md" in capsys.readouterr().out


def test_another_target_is_looked_for_in_the_rows(here: Path) -> None:
    root = write_run(here / "a")
    assert read_run(root).figures.seconds_to_target == 20.0
    assert read_run(root, target=0.96).figures.seconds_to_target is None


# --- training, with a stand-in for it ------------------------------------------------------------


class Trainings:
    """Takes the place of ``train``; ends as told, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.codes: list[int] = []
        self.cooldowns: list[str] = []

    def __call__(self, settings: TrainSettings, environ: Mapping[str, str]) -> int:
        assert settings.run_dir is not None
        self.cooldowns.append(environ["ASYNCADE_LEARNER_COOLDOWN"])
        self.asked.append(settings.run_dir.name)
        code = self.codes.pop(0) if self.codes else 0
        for made in sorted(settings.run_dir.iterdir()):  # by RunFolder; write_run makes it anew
            made.rmdir()
        settings.run_dir.rmdir()
        write_run(settings.run_dir, settings.mode, **({"ended_by": "signal"} if code else {}))
        return code


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    trainings = Trainings()
    monkeypatch.setattr(comparing, "train", trainings)
    return trainings


def run(*arguments: str, environ: dict[str, str] | None = None) -> int:
    return compare(given(*arguments), environ or {}, ["asyncade", "compare", *arguments])


CATCH = ("--game=catch", "--seeds=1", "--max-env-steps=2000", "--out=out")


def test_runs_that_are_over_are_not_repeated(here: Path, trainings: Trainings) -> None:
    assert run(*CATCH) == 0
    assert trainings.asked == ["data-seed-1", "gradients-seed-1"]
    assert (here / "out" / "report.md").is_file()
    assert run("--out=out", "--seeds=2") == 0  # the rest is as the folder has it
    assert trainings.asked[2:] == ["data-seed-2", "gradients-seed-2"]
    figures = json.loads((here / "out" / "compare.json").read_text())
    assert figures["asked"]["seeds"] == [1, 2]
    assert figures["modes"]["data"]["spreads"]["env_steps"]["runs"] == 2


def test_an_interrupt_keeps_what_there_is(
    here: Path, trainings: Trainings, capsys: pytest.CaptureFixture[str]
) -> None:
    trainings.codes = [0, 130]
    assert run(*CATCH) == 130
    told = capsys.readouterr().out
    assert "no report yet" in told
    assert "continue with: asyncade compare --out out" in told
    assert not (here / "out" / "report.md").exists()
    (here / "out" / "gradients-seed-1" / "summary.json").unlink()
    (here / "out" / "gradients-seed-1" / "metrics.jsonl").unlink()
    assert run("--out=out") == 0
    assert trainings.asked == ["data-seed-1", "gradients-seed-1", "gradients-seed-1"]
    assert (here / "out" / "report.md").is_file()


@pytest.mark.parametrize("other", [["--max-env-steps=3000"], ["--game=pong"], ["--actors=7"]])
def test_a_folder_is_continued_under_its_own_settings(
    here: Path, trainings: Trainings, other: list[str]
) -> None:
    assert run(*CATCH) == 0
    with pytest.raises(RunFolderError, match=r"leave the setting out .* choose another --out"):
        run("--out=out", *other)


def test_variables_of_the_training_are_part_of_the_settings(trainings: Trainings) -> None:
    environ = {"ASYNCADE_LEARNER_LEARNING_RATE": "1e-4", "HOME": "/x"}
    assert run(*CATCH, environ=environ) == 0
    with pytest.raises(RunFolderError, match="environment"):
        run("--out=out")


def test_what_is_compared_ends_at_the_target_unless_asked_otherwise(trainings: Trainings) -> None:
    assert run(*CATCH) == 0
    longer = {"ASYNCADE_LEARNER_COOLDOWN": "0.3"}
    assert run(*CATCH[:-1], "--out=other", environ=longer) == 0
    assert trainings.cooldowns == ["0", "0", "0.3", "0.3"]


def test_a_report_is_not_trained_into(here: Path) -> None:
    write_run(here / "a")
    write_run(here / "b", "gradients")
    assert run("--runs", "a", "b", "--out=out") == 0
    with pytest.raises(RunFolderError, match="holds a report on other folders"):
        run("--out=out", "--game=catch")


def test_the_settings_are_documented() -> None:
    text = (Path(__file__).parents[3] / "docs" / "command-line.md").read_text()
    assert settings_table(CompareSettings) in text

"""From JSON files to the tables in the READMEs, and what a campaign keeps."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from bench import campaign as campaigns
from bench.campaign import Campaign, outcome
from bench.picture import draw, points
from bench.picture import main as draw_main
from bench.report import markdown_table, measured_commit, read_result, write_result
from bench.table import origin, rival_seconds, tables

HEADER = {
    "command": "python -m bench.x",
    "commit": "abc123",
    "cores": 2,
    "processor": "a processor",
    "torch_threads": 1,
    "seed": 1,
}


def a_run(seed: int, *, reached: bool = True, env_steps: int = 200_000) -> dict[str, Any]:
    rows = [
        {"seconds": n * 60.0, "env_steps": n * env_steps // 4, "mean_return_100": value}
        for n, value in enumerate([None, -20.0, 0.0, 15.0, 18.5])
    ]
    return {
        "seed": seed,
        "reached": reached,
        "env_steps": env_steps,
        "seconds": 240.0,
        "mean_return_100": 18.5,
        "env_steps_per_second": 833.3,
        "evaluation": {"mean": 19.0 + seed / 10},
        "evaluation_greedy": {"mean": 20.0 + seed / 10},
        "rows": rows,
    }


def time_to_target(folder: Path, mode: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    settings = {"game": "pong", "target": None}
    content = HEADER | {"seeds": [r["seed"] for r in runs], "settings": settings, "runs": runs}
    write_result(f"time-to-target-{mode}", content, folder)
    return content


def test_a_table_is_markdown() -> None:
    text = markdown_table(["a", "b"], [[1234, None], [0.12345, "x|y"], [True, 2345.6]])
    assert text == "| a | b |\n| --- | --- |\n| 1,234 | - |\n| 0.123 | x\\|y |\n| yes | 2,346 |\n"


def test_without_results_single_runs_are_shown(tmp_path: Path) -> None:
    folder = tmp_path / "pong-data"
    folder.mkdir()
    (folder / "command.txt").write_text("`make train`\n")
    summary = {
        "commit": "abc",
        "cores": 2,
        "env_steps": 494592,
        "seconds": 437.25,
        "mean_return_100": 18.02,
        "bytes_per_env_step": 54.5,
    }
    evaluation = {"mean": 19.78, "median": 20.0, "standard_deviation": 1.238}
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "eval.json").write_text(json.dumps(evaluation))
    text = tables(tmp_path)
    assert "| pong-data | `make train` | abc | 2 | 494,592 | 7 min 17 s | 18.02 |" in text
    assert "19.78 / 20 / 1.24 | 54.5 |" in text
    assert "**" not in text


def test_a_campaign_replaces_single_runs(tmp_path: Path) -> None:
    runs = [a_run(1), a_run(2, env_steps=300_000), a_run(3, reached=False)]
    time_to_target(tmp_path, "data", runs)
    text = tables(tmp_path)
    assert "| data | 2 of 3 | 300,000 | 4.0 | 4.0 | - | 972 | 19.10, 19.20, 19.30 |" in text
    machine = "2 cores (a processor), torch threads 1"
    assert f"`python -m bench.x` at abc123, {machine}, seed 1, 2, 3." in text


def test_the_time_that_evaluations_are_of_counts_the_cooldown(tmp_path: Path) -> None:
    runs = [a_run(seed) | {"trained_seconds": 300.0 + 60.0 * seed} for seed in (1, 2, 3)]
    time_to_target(tmp_path, "data", runs)
    assert "| data | 3 of 3 | 200,000 | 4.0 | 4.0 | 7.0 | 833 |" in tables(tmp_path)
    for run in runs:
        run["trained_seconds"] = run["seconds"]  # no cooldown
    time_to_target(tmp_path, "data", runs)
    assert "| data | 3 of 3 | 200,000 | 4.0 | 4.0 | - | 833 |" in tables(tmp_path)


def test_the_processor_is_named_where_it_is_known() -> None:
    result = {"command": "x", "commit": "abc", "cores": 2, "torch_threads": 1, "seed": 1}
    assert "2 cores, torch" in origin(result)
    assert "2 cores (Xeon), torch" in origin(result | {"processor": "Xeon"})


def test_rivals_are_held_against_data_mode(tmp_path: Path) -> None:
    time_to_target(tmp_path, "data", [a_run(1)])
    published = {"env_steps": 1_000_000}
    rivals = [
        {"name": "slow", "env_steps_per_second": 100.0, "published_env_steps_to_target": published},
        {"name": "there", "env_steps_per_second": 9.0, "reached_target": {"seconds": 480.0}},
        {"name": "broken", "error": "no wheel"},
        {"name": "book", "published_env_steps_to_target": published | {"minutes": 45.6}},
    ]
    write_result("rivals", {"rivals": rivals}, tmp_path)
    text = tables(tmp_path)
    assert "**Rivals on the same machine**" in text
    assert "| slow | 100 | - | - | 167 (projected) | 42 |" in text
    assert "| there | 9 | - | - | 8 (measured) | 2 |" in text
    assert "| broken | - | - | - | - | - |" in text
    assert "| book | - | - | - | 46 (quoted, on its author's machine) | - |" in text
    assert "Data mode on that machine: 4.0 minutes." in text
    assert rival_seconds(rivals[2]) == (None, "unknown")


def test_rivals_can_be_of_another_machine_than_the_newest_runs(tmp_path: Path) -> None:
    time_to_target(tmp_path, "data", [a_run(1)])
    time_to_target(tmp_path / "other", "data", [a_run(1) | {"seconds": 120.0}])
    rivals = [{"name": "r", "env_steps_per_second": 9.0, "reached_target": {"seconds": 480.0}}]
    there = {"rivals": rivals, "ours": "other/time-to-target-data"}
    write_result("rivals", there, tmp_path)
    assert "| r | 9 | - | - | 8 (measured) | 4 |" in tables(tmp_path)


def test_results_are_written_whole_and_read_back(tmp_path: Path) -> None:
    assert read_result("nothing", tmp_path) is None
    path = write_result("x", {"a": [1]}, tmp_path / "new")
    assert read_result("x", tmp_path / "new") == {"a": [1]}
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]


def campaign(folder: Path, **changed: Any) -> Campaign:
    settings = {"mode": "data", "max_minutes": 15} | changed.pop("settings", {})
    return Campaign("c", HEADER | changed, settings, folder)


def test_a_campaign_goes_on_where_it_stopped(tmp_path: Path) -> None:
    wanted = [{"seed": n} for n in (1, 2, 3)]
    first = campaign(tmp_path)
    assert first.missing(wanted) == wanted
    first.keep([a_run(1), a_run(2)])
    assert campaign(tmp_path).missing(wanted) == [{"seed": 3}]
    assert [entry["seed"] for entry in campaign(tmp_path).entries()] == [1, 2]


@pytest.mark.parametrize(
    "changed", [{"commit": "other"}, {"settings": {"max_minutes": 20}}, {"commit": "abc123+"}]
)
def test_what_was_done_otherwise_is_done_again(tmp_path: Path, changed: dict[str, Any]) -> None:
    campaign(tmp_path).keep([a_run(1)])
    assert campaign(tmp_path, **changed).missing([{"seed": 1}]) == [{"seed": 1}]


def test_a_changed_checkout_is_never_taken_for_the_same(tmp_path: Path) -> None:
    campaign(tmp_path, commit="abc123+").keep([a_run(1)])
    assert campaign(tmp_path, commit="abc123+").entries() == []


def test_a_run_is_kept_in_short() -> None:
    summary = {
        "reached_target": True,
        "target_env_steps": 800,
        "target_seconds": 8.0,
        "env_steps": 1000,
        "seconds": 10.0,
        "updates": 4,
        "episodes": 2,
        "mean_return_100": 18.5,
        "bytes_per_env_step": 50.0,
        "ended_by": "target",
    }
    rows = [{"seconds": float(n), "env_steps": 100 * n, "loss_total": 1.0} for n in range(500)]
    kept = outcome(summary, rows)
    assert kept["reached"] is True
    assert (kept["env_steps"], kept["seconds"]) == (800, 8.0)
    assert (kept["trained_env_steps"], kept["trained_seconds"]) == (1000, 10.0)
    assert kept["env_steps_per_second"] == 100
    assert len(kept["rows"]) == 60
    assert "loss_total" not in kept["rows"][0]
    assert len(json.dumps(kept)) < 20_000


def test_new_results_are_no_change_of_the_code(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        name = ["-c", "user.name=n", "-c", "user.email=e@example.invalid"]
        subprocess.run(["git", "-C", str(tmp_path), *name, *arguments], check=True)

    (tmp_path / "bench/results").mkdir(parents=True)
    for name in ("bench/results/x.json", "README.md", "code.py"):
        (tmp_path / name).write_text("1")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "x")
    assert not measured_commit(tmp_path).endswith("+")
    (tmp_path / "bench/results/x.json").write_text("2")
    (tmp_path / "README.md").write_text("2")
    assert not measured_commit(tmp_path).endswith("+")
    (tmp_path / "code.py").write_text("2")
    assert measured_commit(tmp_path).endswith("+")


def test_the_picture_is_of_both_modes(tmp_path: Path) -> None:
    names = ("data", "gradients")
    modes = {mode: time_to_target(tmp_path, mode, [a_run(1), a_run(2)]) for mode in names}
    assert points(modes["data"]["runs"][0], "minutes") == ([1, 2, 3, 4], [-20.0, 0.0, 15.0, 18.5])
    assert points(modes["data"]["runs"][0], "env_steps")[0] == [50, 100, 150, 200]
    draw(modes, tmp_path / "learning.png")
    assert (tmp_path / "learning.png").read_bytes().startswith(b"\x89PNG")


def test_no_picture_without_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert draw_main(["--results", str(tmp_path)]) == 2
    assert "make bench-target" in capsys.readouterr().err


def test_the_note_names_the_consequence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaigns, "measured_commit", lambda: "abc+")
    assert "nothing is skipped" in campaigns.commit_note()

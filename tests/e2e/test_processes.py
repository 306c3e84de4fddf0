"""``asyncade train`` with real processes: whole runs, killed services, wrong arguments.

Tests share runs: a fixture runs a sequence of events, and the tests check its facts.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
from bench.local_run import free_ports

from asyncade_runtime.run_folder import RunFolder
from e2e.commands import (
    QUICK,
    alive,
    assert_rows_continue,
    env_steps,
    eventually,
    metrics,
    refused,
    running,
    saved,
    services,
)

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads the process table"),
]

# Keys that readers of the files rely on.
ROW_KEYS = {
    "seconds",
    "env_steps",
    "updates",
    "episodes",
    "mean_return_100",
    "env_steps_per_second",
    "policy_lag_mean",
    "bytes_per_env_step",
}
SUMMARY_KEYS = {
    *("mode", "game", "actors", "seed", "target", "reached_target", "env_steps", "seconds"),
    *("target_env_steps", "target_seconds"),
    *("updates", "episodes", "mean_return_100", "bytes_per_env_step", "commit", "cores"),
    "ended_by",
}


# --- whole runs ----------------------------------------------------------------------------------


def whole_run(home: Path, *arguments: object) -> SimpleNamespace:
    run_dir = home / "run"
    with running(home / "output", "train", "--run-dir", run_dir, *arguments) as train:
        code = train.exit_code()
        return SimpleNamespace(code=code, text=train.text(), folder=RunFolder(run_dir))


@pytest.fixture(scope="module")
def pong(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    home = tmp_path_factory.mktemp("pong")
    return whole_run(home, "--max-env-steps=6000", "--envs=4", "--seed=7")


@pytest.fixture(scope="module", params=["data", "gradients"])
def catch(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> SimpleNamespace:
    home = tmp_path_factory.mktemp(f"catch-{request.param}")
    limits = ("--max-env-steps=3000", "--envs=4", "--game=catch")
    run = whole_run(home, *limits, f"--mode={request.param}")
    run.mode = request.param
    return run


def test_pong_runs_to_its_limit(pong: SimpleNamespace) -> None:
    assert pong.code == 0, pong.text
    assert "ended by max_env_steps" in pong.text
    rows, summary = pong.folder.read_metrics(), pong.folder.read_summary()
    assert rows[-1].keys() >= ROW_KEYS
    assert_rows_continue(rows)
    assert summary.keys() >= SUMMARY_KEYS
    assert (summary["mode"], summary["game"], summary["seed"]) == ("data", "pong", 7)
    assert (summary["actors"], summary["target"], summary["reached_target"]) == (2, 18.0, False)
    assert summary["ended_by"] == "max_env_steps"
    assert summary["env_steps"] == rows[-1]["env_steps"] >= 6000
    assert summary["updates"] > 0


def test_pong_leaves_a_complete_folder(pong: SimpleNamespace) -> None:
    folder = pong.folder
    assert folder.read_config().keys() == {"train", "learner"}
    assert folder.read_config()["train"]["envs"] == 4
    assert {path.name for path in folder.logs.iterdir()} == {
        *("learner.log", "actor-0.log", "actor-1.log")
    }
    (events,) = folder.tensorboard.glob("events.out.tfevents.*")
    assert events.stat().st_size > 1000
    assert saved(folder).env_steps == folder.read_summary()["env_steps"]
    assert folder.curve.exists() == (folder.read_summary()["episodes"] > 0)
    assert folder.read_endpoints() is None  # no service listens any more
    assert not list(folder.root.rglob("*.tmp"))


def test_pong_needs_few_bytes_per_env_step(pong: SimpleNamespace) -> None:
    cost = pong.folder.read_summary()["bytes_per_env_step"]
    assert f"bytes on the wire per env step: {cost}" in pong.text
    assert 10 < cost < 500  # a bare transition of two stacks is 56,448


def test_services_log_their_protocol_and_end_cleanly(pong: SimpleNamespace) -> None:
    for number in range(2):
        log = (pong.folder.logs / f"actor-{number}.log").read_text()
        assert "environment protocol" in log
        assert "frame_skip=4" in log
        assert log.rstrip().splitlines()[-1].split("]")[1].startswith(" down")
        assert "Traceback" not in log
    assert "Traceback" not in (pong.folder.logs / "learner.log").read_text()


def test_catch_runs_in_both_modes(catch: SimpleNamespace) -> None:
    assert catch.code == 0, catch.text
    summary = catch.folder.read_summary()
    assert (summary["mode"], summary["game"]) == (catch.mode, "catch")
    assert summary["env_steps"] >= 3000
    assert summary["updates"] > 0
    assert summary["episodes"] > 0
    assert catch.folder.curve.read_bytes().startswith(b"\x89PNG")


def test_a_run_ends_after_the_target_and_the_cooldown(tmp_path: Path) -> None:
    run = whole_run(tmp_path, "--game=catch", "--envs=4", "--target=-0.95")  # nearly chance
    assert run.code == 0
    summary = run.folder.read_summary()
    assert (summary["ended_by"], summary["reached_target"]) == ("target", True)
    assert summary["env_steps"] >= 1.5 * summary["target_env_steps"]
    reached = f"target reached after {summary['target_env_steps']:,} env steps"
    assert f"{reached}; the cooldown ends the run" in run.text


def test_eval_plays_the_trained_model(catch: SimpleNamespace, tmp_path: Path) -> None:
    video = tmp_path / "game.gif"
    run = catch.folder.root
    output = tmp_path / "output"
    with running(output, "eval", run, "--episodes=4", "--json", "--video", video) as command:
        assert command.exit_code() == 0, command.text()
        text = command.text()  # the report, then a line about the film
        report, _ = json.JSONDecoder().raw_decode(text[text.index("{") :])
    assert report["episodes"] == 4
    assert -1 <= report["min"] <= report["mean"] <= report["max"] <= 1
    assert report["mean_length"] == 11
    assert report["env_steps"] == saved(catch.folder).env_steps
    assert video.read_bytes().startswith(b"GIF89a")


# --- kills under ``asyncade train`` --------------------------------------------------------------


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A run with a killed actor, and later a killed learner."""
    home = tmp_path_factory.mktemp("killed")
    folder = RunFolder(home / "run")
    facts = SimpleNamespace(home=home, folder=folder)
    with running(home / "output", "train", "--envs=2", "--run-dir", folder.root) as train:
        eventually(lambda: env_steps(folder) >= 500, "500 env steps", train)
        facts.first = services(train.pid)
        facts.niceness = {n: os.getpriority(os.PRIO_PROCESS, p) for n, p in facts.first.items()}
        gone = facts.first["actor-0"]
        os.kill(gone, signal.SIGKILL)
        at_the_kill = env_steps(folder)
        eventually(lambda: env_steps(folder) > at_the_kill, "training goes on", train)
        eventually(lambda: services(train.pid).get("actor-0", gone) != gone, "actor-0 again", train)
        facts.second = services(train.pid)
        log = folder.logs / "actor-0.log"
        eventually(lambda: log.read_text().count("assignment") >= 2, "an assignment", train)
        with_it = env_steps(folder)
        eventually(lambda: env_steps(folder) >= with_it + 500, "training goes on", train)
        os.kill(facts.second["learner"], signal.SIGKILL)
        facts.code = train.exit_code()
        facts.text = train.text()
    facts.summary = folder.read_summary()
    facts.counters = saved(folder)
    return facts


def test_actors_have_a_lower_priority_than_the_learner(killed: SimpleNamespace) -> None:
    learner = killed.niceness["learner"]
    lowest = 19
    assert killed.niceness["actor-0"] == killed.niceness["actor-1"] == min(learner + 5, lowest)
    assert learner < lowest, "the tests run at the lowest priority"


def test_a_killed_actor_is_started_again(killed: SimpleNamespace) -> None:
    assert killed.first.keys() == killed.second.keys() == {"learner", "actor-0", "actor-1"}
    assert killed.second["actor-0"] != killed.first["actor-0"]
    assert killed.second["actor-1"] == killed.first["actor-1"]
    assert killed.second["learner"] == killed.first["learner"]
    assert "actor-0 was killed by SIGKILL" in killed.text
    assert "actor-0.log" in killed.text


def test_a_killed_learner_ends_the_run_and_names_the_cure(
    killed: SimpleNamespace,
) -> None:
    assert killed.code == 1
    assert "the learner was killed by SIGKILL" in killed.text
    assert f"asyncade train --resume --run-dir {killed.folder.root}" in killed.text
    assert "[info " in killed.text  # the end of its log
    assert killed.summary.keys() >= SUMMARY_KEYS
    assert killed.summary["ended_by"] == "learner_died"
    assert killed.summary["env_steps"] >= 1000
    assert not any(alive(pid) for pid in killed.second.values())


def test_an_actor_that_cannot_be_started_is_retried(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    log = folder.logs / "actor-0.log"
    with running(tmp_path / "output", "train", "--game=catch", "--run-dir", folder.root) as train:
        eventually(lambda: env_steps(folder) >= 500, "500 env steps", train)
        gone = services(train.pid)["actor-0"]
        log.unlink()
        log.mkdir()  # a log that cannot be opened, as on a full disk
        os.kill(gone, signal.SIGKILL)
        eventually(lambda: "actor-0 could not be started" in train.text(), "said", train)
        before = env_steps(folder)
        eventually(lambda: env_steps(folder) > before, "training goes on", train)
        log.rmdir()
        eventually(lambda: services(train.pid).get("actor-0", gone) != gone, "actor-0 again", train)
        train.signal(signal.SIGINT)
        assert train.exit_code() == 130


@pytest.fixture(scope="module")
def resumed(killed: SimpleNamespace) -> SimpleNamespace:
    """The same run, resumed and interrupted by Ctrl-C."""
    folder, home = killed.folder, killed.home
    command = ("train", "--resume", "--run-dir", folder.root)
    with running(home / "output-2", *command) as train:
        goal = killed.counters.env_steps + 500
        eventually(lambda: folder.read_endpoints() is not None, "the learner is up", train)
        eventually(lambda: env_steps(folder) >= goal, "500 more env steps", train)
        train.signal(signal.SIGINT)
        return SimpleNamespace(code=train.exit_code(), text=train.text(), folder=folder)


def test_a_resumed_run_continues_the_counters(
    killed: SimpleNamespace, resumed: SimpleNamespace
) -> None:
    rows, before = resumed.folder.read_metrics(), killed.counters
    assert_rows_continue(rows)
    assert rows[-1]["env_steps"] >= before.env_steps + 500
    assert rows[-1]["updates"] > before.updates
    assert rows[-1]["policy_version"] > before.policy_version
    assert rows[-1]["seconds"] > before.seconds
    assert resumed.folder.read_config()["train"]["envs"] == 2  # with its own settings


def test_ctrl_c_leaves_a_complete_folder(resumed: SimpleNamespace) -> None:
    assert resumed.code == 130
    assert "checkpoint" in resumed.text
    assert "Traceback" not in resumed.text
    summary = resumed.folder.read_summary()
    assert summary.keys() >= SUMMARY_KEYS
    assert summary["ended_by"] == "signal"
    assert saved(resumed.folder).env_steps == summary["env_steps"]
    assert resumed.folder.read_metrics()[-1]["env_steps"] == summary["env_steps"]


def test_ctrl_c_ends_a_hanging_learner(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    command = ("train", "--game=catch", "--run-dir", folder.root)
    with running(tmp_path / "output", *command) as train:
        eventually(lambda: env_steps(folder) >= 500, "500 env steps", train)
        pids = services(train.pid)
        os.kill(pids["learner"], signal.SIGSTOP)
        train.signal(signal.SIGINT)
        assert train.exit_code() == 130
    summary = folder.read_summary()
    assert summary.keys() >= SUMMARY_KEYS
    assert summary["ended_by"] == "signal"
    assert summary["env_steps"] >= 500
    assert not any(map(alive, pids.values()))


def test_services_do_not_outlive_the_command(tmp_path: Path) -> None:
    command = ("train", "--game=catch", "--run-dir", tmp_path / "run")
    with running(tmp_path / "output", *command) as train:
        eventually(lambda: len(services(train.pid)) == 3, "three services", train)
        pids = services(train.pid).values()
        train.signal(signal.SIGKILL)
        train.exit_code()
        eventually(lambda: not any(map(alive, pids)), "the end of its services")


def counter(folder: RunFolder, name: str) -> float:
    """Returns a counter of the running learner."""
    endpoints = folder.read_endpoints()
    assert endpoints is not None
    return metrics(endpoints["metrics"], f"learner_{name}")[0]


def test_a_full_disk_does_not_stop_training(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    command = ("train", "--game=catch", "--run-dir", folder.root)
    with running(tmp_path / "output", *command) as train:
        eventually(lambda: env_steps(folder) >= 500, "500 env steps", train)
        learner = services(train.pid)["learner"]
        # With files limited to no bytes, every write of the learner fails.
        limits = resource.prlimit(learner, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        failures = "checkpoint_failures_total"
        eventually(lambda: counter(folder, failures) >= 2, "checkpoints fail", train)
        rows, before = len(folder.read_metrics()), counter(folder, "env_steps_total")
        eventually(
            lambda: counter(folder, "env_steps_total") > before + 5000, "training goes on", train
        )
        assert len(folder.read_metrics()) == rows
        resource.prlimit(learner, resource.RLIMIT_FSIZE, limits)
        eventually(lambda: len(folder.read_metrics()) > rows + 1, "rows again", train)
        assert env_steps(folder) > before + 5000
        train.signal(signal.SIGINT)
        assert train.exit_code() == 130
    assert folder.read_summary()["ended_by"] == "signal"
    assert saved(folder).env_steps == folder.read_summary()["env_steps"]
    assert_rows_continue(folder.read_metrics())


# --- wrong arguments -----------------------------------------------------------------------------


def test_an_unknown_game_is_refused(tmp_path: Path) -> None:
    text = refused(tmp_path / "output", "train", "--game=pnog")
    assert "did you mean pong" in text
    assert not (tmp_path / "runs").exists()


def test_a_run_is_not_overwritten(pong: SimpleNamespace, tmp_path: Path) -> None:
    before = pong.folder.read_config()
    text = refused(tmp_path / "output", "train", "--run-dir", pong.folder.root)
    assert "--resume" in text
    assert pong.folder.read_config() == before


def test_an_actor_with_bad_input_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "run")
    monkeypatch.setitem(QUICK, "ASYNCADE_ACTOR_KEYS", str(tmp_path / "absent"))
    text = refused(tmp_path / "output", "train", "--game=catch", "--run-dir", folder.root)
    assert str(tmp_path / "absent") in text  # the actor's last line
    assert "actor-0.log" in text or "actor-1.log" in text  # whichever ended first
    assert folder.read_summary()["ended_by"] == "actors_failed"


@pytest.mark.parametrize(
    ("service", "flag", "cure"),
    [
        ("learner", "--upstream-address=tcp://127.0.0.1:{}", "another port"),
        ("learner", "--weights-address=tcp://127.0.0.1:{}", "another port"),
        ("learner", "--metrics-port={}", "--metrics-port"),
        ("actor", "--metrics-port={}", "--metrics-port"),
    ],
)
def test_a_taken_port_is_named(tmp_path: Path, service: str, flag: str, cure: str) -> None:
    upstream, weights = free_ports(2)
    free = {
        "--upstream-address": f"tcp://127.0.0.1:{upstream}",
        "--weights-address": f"tcp://127.0.0.1:{weights}",
        "--metrics-port": "0",
    }
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        name, _, value = flag.format(taken.getsockname()[1]).partition("=")
        arguments = [f"{one}={other}" for one, other in (free | {name: value}).items()]
        text = refused(tmp_path / "output", service, *arguments)
    assert cure in text
    assert value in text

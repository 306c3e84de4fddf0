"""The Job of k8s/: when it is complete, retries or fails."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from asyncade_runtime.service import EXIT_BAD_INPUT
from contract.manifests import Manifest, Pods, Renders, of

EXIT_LOCKED = 4
"""Another learner has the run folder."""


def command_of_the_job(pods: Pods) -> list[str]:
    (command,) = {
        (*container["command"], *container["args"])
        for where, template in pods
        for container in template["spec"]["containers"]
        if where.startswith("Job")
    }
    return list(command)


def with_learner(folder: Path, script: str) -> dict[str, str]:
    """Returns variables with which `asyncade-learner` is this script."""
    stand_in = folder / "asyncade-learner"
    stand_in.write_text(f"#!/bin/sh\n{script}\n")
    stand_in.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


@pytest.mark.parametrize(
    ("setting", "target"), [({}, "18"), ({"ASYNCADE_LEARNER_TARGET": "20.5"}, "20.5")]
)
def test_a_job_has_a_target_that_a_setting_overrides(
    pods: Pods, tmp_path: Path, setting: dict[str, str], target: str
) -> None:
    environ = with_learner(tmp_path, 'echo "$ASYNCADE_LEARNER_TARGET"') | setting
    done = subprocess.run(
        command_of_the_job(pods), env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{target}\n"


@pytest.mark.parametrize(
    ("learner", "stop", "code"),
    [
        ("exit 0", False, 0),
        ("exit 2", False, 2),
        ("exit 4", False, 4),
        # As asyncade-learner does: it writes its checkpoint and exits with 0.
        ("trap 'sleep 0.2; echo saved; exit 0' TERM; while :; do sleep 0.02; done", True, 143),
    ],
    ids=["reached its target", "bad settings", "run folder in use", "drained"],
)
def test_a_job_is_complete_only_if_the_learner_ended_by_itself(
    pods: Pods, tmp_path: Path, learner: str, stop: bool, code: int
) -> None:
    command, environ = command_of_the_job(pods), with_learner(tmp_path, f"echo started\n{learner}")
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "started\n"
        if stop:
            time.sleep(0.1)  # the stand-in's own trap
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == code
        assert process.stdout.read() == ("saved\n" if stop else "")


@pytest.mark.parametrize(
    ("code", "conditions", "action"),
    [
        (EXIT_BAD_INPUT, [], "FailJob"),
        (EXIT_LOCKED, [], "Ignore"),
        (143, ["DisruptionTarget"], "Ignore"),
        (EXIT_LOCKED, ["DisruptionTarget"], "Ignore"),
        (1, [], None),
        (137, [], None),
    ],
    ids=["bad settings", "run folder in use", "drained", "both", "crashed", "out of memory"],
)
def test_a_job_retries_by_exit_code_and_condition(
    renders: Renders, code: int, conditions: list[str], action: str | None
) -> None:
    """None counts towards backoffLimit. Kubernetes takes the first rule that matches."""

    def fits(rule: Manifest) -> bool:
        if "onExitCodes" in rule:
            assert rule["onExitCodes"]["operator"] == "In"
            assert rule["onExitCodes"]["containerName"] == "learner"
            return code in rule["onExitCodes"]["values"]
        return any(one["type"] in conditions for one in rule["onPodConditions"])

    jobs = [job for manifests in renders.values() for job in of(manifests, "Job")]
    assert jobs
    for job in jobs:
        assert job["spec"]["backoffLimit"] > 0
        rules = job["spec"]["podFailurePolicy"]["rules"]
        assert next((rule["action"] for rule in rules if fits(rule)), None) == action

"""The pods that k8s/ renders train on a Docker engine, with the limits of their manifests.

There is no cluster: pod_translation.py turns a pod template into `docker run`, docker_pods.py
replaces kubelet and controllers. Everything polls with a generous deadline.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from asyncade_learner import checkpoint
from asyncade_runtime.run_folder import RunFolder
from e2e.commands import assert_rows_continue
from e2e.docker import why_not
from e2e.docker_pods import (
    Pod,
    Pods,
    build_images,
    documented_secrets,
    render,
    running,
)
from e2e.pod_translation import Manifest

Secrets = Mapping[str, Manifest]

MISSING = why_not("kubectl")
pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
]

CLAIM = "runs"
# Frequent reports, checkpoints and batches.
SMALL = {
    "ASYNCADE_LEARNER_CALIBRATION_ENV_STEPS": "256",
    "ASYNCADE_LEARNER_CHECKPOINT_SECONDS": "1",
    "ASYNCADE_LEARNER_REPORT_SECONDS": "0.5",
    "ASYNCADE_LEARNER_UNROLL_LENGTH": "16",
}
FEW_GAMES = {"ASYNCADE_ACTOR_ENVS": "2"}


def catch(run: str, **more: str) -> dict[str, str]:
    """Returns settings for Catch, in its own run folder as k8s/README.md requires."""
    game = {"ASYNCADE_LEARNER_GAME": "catch", "ASYNCADE_LEARNER_RUN_DIR": f"/runs/{run}"}
    return (
        SMALL | game | {f"ASYNCADE_LEARNER_{name.upper()}": value for name, value in more.items()}
    )


@pytest.fixture(scope="module")
def images() -> None:
    build_images()


@pytest.fixture(scope="module")
def secrets(images: None, tmp_path_factory: pytest.TempPathFactory) -> Secrets:
    return documented_secrets(tmp_path_factory.mktemp("secrets"))


# --- the overlay `local`: Pong, data mode --------------------------------------------------------


def begin(pods: Pods, facts: SimpleNamespace) -> None:
    """Starts the actors first, then the learner."""
    facts.actors = pods.start_all("Deployment")
    for actor in facts.actors:
        answers(pods, actor, "startup")
    facts.waiting = [probes(actor) for actor in facts.actors]
    facts.learner = pods.start("StatefulSet")
    for pod in (facts.learner, *facts.actors):
        answers(pods, pod, "readiness")
    facts.working = [probes(pod) for pod in (facts.learner, *facts.actors)]
    pods.eventually(lambda: facts.learner.value("learner_active_actors") == 2, "two actors")
    trains(pods, facts.learner, facts.actors)
    facts.locks = [inside(pod) for pod in (facts.learner, facts.actors[0])]


def answers(pods: Pods, pod: Pod, probe: str) -> None:
    """Waits until a probe succeeds."""
    pods.eventually(lambda: pod.probe(probe) == 200, f"{pod.run.name} passes its {probe} probe")


def probes(pod: Pod) -> tuple[int, ...]:
    return tuple(pod.probe(kind) for kind in ("startup", "liveness", "readiness"))


def inside(pod: Pod) -> str:
    """Returns privileges, modes and limits that a process in the container has."""
    (keys,) = [mount.path for mount in pod.run.mounts if mount.kind == "secret"]
    look = (
        "id -u; id -g; grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/1/status;"
        f"touch /x 2>&1; touch {keys}/x 2>&1; stat -L --format '%a %u:%g' {keys}/*.key_secret;"
        "touch /tmp/x && df -k --output=size /tmp;"
        # version 2 of control groups, or 1
        "cd /sys/fs/cgroup; cat memory.max 2>/dev/null || cat memory/memory.limit_in_bytes"
    )
    return " ".join(pod.said("sh", "-c", look).split())


def trains(pods: Pods, learner: Pod, actors: list[Pod]) -> None:
    """Waits for env steps and updates, and for newer weights at the actors."""
    pods.rises(learner, "learner_env_steps_total")
    pods.rises(learner, "learner_updates_total", by=8)
    for actor in actors:
        pods.rises(actor, "actor_policy_version")
        pods.rises(actor, "actor_env_steps_total")


def lose_an_actor(pods: Pods, facts: SimpleNamespace) -> None:
    """Kills an actor's container; a kubelet starts another one under the same name."""
    facts.dropped_before = dropped(facts.learner)
    facts.actors[0].kill()
    pods.rises(facts.learner, "learner_updates_total", by=8)
    facts.actors[0] = pods.start("Deployment", 0)
    answers(pods, facts.actors[0], "readiness")
    pods.eventually(lambda: facts.learner.value("learner_active_actors") == 2, "two again")
    trains(pods, facts.learner, facts.actors)
    facts.dropped_after = dropped(facts.learner)


def dropped(learner: Pod) -> float:
    """Returns the dropped messages that no restart explains."""
    late = ("stale", "future", "unasked")
    name = "learner_messages_dropped_total"
    return learner.value(name) - sum(learner.value(name, reason=reason) for reason in late)


def replace_the_learner(pods: Pods, facts: SimpleNamespace, home: Path) -> None:
    """Deletes the learner's pod; the next one gets the same claim."""
    facts.addresses = [facts.learner.address()]
    facts.learner_ended = facts.learner.stop()
    # Another actor takes the free address, so that the next learner has a different one.
    facts.actors.append(pods.start("Deployment", len(facts.actors)))
    folder = pods.copied(CLAIM, home / "at-the-stop") / "pong-data"
    facts.summary = RunFolder(folder).read_summary()
    facts.saved = checkpoint.load(RunFolder(folder).checkpoint_files()[0]).progress
    facts.learner = pods.start("StatefulSet")
    answers(pods, facts.learner, "readiness")
    facts.resumed = [row for row in logged(facts.learner) if row["event"] == "resumed"]
    facts.addresses.append(facts.learner.address())
    pods.eventually(lambda: facts.learner.value("learner_active_actors") == 3, "three actors")
    trains(pods, facts.learner, facts.actors)


def logged(pod: Pod) -> list[dict[str, Any]]:
    """Returns its log, which is JSON by the base's settings."""
    return [json.loads(line) for line in pod.log().splitlines()]


@pytest.fixture(scope="module")
def life(secrets: Secrets, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    home = tmp_path_factory.mktemp("local")
    facts = SimpleNamespace()
    with running(render(home / "render", learner=SMALL, actor=FEW_GAMES), secrets) as pods:
        begin(pods, facts)
        lose_an_actor(pods, facts)
        replace_the_learner(pods, facts, home)
        facts.actors_ended = [actor.stop() for actor in facts.actors]
        facts.learner_ended_again = facts.learner.stop()
        facts.folder = RunFolder(pods.copied(CLAIM, home / "at-the-end") / "pong-data")
        yield facts


def test_an_actor_without_a_learner_is_alive_but_not_ready(life: SimpleNamespace) -> None:
    assert life.waiting == [(200, 200, 503)] * 2


def test_all_probes_of_working_pods_succeed(life: SimpleNamespace) -> None:
    assert life.working == [(200, 200, 200)] * 3


def test_pods_are_locked_down_and_bounded(life: SimpleNamespace) -> None:
    for text, tmp_kib, memory in zip(life.locks, (2**18, 2**16), (2**31, 2**30), strict=True):
        start = f"10001 10001 CapEff: {'0' * 16} NoNewPrivs: 1 Seccomp: 2 "
        assert text.startswith(start), text
        assert text.count("Read-only file system") == 2, text
        assert text.endswith(f" 440 0:10001 1K-blocks {tmp_kib} {memory}"), text


def test_a_killed_actor_causes_no_dropped_messages(life: SimpleNamespace) -> None:
    assert life.dropped_after == life.dropped_before == 0


def test_a_deleted_learner_saves_a_checkpoint_in_time(life: SimpleNamespace) -> None:
    assert life.learner_ended == 0  # 137: it took too long
    assert life.summary["ended_by"] == "signal"
    assert life.saved.env_steps == life.summary["env_steps"] > 0
    assert life.saved.updates > 0


def test_the_next_learner_resumes_from_the_claim(life: SimpleNamespace) -> None:
    (resumed,) = life.resumed
    assert resumed["env_steps"] == life.saved.env_steps
    rows = life.folder.read_metrics()
    assert_rows_continue(rows)
    assert rows[-1]["env_steps"] > life.saved.env_steps
    assert rows[-1]["updates"] > life.saved.updates


def test_actors_follow_the_learner_to_another_address(life: SimpleNamespace) -> None:
    assert len(set(life.addresses)) == 2


def test_all_pods_end_within_their_grace_period(life: SimpleNamespace) -> None:
    assert (life.actors_ended, life.learner_ended_again) == ([0, 0, 0], 0)


# --- components ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["data", "gradients"])
def test_relays_train_in_both_modes(secrets: Secrets, tmp_path: Path, mode: str) -> None:
    settings = catch(f"catch-{mode}", mode=mode)
    manifests = render(tmp_path / "render", "relay", learner=settings, actor=FEW_GAMES)
    with running(manifests, secrets) as pods:
        relay = pods.start("DaemonSet")
        answers(pods, relay, "startup")
        assert probes(relay) == (200, 200, 200)  # actors may connect before the learner starts
        actors = pods.start_all("Deployment")
        learner = pods.start("StatefulSet")
        for pod in (learner, *actors):
            answers(pods, pod, "readiness")
        trains(pods, learner, actors)
        kind = "trajectory" if mode == "data" else "gradients"
        pods.rises(relay, "relay_messages_received_total", kind=kind)
        pods.rises(relay, "relay_messages_sent_total", kind=kind)
        pods.eventually(lambda: relay.value("relay_active_actors") == 2, "both actors at the relay")
        # Means of gradients come from the relay; trajectories keep their senders.
        senders = 2 if mode == "data" else 1
        pods.eventually(
            lambda: learner.value("learner_active_actors") == senders, f"{senders} at the learner"
        )
        assert dropped(learner) == 0
        assert "up" in [row["event"] for row in logged(relay)]  # JSON, as the others' logs
        assert [pod.stop() for pod in (*actors, relay, learner)] == [0, 0, 0, 0]


def test_a_drained_job_continues_and_one_at_its_target_ends(
    secrets: Secrets, tmp_path: Path
) -> None:
    endless = render(tmp_path / "endless", "job", learner=catch("job"), actor=FEW_GAMES)
    with running(endless, secrets) as pods:
        actors = pods.start_all("Deployment")
        job = pods.start("Job")  # beyond its target: returns of Catch are 1 at most
        answers(pods, job, "readiness")
        trains(pods, job, actors)
        assert job.stop() == 143  # not 0: the Job is not complete
        saved = pods.copied(CLAIM, tmp_path / "drained") / "job"
        before = checkpoint.load(RunFolder(saved).checkpoint_files()[0]).progress
        assert before.updates > 0

        settings = catch("job", target="-2")  # below any return
        pods.manifests = render(tmp_path / "tiny", "job", learner=settings, actor=FEW_GAMES)
        assert pods.start("Job").exit_code() == 0
        ended = RunFolder(pods.copied(CLAIM, tmp_path / "complete") / "job").read_summary()
        assert ended is not None
        assert (ended["ended_by"], ended["target"]) == ("target", -2)
        assert ended["env_steps"] >= before.env_steps

        settings = catch("job", game="chess")
        pods.manifests = render(tmp_path / "wrong", "job", learner=settings, actor=FEW_GAMES)
        assert pods.start("Job").exit_code() == 2  # its podFailurePolicy gives up at this code

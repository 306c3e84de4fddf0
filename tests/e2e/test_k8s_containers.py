"""The containers that k8s/ renders run, on a Docker engine, as their manifests say; and they train.

There is no cluster here: pod_translation.py makes `docker run` of a pod template, docker_pods.py
takes the place of kubelet and controllers. Everything polls, until a generous deadline.
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
from e2e.docker_pods import (
    Pod,
    Pods,
    build_images,
    documented_secrets,
    render,
    running,
    why_not,
)
from e2e.pod_translation import Manifest

Secrets = Mapping[str, Manifest]

MISSING = why_not()
pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
]

CLAIM = "runs"
# Small steps: reports, checkpoints and batches come often.
SMALL = {
    "ASYNCADE_LEARNER_CALIBRATION_ENV_STEPS": "256",
    "ASYNCADE_LEARNER_CHECKPOINT_SECONDS": "1",
    "ASYNCADE_LEARNER_REPORT_SECONDS": "0.5",
    "ASYNCADE_LEARNER_UNROLL_LENGTH": "16",
}
FEW_GAMES = {"ASYNCADE_ACTOR_ENVS": "2"}


def catch(run: str, **more: str) -> dict[str, str]:
    """A toy game, in a folder of its own as k8s/README.md asks."""
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
    """Actors first, and nobody to talk to; then the learner."""
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
    """Asks until it does, as a kubelet would."""
    pods.eventually(lambda: pod.probe(probe) == 200, f"{pod.run.name} passes its {probe} probe")


def probes(pod: Pod) -> tuple[int, ...]:
    return tuple(pod.probe(kind) for kind in ("startup", "liveness", "readiness"))


def inside(pod: Pod) -> str:
    """What a process in the container may do, and has."""
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
    """Env steps and updates rise, and actors play by newer weights."""
    pods.rises(learner, "learner_env_steps_total")
    pods.rises(learner, "learner_updates_total", by=8)
    for actor in actors:
        pods.rises(actor, "actor_policy_version")
        pods.rises(actor, "actor_env_steps_total")


def lose_an_actor(pods: Pods, facts: SimpleNamespace) -> None:
    """Its container dies; a kubelet starts another one in the same pod, by the same name."""
    facts.dropped_before = dropped(facts.learner)
    facts.actors[0].kill()
    pods.rises(facts.learner, "learner_updates_total", by=8)
    facts.actors[0] = pods.start("Deployment", 0)
    answers(pods, facts.actors[0], "readiness")
    pods.eventually(lambda: facts.learner.value("learner_active_actors") == 2, "two again")
    trains(pods, facts.learner, facts.actors)
    facts.dropped_after = dropped(facts.learner)


def dropped(learner: Pod) -> float:
    """Messages that no restart explains."""
    late = ("stale", "future", "unasked")
    name = "learner_messages_dropped_total"
    return learner.value(name) - sum(learner.value(name, reason=reason) for reason in late)


def replace_the_learner(pods: Pods, facts: SimpleNamespace, home: Path) -> None:
    """The learner's pod is deleted, and its successor gets the same claim."""
    facts.addresses = [facts.learner.address()]
    facts.learner_ended = facts.learner.stop()
    # One actor more takes the address that is free now, so that the successor has another one.
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
    """Its log, which is JSON by the base's settings."""
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


def test_an_actor_is_alive_without_a_learner_and_not_ready(life: SimpleNamespace) -> None:
    assert life.waiting == [(200, 200, 503)] * 2


def test_all_probes_say_yes_to_pods_that_work(life: SimpleNamespace) -> None:
    assert life.working == [(200, 200, 200)] * 3


def test_pods_are_locked_down_and_bounded(life: SimpleNamespace) -> None:
    for text, tmp_kib, memory in zip(life.locks, (2**18, 2**16), (2**31, 2**30), strict=True):
        start = f"10001 10001 CapEff: {'0' * 16} NoNewPrivs: 1 Seccomp: 2 "
        assert text.startswith(start), text
        assert text.count("Read-only file system") == 2, text
        assert text.endswith(f" 440 0:10001 1K-blocks {tmp_kib} {memory}"), text


def test_a_killed_actor_changes_nothing_but_a_counter(life: SimpleNamespace) -> None:
    assert life.dropped_after == life.dropped_before == 0


def test_a_deleted_learner_leaves_a_checkpoint_in_time(life: SimpleNamespace) -> None:
    assert life.learner_ended == 0  # 137: it took too long
    assert life.summary["ended_by"] == "signal"
    assert life.saved.env_steps == life.summary["env_steps"] > 0
    assert life.saved.updates > 0


def test_its_successor_resumes_from_the_claim(life: SimpleNamespace) -> None:
    (resumed,) = life.resumed
    assert resumed["env_steps"] == life.saved.env_steps
    rows = life.folder.read_metrics()
    for name in ("env_steps", "updates", "policy_version", "seconds"):
        values = [row[name] for row in rows]
        assert values == sorted(values), f"{name} goes back"
    assert rows[-1]["env_steps"] > life.saved.env_steps
    assert rows[-1]["updates"] > life.saved.updates


def test_actors_follow_the_name_of_the_learner_to_another_address(life: SimpleNamespace) -> None:
    assert len(set(life.addresses)) == 2


def test_everything_ends_in_its_grace_period(life: SimpleNamespace) -> None:
    assert (life.actors_ended, life.learner_ended_again) == ([0, 0, 0], 0)


# --- components ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["data", "gradients"])
def test_relays_train_in_both_modes(secrets: Secrets, tmp_path: Path, mode: str) -> None:
    settings = catch(f"catch-{mode}", mode=mode)
    manifests = render(tmp_path / "render", "relay", learner=settings, actor=FEW_GAMES)
    with running(manifests, secrets) as pods:
        relay = pods.start("DaemonSet")
        answers(pods, relay, "startup")
        assert probes(relay) == (200, 200, 200)  # actors may connect before the learner is there
        actors = pods.start_all("Deployment")
        learner = pods.start("StatefulSet")
        for pod in (learner, *actors):
            answers(pods, pod, "readiness")
        trains(pods, learner, actors)
        kind = "trajectory" if mode == "data" else "gradients"
        pods.rises(relay, "relay_messages_received_total", kind=kind)
        pods.rises(relay, "relay_messages_sent_total", kind=kind)
        pods.eventually(lambda: relay.value("relay_active_actors") == 2, "both talk to it")
        # An average of gradients comes from one sender, the relay; trajectories keep theirs.
        senders = 2 if mode == "data" else 1
        pods.eventually(
            lambda: learner.value("learner_active_actors") == senders, f"{senders} at the learner"
        )
        assert dropped(learner) == 0
        assert "up" in [row["event"] for row in logged(relay)]  # JSON, as the others' logs
        assert [pod.stop() for pod in (*actors, relay, learner)] == [0, 0, 0, 0]


def test_a_drained_job_goes_on_and_one_that_reaches_its_target_ends(
    secrets: Secrets, tmp_path: Path
) -> None:
    endless = render(tmp_path / "endless", "job", learner=catch("job"), actor=FEW_GAMES)
    with running(endless, secrets) as pods:
        actors = pods.start_all("Deployment")
        job = pods.start("Job")  # its target is out of reach: Catch ends with 1 at most
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
        assert pods.start("Job").exit_code() == 2  # what its podFailurePolicy gives up at

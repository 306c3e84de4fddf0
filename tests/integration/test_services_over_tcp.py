"""A learner and actors as threads of one process, with real sockets and a real metrics page."""

from __future__ import annotations

import re
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import zmq
from prometheus_client import CollectorRegistry

from asyncade_actor.actor import Actor
from asyncade_actor.metrics import ActorMetrics
from asyncade_learner.learner import Learner
from asyncade_learner.metrics import LearnerMetrics
from asyncade_learner.settings import LearnerSettings
from asyncade_learner.wiring import make_learner
from asyncade_proto.limits import MAX_MESSAGE_BYTES
from asyncade_runtime.lifecycle import Health, serve_http
from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.transport.zmq_sockets import (
    ZmqInbox,
    ZmqOutbox,
    ZmqPublisher,
    ZmqSubscriber,
)
from integration.transports import DEADLINE_S, eventually, when_free

ENVS, T = 4, 8
SETTINGS: dict[str, Any] = {
    "game": "catch",
    "precision": "float32",
    "unroll_length": T,
    "calibration_env_steps": 2 * ENVS * T,
    "passes": 1,
    "minibatch_size": ENVS * T,
}


@contextmanager
def thread(work: Callable[[], object], stop: threading.Event) -> Iterator[None]:
    running = threading.Thread(target=work)
    running.start()
    try:
        yield
    finally:
        stop.set()
        running.join(DEADLINE_S)
        assert not running.is_alive()


@dataclass
class Served:
    """A learner at work, seen from outside."""

    upstream: str
    weights: str
    learner: Learner
    page: str

    @property
    def env_steps(self) -> int:
        return self.learner.progress.env_steps

    def metric(self, name: str) -> float:
        """One sample of the metrics page, such as ``policy_version``."""
        with urllib.request.urlopen(self.page, timeout=DEADLINE_S) as answer:
            text = answer.read().decode()
        found = re.search(rf"^asyncade_learner_{re.escape(name)} (\S+)$", text, re.MULTILINE)
        assert found, f"no {name} in\n{text}"
        return float(found[1])


@contextmanager
def learning(
    context: zmq.SyncContext,
    run_dir: Path,
    upstream: str = "tcp://127.0.0.1:*",
    weights: str = "tcp://127.0.0.1:*",
    **settings: Any,
) -> Iterator[Served]:
    registry, health, stop = CollectorRegistry(), Health(60.0), threading.Event()
    up = threading.Event()
    served: list[Served] = []

    def work() -> None:
        limit = MAX_MESSAGE_BYTES
        with (
            closing(
                when_free(lambda: ZmqInbox(context, upstream, max_message_bytes=limit))
            ) as inbox,
            closing(when_free(lambda: ZmqPublisher(context, weights))) as publisher,
        ):
            learner = make_learner(
                LearnerSettings(**SETTINGS | {"run_dir": run_dir} | settings),
                inbox=inbox,
                publisher=publisher,
                folder=RunFolder.create(run_dir),
                metrics=LearnerMetrics(registry),
                health=health,
            )
            page = f"http://127.0.0.1:{http.port}/metrics"
            served.append(Served(inbox.endpoint, publisher.endpoint, learner, page))
            up.set()
            learner.run(stop)

    with serve_http("127.0.0.1", 0, registry, health) as http, thread(work, stop):
        assert up.wait(DEADLINE_S)
        yield served[0]


@dataclass
class Playing:
    """An actor at work, seen from outside."""

    health: Health = field(default_factory=lambda: Health(60.0))
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def metric(self, name: str) -> float:
        return self.registry.get_sample_value(f"asyncade_actor_{name}") or 0.0


@contextmanager
def playing(context: zmq.SyncContext, served: Served, actor_id: str) -> Iterator[Playing]:
    seen, stop = Playing(), threading.Event()

    def work() -> None:
        limit = MAX_MESSAGE_BYTES
        with (
            closing(ZmqOutbox(context, served.upstream)) as outbox,
            closing(ZmqSubscriber(context, served.weights, max_message_bytes=limit)) as subscriber,
        ):
            actor = Actor(
                actor_id=actor_id,
                envs=ENVS,
                env_threads=1,
                outbox=outbox,
                subscriber=subscriber,
                metrics=ActorMetrics(seen.registry),
                health=seen.health,
            )
            actor.run(stop)
            actor.close()

    with thread(work, stop):
        yield seen


@pytest.mark.parametrize("mode", ["data", "gradients"])
def test_two_actors_and_a_learner(context: zmq.SyncContext, tmp_path: Path, mode: str) -> None:
    with learning(context, tmp_path, mode=mode) as served, ExitStack() as actors:
        both = [actors.enter_context(playing(context, served, f"actor-{n}")) for n in range(2)]
        eventually(lambda: served.learner.progress.updates >= 10, "ten updates")
        for actor in both:
            eventually(lambda actor=actor: actor.metric("policy_version") > 5, "newer weights")
            played = actor.metric("env_steps_total")
            eventually(
                lambda actor=actor, played=played: actor.metric("env_steps_total") > played,
                "both play on",
            )
        eventually(lambda: served.metric("active_actors") == 2, "two actors in a report")
        assert served.metric("env_steps_total") >= 10 * ENVS * T
        kind = "trajectory" if mode == "data" else "gradients"
        accepted = served.metric(f'messages_accepted_total{{kind="{kind}"}}')
        assert accepted >= 10
        assert served.metric('policy_lag_versions_bucket{le="+Inf"}') >= accepted
        assert served.metric('policy_lag_versions_bucket{le="16.0"}') >= accepted
        assert served.metric("actor_joins_total") == 2


def test_an_actor_comes_and_goes_and_nobody_waits_for_it(
    context: zmq.SyncContext, tmp_path: Path
) -> None:
    with learning(context, tmp_path) as served, playing(context, served, "steady") as steady:
        with playing(context, served, "guest") as guest:
            eventually(lambda: guest.metric("env_steps_total") > 0, "a guest that plays")
        played, known = steady.metric("env_steps_total"), served.env_steps
        eventually(lambda: steady.metric("env_steps_total") > played + 200, "the other plays on")
        eventually(lambda: served.env_steps > known + 200, "and is heard")


def test_a_late_actor_gets_weights_at_once(context: zmq.SyncContext, tmp_path: Path) -> None:
    never = {"batch_unrolls": 1000, "patience_seconds": 1e6, "calibration_env_steps": 0}
    with learning(context, tmp_path, **never) as served, ExitStack() as actors:
        for number in range(3):
            late = actors.enter_context(playing(context, served, f"actor-{number}"))
            eventually(lambda late=late: late.health.ready, "weights for a late actor")
            assert late.metric("policy_version") == 1
        assert served.metric("weights_published_total") == 1  # no new version was needed for that


def test_what_is_no_message_is_dropped_by_reason(context: zmq.SyncContext, tmp_path: Path) -> None:
    with learning(context, tmp_path) as served, playing(context, served, "actor"):
        stranger = ZmqOutbox(context, served.upstream)
        for frame in (b"GET / HTTP/1.1\r\n\r\n", b"A3C\x63", b"A3C\x01\x00"):
            eventually(lambda frame=frame: stranger.send(frame, 0.1), "a frame on its way")
        for reason in ("not_ours", "protocol_version", "malformed"):
            name = f'messages_dropped_total{{reason="{reason}"}}'
            eventually(lambda name=name: served.metric(name) == 1, name)
        stranger.close()
        before = served.learner.progress.updates
        eventually(lambda: served.learner.progress.updates > before, "training goes on")


def test_an_actor_outlives_its_learner(context: zmq.SyncContext, tmp_path: Path) -> None:
    with ExitStack() as actors:
        with learning(context, tmp_path) as first:
            actor = actors.enter_context(playing(context, first, "actor"))
            eventually(lambda: first.learner.progress.updates >= 3, "updates")
        before = first.learner.progress
        again = {"resume": "must", "upstream": first.upstream, "weights": first.weights}
        with learning(context, tmp_path, **again) as second:
            eventually(lambda: second.env_steps > before.env_steps + 200, "the same actor plays on")
            assert second.learner.progress.updates > before.updates
            newest = before.policy_version
            eventually(lambda: actor.metric("policy_version") > newest, "weights")
            actors.close()

"""A learner and actors in threads, over real sockets and with a real metrics page."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq

from asyncade_learner.learner import Learner
from asyncade_runtime.lifecycle import serve_http
from integration.services import ENVS, Service, T, learning, playing
from integration.transports import DEADLINE_S, eventually

Page = Callable[[str], float]
"""Returns one sample of a metrics page, such as ``policy_version``."""


@contextmanager
def serving(
    context: zmq.SyncContext, run_dir: Path, **settings: Any
) -> Iterator[tuple[Service, Learner, Page]]:
    """Runs a learner with its metrics page."""

    def sample(name: str) -> float:
        url = f"http://127.0.0.1:{http.port}/metrics"
        with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
            text = answer.read().decode()
        found = re.search(rf"^asyncade_learner_{re.escape(name)} (\S+)$", text, re.MULTILINE)
        assert found, f"no {name} in\n{text}"
        return float(found[1])

    with (
        learning(context, run_dir, **settings) as (service, learner),
        serve_http("127.0.0.1", 0, service.registry, service.health) as http,
    ):
        yield service, learner, sample


@pytest.mark.parametrize("mode", ["data", "gradients"])
def test_two_actors_train_a_learner(context: zmq.SyncContext, tmp_path: Path, mode: str) -> None:
    with serving(context, tmp_path, mode=mode) as (service, learner, page), ExitStack() as actors:
        both = [actors.enter_context(playing(context, service, f"actor-{n}")) for n in range(2)]
        eventually(lambda: learner.progress.updates >= 10, "ten updates")
        for actor in both:
            eventually(
                lambda actor=actor: actor.metric("actor_policy_version") > 5, "newer weights"
            )
            played = actor.metric("actor_env_steps_total")
            eventually(
                lambda actor=actor, played=played: actor.metric("actor_env_steps_total") > played,
                "more play by both",
            )
        eventually(lambda: page("active_actors") == 2, "two actors in a report")
        assert page("env_steps_total") >= 10 * ENVS * T
        kind = "trajectory" if mode == "data" else "gradients"
        accepted = page(f'messages_accepted_total{{kind="{kind}"}}')
        assert accepted >= 10
        assert page('policy_lag_updates_bucket{le="+Inf"}') >= accepted
        assert page('policy_lag_updates_bucket{le="128.0"}') >= accepted
        assert page("actor_joins_total") == 2


def test_training_does_not_wait_for_an_actor_that_left(
    context: zmq.SyncContext, tmp_path: Path
) -> None:
    with (
        learning(context, tmp_path) as (service, learner),
        playing(context, service, "steady") as steady,
    ):
        with playing(context, service, "guest") as guest:
            eventually(lambda: guest.metric("actor_env_steps_total") > 0, "play by the guest")
        played, known = steady.metric("actor_env_steps_total"), learner.progress.env_steps
        eventually(lambda: steady.metric("actor_env_steps_total") > played + 200, "more play")
        eventually(lambda: learner.progress.env_steps > known + 200, "its messages")


def test_a_late_actor_gets_weights_at_once(
    context: zmq.SyncContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = {"patience_seconds": 1e6, "calibration_env_steps": 0}
    with serving(context, tmp_path, **never) as (service, learner, page), ExitStack() as actors:
        monkeypatch.setattr(learner.rounds, "complete", lambda *_: False)
        for number in range(3):
            late = actors.enter_context(playing(context, service, f"actor-{number}"))
            eventually(lambda late=late: late.health.ready, "weights for a late actor")
            assert late.metric("actor_policy_version") == 1
        assert page("weights_published_total") == 1  # the same version for all


def test_an_actor_outlives_its_learner(context: zmq.SyncContext, tmp_path: Path) -> None:
    with ExitStack() as actors:
        with learning(context, tmp_path) as (service, first):
            actor = actors.enter_context(playing(context, service, "actor"))
            eventually(lambda: first.progress.updates >= 3, "updates")
        before = first.progress
        with learning(context, tmp_path, service, resume="must") as (_, second):
            goal = before.env_steps + 200
            eventually(lambda: second.progress.env_steps > goal, "more play by the same actor")
            assert second.progress.updates > before.updates
            newest = before.policy_version
            eventually(lambda: actor.metric("actor_policy_version") > newest, "weights")
            actors.close()

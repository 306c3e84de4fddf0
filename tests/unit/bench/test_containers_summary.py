"""What is said of a run by Compose alone."""

from __future__ import annotations

from typing import Any

import yaml
from bench.containers import QUESTIONS, ROOT, SERVICES, summary

ORIGIN = {
    "command": "python -m bench.containers",
    "commit": "abc",
    "cores": 2,
    "processor": "a processor",
    "seed": 1,
}
RUN: dict[str, Any] = {
    "ended_by": "target",
    "mean_return_100": 18.04,
    "env_steps": 350_000,
    "seconds": 240.0,
    "reached_target": True,
    "target_env_steps": 300_000,
    "target_seconds": 204.0,
}


def test_it_says_how_the_run_ended_and_what_prometheus_saw() -> None:
    text = summary(ORIGIN, RUN, 0, {"messages lost": 0.0, "targets up": None})
    assert "exit code 0 (target)" in text
    assert "18.04 after 350,000 env steps and 4.0 minutes (the target after" in text
    assert "300,000 and 3.4)" in text
    assert "| messages lost | 0 |" in text
    assert "| targets up | - |" in text


def test_a_run_too_short_for_a_mean_is_told_too() -> None:
    short = RUN | {"mean_return_100": None, "reached_target": False}
    assert "games None after 350,000 env steps and 4.0 minutes." in summary(ORIGIN, short, 0, {})


def test_services_and_questions_are_those_of_compose_and_of_the_rules() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert set(SERVICES) <= services.keys()
    rules = (ROOT / "docker/prometheus/rules/recording.yml").read_text()
    for promql in QUESTIONS.values():
        for word in promql.replace("(", " ").replace("[", " ").split():
            if word.startswith("job:"):
                assert f"record: {word}" in rules, word

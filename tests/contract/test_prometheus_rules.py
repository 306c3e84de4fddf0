"""Prometheus's configuration against the code, alerts against faults, the manual against both.

`promtool` comes with Prometheus: the Debian package ``prometheus`` has it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from asyncade_learner.settings import LearnerSettings
from asyncade_proto import ports
from asyncade_runtime.settings import load

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docker/prometheus"
PAGE = (ROOT / "docs/operations.md").read_text()


def content(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


CONFIG = content(FOLDER / "prometheus.yml")
COMPOSE = content(ROOT / "compose.yaml")
RULES = [
    rule
    for file in sorted((FOLDER / "rules").glob("*.yml"))
    for group in content(file)["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}


def promtool(*arguments: object) -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    command = [program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_configuration() -> None:
    promtool("check", "config", FOLDER / "prometheus.yml")


def test_alerts_fire_on_their_faults_and_on_nothing_else() -> None:
    promtool("test", "rules", *(FOLDER / "tests").glob("*.yml"))


def test_every_alert_is_tested_firing_and_not_firing() -> None:
    tested: dict[str, set[bool]] = defaultdict(set)
    for file in (FOLDER / "tests").glob("*.yml"):
        for test in content(file)["tests"]:
            for case in test.get("alert_rule_test", []):
                tested[case["alertname"]].add(bool(case["exp_alerts"]))
    assert tested == {name: {True, False} for name in ALERTS}


def test_all_replicas_are_scraped_on_the_ports_of_the_code() -> None:
    jobs = {job["job_name"]: job["dns_sd_configs"] for job in CONFIG["scrape_configs"]}
    assert not any("metrics_path" in job for job in CONFIG["scrape_configs"])  # /metrics
    http = {
        "learner": ports.LEARNER_HTTP,
        "relay": ports.RELAY_HTTP,
        "actor": ports.ACTOR_HTTP,
        "evaluator": ports.EVALUATOR_HTTP,
    }
    assert jobs.keys() == http.keys()
    for name, (lookup,) in jobs.items():
        assert lookup["names"] == [name]
        assert name in COMPOSE["services"]
        assert (lookup["type"], lookup["port"]) == ("A", http[name])


def test_compose_mounts_the_configuration_where_prometheus_reads_it() -> None:
    mounts = COMPOSE["services"]["prometheus"]["volumes"]
    assert (
        f"./{FOLDER.relative_to(ROOT)}/prometheus.yml:/etc/prometheus/prometheus.yml:ro" in mounts
    )
    assert f"./{FOLDER.relative_to(ROOT)}/rules:/etc/prometheus/rules:ro" in mounts
    assert CONFIG["rule_files"] == ["rules/*.yml"]


def test_recording_rules_are_named_by_level_metric_and_operation() -> None:
    names = [rule["record"] for rule in RULES if "record" in rule]
    assert names
    assert len(set(names)) == len(names)
    for name in names:
        assert re.fullmatch(r"[a-z_]+:asyncade_[a-z_]+:[a-z0-9_]+", name), name


def anchor(heading: str) -> str:
    """Returns the anchor of a heading."""
    return heading.lower().replace(" ", "-")


def test_every_alert_is_documented() -> None:
    headings = re.findall(r"^### (.*)$", PAGE, re.MULTILINE)
    assert [heading for heading in headings if heading.startswith("Asyncade")] == [*ALERTS]
    for name, alert in ALERTS.items():
        explained = PAGE.partition(f"### {name}\n")[2].partition("\n#")[0]
        assert "**Means:**" in explained, name
        assert "**Do:**" in explained, name
        assert alert["annotations"]["runbook"] == f"docs/operations.md#{anchor(name)}"
        assert alert["labels"]["severity"] in ("critical", "warning", "info")


def test_the_manual_lists_every_port() -> None:
    table = PAGE.partition("### Ports\n")[2].partition("\n#")[0]
    rows = re.findall(r"^\| ([a-z]+) \|(.*)\|$", table, re.MULTILINE)
    ports_in = {name: {*map(int, re.findall(r"\b\d{4}\b", row))} for name, row in rows}
    assert ports_in == {
        "learner": {ports.UPSTREAM, ports.WEIGHTS, ports.LEARNER_HTTP},
        "relay": {ports.RELAY_UPSTREAM, ports.RELAY_WEIGHTS, ports.RELAY_HTTP},
        "actor": {ports.ACTOR_HTTP},
        "evaluator": {ports.EVALUATOR_HTTP},
    }


def test_thresholds_of_alerts_match_default_settings() -> None:
    settings = load(LearnerSettings, [], {})
    (lag,) = re.findall(r"p95_rate5m > (\d+)", ALERTS["AsyncadePolicyLagHigh"]["expr"])
    updates = settings.passes * settings.batch_samples // settings.minibatch_size  # of a batch
    # With one more message in flight, or from an actor a batch late, nothing is wrong.
    assert (settings.messages_in_flight + 1) * updates <= int(lag) < settings.max_policy_lag
    (age,) = re.findall(r"> (\d+)$", ALERTS["AsyncadeCheckpointStale"]["expr"])
    assert int(age) >= 5 * settings.checkpoint_seconds

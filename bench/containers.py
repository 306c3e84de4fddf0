"""Pong under Docker Compose: `docker compose up` until the target, with figures from Prometheus.

python -m bench.containers [--seed 1] [--target 18] [--max-minutes 15] [--mode data]

Needs a Docker engine with Compose. The Compose project is a separate one, without Grafana.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from asyncade_cli.markdown import table as markdown
from asyncade_rl.choices import MODES
from asyncade_runtime.run_folder import source_commit
from bench.campaign import outcome
from bench.result_files import ROOT, options, record

SERVICES: Final = ("learner", "actor", "prometheus")
PROMETHEUS_PORT: Final = "19090"
QUERIES: Final = {
    "targets up": "count(up == 1)",
    "env steps/s, mean": "avg_over_time(job:asyncade_learner_env_steps:rate1m[{window}])",
    "policy lag, 95%": "job:asyncade_learner_policy_lag_updates:p95_rate5m",
    "weights latency, 95%, ms": "1000 * job:asyncade_actor_weights_latency_seconds:p95_rate5m",
    "bytes per env step": "job:asyncade_learner_bytes_per_env_step:ratio_rate1m",
    "messages dropped": "sum(asyncade_learner_messages_dropped_total)",
    "messages lost": "sum(asyncade_learner_messages_lost_total)",
    "learner's memory, MB": 'max(process_resident_memory_bytes{{job="learner"}}) / 1e6',
    "an actor's memory, MB": 'max(process_resident_memory_bytes{{job="actor"}}) / 1e6',
    "alerts firing": 'count(ALERTS{{alertstate="firing"}}) or vector(0)',
}


def docker(*arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """Runs docker and returns its output."""
    environment = os.environ | dict(environment or {})
    return subprocess.run(
        ["docker", *arguments],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True,
    ).stdout  # fmt: skip


def query(promql: str) -> float | None:
    """Returns Prometheus's answer if it is a single number."""
    question = urllib.parse.urlencode({"query": promql})
    url = f"http://127.0.0.1:{PROMETHEUS_PORT}/api/v1/query?{question}"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            (found,) = json.load(answer)["data"]["result"]
    except (OSError, ValueError):
        return None
    return float(found["value"][1])


def train(max_minutes: float, variables: Mapping[str, str]) -> dict[str, Any]:
    """Runs the stack until the learner ends; returns its exit code, run and last answers."""
    environment = {"PROMETHEUS_PORT": PROMETHEUS_PORT, "TAG": "bench", **variables}

    def compose(*arguments: str) -> str:
        project = ("compose", "--project-name", "asyncade-bench")
        return docker(*project, *arguments, environment=environment)

    try:
        compose("up", "--detach", "--build", *SERVICES)
        learner = compose("ps", "--all", "--quiet", "learner").strip()
        began, answers = time.monotonic(), dict[str, float | None]()
        while (state := json.loads(docker("inspect", learner))[0]["State"])["Running"]:
            seconds = time.monotonic() - began
            if seconds > 60 * max_minutes + 120:
                raise TimeoutError("the learner outlived --max-minutes by two minutes")
            window = f"{max(60, round(seconds))}s"
            found = {name: query(text.format(window=window)) for name, text in QUERIES.items()}
            answers = found if found["targets up"] else answers
            time.sleep(5)
        with tempfile.TemporaryDirectory() as folder:
            compose("cp", "learner:/runs/.", folder)
            (run,) = Path(folder).iterdir()
            summary = json.loads((run / "summary.json").read_text())
            rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    finally:
        compose("down", "--volumes")
    return {"exit_code": state["ExitCode"], "run": outcome(summary, rows), "prometheus": answers}


def table(result: Mapping[str, Any]) -> str:
    """Returns the run and the last answers of Prometheus as a Markdown table."""
    run = result["run"]
    rows = [
        ["learner's exit code", result["exit_code"]],
        ["target reached", run["reached"]],
        ["env steps", run["env_steps"]],
        ["minutes", run["seconds"] / 60],
        ["mean of the last 100 training games", f"{run['mean_return_100'] or float('nan'):.2f}"],
        *map(list, result["prometheus"].items()),
    ]
    return markdown(["Docker Compose, encrypted connections", ""], rows)


def main() -> int:
    """Runs the benchmark; returns the learner's exit code."""
    parser = options("containers", __doc__)
    parser.add_argument("--target", type=float, default=18.0)
    parser.add_argument("--max-minutes", type=float, default=15.0)
    parser.add_argument("--mode", choices=MODES, default="data")
    parser.add_argument("--actors", type=int, default=2)
    asked = parser.parse_args()
    variables = {name.upper(): str(value) for name, value in vars(asked).items()}
    content = train(asked.max_minutes, variables | {"REVISION": source_commit()})
    record("containers", "containers", asked, content, table, torch_threads=2)
    return int(content["exit_code"])


if __name__ == "__main__":
    sys.exit(main())

"""Pong by Compose alone: `docker compose up` until the target, and what Prometheus saw meanwhile.

python -m bench.containers [--seed 1] [--target 18] [--max-minutes 15] [--mode data] [--actors 2]

Needs a Docker engine with Compose. It is a Compose project of its own, without Grafana, and leaves
results/pong-compose/: summary.md, the learner's log, the run's summary.json and metrics.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from asyncade_runtime.run_folder import source_commit
from bench.report import RESULTS, about, command_line, markdown_table
from bench.runs import thinned

ROOT = Path(__file__).parents[1]
PROJECT = "asyncade-bench"
SERVICES = ("learner", "actor", "prometheus")
QUESTIONS = {
    "targets up": "count(up == 1)",
    "env steps/s, mean": "avg_over_time(job:asyncade_learner_env_steps:rate1m[{window}])",
    "policy lag, 95%": "job:asyncade_learner_policy_lag_versions:p95_rate5m",
    "weights latency, 95%, ms": "1000 * job:asyncade_actor_weights_latency_seconds:p95_rate5m",
    "bytes per env step": "job:asyncade_learner_bytes_per_env_step:ratio_rate1m",
    "messages dropped": "sum(asyncade_learner_messages_dropped_total)",
    "messages lost": "sum(asyncade_learner_messages_lost_total)",
    "learner's memory, MB": 'max(process_resident_memory_bytes{{job="learner"}}) / 1e6',
    "an actor's memory, MB": 'max(process_resident_memory_bytes{{job="actor"}}) / 1e6',
    "alerts that fire": 'count(ALERTS{{alertstate="firing"}}) or vector(0)',
}


class Stack:
    """The project.

    Args:
        port: of Prometheus, on loopback.
        variables: for compose.yaml.
    """

    def __init__(self, port: int, **variables: str) -> None:
        self.port = port
        self._environ = {**os.environ, "PROMETHEUS_PORT": str(port), **variables}

    def compose(self, *words: str) -> str:
        """Returns what `docker compose` printed."""
        command = ["docker", "compose", "--project-name", PROJECT, *words]
        done = subprocess.run(
            command, cwd=ROOT, env=self._environ, stdout=subprocess.PIPE, text=True, check=True
        )
        return done.stdout

    def value(self, promql: str) -> float | None:
        """Returns the number that Prometheus answers, if it does."""
        question = urllib.parse.urlencode({"query": promql})
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}/api/v1/query?{question}", timeout=10
            ) as answer:
                (found,) = json.load(answer)["data"]["result"]
        except (OSError, ValueError):
            return None
        return float(found["value"][1])

    def log(self) -> str:
        """Returns what the learner said."""
        name = self.compose("ps", "--all", "--quiet", "learner").strip()
        told = subprocess.run(
            ["docker", "logs", name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True
        )
        return told.stdout.decode()

    def learner(self) -> dict[str, Any]:
        """Returns the state of the learner's container."""
        name = self.compose("ps", "--all", "--quiet", "learner").strip()
        shown = subprocess.run(["docker", "inspect", name], capture_output=True, check=True)
        state: dict[str, Any] = json.loads(shown.stdout)[0]["State"]
        return state


def watch(stack: Stack, max_minutes: float) -> dict[str, float | None]:
    """Waits for the learner to end; returns the last answers to all questions while it lived."""
    began, answers = time.monotonic(), dict.fromkeys(QUESTIONS, None)
    while stack.learner()["Running"]:
        seconds = time.monotonic() - began
        if seconds > 60 * max_minutes + 120:
            raise TimeoutError("the learner outlived --max-minutes by two minutes")
        asked = {
            name: promql.format(window=f"{max(60, round(seconds))}s")
            for name, promql in QUESTIONS.items()
        }
        new = {name: stack.value(promql) for name, promql in asked.items()}
        if new["targets up"]:
            answers = new
        time.sleep(5)
    return answers


def summary(
    origin: Mapping[str, Any], run: Mapping[str, Any], exit_code: int, answers: Mapping[str, Any]
) -> str:
    """Returns the text."""
    return "\n".join(
        [
            "# Pong by Compose alone\n",
            f"`{origin['command']}` at {origin['commit']}, {origin['cores']} cores, "
            f"{origin['processor']}, seed {origin['seed']}; encrypted connections.\n",
            f"The learner ended with exit code {exit_code} ({run['ended_by']}): mean return of the "
            f"last 100 training games {run['mean_return_100']} after "
            f"{run['env_steps']:,} env steps and {run['seconds'] / 60:.1f} minutes"
            f"{_target(run)}.\n",
            "The last answers of Prometheus while it lived:\n",
            markdown_table(["", ""], [[name, value] for name, value in answers.items()]),
        ]
    )


def _target(run: Mapping[str, Any]) -> str:
    if not run["reached_target"]:
        return ""
    minutes = run["target_seconds"] / 60
    return f" (the target after {run['target_env_steps']:,} and {minutes:.1f})"


def run(stack: Stack, folder: Path, max_minutes: float, origin: Mapping[str, Any]) -> int:
    """Trains, writes the folder, prints the summary; returns the learner's exit code."""
    try:
        stack.compose("up", "--detach", "--build", *SERVICES)
        answers = watch(stack, max_minutes)
        exit_code = int(stack.learner()["ExitCode"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "learner.log").write_text(stack.log())
        with tempfile.TemporaryDirectory() as copied:
            stack.compose("cp", "learner:/runs/.", copied)
            (source,) = Path(copied).iterdir()
            shutil.copy(source / "summary.json", folder)
            rows = [json.loads(line) for line in (source / "metrics.jsonl").open()]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in thinned(rows)))
        text = summary(
            origin, json.loads((folder / "summary.json").read_text()), exit_code, answers
        )
        (folder / "summary.md").write_text(text)
        print(text)
    finally:
        stack.compose("down", "--volumes")
    return exit_code


def main(argv: Sequence[str] | None = None) -> int:
    """Runs it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.containers", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", type=float, default=18.0)
    parser.add_argument("--max-minutes", type=float, default=15.0)
    parser.add_argument("--mode", default="data")
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--prometheus-port", type=int, default=19090)
    asked = parser.parse_args(argv)
    stack = Stack(
        asked.prometheus_port,
        MODE=asked.mode,
        SEED=str(asked.seed),
        TARGET=str(asked.target),
        MAX_MINUTES=str(asked.max_minutes),
        ACTORS=str(asked.actors),
        REVISION=source_commit(),
        TAG="bench",
    )
    origin = about(command_line("containers", argv), seed=asked.seed, torch_threads=2)
    return run(stack, RESULTS / "pong-compose", asked.max_minutes, origin)


if __name__ == "__main__":
    sys.exit(main())

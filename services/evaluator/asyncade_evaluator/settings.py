"""What an evaluator is told. The game travels with the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from asyncade_proto import ports
from asyncade_runtime.settings import Settings, SettingsConfigDict


class EvaluatorSettings(Settings):
    """Plays whole games by the learner's newest weights and exports their returns."""

    model_config = SettingsConfigDict(
        env_prefix="ASYNCADE_EVALUATOR_", cli_prog_name="asyncade evaluator"
    )

    weights_address: str = Field(
        f"tcp://127.0.0.1:{ports.WEIGHTS}", description="where the learner publishes weights"
    )
    keys: Path | None = Field(
        None,
        description="folder of the actors' CURVE keys (asyncade keys); none: nothing is encrypted",
    )
    episodes: int = Field(16, ge=1, le=100_000, description="games in a round, by the same weights")
    envs: int = Field(8, ge=1, le=1024, description="games played at once")
    env_threads: int = Field(1, ge=1, le=256, description="threads that step the emulators")
    policy: Literal["sample", "greedy"] = Field(
        "sample", description="draw actions from the policy, as in training, or take the likeliest"
    )
    seed: int = Field(1_000_000, ge=0, lt=2**30, description="of the games; not one of training")
    torch_threads: int = Field(1, ge=1, le=256, description="threads of torch")
    metrics_host: str = Field("127.0.0.1", description="address of /metrics, /healthz, /readyz")
    metrics_port: int = Field(
        ports.EVALUATOR_HTTP, ge=0, le=65535, description="their port; 0 takes a free one"
    )
    stall_seconds: float = Field(
        120.0, gt=0, description="a main loop that stands still this long is unhealthy [seconds]"
    )
    log_format: Literal["text", "json"] = Field("text", description="form of the log lines")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least severe level that is logged"
    )

"""What an actor is told. All else (game, unroll length, kind of message) the learner tells it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from asyncade_proto import ports
from asyncade_runtime.settings import Settings, SettingsConfigDict


class ActorSettings(Settings):
    """Plays games by the learner's newest weights and sends it trajectories or gradients."""

    model_config = SettingsConfigDict(env_prefix="ASYNCADE_ACTOR_", cli_prog_name="asyncade actor")

    upstream_address: str = Field(
        f"tcp://127.0.0.1:{ports.UPSTREAM}",
        description="where the learner takes trajectories and gradients",
    )
    weights_address: str = Field(
        f"tcp://127.0.0.1:{ports.WEIGHTS}", description="where the learner publishes weights"
    )
    keys: Path | None = Field(
        None,
        description="folder of the actors' CURVE keys (asyncade keys); none: nothing is encrypted",
    )
    actor_id: str | None = Field(
        None,
        min_length=1,
        max_length=128,
        description="name, unique among the living; default: host name and process number",
    )
    envs: int = Field(8, ge=1, le=1024, description="games played at once")
    env_threads: int = Field(1, ge=1, le=256, description="threads that step the emulators")
    torch_threads: int = Field(1, ge=1, le=256, description="threads of torch; scale by actors")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the network's multiplications; auto: what this processor does best"
    )
    metrics_host: str = Field("127.0.0.1", description="address of /metrics, /healthz, /readyz")
    metrics_port: int = Field(
        ports.ACTOR_HTTP, ge=0, le=65535, description="their port; 0 takes a free one"
    )
    stall_seconds: float = Field(
        120.0, gt=0, description="a main loop that stands still this long is unhealthy [seconds]"
    )
    log_format: Literal["text", "json"] = Field("text", description="form of the log lines")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least severe level that is logged"
    )

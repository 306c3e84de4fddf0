"""What an actor is told. All else (game, unroll length, kind of message) the learner tells it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from asyncade_proto import ports
from asyncade_runtime.service import Port, ServiceSettings
from asyncade_runtime.settings import SettingsConfigDict


class ActorSettings(ServiceSettings):
    """Plays games by the learner's newest weights and sends it trajectories or gradients."""

    model_config = SettingsConfigDict(env_prefix="ASYNCADE_ACTOR_", cli_prog_name="asyncade actor")

    upstream_address: str = Field(
        f"tcp://127.0.0.1:{ports.UPSTREAM}",
        description="where the learner takes trajectories and gradients",
    )
    weights_address: str = Field(
        f"tcp://127.0.0.1:{ports.WEIGHTS}", description="where the learner publishes weights"
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
    metrics_port: Port = ports.ACTOR_HTTP

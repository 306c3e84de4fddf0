"""Settings of an actor. Game, unroll length and mode arrive with the weights."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from asyncade_proto import ports
from asyncade_rl.choices import Precision
from asyncade_runtime.service import Port, SenderId, ServiceSettings
from asyncade_runtime.settings import SettingsConfigDict


class ActorSettings(ServiceSettings):
    """Plays games with the learner's newest weights and sends it trajectories or gradients."""

    model_config = SettingsConfigDict(env_prefix="ASYNCADE_ACTOR_", cli_prog_name="asyncade actor")
    example = (
        "asyncade actor --upstream-address tcp://10.0.0.1:5555"
        " --weights-address tcp://10.0.0.1:5556"
    )

    upstream_address: str = f"tcp://127.0.0.1:{ports.UPSTREAM}"
    """the learner's address for trajectories and gradients"""
    weights_address: str = f"tcp://127.0.0.1:{ports.WEIGHTS}"
    """the learner's address for weights"""
    actor_id: SenderId | None = None
    """unique among running actors and relays; default: host name, process number and random
    digits"""
    envs: int = Field(8, ge=1, le=1024)
    """games played in parallel, unless the learner assigns fewer"""
    env_threads: int = Field(1, ge=1, le=256)
    """threads that step the games"""
    torch_threads: int = Field(1, ge=1, le=256)
    """torch threads; to use more cores, start more actors instead"""
    precision: Literal["auto", Precision] = "auto"
    """precision of the matrix products; auto picks the processor's fastest"""
    metrics_port: Port = ports.ACTOR_HTTP

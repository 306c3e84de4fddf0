"""Settings of a relay. Game, mode and objective arrive with the weights, as for an actor."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from asyncade_proto import ports
from asyncade_proto.limits import MAX_SENDERS
from asyncade_runtime.entrance import ACTORS_PER_PEER
from asyncade_runtime.service import Port, SenderId, ServiceSettings
from asyncade_runtime.settings import SettingsConfigDict


class RelaySettings(ServiceSettings):
    """Forwards weights to the actors of a node or zone, and their messages to the learner."""

    model_config = SettingsConfigDict(
        env_prefix="ASYNCADE_RELAY_",
        cli_prog_name="asyncade relay",
    )
    example = (
        "asyncade relay --learner-upstream-address tcp://10.0.0.1:5555"
        " --learner-weights-address tcp://10.0.0.1:5556"
    )

    upstream_address: str = f"tcp://127.0.0.1:{ports.RELAY_UPSTREAM}"
    """address to bind for the actors' trajectories and gradients"""
    weights_address: str = f"tcp://127.0.0.1:{ports.RELAY_WEIGHTS}"
    """address to bind for weights to the actors"""
    learner_upstream_address: str = f"tcp://127.0.0.1:{ports.UPSTREAM}"
    """the learner's address for trajectories and gradients"""
    learner_weights_address: str = f"tcp://127.0.0.1:{ports.WEIGHTS}"
    """the learner's address for weights"""
    keys: Path | None = None
    """folder of CURVE keys towards the actors: the learner's half of asyncade keys; null:
    connections are neither encrypted nor authenticated"""
    learner_keys: Path | None = None
    """folder of CURVE keys towards the learner: the actors' half of asyncade keys; null: no
    encryption"""
    relay_id: SenderId | None = None
    """unique among running relays and actors; default: relay, host name, process number and random
    digits"""
    max_policy_lag: int = Field(16, ge=0)
    """drop gradients made with weights more than this many versions old; as the learner's
    setting"""
    actors_behind_relay: int = Field(1, ge=1, le=1024)
    """as the learner's setting, where relays send to this one"""
    patience_seconds: float = Field(1.0, gt=0)
    """after this long without a gradient, send the mean of those that arrived; shorter than the
    learner's, which would wait for the same dead actor [seconds]"""
    actors_per_peer: int = Field(ACTORS_PER_PEER, ge=1, le=MAX_SENDERS)
    """actor ids that one address with one key may use at a time; more are dropped"""
    metrics_port: Port = ports.RELAY_HTTP

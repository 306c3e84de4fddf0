"""What a relay is told. Game, mode and loss arrive with the weights, as with an actor."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from asyncade_proto import ports
from asyncade_runtime.service import Port, ServiceSettings
from asyncade_runtime.settings import SettingsConfigDict


class RelaySettings(ServiceSettings):
    """Passes weights on to the actors of a node or zone, and what they send to the learner."""

    model_config = SettingsConfigDict(env_prefix="ASYNCADE_RELAY_", cli_prog_name="asyncade relay")

    upstream_address: str = Field(
        f"tcp://127.0.0.1:{ports.RELAY_UPSTREAM}",
        description="where its actors' trajectories and gradients come in",
    )
    weights_address: str = Field(
        f"tcp://127.0.0.1:{ports.RELAY_WEIGHTS}",
        description="where weights are published to its actors",
    )
    learner_upstream_address: str = Field(
        f"tcp://127.0.0.1:{ports.UPSTREAM}",
        description="where the learner takes trajectories and gradients",
    )
    learner_weights_address: str = Field(
        f"tcp://127.0.0.1:{ports.WEIGHTS}", description="where the learner publishes weights"
    )
    keys: Path | None = Field(
        None,
        description="folder of CURVE keys towards its actors: the learner's half that asyncade"
        " keys makes; none: nothing is encrypted, and whoever reaches the ports is let in",
    )
    learner_keys: Path | None = Field(
        None,
        description="folder of CURVE keys towards the learner: the actors' half that asyncade keys"
        " makes; none: nothing is encrypted",
    )
    relay_id: str | None = Field(
        None,
        min_length=1,
        max_length=128,
        description="name, unique among living relays and actors; default: relay, host name and"
        " process number",
    )
    max_policy_lag: int = Field(
        16,
        ge=0,
        description="gradients made this many versions ago are still averaged, older ones not;"
        " as the learner's",
    )
    patience_seconds: float = Field(
        1.0,
        gt=0,
        description="after so long without a gradient, average what there is; below the learner's,"
        " or that waits for the same dead actor [seconds]",
    )
    metrics_port: Port = ports.RELAY_HTTP

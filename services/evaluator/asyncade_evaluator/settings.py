"""What an evaluator is told. The game travels with the weights."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from asyncade_proto import ports
from asyncade_runtime.service import Port, ServiceSettings
from asyncade_runtime.settings import SettingsConfigDict


class EvaluatorSettings(ServiceSettings):
    """Plays whole games by the learner's newest weights and exports their returns."""

    model_config = SettingsConfigDict(
        env_prefix="ASYNCADE_EVALUATOR_", cli_prog_name="asyncade evaluator"
    )

    weights_address: str = Field(
        f"tcp://127.0.0.1:{ports.WEIGHTS}", description="where the learner publishes weights"
    )
    episodes: int = Field(16, ge=1, le=100_000, description="games in a round, by the same weights")
    envs: int = Field(8, ge=1, le=1024, description="games played at once")
    env_threads: int = Field(1, ge=1, le=256, description="threads that step the emulators")
    policy: Literal["sample", "greedy"] = Field(
        "sample", description="draw actions from the policy, as in training, or take the likeliest"
    )
    seed: int = Field(1_000_000, ge=0, lt=2**30, description="of the games; not one of training")
    torch_threads: int = Field(1, ge=1, le=256, description="threads of torch")
    metrics_port: Port = ports.EVALUATOR_HTTP

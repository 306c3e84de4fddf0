"""Settings of an evaluator. The game arrives with the weights."""

from __future__ import annotations

from pydantic import Field

from asyncade_proto import ports
from asyncade_rl.choices import Policy
from asyncade_runtime.service import Port, ServiceSettings
from asyncade_runtime.settings import SettingsConfigDict
from asyncade_watch.settings import PagePort


class EvaluatorSettings(ServiceSettings):
    """Plays whole games with the learner's newest weights and exports their returns."""

    model_config = SettingsConfigDict(
        env_prefix="ASYNCADE_EVALUATOR_", cli_prog_name="asyncade evaluator"
    )
    example = "asyncade evaluator --weights-address tcp://10.0.0.1:5556"

    weights_address: str = f"tcp://127.0.0.1:{ports.WEIGHTS}"
    """the learner's address for weights"""
    episodes: int = Field(16, ge=1, le=100_000)
    """games per round; all of a round are played with the same weights"""
    envs: int = Field(8, ge=1, le=1024)
    """games played in parallel"""
    env_threads: int = Field(1, ge=1, le=256)
    """threads that step the games"""
    policy: Policy = "sample"
    """sample actions, as in training, or take the most probable ones (greedy)"""
    seed: int = Field(1_000_000, ge=0, lt=2**30)
    """seed of the first round's games; should differ from the training's seed"""
    torch_threads: int = Field(1, ge=1, le=256)
    """torch threads"""
    page_port: PagePort | None = None
    """port of the live page, which shows the newest weights at play; 0 picks a free one; null: no
    page"""
    page_host: str = "127.0.0.1"
    """address of the live page"""
    metrics_port: Port = ports.EVALUATOR_HTTP

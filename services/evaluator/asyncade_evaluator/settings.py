"""Settings of an evaluator. The game arrives with the weights."""

from __future__ import annotations

import contextlib
from typing import Annotated, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from asyncade_proto import ports
from asyncade_rl.choices import Policy
from asyncade_runtime.service import Port, ServiceSettings
from asyncade_runtime.settings import SettingsConfigDict
from asyncade_watch.settings import PagePort


def _http_address(address: str) -> str:
    with contextlib.suppress(ValueError):  # no number for a port, or half an IPv6 address
        parts = urlsplit(address)
        if parts.scheme == "http" and parts.hostname and parts.port and parts.path in ("", "/"):
            return address
    raise ValueError("write it as http://HOST:PORT, such as http://learner:9101")


HttpAddress: TypeAlias = Annotated[str, AfterValidator(_http_address)]


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
    learner_http: HttpAddress | None = None
    """the learner's HTTP pages, such as http://learner:9101: the live page then shows env steps/s,
    policy lag, curve, limit and actors; null: only what the evaluator itself knows"""
    metrics_port: Port = ports.EVALUATOR_HTTP

"""asyncade plan from the command line: table, words, JSON, and input that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from asyncade_cli.__main__ import USAGE_ERROR, main
from asyncade_cli.plan_costs import SHIPPED, CostsError, read_costs
from asyncade_cli.plan_words import byte_rate, leading

# Unrolls of ten env steps: an actor plays one in 1 s, a learner trains on it in 0.5 s.
COSTS = {
    "environment": 0.1,
    "inference": 1e-9,
    "encode": 1e-9,
    "intake": 1e-4,
    "update": 0.05,
    "passes": 4,
    "threads": 2,
    "thread_speedup": 1.6,
    "environment_speedup": 1.6,
    "gradient_work": 0.1,
    "gradient_call": 1e-9,
    "gradient_send": 1e-3,
    "gradient_intake": 0.05,
    "gradient_transfer": 0.08,
    "actor_crowding": 1.0,
    "gradient_crowding": 1.0,
    "average": 1e-3,
    "optimise": 1e-3,
    "publish": 1e-3,
    "takeover": 1e-3,
    "send_message": 1e-9,
    "broadcast_byte": 1e-13,
    "send_byte": 1e-12,
    "receive_message": 1e-9,
    "receive_byte": 1e-12,
    "trajectory_bytes": 50,
    "gradient_bytes": 1_000_000,
    "weights_bytes": 1_000_000,
}
SMALL = ("--envs=2", "--unroll-length=5", "--learner-cores=1")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "costs.json"
    path.write_text(json.dumps({"game": "pong", "commit": "abc123", "costs": COSTS}))
    return path


def planned(file: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, Any]:
    assert main(["plan", f"--costs={file}", *SMALL, *flags, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def refused(capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    assert main(["plan", *flags]) == USAGE_ERROR
    return capsys.readouterr().err


def test_actors_give_a_rate(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(file, capsys, "--actors=2", "--link-gbits=null")
    data, gradients = plan["modes"]["data"], plan["modes"]["gradients"]
    assert data["env_steps_per_second"] == pytest.approx(20 / 2.0, rel=0.01)
    assert data["actors"] == 2
    assert data["relays"] == 0
    assert data["limit"] == "learner"  # as long as the actors, and its intake on top
    assert gradients["env_steps_per_second"] == pytest.approx(5 / 0.5, rel=0.05)
    assert gradients["learner_batch_bytes"] is None
    assert plan["asked"]["actors"] == 2


def test_a_rate_needs_actors(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(file, capsys, "--rate=12", "--mode=data", "--link-gbits=null")
    assert list(plan["modes"]) == ["data"]
    assert (
        plan["modes"]["data"]["actors"] == 4
    )  # 40 env steps in 1 s + 4 x 0.5 s; 3 give 12 - a bit
    assert plan["actors_with_which_gradient_mode_is_faster"] is None


def test_a_rate_that_is_out_of_reach_says_what_would_do(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = planned(file, capsys, "--rate=100", "--mode=data", "--link-gbits=null")
    data = plan["modes"]["data"]
    assert data["reached"] is False
    assert data["highest_env_steps_per_second"] == pytest.approx(20, rel=0.01)
    needed = data["learner_speedup_needed"]
    assert needed == pytest.approx(5.1, rel=0.02)
    assert "--learner-speedup 6 would do" in plan["words"][0]
    with_it = planned(file, capsys, "--rate=100", "--mode=data", "--learner-speedup=6")
    assert with_it["modes"]["data"]["reached"] is True
    assert "not measured here" in " ".join(with_it["words"])
    never = planned(file, capsys, "--rate=1000000", "--mode=data")
    assert never["modes"]["data"]["learner_speedup_needed"] is None
    assert "no learner however fast would do" in never["words"][0]


def test_samples_per_second_are_a_speedup(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # A core trains 1 / 0.05 env steps/s, 4 passes: 80 samples/s.
    by_samples = planned(file, capsys, "--actors=4", "--learner-samples=800")
    by_speedup = planned(file, capsys, "--actors=4", "--learner-speedup=10")
    assert by_samples["modes"] == by_speedup["modes"]


def test_relays_and_links_count(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--actors=40", "--link-gbits=0.1")
    without = planned(file, capsys, *flags)["modes"]
    relayed = planned(file, capsys, *flags, "--actors-per-relay=10")["modes"]
    for mode in ("data", "gradients"):
        assert relayed[mode]["relays"] == 4
        ratio = relayed[mode]["round_parts_seconds"]["link"]
        assert ratio < without[mode]["round_parts_seconds"]["link"]
        assert relayed[mode]["env_steps_per_second"] > without[mode]["env_steps_per_second"]


def test_the_table_and_the_words(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", f"--costs={file}", *SMALL, "--actors=2000"]) == 0
    out = capsys.readouterr().out
    head, actors = out.splitlines()[:2]
    assert head.split("  ")[-1] == "gradient mode"
    assert actors.split() == ["actors", "2,000", "2,000"]
    assert "first limit: the learner's work" in out
    assert "the learner names 1,024 actors in its credit" in out
    assert "commit abc123" in out


def test_the_shipped_costs_are_the_measured_ones() -> None:
    results = Path(__file__).parents[3] / "bench/results/unit-costs.json"
    assert SHIPPED.read_text() == results.read_text(), "run python -m bench.table"
    assert read_costs().costs.weights_bytes > 1e6
    assert "commit" in read_costs().origin


@pytest.mark.parametrize(
    ("flags", "cure"),
    [
        ((), "give either --rate"),
        (("--rate=1", "--actors=1"), "give either --rate"),
        (("--actors=0",), "--actors (ASYNCADE_PLAN_ACTORS) cannot be"),
        (("--rate=-1",), "--rate (ASYNCADE_PLAN_RATE) cannot be"),
        (("--actors=1", "--learner-speedup=2", "--learner-samples=2"), "not both"),
        (("--actors=1", "--shared-cores=2", "--actors-per-relay=2"), "leave out --actors-per"),
        (("--actors=1", "--cost=x"), "did you mean --costs"),
        (("--actors=1", "--costs=/no/such"), "python -m bench.unit_costs"),
    ],
)
def test_bad_input_names_the_cure(
    flags: tuple[str, ...], cure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cure in refused(capsys, *flags)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "is not JSON"),
        ("[]", "has no object `costs`"),
        ('{"costs": 3}', "has no object `costs`"),
        (json.dumps({"costs": {**COSTS, "update": "dear"}}), "no positive number for update"),
        (json.dumps({"costs": {**COSTS, "update": 0}}), "no positive number for update"),
        (json.dumps({"costs": {**COSTS, "update": float("nan")}}), "no positive number for update"),
        (json.dumps({"costs": {"update": 1.0}}), "no positive number for environment, inference"),
    ],
)
def test_a_file_of_costs_must_have_them_all(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "costs.json"
    path.write_text(content)
    with pytest.raises(CostsError, match=problem):
        read_costs(path)


def test_words_for_ranges_and_rates() -> None:
    assert leading([]) == "with no number of actors"
    assert leading([(1, 4), (9, 9), (20, 16_384)]) == (
        "with 1 to 4 and with 9 and from 20 actors on"
    )
    assert leading([(1, 1), (3, 3), (5, 5), (7, 7)]).endswith(", and so on")
    assert [byte_rate(r) for r in (3.0, 4_500, 2.5e6, 1.25e9)] == [
        *("3 B/s", "4.5 kB/s", "2.5 MB/s", "1.2 GB/s"),
    ]

"""Exported models: the hub's card, the same outputs elsewhere, code that runs as it is shown."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from huggingface_hub import EvalResult, ModelCard

from asyncade_cli.__main__ import main
from asyncade_cli.export.card import environment_id
from asyncade_cli.export.onnx_graph import onnx_model
from asyncade_rl.network import make_network
from asyncade_rl.pretrained import PretrainedError, load_agent
from asyncade_runtime.run_folder import RunFolder
from rigs.models import make_model, write_model

FILES = {"README.md", "config.json", "model.safetensors", "replay.mp4"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    return tmp_path


def write_run(game: str = "catch", **learner: object) -> RunFolder:
    folder = RunFolder.create(Path("run"))
    folder.write_config("learner", {"game": game, "mode": "data", "seed": 3, **learner})
    write_model(folder, game, env_steps=5000, policy_version=7)
    return folder


def exported(*options: str) -> Path:
    assert main(["export", "run", "model", *options]) == 0
    return Path("model")


def examples(folder: Path) -> list[str]:
    """Returns the code of README.md."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def output_of(code: str, folder: Path) -> str:
    """Runs code in the folder, as a reader would, without a network."""
    environ = {**os.environ, "no_proxy": "", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=folder, env=environ, check=True, capture_output=True, text=True
    ).stdout


def test_the_card_is_one_that_the_hub_reads() -> None:
    write_run()
    folder = exported("--episodes=6", "--name=my-catch")
    assert {path.name for path in folder.iterdir()} == {*FILES, "model.onnx"}
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "asyncade"
    assert {"reinforcement-learning", "catch", "onnx"} <= set(card.data.tags or ())
    assert card.data.model_name == "my-catch"
    (result,) = card.data.eval_results or [None]
    assert isinstance(result, EvalResult)
    assert (result.task_type, result.metric_type) == ("reinforcement-learning", "mean_reward")
    assert (result.dataset_type, result.dataset_name) == ("catch", "catch")
    assert re.fullmatch(r"-?\d\.\d\d \+/- \d\.\d\d", result.metric_value)
    for fact in ("95% interval", "5,000", "sampled from the policy"):
        assert fact in card.text


def test_the_newest_evaluation_of_the_checkpoint_is_on_the_card() -> None:
    folder = write_run()
    assert main(["eval", "run", "--episodes=30", "--envs=2"]) == 0
    known = list(folder.evaluations)[-1]
    text = (exported("--no-onnx") / "README.md").read_text()
    assert f"{known['mean']:.2f} +/- {known['standard_deviation']:.2f}" in text
    assert "| games | 30 |" in text
    assert len(list(folder.evaluations)) == 1, "none was played for the card"


def test_an_evaluation_of_few_games_is_not_enough_for_the_card() -> None:
    folder = write_run()
    assert main(["eval", "run", "--episodes=2"]) == 0
    assert "| games | 30 |" in (exported("--no-onnx") / "README.md").read_text()
    assert len(list(folder.evaluations)) == 2


def test_the_examples_run_as_they_are_shown() -> None:
    write_run("pong", repeat_action_probability=0.25)
    folder = exported("--episodes=1")
    with_asyncade, without = examples(folder)
    assert len(with_asyncade.strip().splitlines()) == 5
    (game,) = json.loads(output_of(with_asyncade, folder))
    assert game in range(-21, 22)
    assert "asyncade" not in without
    assert "gumbel" in without, "actions are sampled, as in the evaluation"
    config = json.loads((folder / "config.json").read_text())
    assert config["environment"]["repeat_action_probability"] == 0.25
    assert config["repeat_action_probability"] == 0.25
    assert float(output_of(without, folder)) in range(-21, 22)


def test_a_loaded_agent_is_the_one_that_was_exported() -> None:
    write_run()
    agent = load_agent(exported("--no-onnx", "--episodes=2"))
    frames = torch.randint(256, (5, 4, 84, 84), dtype=torch.uint8)
    with torch.inference_mode():
        for ours, theirs in zip(make_model("catch")(frames), agent.network(frames), strict=True):
            torch.testing.assert_close(ours, theirs)
    returns = agent.play(episodes=12, seed=4)
    assert len(returns) == 12
    assert returns == agent.play(episodes=12, seed=4)
    assert agent.config["actions"] == ["LEFT", "STAY", "RIGHT"]


@pytest.mark.parametrize(("network", "actions"), [("small", 6), ("nature", 18)])
def test_onnx_has_the_same_outputs(network: str, actions: int) -> None:
    model = make_network(actions, network, seed=1)
    model.policy.weight.data.mul_(100)  # logits of a trained policy
    model.frame_mean.copy_(100 * torch.rand(84, 84))
    model.frame_scale.fill_(37.0)
    runtime = onnxruntime.InferenceSession(onnx_model(model))
    frames = np.random.default_rng(0).integers(256, size=(9, 4, 84, 84), dtype=np.uint8)
    found = runtime.run(["logits", "value"], {"frames": frames})
    with torch.inference_mode():
        expected = [tensor.numpy() for tensor in model(torch.from_numpy(frames))]
    assert np.ptp(expected[0]) > 1
    for ours, theirs in zip(expected, found, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(theirs, ours, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("game", "sticky", "name"),
    [
        ("space_invaders", 0.0, "SpaceInvadersNoFrameskip-v4"),
        ("pong", 0.25, "ALE/Pong-v5"),
        ("catch", 0.0, "catch"),
    ],
)
def test_the_hub_groups_results_by_the_name_of_the_environment(
    game: str, sticky: float, name: str
) -> None:
    assert environment_id(game, sticky) == name


def test_a_missing_package_is_named_before_anything_is_played(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run()
    for package in ("onnx", "av"):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, package, None)
            assert main(["export", "run", "model"]) == 2
            assert "asyncade[export]" in capsys.readouterr().err
    assert not Path("model").exists()
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "onnx", None)
        assert exported("--no-onnx", "--episodes=2")
    assert {path.name for path in Path("model").iterdir()} == FILES
    exported("--no-onnx", "--episodes=3")  # again, over the earlier one


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "asyncade export RUN DIR"),
        (["run"], "asyncade export RUN DIR"),
        (["absent", "model"], "absent"),
        (["run", "run"], "other files"),
        (["run", "run/config.json"], "file"),
        (["run", "model", "--checkpoint=absent"], "absent"),
        (["run", "model", "--name=a b"], "--name"),
    ],
)
def test_bad_input_is_named_and_nothing_written(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(write_run().root.rglob("*"))
    assert main(["export", *arguments]) == 2
    assert named in capsys.readouterr().err
    assert sorted(Path("run").rglob("*")) == before
    assert not Path("model").exists()


@pytest.mark.parametrize("damage", [None, b"{}", b"[]", b"nonsense", b"[" * 100_000])
def test_a_folder_without_a_model_is_refused(damage: bytes | None) -> None:
    Path("model").mkdir()
    if damage is not None:
        for name in ("config.json", "model.safetensors"):
            (Path("model") / name).write_bytes(damage)
    with pytest.raises(PretrainedError, match="model"):
        load_agent("model")

"""The model card: README.md of an exported model.

Its first lines are read by the Hugging Face hub, which ranks models of reinforcement learning by
``mean_reward`` of one environment: https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from asyncade_cli.evaluate import protocol_of
from asyncade_cli.markdown import table
from asyncade_rl.envs import is_atari


def environment_id(game: str, sticky: float) -> str:
    """Returns gymnasium's id of the game, by which the hub groups results.

    ``NoFrameskip-v4`` ids are those of games without sticky actions, in which results of Atari are
    usually given; ``ALE/...-v5`` has them.
    """
    name = "".join(part.capitalize() for part in game.split("_"))
    return game if not is_atari(game) else f"ALE/{name}-v5" if sticky else f"{name}NoFrameskip-v4"


def card(config: Mapping[str, Any], evaluation: Mapping[str, Any], name: str, *, onnx: bool) -> str:
    """Returns the text of README.md.

    Args:
        config: content of config.json.
        evaluation: report of `asyncade eval`.
        name: of the model.
        onnx: model.onnx is part of the export.
    """
    environment = config["environment_id"]
    game = str(config["game"]).replace("_", " ").capitalize()
    reward = f"{evaluation['mean']:.2f} +/- {evaluation['standard_deviation']:.2f}"
    tags = ["reinforcement-learning", "deep-reinforcement-learning", "actor-critic", "a3c"]
    tags += [environment, config["game"]] + ["atari"] * is_atari(config["game"])
    tags += ["onnx"] * onnx
    interval = evaluation["interval_95"]
    measured = [
        ["mean return", evaluation["mean"]],
        ["95% interval of the mean", f"{interval[0]} to {interval[1]}" if interval else None],
        ["standard deviation", evaluation["standard_deviation"]],
        ["median", evaluation["median"]],
        ["lowest, highest", f"{evaluation['min']:g}, {evaluation['max']:g}"],
        ["games", evaluation["episodes"]],
    ]
    training = config["training"]
    trained = [[key.replace("_", " "), value] for key, value in training.items() if value]
    protocol = "\n".join(f"- {line}" for line in protocol_of(evaluation))
    return f"""---
library_name: asyncade
pipeline_tag: reinforcement-learning
tags: {json.dumps(list(dict.fromkeys(tags)))}
model-index:
- name: {json.dumps(name)}
  results:
  - task:
      type: reinforcement-learning
      name: reinforcement-learning
    dataset:
      name: {json.dumps(environment)}
      type: {json.dumps(environment)}
    metrics:
    - type: mean_reward
      value: {json.dumps(reward)}
      name: mean_reward
      verified: false
---

# {game}, trained by Asyncade

An actor-critic network that plays {game} from pixels, trained by Asyncade (distributed A3C) for
{training["env_steps"]:,} env steps. `replay.mp4` shows a game.

## Use

With the package `asyncade[actor]`, in this folder:

```python
from asyncade_rl.pretrained import load_agent

agent = load_agent(".")  # or what huggingface_hub.snapshot_download("USER/NAME") returns
returns = agent.play(episodes=1, seed=0)
print(returns)
```
{_without_asyncade(config, evaluation["policy"]) if onnx else ""}
## Evaluation

{table(["", ""], measured)}
{protocol}

## Training

{table(["", ""], trained)}
`config.json` has game, network, action names and the preprocessing; `model.safetensors` the
parameters, and the statistics by which the network normalises its input.
"""


def _without_asyncade(config: Mapping[str, Any], policy: str) -> str:
    """Returns how to play with the ONNX model; nothing for a game that has no emulator.

    Its actions are chosen as in the evaluation. The most probable one after Gumbel noise is a
    sample (Maddison et al. 2014, "A* sampling").
    """
    if "environment" not in config:
        return ""
    modules, how = "json, onnxruntime", "the most probable ones"
    actions = "logits.argmax(-1)"
    if policy == "sample":
        modules, how = "json, numpy, onnxruntime", "sampled from the policy"
        actions = "(logits + numpy.random.gumbel(size=logits.shape)).argmax(-1)"
    return f"""
Without it, with the packages `onnxruntime`, `ale-py` and `gymnasium`; actions are {how}, as in
the evaluation below:

```python
import {modules}
from ale_py.vector_env import AtariVectorEnv

config = json.load(open("config.json"))
network = onnxruntime.InferenceSession("model.onnx")
games = AtariVectorEnv({config["game"]!r}, num_envs=1, **config["environment"])
frames, score, over = games.reset(seed=0)[0], 0.0, False
while not over:
    logits, value = network.run(["logits", "value"], {{"frames": frames}})
    frames, rewards, ended, cut, _ = games.step({actions})
    score, over = score + float(rewards[0]), bool(ended[0] or cut[0])
print(score)
```
"""

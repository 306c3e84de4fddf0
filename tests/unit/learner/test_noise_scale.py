"""The gradient noise scale that a learner publishes, in both modes."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from asyncade_learner import modes
from asyncade_proto.codec import decode, encode
from asyncade_proto.messages import Gradients
from asyncade_rl.batch import batches_of
from asyncade_rl.objective import backpropagate, minibatches, prepare_all
from rigs.learner import REPORT_S, STEPS, Rig, begun, computed, parameters, played, same

MINIBATCH = 4
SETTINGS: dict[str, Any] = {"passes": 2, "minibatch_size": MINIBATCH}


def flat(tensors: Any) -> npt.NDArray[np.float64]:
    return np.concatenate([one.ravel() for one in tensors.values()]).astype(np.float64)


def expected(gradients: list[npt.NDArray[np.float64]], samples: list[int]) -> float:
    """Returns tr(Sigma) / |G|^2 from the gradients' spread around their mean."""
    weights, count = np.array(samples) / sum(samples), len(samples)
    mean = sum(w * one for w, one in zip(weights, gradients, strict=True))
    spread = sum(w * np.square(one - mean).sum() for w, one in zip(weights, gradients, strict=True))
    trace = spread * sum(samples) / (count - 1)
    return float(trace / (np.square(mean).sum() - trace / sum(samples)))


def begun_wrong(run_dir: Path, **changes: Any) -> Rig:
    """Returns a rig whose values are all wrong by 3, so that its gradients have much in common."""
    rig = begun(run_dir, max_policy_lag=1000, discount=0.0, value_cost=10.0, **changes)
    with torch.no_grad():
        rig.learner.trainer.network.value.bias.fill_(3.0)
    return rig


def of_minibatches(rig: Rig) -> float:
    """Returns the noise scale of the first unroll at a rig's weights, before it has trained."""
    objective = rig.learner.trainer.settings.objective_at(1.0)
    network = copy.deepcopy(rig.learner.trainer.network)
    samples = prepare_all(network, batches_of(played()[:1], objective.discount), objective)
    generator = torch.Generator().manual_seed(0)
    found = []
    for minibatch in minibatches(samples, replace(objective, passes=1), generator):
        backpropagate(network, minibatch, objective)
        parts = [p.grad.flatten() for p in network.parameters() if p.grad is not None]
        found.append(torch.cat(parts).double().numpy())
    return expected(found, [MINIBATCH] * (STEPS // MINIBATCH))


def published(rig: Rig) -> float | None:
    value = rig.metric("gradient_noise_scale_samples")
    return None if value is None or math.isnan(value) else value


def last_row(rig: Rig) -> dict[str, Any]:
    rig.wait(REPORT_S)
    row = rig.folder.last_metrics()
    assert row is not None
    return row


def test_data_mode_measures_minibatches_and_their_mean_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modes, "MEASURED_EVERY", 1)
    rig = begun_wrong(tmp_path, max_gradient_norm=1e-3, **SETTINGS)
    assert published(rig) is None
    right = of_minibatches(rig)
    rig.step(played()[0])
    assert published(rig) == pytest.approx(right, rel=1e-3)
    assert last_row(rig)["gradient_noise_scale"] == pytest.approx(right, abs=0.06)


def test_data_mode_measures_one_batch_of_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modes, "MEASURED_EVERY", 3)
    rig, values = begun_wrong(tmp_path, **SETTINGS), []
    for message in played():
        rig.step(message)
        values.append(published(rig))
    assert values[:2] == [None, None]
    assert None not in values[2:]
    assert values[2] == values[3] == values[4] != values[5]


def test_a_stop_ends_a_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modes, "MEASURED_EVERY", 1)
    rig = begun_wrong(tmp_path, **SETTINGS)
    trainer, ticks = rig.learner.trainer, []

    def tick() -> None:
        ticks.append(1)
        if len(ticks) == 3:
            trainer.stop.set()

    trainer.tick = tick
    phase = modes.DataParallel(trainer)
    phase.add(played()[0])
    improvement = phase.improve(1.0)
    assert len(ticks) == 3
    assert (improvement.updates, improvement.noise_scale) == (0, None)


def test_measuring_changes_no_bit_of_what_is_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned = []
    for every in (1, 1000):
        monkeypatch.setattr(modes, "MEASURED_EVERY", every)
        rig = begun_wrong(tmp_path / str(every))
        for message in played()[:2]:
            rig.step(message)
        assert (published(rig) is None) == (every == 1000)
        learned.append(parameters(rig.newest()))
    assert same(*learned)


def gradient(actor: str, number: int, samples: int) -> Gradients:
    """A message of an actor, its tensors rounded as on the wire."""
    message = decode(encode(computed()[number]))
    assert isinstance(message, Gradients)
    return replace(message, actor_id=actor, sequence=0, samples=samples)


@pytest.mark.parametrize("samples", [(8, 8, 8), (4, 8, 16)], ids=["equal", "unequal"])
def test_gradient_mode_measures_the_gradients_and_their_mean(
    tmp_path: Path, samples: tuple[int, ...]
) -> None:
    rig = begun(tmp_path, mode="gradients", batch_samples=sum(samples))
    rig.step(gradient("a0", 3, 8))  # an update by itself: no other actor is known
    sent = [gradient(f"a{n}", n, size) for n, size in enumerate(samples)]
    rig.step(*reversed(sent))
    assert rig.progress.policy_version == 3
    right = expected([flat(one.tensors) for one in sent], list(samples))
    assert published(rig) == pytest.approx(right, rel=1e-3)
    assert last_row(rig)["gradient_noise_scale"] == pytest.approx(right, abs=0.06)


def test_an_update_of_one_gradient_measures_nothing(tmp_path: Path) -> None:
    rig = begun(tmp_path, mode="gradients")
    rig.step(gradient("a", 0, 8))
    assert rig.progress.policy_version == 2
    assert published(rig) is None
    assert last_row(rig)["gradient_noise_scale"] is None


# Of these no norm of a tensor is finite in float32.
@pytest.mark.parametrize("norm", [np.nan, 1e30, 3e38])
def test_a_skipped_update_measures_nothing(tmp_path: Path, norm: float) -> None:
    tensors = computed()[0].tensors.items()
    huge = {name: np.full_like(one, norm / np.sqrt(one.size)) for name, one in tensors}
    phase = modes.GradientParallel(begun(tmp_path, mode="gradients").learner.trainer)
    for one in (replace(gradient("a", 0, 8), tensors=huge), gradient("b", 1, 8)):
        phase.add(one)
    improvement = phase.improve(1.0)
    assert (improvement.skipped, improvement.noise_scale) == (1, None)
    for number in range(3):
        phase.add(gradient("a", number, 8))
    right = expected([flat(gradient("a", n, 8).tensors) for n in range(3)], [8] * 3)
    assert phase.improve(1.0).noise_scale == pytest.approx(right, rel=1e-3)

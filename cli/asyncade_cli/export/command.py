"""The command: writes the files of an exported model."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import safetensors.torch

from asyncade_cli.evaluate import evaluate
from asyncade_cli.export.card import card, environment_id
from asyncade_cli.export.onnx_graph import onnx_model
from asyncade_cli.film import FilmError, filming
from asyncade_cli.footage import shoot
from asyncade_cli.settings import EvalSettings
from asyncade_cli.sharing import ExportSettings
from asyncade_cli.trained import Trained, load_trained
from asyncade_cli.words import counted
from asyncade_rl.choices import NETWORKS
from asyncade_rl.envs import is_atari
from asyncade_rl.evaluation import Chooser
from asyncade_rl.pretrained import CONFIG, MODEL
from asyncade_runtime.files import RunFolderError, made_if_missing, read_json
from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.settings import load

GAMES: Final = 30
"""Played for the card, unless an evaluation of the checkpoint has as many."""

_LIBRARY: Final = "asyncade"


class ExportError(ValueError):
    """A model cannot be exported. The message names the cure."""


def export(run: Path, out: Path, settings: ExportSettings) -> list[Path]:
    """Writes README.md, config.json, model.safetensors, replay.mp4 and model.onnx.

    All or nothing: the files replace those of an earlier export when everything has worked.

    Returns:
        The files.

    Raises:
        ExportError: a package is missing, or the folder is used for something else.
        RunFolderError: the folder holds no run or no readable checkpoint.
    """
    folder = RunFolder.existing(run)
    trained = load_trained(folder, settings.checkpoint)
    _check(out, settings)
    evaluation = _evaluation(folder, trained, settings)
    config = _config(folder, trained)
    name = settings.name or f"asyncade-{trained.model.game}"
    with tempfile.TemporaryDirectory(prefix="asyncade-export-") as made:
        _fill(Path(made), trained, config, onnx=settings.onnx)
        text = card(config, evaluation, name, onnx=settings.onnx)
        (Path(made) / "README.md").write_text(text, encoding="utf-8")
        try:
            return _move(Path(made), out)
        except OSError as error:
            raise ExportError(f"{out} cannot be written ({error}); name another folder") from error


def _move(made: Path, out: Path) -> list[Path]:
    """Copies the files; they get their names when all of them are there."""
    names = sorted(path.name for path in made.iterdir())
    with made_if_missing(out), tempfile.TemporaryDirectory(prefix=".export-", dir=out) as copies:
        shutil.copytree(made, copies, dirs_exist_ok=True)
        return [(Path(copies) / name).replace(out / name) for name in names]


def _check(out: Path, settings: ExportSettings) -> None:
    """Raises ExportError before anything is played, if the export would fail at its end."""
    for package, file in (("av", "replay.mp4"), ("onnx", "model.onnx")):
        if package == "onnx" and not settings.onnx:
            continue
        try:
            importlib.import_module(package)
        except ImportError as error:
            leave_out = ", or leave it out with --no-onnx" if package == "onnx" else ""
            raise ExportError(
                f"{file} needs a package ({error}): pip install 'asyncade[export]'{leave_out}"
            ) from error
    if out.exists() and not out.is_dir():
        raise ExportError(f"{out} is a file; name a folder")
    if out.is_dir() and any(out.iterdir()):
        try:
            library = (read_json(out / CONFIG) or {}).get("library_name")
        except RunFolderError:
            library = None
        if library != _LIBRARY:
            raise ExportError(f"{out} holds other files; name a new folder, or an earlier export")


def _evaluation(folder: RunFolder, trained: Trained, settings: ExportSettings) -> Mapping[str, Any]:
    """Returns the newest evaluation of the checkpoint that is long enough, or plays one."""
    checkpoint = trained.model.path
    if settings.episodes is None:
        ours = (row for row in folder.evaluations if row.get("checkpoint") == checkpoint.name)
        known = [row for row in ours if row.get("episodes", 0) >= GAMES]
        if known:
            return known[-1]
    episodes = settings.episodes or GAMES
    print(f"playing {counted(episodes, 'game')} for the card", file=sys.stderr)
    arguments = [f"--episodes={episodes}", f"--checkpoint={checkpoint.resolve()}"]
    return evaluate(folder.root, load(EvalSettings, arguments, {}))


def _config(folder: RunFolder, trained: Trained) -> dict[str, Any]:
    """Returns the content of config.json."""
    game, learner = trained.model.game, folder.read_config().get("learner", {})
    summary = folder.read_summary() or {}
    with closing(trained.shown_game()) as shown:
        protocol, actions = shown.protocol(), shown.action_names
    shape = NETWORKS[trained.model.network]  # type: ignore[index]
    emulator = {}
    if is_atari(game):
        from asyncade_rl.envs.atari import emulator_options  # loads ale-py only if needed

        emulator = {"environment": emulator_options(trained.sticky)}
    return {
        "library_name": _LIBRARY,
        "library_version": version("asyncade"),
        "game": game,
        "environment_id": environment_id(game, trained.sticky),
        "network": trained.model.network,
        "convolutions": [list(layer) for layer in shape.convolutions],
        "hidden": shape.hidden,
        "actions": list(actions),
        "repeat_action_probability": trained.sticky,
        **emulator,
        "protocol": protocol,
        "training": {
            "env_steps": trained.model.env_steps,
            "minutes": round(trained.model.seconds / 60, 2),
            "mode": learner.get("mode"),
            "actors": summary.get("actors"),
            "seed": learner.get("seed"),
            "commit": learner.get("commit"),
            "processor": summary.get("processor"),
        },
    }


def _fill(folder: Path, trained: Trained, config: Mapping[str, Any], *, onnx: bool) -> None:
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tensors = {name: tensor.contiguous() for name, tensor in trained.model.tensors().items()}
    (folder / MODEL).write_bytes(safetensors.torch.save(tensors, {"format": "pt"}))
    with closing(trained.session(1)) as session:
        if onnx:
            (folder / "model.onnx").write_bytes(onnx_model(session.network))
        print("filming a game", file=sys.stderr)
        chooser = Chooser(session.network, "sample", 0)
        try:
            with filming(folder / "replay.mp4") as film:
                shoot(film, trained, chooser, 0, threading.Event())
        except FilmError as error:
            raise ExportError(str(error)) from error

"""Key folders: made once, matching, private, and checked when loaded."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import zmq

from asyncade_runtime.transport.keys import KeysError, load_actor_keys, load_learner_keys, make_keys


def test_keys_are_made_once_and_match(tmp_path: Path) -> None:
    assert make_keys(tmp_path)
    learner, actor = load_learner_keys(tmp_path / "learner"), load_actor_keys(tmp_path / "actor")
    assert actor.learner == learner.public == zmq.curve_public(learner.secret)
    assert actor.public == zmq.curve_public(actor.secret)
    assert len({learner.public, learner.secret, actor.public, actor.secret}) == 4
    assert not make_keys(tmp_path)
    assert load_actor_keys(tmp_path / "actor") == actor


def test_neither_folder_has_the_other_sides_secret(tmp_path: Path) -> None:
    make_keys(tmp_path)
    secrets = {
        "learner": load_learner_keys(tmp_path / "learner").secret,
        "actor": load_actor_keys(tmp_path / "actor").secret,
    }
    for side, other in (("learner", "actor"), ("actor", "learner")):
        for path in (tmp_path / side).iterdir():
            assert secrets[other] not in path.read_bytes()
        secret = tmp_path / side / f"{side}.key_secret"
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_an_incomplete_pair_of_folders_is_replaced_as_a_whole(tmp_path: Path) -> None:
    make_keys(tmp_path)
    (tmp_path / "actor" / "learner.key").unlink()
    assert make_keys(tmp_path)
    learner = load_learner_keys(tmp_path / "learner")
    assert load_actor_keys(tmp_path / "actor").learner == learner.public


@pytest.mark.parametrize("name", ["learner.key_secret", "actor.key"])
def test_a_missing_key_of_the_learner_names_the_command(tmp_path: Path, name: str) -> None:
    make_keys(tmp_path)
    (tmp_path / "learner" / name).unlink()
    with pytest.raises(KeysError, match="asyncade keys"):
        load_learner_keys(tmp_path / "learner")


@pytest.mark.parametrize("name", ["actor.key_secret", "learner.key"])
@pytest.mark.parametrize("content", [None, b"junk", b'    public-key = "short"\n'])
def test_a_bad_key_of_the_actor_names_the_command(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    make_keys(tmp_path)
    path = tmp_path / "actor" / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KeysError, match=rf"{name}.*asyncade keys"):
        load_actor_keys(tmp_path / "actor")


def test_a_file_without_a_secret_key_is_refused(tmp_path: Path) -> None:
    make_keys(tmp_path)
    public = (tmp_path / "learner" / "actor.key").read_bytes()
    (tmp_path / "actor" / "actor.key_secret").write_bytes(public)
    with pytest.raises(KeysError, match="no secret key"):
        load_actor_keys(tmp_path / "actor")

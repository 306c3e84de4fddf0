from __future__ import annotations

import stat
from pathlib import Path

import pytest
import zmq

from asyncade_runtime.transport.keys import KeysError, load_actor_keys, load_learner_keys, make_keys


def test_keys_are_made_once_and_fit_each_other(tmp_path: Path) -> None:
    assert make_keys(tmp_path)
    learner, actor = load_learner_keys(tmp_path / "learner"), load_actor_keys(tmp_path / "actor")
    assert actor.learner == learner.public == zmq.curve_public(learner.secret)
    assert actor.public == zmq.curve_public(actor.secret)
    assert len({learner.public, learner.secret, actor.public, actor.secret}) == 4
    assert not make_keys(tmp_path)
    assert load_actor_keys(tmp_path / "actor") == actor


def test_neither_side_is_given_the_others_secret(tmp_path: Path) -> None:
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


def test_an_incomplete_pair_of_folders_is_made_anew_as_a_whole(tmp_path: Path) -> None:
    make_keys(tmp_path)
    (tmp_path / "actor" / "learner.key").unlink()
    assert make_keys(tmp_path)
    learner = load_learner_keys(tmp_path / "learner")
    assert load_actor_keys(tmp_path / "actor").learner == learner.public


@pytest.mark.parametrize("name", ["learner.key_secret", "actor.key"])
def test_a_learner_without_a_key_is_told_the_cure(tmp_path: Path, name: str) -> None:
    make_keys(tmp_path)
    (tmp_path / "learner" / name).unlink()
    with pytest.raises(KeysError, match="asyncade keys FOLDER"):
        load_learner_keys(tmp_path / "learner")


@pytest.mark.parametrize("name", ["actor.key_secret", "learner.key"])
@pytest.mark.parametrize("content", [None, b"junk", b'    public-key = "short"\n'])
def test_an_actor_without_a_key_is_told_the_cure(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    make_keys(tmp_path)
    path = tmp_path / "actor" / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KeysError, match=rf"{name}.*asyncade keys FOLDER"):
        load_actor_keys(tmp_path / "actor")


def test_a_public_key_alone_is_no_pair(tmp_path: Path) -> None:
    make_keys(tmp_path)
    public = (tmp_path / "learner" / "actor.key").read_bytes()
    (tmp_path / "actor" / "actor.key_secret").write_bytes(public)
    with pytest.raises(KeysError, match="no secret key"):
        load_actor_keys(tmp_path / "actor")

"""Key folders: made once, matching, private, and checked when loaded."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from contextlib import nullcontext
from pathlib import Path

import pytest
import zmq

from asyncade_runtime.transport.admitted import Admitted
from asyncade_runtime.transport.keys import KeysError, load_actor_keys, load_learner_keys, make_keys
from builders import Clock


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


# --- who can read the secret ---------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
@pytest.mark.parametrize("side", ["learner", "actor"])
def test_a_secret_key_that_others_can_read_is_refused_with_the_cure(
    tmp_path: Path, side: str, mode: int
) -> None:
    make_keys(tmp_path)
    path = tmp_path / side / f"{side}.key_secret"
    path.chmod(mode)
    load = load_learner_keys if side == "learner" else load_actor_keys
    with pytest.raises(KeysError, match=f"chmod 600 {path}"):
        load(tmp_path / side)
    path.chmod(0o600)
    load(tmp_path / side)


@pytest.mark.parametrize(("mode", "refused"), [(0o440, False), (0o444, True)])
def test_the_group_may_read_what_another_user_owns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, refused: bool
) -> None:
    """A Secret of Kubernetes belongs to root; the pod reads it as the group of its fsGroup."""
    make_keys(tmp_path)
    path = tmp_path / "actor" / "actor.key_secret"
    path.chmod(mode)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(KeysError) if refused else nullcontext():
        load_actor_keys(tmp_path / "actor")


# --- which keys are admitted now -----------------------------------------------------------------


class Folder:
    """A folder of public keys, and what a learner admits of them."""

    def __init__(self, root: Path) -> None:
        self.root, self.clock = root, Clock()
        self.keys: dict[str, bytes] = {}
        self.add("a")
        self.admitted = Admitted(root, self.clock)

    def add(self, name: str) -> None:
        with tempfile.TemporaryDirectory() as made:
            zmq.auth.create_certificates(made, name)
            shutil.copy(Path(made) / f"{name}.key", self.root)
        self.keys[name], _ = zmq.auth.load_certificate(self.root / f"{name}.key")

    def later(self) -> Folder:
        self.clock.now += 1.0
        return self

    def admits(self, name: str) -> bool:
        return self.admitted.callback("asyncade", self.keys[name])


def test_a_key_is_admitted_from_the_moment_its_file_exists(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    assert folder.admits("a")
    folder.add("b")
    assert folder.admits("b")  # an unknown key is looked for at once
    assert folder.admitted.revocations() == 0


@pytest.mark.parametrize("how", ["removed", "replaced", "spoilt"])
def test_a_key_whose_file_is_gone_is_revoked_once(tmp_path: Path, how: str) -> None:
    folder = Folder(tmp_path)
    old = folder.keys["a"]
    match how:
        case "removed":
            (tmp_path / "a.key").unlink()
        case "replaced":
            folder.add("a")
        case _:
            (tmp_path / "a.key").write_bytes(b"junk")
    assert folder.admitted.revocations() == 0  # not looked at within a second
    assert folder.later().admitted.revocations() == 1
    assert not folder.admitted.callback("asyncade", old)
    assert folder.later().admitted.revocations() == 1


def test_a_folder_that_vanishes_admits_nobody(tmp_path: Path) -> None:
    (root := tmp_path / "keys").mkdir()
    folder = Folder(root)
    shutil.rmtree(root)
    assert folder.later().admitted.revocations() == 1
    assert not folder.admits("a")


def test_a_secret_of_kubernetes_is_followed_through_its_links(tmp_path: Path) -> None:
    """A kubelet replaces the link ``..data`` in one step, and removes the names that are gone."""
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    (mount := tmp_path / "mount").mkdir()
    old, new = Folder(tmp_path / "old"), Folder(tmp_path / "new")
    (mount / "..data").symlink_to(tmp_path / "old")
    (mount / "a.key").symlink_to("..data/a.key")
    admitted = Admitted(mount, old.clock)
    assert admitted.callback("asyncade", old.keys["a"])
    (mount / "..next").symlink_to(tmp_path / "new")
    (mount / "..next").rename(mount / "..data")
    old.later()
    assert admitted.revocations() == 1
    assert admitted.callback("asyncade", new.keys["a"])
    assert not admitted.callback("asyncade", old.keys["a"])

"""Films: what they hold, and that one that cannot be written is refused early and loses nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from asyncade_cli import film as film_module
from asyncade_cli.film import FRAMES_PER_SECOND, MAX_MINUTES, FilmError, filming


def frame(row: int) -> npt.NDArray[np.uint8]:
    """A frame with one white row."""
    picture = np.zeros((84, 84), np.uint8)
    picture[row] = 255
    return picture


@pytest.mark.parametrize(("name", "signature"), [("a.mp4", b"ftyp"), ("new/b.GIF", b"GIF89a")])
def test_every_frame_is_in_the_film(tmp_path: Path, name: str, signature: bytes) -> None:
    import av

    path = tmp_path / name
    with filming(path) as film:
        for row in range(30):
            film.add(frame(row))
    assert signature in path.read_bytes()[:16]
    assert [other.name for other in path.parent.iterdir()] == [path.name]
    with av.open(str(path)) as container:
        shown = [picture.to_ndarray(format="gray") for picture in container.decode(video=0)]
    assert len(shown) == 30
    for row, picture in enumerate(shown):
        assert picture.shape == (252, 252)
        assert int(picture.mean(axis=1).argmax()) // 3 == row


def test_a_film_is_full_after_some_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_MINUTES * 60 * FRAMES_PER_SECOND == 4500
    monkeypatch.setattr(film_module, "MAX_MINUTES", 1 / 60)
    with filming(tmp_path / "a.gif") as film:
        while not film.full:
            film.add(frame(0))
    assert film.frames == FRAMES_PER_SECOND


@pytest.mark.parametrize("name", ["film", "film.avi", "folder.gif", "file/film.mp4"])
def test_a_name_that_is_no_use_is_refused_before_anything_is_played(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "folder.gif").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(FilmError, match=name), filming(tmp_path / name):
        pytest.fail("it was entered")


def test_without_pyav_a_film_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(FilmError, match="pip install av"), filming(tmp_path / "a.mp4"):
        pytest.fail("it was entered")


def fill(path: Path) -> None:
    """Films noise until the film is full."""
    noise = np.random.default_rng(0)
    with filming(path) as film:
        while not film.full:
            film.add(noise.integers(255, size=(84, 84), dtype=np.uint8))


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_a_film_that_fails_leaves_the_old_one(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"old")
    with filming(path):
        pass  # without a frame
    assert path.read_bytes() == b"old"
    (tmp_path / f".a{suffix}.partial").symlink_to("/dev/full")
    with pytest.raises(FilmError, match=path.name):
        fill(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]

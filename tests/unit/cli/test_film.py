"""Films: what they hold, and that one that cannot be written is refused early and loses nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from asyncade_cli import film as film_module
from asyncade_cli.film import MAX_MINUTES, FilmError, filming
from asyncade_rl.envs.shown import ENV_STEPS_PER_SECOND

COLOURS = ((200, 72, 72), (66, 158, 130), (92, 186, 92))
"""Of Breakout's wall and paddle, and Pong's."""


def pictures(row: int) -> npt.NDArray[np.uint8]:
    """Two pictures of an env step, uint8 [2, 80, 64, 3], with a coloured band on white."""
    both = np.full((2, 80, 64, 3), 255, np.uint8)
    both[:, 8 * row : 8 * row + 8] = COLOURS[row % 3]
    both[0] //= 2  # a GIF leaves it out
    return both


@pytest.mark.parametrize(("name", "signature"), [("a.mp4", b"ftyp"), ("b.GIF", b"GIF89a")])
def test_every_frame_is_in_the_film(tmp_path: Path, name: str, signature: bytes) -> None:
    import av

    path = tmp_path / name
    with filming(path) as film:
        for row in range(10):
            film.add(pictures(row))
    assert signature in path.read_bytes()[:16]
    assert [other.name for other in path.parent.iterdir()] == [path.name]
    with av.open(str(path)) as container:
        shown = [picture.to_ndarray(format="rgb24") for picture in container.decode(video=0)]
        rate = container.streams.video[0].average_rate
    each = 1 if path.suffix == ".GIF" else 2
    assert len(shown) == 10 * each
    assert rate == pytest.approx(ENV_STEPS_PER_SECOND * each, rel=0.2)  # GIFs count hundredths
    for row, picture in enumerate(shown[each - 1 :: each]):
        band = picture[8 * row + 2 : 8 * row + 6].mean(axis=(0, 1))
        np.testing.assert_allclose(band, COLOURS[row % 3], atol=36 if each == 1 else 12)


def test_a_film_is_full_after_some_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_MINUTES * 60 * ENV_STEPS_PER_SECOND == 4500
    monkeypatch.setattr(film_module, "MAX_MINUTES", 1 / 60)
    with filming(tmp_path / "a.gif") as film:
        while not film.full:
            film.add(pictures(0))
    assert film.env_steps == ENV_STEPS_PER_SECOND


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
            film.add(noise.integers(255, size=(1, 80, 64, 3), dtype=np.uint8))


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

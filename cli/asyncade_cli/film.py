"""Films as mp4 or GIF: streamed to the encoder, so that memory does not grow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from asyncade_cli.words import counted
from asyncade_rl.envs.shown import ENV_STEPS_PER_SECOND, Pictures

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import OutputContainer
    from av.video.stream import VideoStream

MAX_MINUTES: Final = 5
"""Of one film: a policy that is stuck plays a single game for half an hour."""

_PICTURES_PER_SECOND: Final = 2 * ENV_STEPS_PER_SECOND
"""Of an mp4: two for an env step."""

_PALETTE: Final = 256
_CUBE: Final = (5, 6, 5)
"""Shades of red, green and blue in the part of a GIF's palette that is the same for every game."""


class FilmError(Exception):
    """A film cannot be written. The message names the file and the cure."""


class Film:
    """Pictures on their way to a file, at real speed.

    Args:
        container: open for writing.
        path: its suffix decides on the encoding; named in errors.

    Attributes:
        env_steps: filmed so far.
        cut: true if the game went on; set by the user of the film.
        interrupted: true if it was cut because a stop was asked for; set likewise.
    """

    def __init__(self, container: OutputContainer, path: Path) -> None:
        self.env_steps = 0
        self.cut = self.interrupted = False
        self._path = path
        self._container = container
        self._is_gif = path.suffix.lower() == ".gif"
        self._stream: VideoStream | None = None
        self._colours = _Colours()

    @property
    def full(self) -> bool:
        """True once the film lasts `MAX_MINUTES`."""
        return self.env_steps >= MAX_MINUTES * 60 * ENV_STEPS_PER_SECOND

    @property
    def description(self) -> str:
        """The length of the film, and whether it shows the whole game."""
        whole = f"the beginning of a game, at most {MAX_MINUTES} minutes" if self.cut else "a game"
        if self.interrupted:
            whole = "the beginning of a game, interrupted"
        seconds = counted(self.env_steps / ENV_STEPS_PER_SECOND, "second")
        return f"{counted(self.env_steps, 'env step')}, {seconds}: {whole}"

    def add(self, pictures: Pictures) -> None:
        """Adds the pictures of an env step, uint8 [P, H, W, 3]; all have the size of the first.

        A GIF gets only the last of them: browsers show 15 a second evenly, but not 30.

        Raises:
            FilmError: the file cannot be written.
        """
        with _naming(self._path):
            for picture in pictures[-1:] if self._is_gif else pictures:
                stream = self._stream = self._stream or self._open(*picture.shape[:2])
                self._container.mux(stream.encode(self._frame(picture)))
        self.env_steps += 1

    def finish(self) -> None:
        """Writes what the encoder still holds.

        Raises:
            FilmError: the file cannot be written.
        """
        with _naming(self._path):
            if self._stream is not None:
                self._container.mux(self._stream.encode(None))
            self._container.close()

    def _open(self, height: int, width: int) -> VideoStream:
        if self._is_gif:
            stream = self._container.add_stream("gif", rate=ENV_STEPS_PER_SECOND)
        else:
            # Flat colours and sharp edges; yuv420p is what every browser plays.
            options = {"tune": "animation", "crf": "26"}
            stream = self._container.add_stream("libx264", _PICTURES_PER_SECOND, options)
        stream.width, stream.height = width, height
        stream.pix_fmt = "pal8" if self._is_gif else "yuv420p"
        return stream

    def _frame(self, picture: npt.NDArray[np.uint8]) -> VideoFrame:
        from av import VideoFrame

        if self._is_gif:
            indexed = self._colours.indexed(picture)
            return VideoFrame.from_ndarray(indexed, format="pal8")  # type: ignore[arg-type]
        return VideoFrame.from_ndarray(picture, format="rgb24")


class _Colours:
    """The palette of a GIF: the first picture's main colours, and a cube of others.

    One palette for all: a film whose pictures differ in it is three times as large.
    """

    def __init__(self) -> None:
        self._argb: npt.NDArray[np.uint8] | None = None
        self._nearest = np.zeros(0, dtype=np.uint8)  # by the upper five bits of each channel

    def indexed(
        self, picture: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Returns the indices, uint8 [H, W], of a picture, and the palette, uint8 [256, 4]."""
        if self._argb is None:
            self._argb = self._choose(picture)
        bits = (picture >> 3).astype(np.uint16)
        index = (bits[..., 0] << 10) | (bits[..., 1] << 5) | bits[..., 2]
        return self._nearest[index], self._argb

    def _choose(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        found, counts = np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)
        most = found[np.argsort(-counts, kind="stable")][: _PALETTE - int(np.prod(_CUBE))]
        shades = [np.linspace(0, 255, number).round() for number in _CUBE]
        cube = np.stack(np.meshgrid(*shades, indexing="ij"), axis=-1).reshape(-1, 3)
        colours = np.concatenate([most, cube]).astype(np.uint8)
        argb = np.full((_PALETTE, 4), 255, dtype=np.uint8)
        argb[:, 1:] = 0
        argb[: len(colours), 1:] = colours
        levels = np.arange(32, dtype=np.int32) * 8 + 4
        red, green, blue = (colours[:, channel].astype(np.int32) for channel in range(3))
        plane = (levels[:, None, None] - green) ** 2 + (levels[None, :, None] - blue) ** 2
        by_red = [(plane + (level - red) ** 2).argmin(axis=-1) for level in levels]
        self._nearest = np.stack(by_red).astype(np.uint8).reshape(-1)
        return argb


@contextlib.contextmanager
def filming(path: Path) -> Iterator[Film]:
    """Opens a film, which replaces the file of that name at the end of the ``with`` block.

    An exception, or a film without pictures, leaves the file as it was.

    Args:
        path: its suffix, .mp4 or .gif, chooses the encoding.

    Raises:
        FilmError: the suffix is another one, PyAV is missing, or the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in (".mp4", ".gif") or path.is_dir():
        raise FilmError(f"cannot film to {path}: name a file that ends in .mp4 or .gif")
    if not path.parent.is_dir():
        raise FilmError(f"cannot film to {path}: there is no folder {path.parent}; make it first")
    try:
        import av  # FFmpeg takes a while to load
        import PIL  # noqa: F401  # for the text beside the game
    except ImportError as error:
        raise FilmError(f"cannot film to {path}: pip install av pillow ({error})") from error
    partial = path.with_name(f".{path.name}.partial")
    with contextlib.ExitStack() as stack:
        with _naming(path):
            partial.touch()
            stack.callback(partial.unlink, missing_ok=True)
            container = av.open(str(partial), "w", format=suffix.removeprefix("."))
        stack.callback(_close, container)
        film = Film(container, path)
        yield film
        if film.env_steps:
            film.finish()
            with _naming(path):
                partial.replace(path)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # FFmpeg's errors among them
        raise FilmError(f"{path} cannot be written ({error}); name another file") from error


def _close(container: OutputContainer) -> None:
    with contextlib.suppress(OSError):  # it may be closed, or its disk full
        container.close()

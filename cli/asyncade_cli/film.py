"""A film of a game, as mp4 or GIF: streamed to the encoder, so that memory does not grow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import numpy as np
import numpy.typing as npt

from asyncade_rl.games import FRAME_SIDE

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

FRAMES_PER_SECOND: Final = 15
"""Real time: 60 frames, of which the network observes every fourth."""

MAX_MINUTES: Final = 5
"""Of one film: a policy that is stuck plays a single game for half an hour."""

_ENCODINGS: Final = {".mp4": ("libx264", "yuv420p"), ".gif": ("gif", "gray")}
"""Suffix to FFmpeg's encoder and pixel format."""

_SCALE: Final = 3


class FilmError(Exception):
    """A film cannot be written. The message names the file and the cure."""


class Film:
    """Frames on their way to a file.

    Args:
        container: open for writing.
        suffix: a key of `_ENCODINGS`.
        path: named in errors.

    Attributes:
        frames: number of frames so far.
        cut: true if the game went on; set by the user of the film.
    """

    def __init__(self, container: OutputContainer, suffix: str, path: Path) -> None:
        codec, pixels = _ENCODINGS[suffix]
        self.frames = 0
        self.cut = False
        self._path = path
        self._container = container
        stream = container.add_stream(codec, rate=FRAMES_PER_SECOND)
        self._stream = cast("VideoStream", stream)
        self._stream.width = self._stream.height = _SCALE * FRAME_SIDE
        self._stream.pix_fmt = pixels

    @property
    def full(self) -> bool:
        """True once the film lasts `MAX_MINUTES`."""
        return self.frames >= MAX_MINUTES * 60 * FRAMES_PER_SECOND

    @property
    def description(self) -> str:
        """The length of the film, and whether it shows the whole game."""
        whole = f"the beginning of a game, at most {MAX_MINUTES} minutes" if self.cut else "a game"
        return f"{self.frames} frames: {whole}"

    def add(self, frame: npt.NDArray[np.uint8]) -> None:
        """Adds a frame, uint8 [84, 84].

        Raises:
            FilmError: the file cannot be written.
        """
        from av import VideoFrame

        large = frame.repeat(_SCALE, axis=0).repeat(_SCALE, axis=1)
        with _naming(self._path):
            self._container.mux(self._stream.encode(VideoFrame.from_ndarray(large, format="gray")))
        self.frames += 1

    def finish(self) -> None:
        """Writes what the encoder still holds.

        Raises:
            FilmError: the file cannot be written.
        """
        with _naming(self._path):
            self._container.mux(self._stream.encode(None))
            self._container.close()


@contextlib.contextmanager
def filming(path: Path) -> Iterator[Film]:
    """Opens a film, which replaces the file of that name at the end of the ``with`` block.

    An exception, or a film without frames, leaves the file as it was.

    Args:
        path: its suffix, .mp4 or .gif, chooses the encoding.

    Raises:
        FilmError: the suffix is another one, PyAV is missing, or the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in _ENCODINGS or path.is_dir():
        raise FilmError(f"cannot film to {path}: name a file that ends in .mp4 or .gif")
    try:
        import av  # FFmpeg takes a while to load
    except ImportError as error:
        raise FilmError(f"cannot film to {path} without PyAV: pip install av ({error})") from error
    partial = path.with_name(f".{path.name}.partial")
    with contextlib.ExitStack() as stack:
        with _naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.touch()
            stack.callback(partial.unlink, missing_ok=True)
            container = av.open(str(partial), "w", format=suffix.removeprefix("."))
        stack.callback(_close, container)
        film = Film(container, suffix, path)
        yield film
        if film.frames:
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

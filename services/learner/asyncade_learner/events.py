"""Scalars for TensorBoard, appended to an event file row by row.

tensorboardX's SummaryWriter has a thread, which a full disk ends, and a short queue to it, which
then blocks the learner for ever. So its messages and checksums are used here, and the file is ours.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c

from asyncade_runtime.run_folder import append_whole


class EventFile:
    """An event file, begun with the first row.

    Args:
        folder: which TensorBoard reads; it takes the files in the order of their names.
        hidden_from: env steps; what older files have at and beyond it will be lived again.
    """

    def __init__(self, folder: Path, hidden_from: int) -> None:
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}"
        self._path = folder / name
        self._hidden_from = hidden_from
        self._begun = False

    def write(self, scalars: Mapping[str, float], env_steps: int) -> None:
        """Adds a row.

        Raises:
            OSError: it could not be written, and was not.
        """
        if not self._begun:
            start = SessionLog(status=SessionLog.START)
            self._append(
                Event(wall_time=time.time(), file_version="brain.Event:2"),
                Event(step=self._hidden_from, session_log=start),
            )
            self._begun = True
        values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
        self._append(Event(wall_time=time.time(), step=env_steps, summary=Summary(value=values)))

    def _append(self, *events: Event) -> None:
        # Whole: TensorBoard reads no further than a record that is not.
        append_whole(self._path, b"".join(map(_record, events)))


def _record(event: Event) -> bytes:
    """Returns a TFRecord: length, its checksum, the event, its checksum.

    https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
    """
    content: bytes = event.SerializeToString()
    length = struct.pack("<Q", len(content))
    return length + _checksum(length) + content + _checksum(content)


def _checksum(data: bytes) -> bytes:
    checksum: int = masked_crc32c(data)
    return struct.pack("<I", checksum)

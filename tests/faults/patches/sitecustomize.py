"""Faults of a machine, for one process: Python imports this module first if it is on its path.

Named after what the variables give: FAULT_CLOCK_S, seconds that the wall clock is ahead;
FAULT_FSYNC_S, seconds that the disk takes to write.
"""

import os
import time

_time, _fsync = time.time, os.fsync
_ahead = float(os.environ.get("FAULT_CLOCK_S", "0"))
_slow = float(os.environ.get("FAULT_FSYNC_S", "0"))


def _fsync_slowly(file: int) -> None:
    time.sleep(_slow)
    _fsync(file)


if _ahead:
    time.time = lambda: _time() + _ahead
if _slow:
    os.fsync = _fsync_slowly

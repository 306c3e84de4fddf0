"""Kills a process between two of its system calls (ptrace(2), x86-64 and arm64 Linux)."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable
from typing import Final

_TRACEME: Final = 0
_SYSCALL: Final = 24
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def killed_at(work: Callable[[], object], stop: int) -> bool:
    """Runs `work` in a forked child, and kills it at its n-th stop.

    The kernel stops a traced process before and after every system call, so between two stops lies
    either one call or none. The process has one thread; `work` may use torch without threads.

    Args:
        work: to run; an exception ends the child with a code that is not 0.
        stop: from 0; 2n is before the n-th call, 2n + 1 after it.

    Returns:
        False if the child had ended before.

    Raises:
        OSError: it cannot be traced here.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if _libc.ptrace(_TRACEME, 0, None, None) == 0:
                os.kill(os.getpid(), signal.SIGSTOP)
                work()
                code = 0
            else:
                code = 77
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        raise OSError("a process cannot be traced here")
    for _ in range(stop + 2):  # the first two are the rest of the kill() above, and its return
        _resume(child)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0, status
            return False
        assert os.WIFSTOPPED(status), status
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def _resume(child: int) -> None:
    if _libc.ptrace(_SYSCALL, child, None, None) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))

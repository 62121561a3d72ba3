"""Children of a test run end with it, however it ends: a run that is killed must leave no server behind."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Callable

_SET_PARENT_DEATH_SIGNAL = 1

# loaded here, because between fork and exec nothing may be imported
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def dying_with_parent(number: signal.Signals = signal.SIGKILL) -> Callable[[], None]:
    """Return what a child calls before it becomes its program, to get a signal when the thread that started it ends."""
    value = int(number)

    def ask() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_SET_PARENT_DEATH_SIGNAL, value)

    return ask

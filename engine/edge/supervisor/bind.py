"""Becomes a command that cannot outlive its parent; run as a script: `python bind.py PARENT_PID COMMAND…`.

Standard library only, so that it starts in 20 ms.

A script and not a `preexec_fn`, because Python code between fork and exec can deadlock in a process with threads.
"""

from __future__ import annotations

import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int) -> None:
    """Let the kernel kill this process when its parent ends; does nothing but on Linux, where the guard is the net.

    Args:
        parent_pid: The process that must be the parent; if it is gone already, this process ends.
    """
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        # the parent ended before the kernel was told: nobody would send the signal any more
        os._exit(1)


def main() -> None:
    """Tie this process to its parent and become the command."""
    die_with_parent(int(sys.argv[1]))
    command = sys.argv[2:]
    try:
        os.execvp(command[0], command)  # noqa: S606 - becoming the command is the purpose of this script
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        os._exit(127)


if __name__ == "__main__":
    main()

"""Kills what a supervisor left behind: a script of the standard library only, run beside `everstep dev`.

Its standard input is a pipe that only the supervisor holds, with one line per fact: `mark TOKEN`, `+PID` for a process
group that was started, `-PID` for one that has ended. When the pipe closes, the supervisor is gone, by whatever
signal; then every group still named is killed, and on Linux every process that carries the token in its environment.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

MARK_VARIABLE = "EVERSTEP_SUPERVISOR"


def kill_group(group: int) -> None:
    """Kill a process group; one that is gone is fine.

    Args:
        group: Its id, which is the pid of the process that led it.
    """
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        # macOS says "not permitted" for a group that holds only zombies
        return


def marked_processes(token: str) -> list[int]:
    """Return the pids of all processes that carry the token in their environment; empty where there is no /proc."""
    proc = Path("/proc")
    if not token or not proc.is_dir():
        return []
    needle = f"{MARK_VARIABLE}={token}".encode()
    found: list[int] = []
    for entry in proc.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            # ended in between, or somebody else's
            continue
        if needle in variables:
            found.append(int(entry.name))
    return found


def sweep(groups: Iterable[int], token: str) -> None:
    """Kill the groups, then everything with the token that left its group."""
    for group in groups:
        kill_group(group)
    # twice, because a process may be starting another one while the first list is made
    for _ in range(2):
        for pid in marked_processes(token):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def main() -> None:
    """Read the pipe to its end, then sweep."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    token = ""
    for line in sys.stdin:
        word = line.strip()
        if word.startswith("mark "):
            token = word.removeprefix("mark ")
        elif word.startswith("+"):
            groups.add(int(word[1:]))
        elif word.startswith("-"):
            groups.discard(int(word[1:]))
    sweep(groups, token)


if __name__ == "__main__":
    main()

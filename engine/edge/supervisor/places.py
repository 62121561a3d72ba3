"""What a data folder holds for `everstep dev`: the lock of its one supervisor, the ports it keeps, and its logs."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from engine.core.errors import Conflict, InvalidInput

LOOPBACK = "127.0.0.1"
LOCK_FILE = "dev.lock"
PORTS_FILE = "dev-ports.json"
LOG_FOLDER = "logs"


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, so that no second supervisor works on it; the kernel gives it back however we end.

    Args:
        folder: The data folder; is made if it is missing.

    Raises:
        InvalidInput: `config.data_dir` if it cannot be made.
        Conflict: `dev.running` if another supervisor holds it.
    """
    try:
        # prompts and answers stand in it
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(
            f"the data folder {folder} cannot be made: {error.strerror}",
            code="config.data_dir",
            hint="choose another one with --data-dir or EVERSTEP_DATA_DIR",
        ) from error
    with (folder / LOCK_FILE).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip()
            raise Conflict(
                f"another `everstep dev`{f' (pid {holder})' if holder else ''} is running on {folder}",
                code="dev.running",
                hint="use that one, stop it first, or choose another folder with --data-dir",
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def listen_on(port: int) -> socket.socket:
    """Open the API's listening socket on loopback.

    Args:
        port: The port; 0 = any free one.

    Returns:
        A bound socket that does not listen yet.

    Raises:
        Conflict: `dev.port_in_use` if somebody has the port.
    """
    # asyncio switches Nagle's algorithm off only for sockets that name TCP; with it a streamed reply comes 40 ms late
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # a port whose last connections still time out is free all the same
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind((LOOPBACK, port))
    except OSError as error:
        server.close()
        raise Conflict(
            f"port {port} of {LOOPBACK} is in use",
            code="dev.port_in_use",
            hint="choose another one with --port, or --port 0 for any free one",
        ) from error
    return server


def is_free(port: int) -> bool:
    """Whether nobody listens on that port of loopback."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def free_ports(count: int) -> list[int]:
    """Return so many different free ports of loopback."""
    probes = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def keep_ports(folder: Path, names: tuple[str, ...], wanted: dict[str, int]) -> dict[str, int]:
    """Choose a port for each name: the wanted one, else the one used last time if it is free, else a free one.

    The choice is written into the folder, so that addresses in bookmarks and scripts outlive a restart.

    Args:
        folder: The data folder.
        names: What needs a port.
        wanted: Ports that the user chose; 0 = no choice.

    Returns:
        A port for every name.

    Raises:
        Conflict: `dev.port_in_use` if a wanted port is taken.
    """
    path = folder / PORTS_FILE
    last = _read_ports(path)
    fresh = iter(free_ports(len(names)))
    chosen: dict[str, int] = {}
    for name in names:
        port = wanted.get(name, 0)
        if port and not is_free(port):
            raise Conflict(
                f"port {port} of {LOOPBACK}, wanted for {name}, is in use",
                code="dev.port_in_use",
                hint=f"choose another one with --{name}-port",
            )
        before = last.get(name, 0)
        chosen[name] = port or (before if before and is_free(before) else next(fresh))
    path.write_text(json.dumps(chosen), encoding="utf-8")
    return chosen


def _read_ports(path: Path) -> dict[str, int]:
    try:
        body: Any = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        # a missing or broken file costs nothing but new port numbers
        return {}
    return {str(key): value for key, value in body.items() if isinstance(value, int)} if isinstance(body, dict) else {}


def new_log(folder: Path, name: str) -> Path:
    """Return the path of a process's log file for this run; the log of the run before is kept as `NAME.log.1`."""
    logs = folder / LOG_FOLDER
    logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = logs / f"{name}.log"
    if path.exists():
        path.replace(logs / f"{name}.log.1")
    path.touch(mode=0o600)
    return path


def tail(path: Path, lines: int = 15) -> str:
    """Return the last lines of a text file; empty if there is none."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 16_384))
        return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])

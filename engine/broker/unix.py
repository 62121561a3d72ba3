"""Messages on one machine: every process binds a Unix datagram socket in a private folder that all of them know."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import stat
import tempfile
import uuid
from pathlib import Path

from engine.broker.transport import Heard, Role, Sent

MOST_BYTES = 32 * 1024
RECEIVE_BYTES = 1024 * 1024
"""Asked of the kernel for each socket; it may give less."""
MOST_AT_ONCE = 64
"""Messages that are taken before others get their turn on the event loop."""
LONGEST_PATH = 100
"""Of a socket; the kernel takes 107 bytes."""
_NAME_CHARS = len("/worker-") + 12 + len(".sock")


def socket_folder(data_dir: Path) -> Path:
    """Return the folder of an installation's sockets: in its data folder if the path is short enough for the kernel."""
    own = data_dir.resolve() / "sockets"
    if len(os.fsencode(own)) + _NAME_CHARS <= LONGEST_PATH:
        return own
    mark = hashlib.blake2b(os.fsencode(own), digest_size=8).hexdigest()
    return Path(tempfile.gettempdir()) / f"everstep-{os.geteuid()}-{mark}"


class UnixTransport:
    """Satisfies `Transport`; a message that finds a full socket is not sent, and the sender is told.

    Args:
        folder: The folder that all processes know.
        role: Who this process is.
    """

    most_bytes = MOST_BYTES

    def __init__(self, folder: Path, role: Role) -> None:
        self.address = ""
        self._folder = folder
        self._role = role
        self._socket: socket.socket | None = None
        self._heard: Heard | None = None

    async def open(self, heard: Heard) -> None:
        """Bind the socket.

        Raises:
            OSError: The folder belongs to somebody else, or the socket cannot be bound.
        """
        self._prepare()
        mine = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            mine.setblocking(False)
            mine.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
            path = self._folder / f"{self._role}-{uuid.uuid4().hex[:12]}.sock"
            mine.bind(str(path))
        except OSError:
            mine.close()
            raise
        self._socket, self._heard, self.address = mine, heard, path.name
        asyncio.get_running_loop().add_reader(mine.fileno(), self._read)

    def _prepare(self) -> None:
        for folder in (self._folder.parent, self._folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = self._folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            # in a folder for temporary files anybody may have made it
            raise PermissionError(f"{self._folder} must be a folder that only its owner can enter")

    def _read(self) -> None:
        assert self._socket is not None
        assert self._heard is not None
        for _ in range(MOST_AT_ONCE):
            try:
                message = self._socket.recv(MOST_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            self._heard(message)

    def send(self, address: str, message: bytes) -> Sent:
        """Send to one process without waiting."""
        # an address comes in a message: it names a socket of this folder and nothing else
        if self._socket is None or not _is_name(address):
            return Sent.GONE
        path = self._folder / address
        try:
            self._socket.sendto(message, str(path))
        except ConnectionRefusedError:
            # its process has died; nobody will bind this name again
            path.unlink(missing_ok=True)
            return Sent.GONE
        except FileNotFoundError:
            return Sent.GONE
        except OSError:
            return Sent.FULL  # EAGAIN or ENOBUFS: it does not read as fast as we write
        return Sent.YES

    def send_all(self, message: bytes) -> None:
        """Send to all processes of the other role that are there now."""
        try:
            names = [name for name in os.listdir(self._folder) if name.startswith(f"{self._role.other}-")]
        except FileNotFoundError:
            return
        for name in names:
            self.send(name, message)

    async def close(self) -> None:
        """Remove the socket."""
        if self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()
        self._socket = None
        (self._folder / self.address).unlink(missing_ok=True)
        self.address = ""


def _is_name(address: str) -> bool:
    return address.endswith(".sock") and "/" not in address and "\0" not in address

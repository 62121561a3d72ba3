"""A line to a server that a test cuts as servers and networks do: with a last word or without, wholly or not quite."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

_FIELDS = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"
LAST_WORD = b"E" + (len(_FIELDS) + 4).to_bytes(4, "big") + _FIELDS
"""What PostgreSQL says to a client before it ends the connection."""


class Line:
    """Passes on what the two sides say, each connection in two threads.

    Attributes:
        port: Where clients connect.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._cut = 0
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def cut(self, *, says_so: bool = True, closes: bool = True) -> None:
        """Cut all connections; when this returns, it lies before the clients.

        Args:
            says_so: Say the server's last word to the clients.
            closes: Close the connections; otherwise they stay open, and nobody is at the other end.
        """
        pairs, self._cut = self._pairs[self._cut :], len(self._pairs)
        for client, server in pairs:
            with contextlib.suppress(OSError):
                if says_so:
                    client.sendall(LAST_WORD)
            if closes:
                _end(client)
            # no end comes from there any more
            _end(server)

    def close(self) -> None:
        """End all connections and take no more."""
        _end(self._listener)
        self._threads[0].join()
        for each in (end for pair in self._pairs for end in pair):
            _end(each)
        for thread in self._threads:
            thread.join()
        for each in (self._listener, *(end for pair in self._pairs for end in pair)):
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server_port))
                for side in (client, server):
                    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a last word must not wait
                number = len(self._pairs)
                self._pairs.append((client, server))
                for source, target in ((client, server), (server, client)):
                    thread = threading.Thread(target=self._pass_on, args=(source, target, number))
                    self._threads.append(thread)
                    thread.start()

    def _pass_on(self, source: socket.socket, target: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError):
            while said := source.recv(65536):
                try:
                    target.sendall(said)
                except OSError:
                    _end(source)  # who speaks to nobody learns so
        if number >= self._cut:
            _end(target)


def _end(side: socket.socket) -> None:
    with contextlib.suppress(OSError):
        side.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def line_to(server_port: int) -> Iterator[Line]:
    """Open a line to a server of loopback for the length of the block."""
    line = Line(server_port)
    try:
        yield line
    finally:
        line.close()

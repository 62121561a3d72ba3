"""Connections that can be cut: uvicorn closes one only after all is sent, which a reader can put off for ever."""

from __future__ import annotations

import asyncio

from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

_CONNECTION = "everstep.connection"


class Connection(H11Protocol):
    """uvicorn's HTTP protocol, which a stream can cut and which does not wait for a stream's reader at the end."""

    _has_stream = False
    _cutting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Be there for `connection_of`."""
        super().connection_made(transport)
        # uvicorn hands a copy of it to every request of the connection
        self.app_state = {**self.app_state, _CONNECTION: self}

    def begin_stream(self) -> None:
        """Say that a stream is sent, after which the connection is closed."""
        self._has_stream = True

    def end_stream(self, within_s: float) -> None:
        """Say that the stream has ended, and how long its reader may take for what it has not got yet."""
        self._cutting = self.loop.call_later(within_s, self.cut)

    def cut(self) -> None:
        """Close the connection at once, whatever waits to be sent."""
        self.transport.abort()

    def break_off(self) -> None:
        """Close the connection once what was sent is out, without the end that whoever reads waits for."""
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the timer."""
        if self._cutting is not None:
            self._cutting.cancel()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Close when what is under way is sent; a reader that is behind with a stream is cut, it can come back."""
        super().shutdown()
        if self._has_stream and self.transport.get_write_buffer_size():
            self.cut()


def connection_of(scope: Scope) -> Connection | None:
    """Return the connection of a request; None = it is one of another kind."""
    found = (scope.get("state") or {}).get(_CONNECTION)
    return found if isinstance(found, Connection) else None

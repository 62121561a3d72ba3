"""Connections that a response may cut: uvicorn closes only after all is sent, which a reader can put off for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

_ABORT = "everstep.abort"


class Connection(H11Protocol):
    """uvicorn's HTTP protocol, which also tells the app how the connection is cut."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Remember the transport for `abort_of`."""
        super().connection_made(transport)
        # uvicorn hands a copy of it to every request of the connection
        self.app_state = {**self.app_state, _ABORT: transport.abort}


def abort_of(scope: Scope) -> Callable[[], None] | None:
    """Return what cuts the connection of a request at once, whatever waits to be sent; None = it cannot be cut."""
    state: dict[str, Any] = scope.get("state") or {}
    return cast("Callable[[], None] | None", state.get(_ABORT))

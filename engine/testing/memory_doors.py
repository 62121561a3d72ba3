"""What the clients in memory refuse: schedules, webhooks, events from outside, jobs over many, the registry."""

from __future__ import annotations

from typing import NoReturn, TypeVar

from engine.client.aio_doors import AsyncDoors
from engine.client.doors import Doors
from engine.client.registry import AsyncRegistry, Registry
from engine.client.requests import Request
from engine.core.errors import InvalidInput

T = TypeVar("T")


class MemoryDoors(Doors, Registry):
    """A part of `MemoryClient`: every method raises InvalidInput `client.not_in_memory`."""

    def _send(self, request: Request[T]) -> T:
        _refuse(request)


class AsyncMemoryDoors(AsyncDoors, AsyncRegistry):
    """A part of `AsyncMemoryClient`: every method raises InvalidInput `client.not_in_memory`."""

    async def _send(self, request: Request[T]) -> T:
        _refuse(request)


def _refuse(request: Request[T]) -> NoReturn:
    """Refuse what only a server can do.

    Raises:
        InvalidInput: `client.not_in_memory`.
    """
    what = request.path.split("/")[1]
    raise InvalidInput(
        f"a client in memory has no {what}",
        code="client.not_in_memory",
        hint="they need a server; `everstep dev` runs one",
    )

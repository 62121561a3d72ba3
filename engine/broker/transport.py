"""What carries the texts of model calls from workers to APIs: small messages, best effort, never waiting."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

Heard = Callable[[bytes], None]
"""Takes a message; called on the event loop and must not raise."""


class Role(StrEnum):
    """Who takes part."""

    API = "api"
    WORKER = "worker"

    @property
    def other(self) -> Role:
        """Whom messages to all go to."""
        return Role.WORKER if self is Role.API else Role.API


class Sent(StrEnum):
    """What became of a message."""

    YES = "yes"
    FULL = "full"
    GONE = "gone"


class Transport(Protocol):
    """Messages between the processes of an installation.

    Attributes:
        address: Where others reach this process; empty before `open`.
        most_bytes: Longest message.
    """

    address: str
    most_bytes: int

    async def open(self, heard: Heard) -> None:
        """Take part.

        Args:
            heard: Takes each message that comes.

        Raises:
            OSError: It cannot be set up.
        """
        ...

    def send(self, address: str, message: bytes) -> Sent:
        """Send to one process without waiting: FULL = it has too much already, try later; GONE = nobody is there."""
        ...

    def send_all(self, message: bytes) -> None:
        """Send to all processes of the other role that are there now, without waiting."""
        ...

    async def close(self) -> None:
        """Take part no more."""
        ...

"""What `everstep dev` is asked for, what it is given to run beside its processes, and whom it tells."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    # `dev` imports what the API needs in a thread, while the other processes start
    from engine.core.plan.ir import ToolContract


@dataclass(frozen=True, slots=True, kw_only=True)
class DevOptions:
    """What the user asked for.

    Attributes:
        data_dir: Folder of all state.
        port: Port of the API; 0 = any free one.
        project_file: The operator's everstep.toml; may be missing.
        tasks: Task files and folders that are loaded now and whenever they change.
        temporal_port: Port of the Temporal server; 0 = the one used last time, or a free one.
        ui_port: Port of Temporal's web UI; 0 = the one used last time, or a free one.
        ui: Whether to serve Temporal's web UI.
        model: Whether the bundled model may be started.
    """

    data_dir: Path
    port: int
    project_file: Path
    tasks: tuple[Path, ...] = ()
    temporal_port: int = 0
    ui_port: int = 0
    ui: bool = True
    model: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where everything is; the one line that `dev` prints when it is ready."""

    api: str
    temporal: str
    ui: str
    model: str
    model_source: str
    data_dir: str
    worker_pid: int
    temporal_pid: int


class Reporter(Protocol):
    """Who tells the user."""

    def ready(self, addresses: Addresses) -> None:
        """Everything works."""

    def note(self, event: str, text: str, **facts: Any) -> None:
        """Something happened that the user should know."""


class ApiServer(Protocol):
    """Serves the API on a bound socket until it is told to stop."""

    async def __call__(
        self,
        listener: socket,
        *,
        contracts: MutableMapping[str, ToolContract],
        started: Callable[[], None],
        stop: asyncio.Event,
    ) -> None:
        """Serve; call `started` when requests are answered; return soon after `stop` is set.

        The server puts the contracts of the project's tools into `contracts` before it starts, and always goes by what
        stands there: they are replaced when the tools have changed.
        """


TaskWatch = Callable[[str, asyncio.Event], Awaitable[None]]
"""Loads tasks into the API at an address, and again when they change, until the event is set."""

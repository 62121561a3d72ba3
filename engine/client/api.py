"""All names of the client in one place; `engine.client` loads them when the first one is used."""

from __future__ import annotations

from engine.client.aio import AsyncClient
from engine.client.requests import Filters
from engine.client.sync import Client
from engine.client.views import Execution, ExecutionFailed, Page, TaskVersion, Usage, Wait
from engine.client.wire import StreamEvent

__all__ = [
    "AsyncClient",
    "Client",
    "Execution",
    "ExecutionFailed",
    "Filters",
    "Page",
    "StreamEvent",
    "TaskVersion",
    "Usage",
    "Wait",
]

"""All names of the client in one place; `engine.client` loads them when the first one is used."""

from __future__ import annotations

from engine.client.aio import AsyncClient
from engine.client.asking import Filters
from engine.client.protocols import AsyncEverstepClient, EverstepClient
from engine.client.startoptions import StartOptions
from engine.client.sync import Client
from engine.client.views import Execution, ExecutionFailed, ExecutionTimeout, Page, TaskVersion, Usage, Wait
from engine.client.wire import StreamEvent
from engine.core.errors import (
    Conflict,
    DefinitionError,
    EngineError,
    InvalidInput,
    NotAllowed,
    NotFound,
    Unavailable,
)

__all__ = [
    "AsyncClient",
    "AsyncEverstepClient",
    "Client",
    "Conflict",
    "DefinitionError",
    "EngineError",
    "EverstepClient",
    "Execution",
    "ExecutionFailed",
    "ExecutionTimeout",
    "Filters",
    "InvalidInput",
    "NotAllowed",
    "NotFound",
    "Page",
    "StartOptions",
    "StreamEvent",
    "TaskVersion",
    "Unavailable",
    "Usage",
    "Wait",
]

"""Python client of the Everstep API: `Client`, `AsyncClient`, their types, and what they return and raise.

The names are loaded when the first of them is used: the command line needs only a part, and starts faster without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from engine.client.api import (
        AsyncClient,
        AsyncEverstepClient,
        Client,
        Conflict,
        DefinitionError,
        EngineError,
        EverstepClient,
        Execution,
        ExecutionFailed,
        ExecutionTimeout,
        Filters,
        InvalidInput,
        NotAllowed,
        NotFound,
        Page,
        StartOptions,
        StreamEvent,
        TaskVersion,
        Unavailable,
        Usage,
        Wait,
    )
else:

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            # also what Python asks while it imports the modules in here
            raise AttributeError(f"module 'engine.client' has no attribute '{name}'")
        from engine.client import api

        return getattr(api, name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})

"""Python client of the Everstep API: `Client`, `AsyncClient`, and what they return and raise.

The names are loaded when the first of them is used: the command line needs only a part, and starts faster without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.client.aio import AsyncClient
    from engine.client.requests import Filters
    from engine.client.sync import Client
    from engine.client.views import Execution, ExecutionFailed, Page, TaskVersion, Usage, Wait
    from engine.client.wire import StreamEvent
else:

    def __getattr__(name: str) -> Any:
        from importlib import import_module

        if name not in _HOMES:
            raise AttributeError(f"module 'engine.client' has no attribute '{name}'")
        return getattr(import_module(f"engine.client.{_HOMES[name]}"), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


_HOMES = {
    "AsyncClient": "aio",
    "Client": "sync",
    "Filters": "requests",
    "Execution": "views",
    "ExecutionFailed": "views",
    "Page": "views",
    "StreamEvent": "wire",
    "TaskVersion": "views",
    "Usage": "views",
    "Wait": "views",
}

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

"""Everstep: a durable workflow engine for multi-step LLM tasks on Temporal.

What a task in Python is written with stands here: `from engine import Task, evaluate, expr, prompt, tool`. The names
are loaded when the first of them is used, so that `import engine` costs nothing in processes that write no tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from engine.author.api import *  # noqa: F403 - the list stands there
    from engine.author.api import __all__ as __all__
else:
    # only here, since a type checker would take it as leave for any name

    def __getattr__(name: str) -> Any:
        from engine.author import api

        if name == "__all__" or name in api.__all__:
            return getattr(api, name)
        raise AttributeError(f"module 'engine' has no attribute '{name}'")

    def __dir__() -> list[str]:
        from engine.author import api

        return sorted({*globals(), *api.__all__})

"""Pools: workers that only make the calls of some tools, such as those of a GPU or of a network zone. Workflow-safe."""

from __future__ import annotations

import re
from typing import Final

from engine.core.contracts.doors import DOORS_SUFFIX

ALL_POOLS: Final = "*"
"""What a worker is told that works for itself and for all pools that its tools name."""
POOL_HINT: Final = "use lower-case letters, digits and -, a letter first, at most 32 characters, and not `doors`"

_POOL = re.compile(r"[a-z][a-z0-9-]{0,31}")


def is_pool(name: str) -> bool:
    """Whether a pool can have this name."""
    return _POOL.fullmatch(name) is not None and f"-{name}" != DOORS_SUFFIX


def pool_queue(task_queue: str, pool: str) -> str:
    """Return the task queue of a pool's calls.

    Args:
        task_queue: Task queue of the executions.
        pool: The pool.
    """
    return f"{task_queue}-{pool}"

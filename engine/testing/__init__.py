"""Tests of tasks: run one in memory with scripted replies, from pytest (`run_task`) or from `*.test.yaml` files.

`MemoryClient` stands in for `engine.client.Client`, `AsyncMemoryClient` for `AsyncClient`; the fixtures of the pytest
plugin give the first one.
"""

from engine.testing.memory import MemoryClient
from engine.testing.memory_aio import AsyncMemoryClient
from engine.testing.running import TaskRun, run_task

__all__ = ["AsyncMemoryClient", "MemoryClient", "TaskRun", "run_task"]

"""Tests of tasks: run one in memory with scripted replies, from pytest (`run_task`) or from `*.test.yaml` files.

`MemoryClient` stands in for `engine.client.Client`; the fixtures of the pytest plugin give one.
"""

from engine.testing.memory import MemoryClient
from engine.testing.running import TaskRun, run_task

__all__ = ["MemoryClient", "TaskRun", "run_task"]

"""Tests of tasks: run one in memory with scripted replies, from pytest (`run_task`) or from `*.test.yaml` files."""

from engine.testing.running import TaskRun, run_task

__all__ = ["TaskRun", "run_task"]

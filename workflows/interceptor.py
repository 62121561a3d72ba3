"""Gives workflows the extern function through which their events leave, in workers and in replay. Workflow-safe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.core.contracts.execution import SINK_EXTERN
from temporalio.worker import Interceptor, WorkflowInboundInterceptor, WorkflowInterceptorClassInput

Sink = Callable[[tuple[Any, ...], bool], None]
"""Takes an EventRecord as a plain tuple and whether the workflow task is a replay; must not block or raise."""


class SinkInterceptor(Interceptor):
    """Hands the events of all workflows of a worker to a sink.

    Args:
        sink: Where they go.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor] | None:
        """Register the extern function; nothing of the workflow itself is intercepted."""
        input.unsafe_extern_functions[SINK_EXTERN] = self._sink
        return None

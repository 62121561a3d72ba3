"""The activities under a real Temporal server: how errors, cancels and lost workers look to a workflow."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from temporalio import workflow
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import RetryPolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.llm import ChatActivities, build_backends
from activities.tools.runner import ToolActivities
from engine.core.contracts.activities import (
    CHAT_ACTIVITY,
    HEARTBEAT_TIMEOUT_S,
    TOOL_ACTIVITY,
    ChatParams,
    ChatResult,
    ToolParams,
    ToolResult,
)
from engine.edge.mockllm.app import MockLlm, create_app
from engine.edge.mockllm.script import MockScript
from engine.settings import BackendConfig, HttpConfig, Project
from engine.tooling import ToolCatalog, ToolContext, tool
from tests.backends.loopback import CONTEXT, chat_params, serving
from tests.support.patience import PATIENCE_S

OPTIONS: workflow.ActivityConfig = {
    "start_to_close_timeout": timedelta(seconds=60),
    "heartbeat_timeout": timedelta(seconds=HEARTBEAT_TIMEOUT_S),
    "retry_policy": RetryPolicy(maximum_attempts=3),
    "cancellation_type": workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
}


@workflow.defn
class OneChat:
    """Calls the chat activity once."""

    @workflow.run
    async def run(self, params: ChatParams) -> ChatResult:
        result: ChatResult = await workflow.execute_activity(CHAT_ACTIVITY, params, result_type=ChatResult, **OPTIONS)
        return result


@workflow.defn
class OneTool:
    """Calls the tool activity once."""

    @workflow.run
    async def run(self, params: ToolParams) -> ToolResult:
        result: ToolResult = await workflow.execute_activity(TOOL_ACTIVITY, params, result_type=ToolResult, **OPTIONS)
        return result


@tool(effect="read")
def add(a: int, b: int = 2, *, context: ToolContext) -> dict[str, Any]:
    """Add."""
    return {"sum": a + b, "key": context.idempotency_key}


@dataclass
class Bench:
    """A mock backend, and workers that can be started and stopped."""

    client: Client
    queue: str
    app: MockLlm
    chat: ChatActivities
    tools: ToolActivities

    def worker(self) -> Worker:
        """Return a new worker."""
        return Worker(
            self.client,
            task_queue=self.queue,
            workflows=[OneChat, OneTool],
            activities=[self.chat.chat, self.tools.call],
            workflow_runner=UnsandboxedWorkflowRunner(),
            max_heartbeat_throttle_interval=timedelta(seconds=1),
        )

    async def start(self) -> WorkflowHandle[OneChat, ChatResult]:
        """Start one chat."""
        params = chat_params(timeout_s=30)
        return await self.client.start_workflow(OneChat.run, params, id=self.queue, task_queue=self.queue)


@asynccontextmanager
async def bench(address: str, *rules: dict[str, Any]) -> AsyncIterator[Bench]:
    """Serve a mock backend with these rules."""
    client = await Client.connect(address, data_converter=pydantic_data_converter)
    app = create_app(MockScript.model_validate({"rules": list(rules)}))
    async with serving(app) as url:
        chat = ChatActivities(build_backends(Project(backends={"mock": BackendConfig(base_url=f"{url}/v1")})))
        tools = ToolActivities(ToolCatalog.of(add), HttpConfig())
        yield Bench(client, f"effects-{uuid.uuid4()}", app, chat, tools)
        await chat.aclose()
        await tools.aclose()


@asynccontextmanager
async def running(
    address: str, *rules: dict[str, Any]
) -> AsyncIterator[tuple[MockLlm, WorkflowHandle[OneChat, ChatResult]]]:
    """Start one chat at a mock backend with a worker of its own."""
    async with bench(address, *rules) as made, made.worker():
        yield made.app, await made.start()


async def test_a_reply_comes_back_typed(temporal_address: str) -> None:
    async with running(temporal_address, {"reply": "hi"}) as (_, handle):
        result = await handle.result()
    assert (result.message, result.backend) == ({"role": "assistant", "content": "hi"}, "mock")


async def test_a_backends_error_is_not_retried_by_temporal_and_keeps_its_body(temporal_address: str) -> None:
    async with running(temporal_address, {"status": 503, "retry_after_s": 2}) as (app, handle):
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()
    assert len(app.calls) == 1
    failed = caught.value.cause
    assert isinstance(failed, ActivityError)
    error = failed.cause
    assert isinstance(error, ApplicationError)
    assert (error.type, error.non_retryable) == ("backend.overloaded", True)
    assert error.details[0]["retry_after_s"] == 2
    assert error.details[0]["details"]["status"] == 503


async def test_a_cancel_reaches_the_backend_within_about_a_second_and_is_recorded_as_one(temporal_address: str) -> None:
    async with running(temporal_address, {"delay_s": 600}) as (app, handle):
        while not app.calls:  # noqa: ASYNC110 - the mock records calls in a list
            await asyncio.sleep(0.02)
        await handle.cancel()
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(WorkflowFailureError) as caught:
                await handle.result()
        assert is_cancelled_exception(caught.value.cause)
        history = await handle.fetch_history()
    kinds = [event.event_type for event in history.events]
    assert EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED in kinds
    assert EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED not in kinds


async def test_a_call_that_a_stopping_worker_gave_up_is_made_again_with_the_same_key(temporal_address: str) -> None:
    async with bench(temporal_address, {"times": 1, "delay_s": 30}, {"reply": "at last"}) as made:
        async with made.worker():
            handle = await made.start()
            while not made.app.calls:  # noqa: ASYNC110 - the mock records calls in a list
                await asyncio.sleep(0.02)
        async with made.worker():
            assert (await handle.result()).message["content"] == "at last"
    keys = [call["idempotency_key"] for call in made.app.calls]
    assert len(keys) == 2
    assert keys[0] == keys[1] != ""


async def test_a_tool_is_called_with_the_contract_of_the_plan(temporal_address: str) -> None:
    params = ToolParams(context=CONTEXT, tool=add.contract(), arguments={"a": 40}, timeout_s=5)
    async with bench(temporal_address) as made, made.worker():
        run = made.client.execute_workflow(OneTool.run, params, id=made.queue, task_queue=made.queue)
        assert (await run).output == {"sum": 42, "key": CONTEXT.key}

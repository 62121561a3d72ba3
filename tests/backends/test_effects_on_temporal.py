"""The activities under a real Temporal server: how errors, cancels and lost workers look to a workflow."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
from engine.core.contracts.activities import CHAT_ACTIVITY, HEARTBEAT_TIMEOUT_S, ChatParams, ChatResult
from engine.edge.mockllm.app import MockLlm, create_app
from engine.edge.mockllm.script import MockScript
from engine.settings import BackendConfig, Project
from tests.backends.loopback import chat_params, serving


@workflow.defn
class OneChat:
    """Calls the chat activity once."""

    @workflow.run
    async def run(self, params: ChatParams) -> ChatResult:
        result: ChatResult = await workflow.execute_activity(
            CHAT_ACTIVITY,
            params,
            result_type=ChatResult,
            start_to_close_timeout=timedelta(seconds=60),
            heartbeat_timeout=timedelta(seconds=HEARTBEAT_TIMEOUT_S),
            retry_policy=RetryPolicy(maximum_attempts=3),
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )
        return result


@asynccontextmanager
async def running(
    address: str, *rules: dict[str, Any]
) -> AsyncIterator[tuple[MockLlm, WorkflowHandle[OneChat, ChatResult]]]:
    """Start one chat at a mock backend with a worker of its own."""
    client = await Client.connect(address, data_converter=pydantic_data_converter)
    queue = f"effects-{uuid.uuid4()}"
    app = create_app(MockScript.model_validate({"rules": list(rules)}))
    async with serving(app) as url:
        activities = ChatActivities(build_backends(Project(backends={"mock": BackendConfig(base_url=f"{url}/v1")})))
        async with Worker(
            client,
            task_queue=queue,
            workflows=[OneChat],
            activities=[activities.chat],
            workflow_runner=UnsandboxedWorkflowRunner(),
            max_heartbeat_throttle_interval=timedelta(seconds=1),
        ):
            handle = await client.start_workflow(OneChat.run, chat_params(timeout_s=30), id=queue, task_queue=queue)
            yield app, handle
        await activities.aclose()


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
    async with running(temporal_address, {"delay_s": 30}) as (app, handle):
        while not app.calls:  # noqa: ASYNC110 - the mock records calls in a list
            await asyncio.sleep(0.02)
        await handle.cancel()
        async with asyncio.timeout(5):
            with pytest.raises(WorkflowFailureError) as caught:
                await handle.result()
        assert is_cancelled_exception(caught.value.cause)
        history = await handle.fetch_history()
    kinds = [event.event_type for event in history.events]
    assert EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED in kinds
    assert EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED not in kinds

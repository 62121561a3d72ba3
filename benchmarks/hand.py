"""The measured work as Temporal workflows written by hand: the same activities, parameters and options as our tasks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio import workflow

from benchmarks.model import FAST
from engine.core.contracts.activities import (
    CHAT_ACTIVITY,
    HEARTBEAT_TIMEOUT_S,
    TOOL_ACTIVITY,
    CallContext,
    ChatParams,
    ChatResult,
    ToolParams,
    ToolResult,
)
from engine.core.plan.ir import ToolContract
from workflows.driver import REPEAT, TIMEOUT_MARGIN_S

CHAT_TIMEOUT_S = 600.0
TENANT = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class HandInput:
    """Input of all hand-written workflows.

    Attributes:
        model: Model of the calls.
        text: First text.
        n: Number of steps, items or rounds.
        calls: Calls behind the second gate of the herd.
        tool: Contract of the tool of the herd.
    """

    model: str = ""
    text: str = ""
    n: int = 0
    calls: int = 0
    tool: ToolContract | None = None


def _context(place: str) -> CallContext:
    execution_id = workflow.info().workflow_id
    return CallContext(tenant=TENANT, execution_id=execution_id, path=place, key=f"{execution_id}:{place}")


async def _ask(model: str, content: str, place: str) -> str:
    params = ChatParams(context=_context(place), messages=[{"role": "user", "content": content}], model=model)
    result: ChatResult = await workflow.execute_activity(
        CHAT_ACTIVITY,
        params,
        result_type=ChatResult,
        start_to_close_timeout=timedelta(seconds=CHAT_TIMEOUT_S + TIMEOUT_MARGIN_S),
        heartbeat_timeout=timedelta(seconds=HEARTBEAT_TIMEOUT_S),
        retry_policy=REPEAT,
        cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )
    return str(result.message.get("content") or "")


async def _use(tool: ToolContract, arguments: dict[str, Any], place: str) -> Any:
    params = ToolParams(context=_context(place), tool=tool, arguments=arguments, timeout_s=tool.timeout_s)
    result: ToolResult = await workflow.execute_activity(
        TOOL_ACTIVITY,
        params,
        result_type=ToolResult,
        start_to_close_timeout=timedelta(seconds=tool.timeout_s + TIMEOUT_MARGIN_S),
        heartbeat_timeout=timedelta(seconds=HEARTBEAT_TIMEOUT_S),
        retry_policy=REPEAT,
        cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )
    return result.output


@workflow.defn
class HandChain:
    """W1 and W5."""

    @workflow.run
    async def run(self, given: HandInput) -> str:
        """Ask again and again."""
        text = given.text
        for number in range(given.n):
            text = await _ask(given.model, f"Step {number}: {text}", f"step-{number}")
        return text


@workflow.defn
class HandPair:
    """W2 and W7."""

    @workflow.run
    async def run(self, given: HandInput) -> str:
        """Ask, compute, ask."""
        first = await _ask(given.model, f"First: {given.text}", "first")
        words, text = len(first.split()), first.upper()
        return await _ask(given.model, f"In {words} words: {text}", "second")


@workflow.defn
class HandFan:
    """W3."""

    @workflow.run
    async def run(self, given: HandInput) -> int:
        """Ask for every item, 20 at a time, and fold the replies."""
        slots = asyncio.Semaphore(20)

        async def one(number: int) -> str:
            async with slots:
                return await _ask(given.model, f"Item {number}", f"item-{number}")

        replies = await asyncio.gather(*(one(number) for number in range(given.n)))
        total = 0
        for reply in replies:
            total += len(reply)
        return total


@workflow.defn
class HandPure:
    """W4."""

    @workflow.run
    async def run(self, given: HandInput) -> dict[str, int]:
        """Add one, so many times."""
        value = {"n": 0}
        for _ in range(given.n):
            value = {"n": value["n"] + 1}
        return value


@workflow.defn
class HandHerd:
    """The herd."""

    def __init__(self) -> None:
        self._signals = 0

    @workflow.signal(name="go")
    def go(self) -> None:
        """Open the next gate."""
        self._signals += 1

    @workflow.run
    async def run(self, given: HandInput) -> list[str]:
        """Make a long history, wait, ask once, wait, ask more."""
        assert given.tool is not None
        outputs = []
        for number in range(given.n):
            outputs.append(await _use(given.tool, {"n": number}, f"round-{number}"))
        await workflow.wait_condition(lambda: self._signals >= 1)
        await _ask(FAST, "Warm", "warm")
        await workflow.wait_condition(lambda: self._signals >= 2)
        return [await _ask(given.model, f"Call {number}", f"call-{number}") for number in range(given.calls)]


HAND_WORKFLOWS = (HandChain, HandPair, HandFan, HandPure, HandHerd)

"""Short words for tests that run a task in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from engine.core.contracts.activities import ToolParams
from engine.core.contracts.lookups import EmbedParams, SearchParams, made_up
from engine.core.plan.ir import AgentSnapshot, Plan
from engine.core.run.effects import Call, Failed, Ok, Stopped
from engine.dryrun.effects import Answered, Handler, SeenEvent
from engine.dryrun.replies import chat_reply
from engine.dryrun.running import DryRun, run_in_memory
from engine.tooling import tool
from tests.support.lab import plan_of


@tool(effect="read")
async def lookup(name: str) -> str:
    """Read something."""
    return name


@tool(effect="write")
async def pay(amount: float = 1) -> str:
    """Do something that must not be done twice."""
    return f"paid {amount}"


@tool(effect="write", idempotent=True)
async def book(seat: str = "a") -> str:
    """Do something that may be repeated with the same key."""
    return seat


TOOLS = (lookup, pay, book)


def compiled(text: str, agent: AgentSnapshot | None = None) -> Plan:
    """Compile a task that may use the tools above."""
    return plan_of(text, TOOLS, agent)


def echo(call: Call) -> Answered:
    """Answer prompts with their last message, tools with their arguments and other tasks with their input."""
    params = call.params
    if hasattr(params, "messages"):
        return Answered(Ok(chat_reply(str(params.messages[-1]["content"]), tokens=10)))
    if isinstance(params, EmbedParams | SearchParams):
        return Answered(Ok(made_up(params)))
    return Answered(Ok(dict(params.arguments) if isinstance(params, ToolParams) else params.input))


def script(*outcomes: Any) -> Callable[[Call], Answered]:
    """Answer calls one after another: an outcome, an Answered, or a plain value."""
    left = list(outcomes)

    def handler(call: Call) -> Answered:
        item = left.pop(0)
        if isinstance(item, Answered):
            return item
        if isinstance(item, (Ok, Failed, Stopped)):
            return Answered(item)
        return Answered(Ok(chat_reply(item) if hasattr(call.params, "messages") else item))

    return handler


def run(text: str, given: Any = None, handler: Handler = echo, answers: Sequence[Any] = (), **options: Any) -> DryRun:
    """Run a task in memory."""
    plan = compiled(text, options.pop("agent", None))
    return run_in_memory(plan, given, handler, answers=answers, **options)


def output_of(
    text: str, given: Any = None, handler: Handler = echo, answers: Sequence[Any] = (), **options: Any
) -> Any:
    """Run a task in memory and return its output."""
    result = run(text, given, handler, answers, **options)
    assert result.finished is not None, f"still waiting: {result.waits}"
    assert isinstance(result.finished.outcome, Ok), result.finished
    return result.finished.outcome.value


def error_of(text: str, given: Any = None, handler: Handler = echo, **options: Any) -> Any:
    """Run a task in memory and return the error it ends with."""
    result = run(text, given, handler, **options)
    assert result.finished is not None
    assert isinstance(result.finished.outcome, Failed), result.finished
    return result.finished.outcome.error


def seen(result: DryRun, *types: str) -> list[SeenEvent]:
    """Return the events of some types."""
    return [event for event in result.events if event.type in types]

"""Runs random programs in memory, and says what must be equal in two runs of the same program."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from engine.core.contracts.activities import ChatParams, ToolParams
from engine.core.errors import ToolError
from engine.core.kinds import EventType
from engine.core.run.effects import Call, Failed, Ok
from engine.core.run.projection import is_listening
from engine.core.run.walker import Identity
from engine.core.values import Json
from engine.dryrun.effects import Answer, Answered
from engine.dryrun.replies import chat_reply
from engine.dryrun.running import DryRun, run_in_memory
from tests.support.lab import TENANT, plan_of
from tests.support.program_leaves import MODULUS
from tests.support.programs import ANSWER, TOOLS, Program, events_for_all, message_for, reply_to

Told = tuple[str, dict[str, Any]]
"""Type and body of an event."""

MOST_EVENTS = 24
"""Events of each sort that a program in memory gets; one that waits for more does not end, and the test says so."""
_BRANCH = re.compile(r"^(.*(?:\.map\[\d+\]|(?:\d)\[\d+\]))")
_OF_THE_MOMENT = frozenset(
    {"key", "actor", "messages", "opened", "started_us", "opened_us", "created_us", "took_s", "deliveries", "trace"}
    | {"model", "backend", "usage", "cost"}
)
"""Members that tell who answered or replied, in which order branches came to their waits, and when things were."""


def answer_call(call: Call) -> Answered:
    """Do in memory what the tools and the model of the laboratory do."""
    params = call.params
    if isinstance(params, ChatParams):
        return Answered(Ok(chat_reply(str(params.messages[-1]["content"]))))
    assert isinstance(params, ToolParams)
    n = params.arguments["n"]
    if params.tool.name == "step_tool":
        return Answered(Ok((n * 7 + 1) % MODULUS))
    attempt = params.context.attempt
    if attempt <= params.arguments["failures"]:
        return Answered(Failed(ToolError(f"attempt {attempt} fails", code="tool.failed", retryable=True)))
    return Answered(Ok((n + 11) % MODULUS))


def answer_wait(wait: Mapping[str, Json]) -> Answer | None:
    """Answer every wait for an answer or a message that is not meant to be left alone."""
    if reply_to(wait) == "message":
        inbox, message = message_for(wait)
        return Answer(message, inbox=inbox)
    return Answer(ANSWER) if reply_to(wait) == "answer" else None


def in_memory(program: Program, execution_id: str, keys: list[str] | None = None, **options: Any) -> DryRun:
    """Run a program in memory.

    Args:
        program: The program.
        execution_id: As which execution.
        keys: Gets the key of every call, in the order of their starts.
        **options: Those of `run_in_memory`.
    """

    def handler(call: Call) -> Answered:
        if keys is not None:
            keys.append(call.params.context.key)
        return answer_call(call)

    identity = Identity(execution_id=execution_id, tenant=TENANT)
    outside = events_for_all(MOST_EVENTS) if "event" in program.kinds else ()
    return run_in_memory(
        plan_of(program.text, TOOLS),
        program.given,
        handler,
        answerer=answer_wait,
        outside=outside,
        identity=identity,
        **options,
    )


def outcome_of(run: DryRun) -> tuple[Any, str | None]:
    """Return output and error code."""
    assert run.finished is not None, f"still waiting: {run.waits}"
    outcome = run.finished.outcome
    if isinstance(outcome, Failed):
        return None, outcome.error.code
    assert isinstance(outcome, Ok)
    return outcome.value, None


def by_branch(events: Iterable[Told]) -> dict[str, list[Told]]:
    """Sort events by the concurrent branch they tell of; between branches there is no order.

    The arrival of events from outside is left out, since whether one comes before or after its wait is up to the
    sender, and so are answers that came too early.
    """
    branches: dict[str, list[Told]] = defaultdict(list)
    for type_, body in events:
        if type_ in (EventType.EVENT_RECEIVED, EventType.ANSWER_REFUSED, EventType.MESSAGE_TAKEN):
            continue
        if is_listening(body.get("info")) or "message" in body:
            continue  # a message that comes early begins a turn without a wait
        path = str(body.get("path") or body.get("wait_id") or "main")
        found = _BRANCH.match(path)
        told = {name: value for name, value in body.items() if name not in _OF_THE_MOMENT}
        if "deadline_us" in told:
            told["deadline_us"] = told["deadline_us"] is not None
        branches[found[1] if found else ""].append((type_, told))
    return dict(branches)


def told_by(run: DryRun) -> dict[str, list[Told]]:
    """Return the events of a run in memory by branch."""
    return by_branch((event.type, event.body) for event in run.events)


def keys_of(value: Any) -> set[str]:
    """Return all keys of all objects in a value."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (set(value) if isinstance(value, dict) else set()).union(*map(keys_of, inside))

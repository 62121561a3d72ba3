"""Random programs give the same output and the same events in memory and on the real Temporal server."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from temporalio.client import WorkflowHandle

from engine.core.contracts.activities import ChatParams
from engine.core.errors import ToolError
from engine.core.run.effects import Call, Failed, Ok
from engine.core.run.events import body_of
from engine.core.run.walker import Identity
from engine.dryrun import Answered, DryRun, chat_reply, run_in_memory
from tests.support.lab import TENANT, Ended, Lab, plan_of
from tests.support.programs import ANSWER, MODULUS, TOOLS, Program, make_program

PROGRAMS = 30
AT_ONCE = 10

_BRANCH = re.compile(r"^(.*(?:\.map\[\d+\]|(?:\d)\[\d+\]))")
_OF_THE_MOMENT = frozenset({"key", "actor", "opened"})
"""Members that tell who answered and in which order branches came to their waits."""


def answer_call(call: Call) -> Answered:
    """Do in memory what the tools and the model of the laboratory do."""
    params = call.params
    if isinstance(params, ChatParams):
        return Answered(Ok(chat_reply(str(params.messages[-1]["content"]))))
    n = params.arguments["n"]
    if params.tool.name == "step_tool":
        return Answered(Ok((n * 7 + 1) % MODULUS))
    attempt = params.context.attempt
    if attempt <= params.arguments["failures"]:
        return Answered(Failed(ToolError(f"attempt {attempt} fails", code="tool.failed", retryable=True)))
    return Answered(Ok((n + 11) % MODULUS))


def by_branch(events: Iterable[tuple[str, dict[str, Any]]]) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """Sort events by the concurrent branch they tell of; between branches there is no order."""
    branches: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    for type_, body in events:
        path = str(body.get("path") or body.get("wait_id") or "main")
        found = _BRANCH.match(path)
        told = {name: value for name, value in body.items() if name not in _OF_THE_MOMENT}
        branches[found[1] if found else ""].append((type_, told))
    return dict(branches)


async def answer_waits(lab: Lab, handle: WorkflowHandle[Any, Any]) -> None:
    """Answer every wait as soon as it is told of."""
    answered: set[tuple[str, int]] = set()
    while True:
        for event in await lab.events(handle):
            body = body_of(event)
            if event.type == "wait" and (body["wait_id"], body["opened"]) not in answered:
                answered.add((body["wait_id"], body["opened"]))
                await lab.answer(handle, ANSWER, wait_id=body["wait_id"])
        await asyncio.sleep(0.1)


async def on_temporal(lab: Lab, program: Program, **options: Any) -> tuple[WorkflowHandle[Any, Any], Ended]:
    """Run a program on the server."""
    handle = await lab.start(plan_of(program.text, TOOLS), program.given, **options)
    answering = asyncio.create_task(answer_waits(lab, handle)) if program.waits else None
    try:
        ended = await lab.end_of(handle)
        await lab.until(handle, "error" if ended.error else "finish")
    finally:
        if answering is not None:
            answering.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await answering
    return handle, ended


def in_memory(program: Program, execution_id: str, **options: Any) -> DryRun:
    """Run a program in memory as the same execution."""
    plan = plan_of(program.text, TOOLS)
    identity = Identity(execution_id=execution_id, tenant=TENANT)
    return run_in_memory(plan, program.given, answer_call, answers=[ANSWER] * 100, identity=identity, **options)


def outcome_in_memory(run: DryRun) -> tuple[Any, str | None]:
    """Return output and error code."""
    assert run.finished is not None, f"still waiting: {run.waits}"
    outcome = run.finished.outcome
    if isinstance(outcome, Failed):
        return None, outcome.error.code
    assert isinstance(outcome, Ok)
    return outcome.value, None


async def test_programs_give_the_same_output_and_events_in_memory_and_on_temporal(lab: Lab):
    lab.tools = TOOLS
    gate = asyncio.Semaphore(AT_ONCE)

    async def check(seed: int) -> None:
        program = make_program(seed, clock=False)
        async with gate:
            handle, ended = await on_temporal(lab, program)
        memory = in_memory(program, handle.id)
        assert outcome_in_memory(memory) == (ended.output, ended.error["code"] if ended.error else None), seed
        stored = by_branch((event.type, body_of(event)) for event in await lab.events(handle))
        assert by_branch((event.type, event.body) for event in memory.events) == stored, f"seed {seed}"

    async with lab.worker(), asyncio.TaskGroup() as group:
        for seed in range(PROGRAMS):
            group.create_task(check(seed))


def test_programs_give_the_same_output_and_events_when_their_state_is_carried_over_at_every_turn():
    for seed in range(150):
        program = make_program(seed, clock=False)
        straight = in_memory(program, f"execution-{seed}")
        carried = in_memory(program, f"execution-{seed}", carry_every=1)
        assert outcome_in_memory(carried) == outcome_in_memory(straight), seed
        assert by_branch((e.type, e.body) for e in carried.events) == by_branch(
            (e.type, e.body) for e in straight.events
        ), seed


def test_the_comparison_sees_a_missing_and_a_reordered_event():
    memory = in_memory(make_program(1, clock=False), "execution")
    events = [(event.type, event.body) for event in memory.events]
    assert by_branch(events) == by_branch(list(events))
    assert by_branch(events[:-1]) != by_branch(events)
    swapped = [events[1], events[0], *events[2:]]
    assert by_branch(swapped) != by_branch(events)

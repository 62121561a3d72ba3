"""Random programs give the same output and the same events in memory and on the real Temporal server."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from temporalio.client import WorkflowHandle
from temporalio.service import RPCError

from engine.core.contracts.execution import SIGNAL_MESSAGE, MessageSignal
from engine.core.run.events import body_of
from engine.core.spec.vocabulary import MARKERS, MODIFIERS
from tests.support.lab import Ended, Lab, plan_of
from tests.support.program_leaves import KEY, PING
from tests.support.program_runs import by_branch, in_memory, keys_of, outcome_of, told_by
from tests.support.programs import ANSWER, TOOLS, Program, make_program, message_for, reply_to

AT_ONCE = 10
ELSEWHERE = {"task", "agent", "embed", "search", "cache"}
"""What needs other tasks, a model that calls tools, documents, or an earlier execution."""


async def answer_waits(lab: Lab, handle: WorkflowHandle[Any, Any]) -> None:
    """Answer every wait as soon as it is told of, and send the event that it waits for.

    A workflow task that is done again tells of a wait before it counts: an answer to that is refused and sent again.
    """
    answered: set[tuple[str, int, int]] = set()
    rejected: set[int] = set()
    while True:
        refused: Counter[str] = Counter()
        for event in await lab.events(handle):
            body = body_of(event)
            if event.type == "answer.refused":
                refused[body["wait_id"]] += 1
            if event.type == "message.taken" and body["disposition"] == "rejected" and event.seq not in rejected:
                rejected.add(event.seq)
                await send_message(handle, body["name"], body["value"])
            if event.type == "wait" and (body["wait_id"], body["opened"], refused[body["wait_id"]]) not in answered:
                answered.add((body["wait_id"], body["opened"], refused[body["wait_id"]]))
                asked = reply_to(body)
                if asked == "answer":
                    await lab.answer(handle, ANSWER, wait_id=body["wait_id"])
                elif asked == "event":
                    await send_event(lab, handle, body["info"]["key"])
                elif asked == "message":
                    await send_message(handle, *message_for(body))
        await asyncio.sleep(0.1)


async def send_event(lab: Lab, handle: WorkflowHandle[Any, Any], key: str | None) -> None:
    """Send an event; an execution that had one left may have ended already."""
    with contextlib.suppress(RPCError):
        await lab.send(handle, PING, ANSWER, key=key)


async def send_message(handle: WorkflowHandle[Any, Any], inbox: str, value: Any) -> None:
    """Send a message; an execution that had one left may have ended already."""
    message = MessageSignal(id=uuid.uuid4().hex, name=inbox, value=value)
    with contextlib.suppress(RPCError):
        await handle.signal(SIGNAL_MESSAGE, message)


async def on_temporal(lab: Lab, program: Program, **options: Any) -> tuple[WorkflowHandle[Any, Any], Ended]:
    """Run a program on the server."""
    handle = await lab.start(plan_of(program.text, TOOLS), program.given, **options)
    if "event" in program.kinds:
        # one of each sort may come before its wait
        await send_event(lab, handle, None)
        await send_event(lab, handle, KEY)
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


async def compare(lab: Lab, program: Program, **options: Any) -> int:
    """Run a program on the server and in memory, compare them, and return the number of runs on the server."""
    handle, ended = await on_temporal(lab, program, **options)
    memory = in_memory(program, handle.id)
    assert outcome_of(memory) == (ended.output, ended.error["code"] if ended.error else None), program.text
    events = await lab.events(handle)
    assert told_by(memory) == by_branch((event.type, body_of(event)) for event in events), program.text
    return len({event.run_id for event in events})


@pytest.mark.timeout(900)
async def test_programs_give_the_same_output_and_events_in_memory_and_on_temporal(lab: Lab, full: bool) -> None:
    lab.tools = TOOLS
    gate = asyncio.Semaphore(AT_ONCE)

    async def check(seed: int) -> None:
        async with gate:
            await compare(lab, make_program(seed, clock=False))

    async with lab.worker(), asyncio.TaskGroup() as group:
        for seed in range(600 if full else 60):
            group.create_task(check(seed))


@pytest.mark.timeout(900)
async def test_programs_give_the_same_when_they_continue_as_new_on_temporal(lab: Lab, full: bool) -> None:
    lab.tools = TOOLS
    gate = asyncio.Semaphore(2 * AT_ONCE)
    runs: list[int] = []

    async def check(seed: int) -> None:
        program = make_program(seed, clock=False, at_least_s=1.1)
        async with gate:
            # a run continues as new after its first second, at whatever step it then is
            runs.append(await compare(lab, program, continue_after_events=4 + seed % 20))

    count = 200 if full else 20
    async with lab.worker(), asyncio.TaskGroup() as group:
        for seed in range(10_000, 10_000 + count):
            group.create_task(check(seed))
    assert sum(number > 1 for number in runs) > count / 2


def carried_over(seed: int, turns: Iterable[int]) -> Iterator[int]:
    """Carry a program's state over after so many turns, again and again; compare each and yield its number of runs."""
    program = make_program(seed, clock=False)
    straight_keys: list[str] = []
    straight = in_memory(program, f"execution-{seed}", straight_keys)
    for every in turns:
        keys: list[str] = []
        carried = in_memory(program, f"execution-{seed}", keys, carry_every=every)
        assert outcome_of(carried) == outcome_of(straight), (seed, every)
        assert sorted(keys) == sorted(straight_keys), (seed, every)
        assert told_by(carried) == told_by(straight), (seed, every)
        yield carried.runs


def test_programs_give_the_same_output_keys_and_events_when_their_state_is_carried_over_at_every_turn(
    full: bool,
) -> None:
    runs = [number for seed in range(2_000 if full else 200) for number in carried_over(seed, (1, 2, 3))]
    assert max(runs) > 10


@pytest.mark.timeout(900)
def test_it_does_not_matter_at_which_turn_the_state_is_carried_over(full: bool) -> None:
    for seed in range(5_000, 5_080 if full else 5_012):
        # until it comes too late to happen
        assert any(runs == 1 for runs in carried_over(seed, itertools.count(1)))


def test_the_programs_have_every_kind_of_step_and_every_modifier() -> None:
    keys: set[str] = set()
    for seed in range(60):
        keys |= keys_of(json.loads(make_program(seed, clock=False).text))
    assert (MARKERS.keys() | set(MODIFIERS)) - ELSEWHERE <= keys
    assert {"take", "stagger", "on_item_error", "max_rounds", "deadline", "default", "key", "reduce"} <= keys
    assert {"output_schema", "on_fail", "require", "finally", "limits"} <= keys


def test_the_comparison_sees_a_missing_and_a_reordered_event() -> None:
    memory = in_memory(make_program(1, clock=False), "execution")
    events = [(event.type, event.body) for event in memory.events]
    assert by_branch(events) == by_branch(list(events))
    assert by_branch(events[:-1]) != by_branch(events)
    swapped = [events[1], events[0], *events[2:]]
    assert by_branch(swapped) != by_branch(events)

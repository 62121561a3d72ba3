"""Hard moments on the real server: workers that stop in the middle, replies nobody can write down, very wide maps."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from engine.core.contracts.execution import SIGNAL_CANCEL_REASON, CancelReasonSignal
from engine.core.run.machine import MOST_CALLS
from engine.tooling import tool
from tests.support.lab import Lab
from tests.support.patience import PATIENCE_S

calls: list[str] = []


@tool(effect="write")
async def pay_slowly(seconds: float) -> str:
    """Take some time over something that must not be done twice."""
    calls.append("pay")
    await asyncio.sleep(seconds)
    return "paid"


@tool(effect="read")
async def read_slowly(seconds: float) -> str:
    """Take some time over something that may be done again."""
    calls.append("read")
    await asyncio.sleep(seconds)
    return "read"


@tool(effect="read")
async def half_a_character() -> str:
    """Return a text that has no UTF-8."""
    calls.append("half")
    return "\ud83d"


async def a_call() -> None:
    for _ in range(1_000):
        if calls:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("no call came")


async def test_a_payment_cut_off_by_a_stopping_worker_is_not_repeated(lab: Lab):
    lab.tools = (pay_slowly,)
    calls.clear()
    task = """
name: t
main:
  - tool: pay_slowly
    arguments: {seconds: 3}
    retry: {attempts: 3, initial: 0.01}
    on_error: [{evaluate: $ error.code}]
"""
    async with lab.worker(graceful_shutdown_timeout=timedelta(seconds=0.1)):
        handle = await lab.start(task)
        await a_call()
    async with lab.worker():
        ended = await lab.end_of(handle)
    assert (ended.output, calls) == ("effect.outcome_unknown", ["pay"])


async def test_a_reading_cut_off_by_a_stopping_worker_is_made_again(lab: Lab):
    lab.tools = (read_slowly,)
    calls.clear()
    async with lab.worker(graceful_shutdown_timeout=timedelta(seconds=0.1)):
        handle = await lab.start("name: t\nmain: [{tool: read_slowly, arguments: {seconds: 1}, retry: {attempts: 1}}]")
        await a_call()
    async with lab.worker():
        ended = await lab.end_of(handle)
    assert (ended.output, calls) == ("read", ["read", "read"])


async def test_a_tool_that_returns_half_a_character_fails_once_and_with_a_code(lab: Lab):
    lab.tools = (half_a_character,)
    calls.clear()
    async with lab.worker():
        ended = await asyncio.wait_for(lab.run("name: t\nmain: [{tool: half_a_character, arguments: {}}]"), PATIENCE_S)
    assert ended.error is not None
    assert (ended.error["code"], calls) == ("tool.bad_result", ["half"])


async def test_more_calls_than_temporal_takes_at_one_time_wait_for_their_turn(lab: Lab):
    lab.tools = (read_slowly,)
    step = "{tool: read_slowly, arguments: {seconds: 600}}"
    task = f"name: t\nmain: [{{over: $ list(range(2200)), parallelism: 5000, map: {step}}}]"
    async with lab.worker(no_remote_activities=True):
        handle = await lab.start(task)
        await lab.until(handle, "effect.started", count=MOST_CALLS)
        description = await handle.describe()
        pending = len(description.raw_description.pending_activities)
        await lab.cancel(handle)
        ended = await asyncio.wait_for(lab.end_of(handle), PATIENCE_S)
    assert ended.cancelled
    assert 0 < pending <= MOST_CALLS


async def test_a_cancel_behind_an_answer_is_not_lost_when_the_run_continues_as_new(lab: Lab):
    task = "name: t\nmain: [{foreach: {in: $ list(range(9)), do: {wait_for_input: {info: more}}}}]"
    async with lab.worker():
        handle = await lab.start(task, continue_after_events=4)
        await lab.until(handle, "wait")
    await asyncio.sleep(1.2)
    await lab.answer(handle, 1)
    await lab.cancel(handle, "enough")
    async with lab.worker():
        ended = await asyncio.wait_for(lab.end_of(handle), PATIENCE_S)
        told = await lab.until(handle, "cancelled")
    assert ended.cancelled
    assert (told["reason"], told["actor"]) == ("enough", "test")


async def test_answers_alone_make_a_long_execution_continue_as_new(lab: Lab):
    task = "name: t\nmain: [{foreach: {in: $ list(range(12)), do: {wait_for_input: {info: more}}}}]"
    async with lab.worker():
        handle = await lab.start(task, continue_after_events=8)
        for number in range(12):
            await lab.until(handle, "wait", count=number + 1)
            await lab.answer(handle, number)
            await asyncio.sleep(0.15)
        ended = await asyncio.wait_for(lab.end_of(handle), PATIENCE_S)
        await lab.until(handle, "finish")
        runs = {event.run_id for event in await lab.events(handle)}
    assert ended.output == list(range(12))
    assert len(runs) > 1


async def test_the_reason_of_a_cancel_survives_continue_as_new(lab: Lab):
    task = "name: t\nmain: [{sleep: 1.5}, {sleep: 600}]"
    async with lab.worker():
        handle = await lab.start(task, continue_after_events=2)
        await lab.until(handle, "init")
        await handle.signal(SIGNAL_CANCEL_REASON, CancelReasonSignal(reason="too late", actor="eve"))
        await lab.until(handle, "step")
        await asyncio.sleep(0.3)
        await handle.cancel()
        ended = await asyncio.wait_for(lab.end_of(handle), PATIENCE_S)
        told = await lab.until(handle, "cancelled")
        runs = {event.run_id for event in await lab.events(handle)}
    assert ended.cancelled
    assert len(runs) > 1
    assert (told["reason"], told["actor"]) == ("too late", "eve")


async def test_an_answer_given_while_no_worker_ran_beats_the_time_limit_that_passed_meanwhile(lab: Lab):
    task = "name: t\nmain: [{wait_for_input: {info: quick}, timeout: 2}]"
    async with lab.worker():
        handle = await lab.start(task)
        await lab.until(handle, "wait")
    await lab.answer(handle, "in time")
    await asyncio.sleep(2.5)
    async with lab.worker():
        ended = await asyncio.wait_for(lab.end_of(handle), PATIENCE_S)
    assert ended.output == "in time"


async def test_an_answer_that_comes_in_one_task_with_the_news_that_opens_its_wait_is_taken(lab: Lab):
    task = "name: t\nmain: [{sleep: 1.5}, {wait_for_input: {info: ask, deadline: 600, default: never}}]"
    async with lab.worker():
        handle = await lab.start(task)
        await lab.until(handle, "init")
    # nobody works while the sleep ends and the answer comes
    await asyncio.sleep(2)
    await lab.answer(handle, "yes", wait_id="main.1")
    async with lab.worker():
        ended = await lab.end_of(handle)
    assert ended.output == "yes"


async def test_an_answer_to_nothing_is_refused_once_everything_is_at_rest(lab: Lab):
    async with lab.worker():
        handle = await lab.start("name: t\nmain: [{wait_for_input: {info: ask}}]")
        await lab.until(handle, "wait")
        await lab.answer(handle, "no", wait_id="main.7")
        await lab.until(handle, "answer.refused")
        await lab.answer(handle, "yes", wait_id="main.0")
        ended = await lab.end_of(handle)
    assert ended.output == "yes"

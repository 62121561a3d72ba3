"""Steps that run another task, on the real Temporal server: a child execution for each, from its start to its end."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
from temporalio.client import WorkflowHandle
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from engine.control.agents import AgentService
from engine.control.repair import Repair
from engine.control.replaying import committed_part, repair_execution
from engine.control.settling import settle_from_temporal
from engine.core.contracts.children import MAX_DEPTH
from engine.core.contracts.execution import ATTRIBUTE_TENANT, ExecutionParams, Origin
from engine.core.kinds import ExecutionStatus
from engine.core.run.events import body_of
from engine.core.run.projection import ExecutionFacts
from engine.store.filters import ExecutionFilter
from engine.store.listing import ExecutionLists
from engine.tooling import tool
from tests.support.lab import TENANT, Lab
from tests.support.patience import PATIENCE_S
from tests.support.processes import worker_process
from worker import replay_run

SEATS: list[str] = []


@tool(effect="write", idempotent=True)
async def book(seat: str) -> str:
    """Book a seat; the first booking of `shaky` fails."""
    SEATS.append(seat)
    if seat == "broken" or (seat == "shaky" and SEATS.count("shaky") == 1):
        raise RuntimeError(f"no seat {seat}")
    return seat


@tool(effect="read")
async def slowly(seconds: float) -> float:
    """Take some time."""
    await asyncio.sleep(seconds)
    return seconds


WAITING = """
name: waiting
main:
  - wait_for_input: {info: go on?}
finally:
  - tool: book
    arguments: {seat: last}
"""


@pytest.fixture
def tools(lab: Lab) -> Lab:
    SEATS.clear()
    lab.tools = (book, slowly)
    return lab


async def stored(lab: Lab, text: str, tenant: str = TENANT) -> None:
    await lab.definitions.create_task(text, tenant=tenant)


async def child_of(lab: Lab, handle: WorkflowHandle[Any, Any], number: int = 1) -> WorkflowHandle[Any, Any]:
    """Return the child that an execution started, once it is at work."""
    told = await lab.until(handle, "effect.started", count=number)
    child = lab.client.get_workflow_handle(told["child_id"])
    await lab.until(child, "init")
    return child


async def row_of(lab: Lab, execution_id: str) -> ExecutionFacts:
    await settle_from_temporal(lab.client, lab.store, execution_id)
    return await lab.store.get_execution(execution_id, tenant=TENANT)


# --- ends ----------------------------------------------------------------------------------------------------------


async def test_the_result_of_a_task_is_the_output_of_the_step_that_ran_it(tools: Lab):
    await stored(tools, "name: double\nmain: [{tool: book, arguments: {seat: $ _.seat}}, {evaluate: $ _ * 2}]")
    async with tools.worker():
        handle = await tools.start(
            "name: t\nmain: [{task: double, arguments: {seat: $ _}}, {evaluate: $ _ + '!'}]", "a"
        )
        ended = await asyncio.wait_for(tools.end_of(handle), PATIENCE_S)
        child = await child_of(tools, handle)
        await tools.until(child, "finish")
    assert ended.output == "aa!"
    row = await row_of(tools, child.id)
    assert (row.task_name, row.input, row.output) == ("double", {"seat": "a"}, "aa")
    assert (row.status, row.parent_id, row.parent_path) == (ExecutionStatus.SUCCEEDED, handle.id, "main.0")
    assert row.verified


async def test_the_newest_version_is_run_unless_another_is_named(tools: Lab):
    await stored(tools, "name: v\nmain: {evaluate: one}")
    await tools.definitions.create_task("name: v\nmain: {evaluate: two}", tenant=TENANT, by_name=True)
    await tools.definitions.versions.set_alias("v", "prod", tenant=TENANT, version=1)
    async with tools.worker():
        task = "name: t\nmain: [{parallel: [{task: v}, {task: v, version: 1}, {task: v@prod}, {task: v@2}]}]"
        ended = await asyncio.wait_for(tools.run(task), PATIENCE_S)
    assert ended.output == ["two", "one", "one", "two"]


async def test_a_child_that_fails_fails_the_step_with_its_code_and_its_id(tools: Lab):
    await stored(tools, "name: bad\nmain: [{evaluate: 1}, {tool: book, arguments: {seat: broken}}]")
    async with tools.worker():
        handle = await tools.start("name: t\nmain: [{task: bad}]")
        ended = await asyncio.wait_for(tools.end_of(handle), PATIENCE_S)
        child = await child_of(tools, handle)
    assert ended.error is not None
    assert (ended.error["code"], ended.error["step"]) == ("tool.failed", "main.0")
    assert ended.error["details"]["execution_id"] == child.id
    assert ended.error["details"]["at"] == "main.1"
    row = await row_of(tools, child.id)
    assert row.status is ExecutionStatus.FAILED
    assert row.error is not None
    assert (row.error["code"], row.error["step"]) == ("tool.failed", "main.1")


@pytest.mark.parametrize(
    ("step", "code"),
    [
        ("task: nowhere", "task.not_found"),
        ("task: picky@prod", "alias.not_found"),
        ("{task: picky, version: 7}", "task.version_not_found"),
        ("{task: picky, arguments: {n: text}}", "input.invalid"),
        ("{task: picky, arguments: {n: 0}}", "input.requirement"),
        ("task: of-others", "task.not_found"),
        ("task: of-two", "task.ambiguous"),
        ("task: planned", "task.not_runnable"),
    ],
)
async def test_what_cannot_be_started_is_an_error_that_the_parent_can_catch(tools: Lab, step: str, code: str):
    await stored(tools, "name: of-others\nmain: {evaluate: 1}", tenant="others")
    for name in ("Ada", "Bob"):
        agent = await AgentService(tools.definitions.definitions.agents).create({"name": name}, tenant=TENANT)
        await tools.definitions.create_task("name: of-two\nmain: {evaluate: 1}", tenant=TENANT, agent_id=agent.id)
    branches = "{branches: [{operator: default}]}"
    await stored(tools, f"dialect: contenox\nid: planned\ntasks: [{{id: a, handler: noop, transition: {branches}}}]")
    await stored(
        tools,
        "name: picky\ninput_schema: {properties: {n: {type: integer}}}\nrequire: [{if: _.n > 0}]\nmain: {evaluate: 1}",
    )
    inner = step.removeprefix("{").removesuffix("}")
    async with tools.worker():
        handle = await tools.start(f"name: t\nmain: [{{{inner}, on_error: {{evaluate: $ error.code}}}}]", {"n": 1})
        ended = await asyncio.wait_for(tools.end_of(handle), PATIENCE_S)
        await tools.until(handle, "finish")
        events = await tools.events(handle)
    assert ended.output == code
    assert "effect.started" not in [event.type for event in events]


async def test_a_retry_runs_the_task_once_more(tools: Lab):
    await stored(tools, "name: shaky\nmain: [{tool: book, arguments: {seat: shaky}, retry: {attempts: 1}}]")
    async with tools.worker():
        handle = await tools.start("name: t\nmain: [{task: shaky, retry: {attempts: 2, initial: 0.01}}]")
        ended = await asyncio.wait_for(tools.end_of(handle), PATIENCE_S)
        first, second = await child_of(tools, handle), await child_of(tools, handle, 2)
    assert ended.output == "shaky"
    assert first.id != second.id
    assert [(await row_of(tools, item.id)).status.value for item in (first, second)] == ["failed", "succeeded"]


# --- stops ---------------------------------------------------------------------------------------------------------


async def test_a_cancel_of_the_parent_cancels_the_child_and_waits_for_its_clean_up(tools: Lab):
    await stored(tools, WAITING)
    parent = "name: t\nmain: [{task: waiting}]\nfinally: [{tool: book, arguments: {seat: very last}}]"
    async with tools.worker():
        handle = await tools.start(parent)
        child = await child_of(tools, handle)
        await tools.until(child, "wait")
        await tools.cancel(handle, "enough")
        ended = await asyncio.wait_for(tools.end_of(handle), PATIENCE_S)
        told = await tools.until(child, "cancelled")
    assert ended.cancelled
    assert SEATS == ["last", "very last"]
    assert handle.id in told["reason"]
    assert (await row_of(tools, child.id)).status is ExecutionStatus.CANCELLED


async def test_a_child_that_others_cancel_fails_the_step(tools: Lab):
    await stored(tools, WAITING)
    async with tools.worker():
        handle = await tools.start("name: t\nmain: [{task: waiting, on_error: {evaluate: $ error.code}}]")
        child = await child_of(tools, handle)
        await tools.cancel(child, "by hand")
        ended = await asyncio.wait_for(tools.end_of(handle), PATIENCE_S)
        told = await tools.until(child, "cancelled")
    assert ended.output == "task.cancelled"
    assert told["reason"] == "by hand"


async def test_a_child_that_an_operator_terminates_fails_the_step(tools: Lab):
    await stored(tools, WAITING)
    async with tools.worker():
        handle = await tools.start("name: t\nmain: [{task: waiting, on_error: {evaluate: $ error.code}}]")
        child = await child_of(tools, handle)
        await child.terminate("gone")
        ended = await asyncio.wait_for(tools.end_of(handle), PATIENCE_S)
    assert ended.output == "task.terminated"


async def test_the_child_of_an_execution_that_is_terminated_still_cleans_up(tools: Lab):
    await stored(tools, WAITING)
    async with tools.worker():
        handle = await tools.start("name: t\nmain: [{task: waiting}]")
        child = await child_of(tools, handle)
        await tools.until(child, "wait")
        await handle.terminate("gone")
        await tools.until(child, "cancelled")
    assert SEATS == ["last"]


async def test_a_time_limit_of_the_step_stops_the_child(tools: Lab):
    await stored(tools, WAITING)
    async with tools.worker():
        handle = await tools.start(
            "name: t\nmain: [{task: waiting, timeout: 500ms, on_error: {evaluate: $ error.code}}]"
        )
        ended = await asyncio.wait_for(tools.end_of(handle), PATIENCE_S)
        child = await child_of(tools, handle)
        await tools.until(child, "cancelled")
    assert ended.output == "step.timeout"
    assert SEATS == ["last"]


async def test_a_cancel_while_the_child_is_being_started_is_not_lost(tools: Lab):
    await stored(tools, WAITING)
    # the worker is away while the cancel comes, so that both reach the parent at once
    handle = await tools.start("name: t\nmain: [{task: waiting}]")
    await tools.cancel(handle, "at once")
    async with tools.worker():
        ended = await asyncio.wait_for(tools.end_of(handle), PATIENCE_S)
        await tools.until(handle, "cancelled")
        started = [event for event in await tools.events(handle) if event.type == "effect.started"]
    assert ended.cancelled
    assert started == []


async def test_a_child_is_stopped_and_cleans_up_at_whatever_moment_of_its_beginning_it_is_cancelled(tools: Lab):
    await stored(tools, WAITING)
    moments = [0.0, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.4]
    race = "{race: [{task: waiting}, {tool: slowly, arguments: {seconds: $ _}}]}"
    async with tools.worker():
        handle = await tools.start(f"name: t\nmain: [{{foreach: {{in: $ _, do: {race}}}}}]", moments)
        ended = await asyncio.wait_for(tools.end_of(handle), PATIENCE_S)
        await tools.until(handle, "finish")
        told = [body_of(event) for event in await tools.events(handle) if event.type == "effect.started"]
        children = [body["child_id"] for body in told if body["kind"] == "task"]
        for child_id in children:
            await tools.until(tools.client.get_workflow_handle(child_id), "cancelled")
    assert ended.output == moments
    assert children
    assert ["last"] * len(children) == SEATS
    rows = [await row_of(tools, child_id) for child_id in children]
    assert {(row.status, row.transition_count > 1) for row in rows} == {(ExecutionStatus.CANCELLED, True)}
    # a repair replaces events only where a replay gives others
    assert not any(
        [await repair_execution(tools.client, tools.store, item, replay_run) for item in [handle.id, *children]]
    )


# --- depth and size ------------------------------------------------------------------------------------------------


async def test_tasks_run_tasks_that_run_tasks(tools: Lab):
    await stored(tools, "name: inner\nmain: {evaluate: $ _ + 1}")
    await stored(tools, "name: middle\nmain: [{task: inner, arguments: $ _}, {evaluate: $ _ * 10}]")
    async with tools.worker():
        ended = await asyncio.wait_for(tools.run("name: t\nmain: [{task: middle, arguments: $ _}]", 4), PATIENCE_S)
    assert ended.output == 50


async def test_a_task_that_runs_itself_comes_to_an_end(tools: Lab):
    await stored(tools, "name: snake\nmain: [{task: snake}]")
    async with tools.worker():
        ended = await asyncio.wait_for(tools.run("name: t\nmain: [{task: snake}]"), PATIENCE_S)
        assert ended.error is not None
        assert ended.error["code"] == "limit.depth"
        await asyncio.wait_for(_until_rows(tools, MAX_DEPTH), PATIENCE_S)


async def _until_rows(lab: Lab, count: int) -> None:
    lists = ExecutionLists(lab.store.database)
    while (await lists.count(ExecutionFilter(), tenant=TENANT)).total < count + 1:  # noqa: ASYNC110 a store sets no event
        await asyncio.sleep(0.02)


async def test_a_map_runs_a_child_for_each_item_and_the_children_can_be_listed(tools: Lab):
    await stored(tools, "name: square\nmain: {evaluate: $ _.n * _.n}")
    async with tools.worker():
        handle = await tools.start(
            "name: t\nmain: [{over: $ range(_), map: {task: square, arguments: {n: $ _}}, parallelism: 5}]", 20
        )
        ended = await asyncio.wait_for(tools.end_of(handle), PATIENCE_S)
        await asyncio.wait_for(_until_rows(tools, 20), PATIENCE_S)
    assert ended.output == [number * number for number in range(20)]
    of_parent = ExecutionFilter(parent_id=handle.id)
    rows = (await ExecutionLists(tools.store.database).page(of_parent, tenant=TENANT)).items
    assert sorted(row.parent_path for row in rows) == sorted(f"main.0.map[{number}].0" for number in range(20))


async def test_a_running_child_holds_off_continue_as_new_and_its_result_is_not_lost(tools: Lab):
    await stored(tools, "name: slow\nmain: [{tool: slowly, arguments: {seconds: 2.5}}]")
    task = """
name: t
main:
  - parallel:
      - task: slow
      - - evaluate: 0
        - until: _ >= 30
          do: &round [{tool: book, arguments: {seat: $ str(_)}}, {evaluate: $ int(_) + 1}]
  - set: {kept: $ _}
  - evaluate: 0
  - until: _ >= 30
    do: *round
  - get: kept
"""
    async with tools.worker():
        handle = await tools.start(task, None, continue_after_events=60)
        ended = await asyncio.wait_for(tools.end_of(handle), PATIENCE_S)
        await tools.until(handle, "finish")
        runs = {event.run_id for event in await tools.events(handle)}
    assert ended.output == [2.5, 30]
    assert len(runs) > 1


# --- crashes and replays -------------------------------------------------------------------------------------------


async def test_parent_and_child_survive_the_loss_of_their_runs_at_every_step(tools: Lab):
    await stored(tools, "name: pair\nmain: [{tool: book, arguments: {seat: a}}, {sleep: 0.2}, {evaluate: $ 'done'}]")
    async with tools.worker(cached_workflows=0):
        ended = await asyncio.wait_for(
            tools.run("name: t\nmain: [{sleep: 0.1}, {task: pair}, {evaluate: $ _}]"), PATIENCE_S
        )
    assert ended.output == "done"
    assert SEATS == ["a"]


async def test_a_worker_that_stops_in_the_middle_leaves_parent_and_child_to_the_next_one(tools: Lab):
    await stored(tools, WAITING)
    async with tools.worker():
        handle = await tools.start("name: t\nmain: [{task: waiting}]")
        child = await child_of(tools, handle)
        await tools.until(child, "wait")
    async with tools.worker():
        await tools.answer(child, "on")
        ended = await asyncio.wait_for(tools.end_of(handle), PATIENCE_S)
    assert ended.output == "on"
    assert SEATS == ["last"]


async def test_both_end_and_are_settled_although_their_worker_is_killed(lab: Lab):
    await stored(lab, "name: asks\nmain: [{wait_for_input: {info: go on?}}]")
    async with worker_process(lab) as worker:
        handle = await lab.start("name: t\nmain: [{task: asks}, {evaluate: $ _ + '!'}]")
        child = await child_of(lab, handle)
        await lab.until(child, "wait")
        worker.kill()
        await lab.answer(child, "on")
        worker.start()
        ended = await asyncio.wait_for(lab.end_of(handle), PATIENCE_S)
        rows = [await asyncio.wait_for(_settled(lab, item.id), PATIENCE_S) for item in (child, handle)]
    assert ended.output == "on!"
    assert [row.status for row in rows] == [ExecutionStatus.SUCCEEDED, ExecutionStatus.SUCCEEDED]
    assert rows[0].parent_id == handle.id


async def _settled(lab: Lab, execution_id: str) -> ExecutionFacts:
    while True:
        row = await lab.store.get_execution(execution_id, tenant=TENANT)
        if row.settled:
            return row
        await asyncio.sleep(0.02)


async def test_the_histories_of_parent_and_child_give_the_same_events_again(tools: Lab):
    await stored(tools, "name: pair\nmain: [{tool: book, arguments: {seat: a}}, {evaluate: $ 'done'}]")
    async with tools.worker():
        handle = await tools.start("name: t\nmain: [{task: pair}, {task: nowhere, on_error: {evaluate: 0}}]")
        await asyncio.wait_for(tools.end_of(handle), PATIENCE_S)
        await tools.until(handle, "finish")
        child = await child_of(tools, handle)
        await tools.until(child, "finish")
    for item in (handle, tools.client.get_workflow_handle(child.id)):
        history = await item.fetch_history()
        told = await tools.events(item)
        part, until_us = committed_part(history)
        assert part is not None
        assert (len(part.events), until_us) == (len(history.events), told[-1].now_us)
        again = await replay_run(tools.client, item.id, told[0].run_id, part)
        assert [(event.seq, event.type, event.body) for event in again] == [
            (event.seq, event.type, event.body) for event in told
        ]


async def test_a_child_that_nobody_told_the_store_of_is_found_with_its_parent(tools: Lab):
    await stored(tools, "name: quiet\nmain: {evaluate: 7}")
    async with tools.worker():
        handle = await tools.start("name: t\nmain: [{task: quiet, label: the one}]")
        await asyncio.wait_for(tools.end_of(handle), PATIENCE_S)
        child = await child_of(tools, handle)
        await tools.until(child, "finish")
    before = await row_of(tools, child.id)
    await _forget(tools, child.id)
    after = await row_of(tools, child.id)
    assert (after.parent_id, after.parent_path, after.output) == (handle.id, "main.0", 7)
    assert (after.task_id, after.task_name) == (before.task_id, before.task_name)


async def _forget(lab: Lab, execution_id: str) -> None:
    from sqlalchemy import delete

    from engine.store.schema import events, executions

    async with lab.store.database.write() as connection:
        await connection.execute(delete(events).where(events.c.execution_id == execution_id))
        await connection.execute(delete(executions).where(executions.c.id == execution_id))


async def test_a_child_that_never_got_its_plan_has_failed_for_everybody_to_see(lab: Lab):
    origin = Origin(execution_id=str(uuid.uuid4()), path="main.0", depth=1, keys="k")
    params = ExecutionParams(
        execution_id=str(uuid.uuid4()), tenant=TENANT, plan={}, input=1, task_id="gone", origin=origin
    )
    tenant = SearchAttributePair(SearchAttributeKey.for_keyword(ATTRIBUTE_TENANT), TENANT)
    async with lab.worker():
        handle = await lab.client.start_workflow(
            "gone",
            params,
            id=params.execution_id,
            task_queue=lab.queue,
            search_attributes=TypedSearchAttributes([tenant]),
        )
        ended = await asyncio.wait_for(lab.end_of(handle), PATIENCE_S)
    assert ended.error is not None
    assert ended.error["code"] == "task.not_found"
    repair = Repair(lab.client, lab.store, replay_run)
    row = None
    while row is None or not row.settled:
        await repair.scan()
        row = await lab.store.find_execution(handle.id, tenant=TENANT)
    assert (row.status, row.verified, row.parent_id) == (ExecutionStatus.FAILED, True, origin.execution_id)


# --- authority -----------------------------------------------------------------------------------------------------


async def test_a_child_may_not_touch_more_than_its_parent(tools: Lab):
    await stored(tools, "name: payer\nmain: [{tool: book, arguments: {seat: a}}]")
    parent = "name: t\nallow: {tools: [], tasks: [payer]}\nmain: [{task: payer, on_error: {evaluate: $ error.code}}]"
    async with tools.worker():
        ended = await asyncio.wait_for(tools.run(parent), PATIENCE_S)
    assert ended.output == "authority.denied"
    assert SEATS == []

"""Executions on the real Temporal server: results, waits, cancel, retries, continue-as-new, and the history."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import delete, update
from temporalio.client import WorkflowExecutionStatus

from engine.control import executions as executions_module
from engine.control.connect import TemporalConnection
from engine.control.executions import ExecutionService
from engine.control.replaying import repair_execution
from engine.control.settling import settle_from_temporal
from engine.core.contracts.execution import ExecutionParams
from engine.core.errors import Conflict
from engine.core.kinds import ExecutionStatus
from engine.core.plan.codec import plan_to_json
from engine.core.plan.ir import PLAN_FORMAT
from engine.core.run.events import EventRecord, roll_digest, roll_time
from engine.edge.mockllm.script import MockRule, MockScript
from engine.settings import Settings
from engine.store.changes import Changes
from engine.store.schema import events
from engine.tooling import tool
from tests.support.lab import TENANT, Lab, plan_of
from tests.support.patience import PATIENCE_S
from tests.support.receiver import Receiver
from tests.support.servers import serve_app
from worker import replay_run

pytestmark = pytest.mark.usefixtures("both_stores")


@tool(effect="read")
async def double(n: int) -> int:
    """Double a number."""
    return n * 2


@tool(effect="read")
async def slowly(seconds: float) -> str:
    """Take some time."""
    await asyncio.sleep(seconds)
    return "done"


@tool(effect="write")
async def fragile() -> str:
    """Fail always."""
    raise RuntimeError("it broke")


@pytest.fixture
def tools(lab: Lab) -> Lab:
    lab.tools = (double, slowly, fragile)
    return lab


async def history_of(handle):
    return [event async for event in handle.fetch_history_events()]


async def test_fifty_evaluate_steps_are_one_workflow_of_at_most_eight_events(lab: Lab):
    steps = "\n".join("  - evaluate: {n: $ _.n + 1}" for _ in range(50))
    async with lab.worker():
        handle = await lab.start(f"name: fifty\nmain:\n{steps}", {"n": 0})
        ended = await lab.end_of(handle)
    assert ended.output == {"n": 50}
    assert len(await history_of(handle)) <= 8


async def test_a_thousand_pure_steps_run_and_every_one_is_told(lab: Lab):
    async with lab.worker():
        handle = await lab.start("name: t\nmain: [{foreach: {in: $ list(range(1000)), do: {evaluate: $ _ + 1}}}]")
        ended = await lab.end_of(handle)
        await lab.until(handle, "finish")
    assert ended.output == list(range(1, 1001))
    assert len(await lab.events(handle)) == ended.events == 1 + 2 * 1000 + 1


async def test_more_pure_steps_than_one_activation_may_run_take_a_breather(lab: Lab):
    async with lab.worker():
        ended = await lab.run("name: t\nmain: [{foreach: {in: $ list(range(12000)), do: {evaluate: $ _}}}]")
    assert len(ended.output) == 12_000


async def test_prompts_and_tools_and_branches_run_to_the_result(tools: Lab):
    task = """
name: mixed
main:
  - prompt: "say {{ _.word }}"
    unwrap: true
  - tool: double
    arguments: {n: $ len(_)}
  - over: $ range(_)
    parallelism: 3
    map: {tool: double, arguments: {n: $ _}}
  - if: $ sum(_) > 10
    then: {evaluate: {big: $ _}}
    else: {evaluate: {small: $ _}}
"""
    async with tools.worker():
        ended = await tools.run(task, {"word": "a"})
    assert ended.output == {"big": [n * 2 for n in range(10)]}


async def test_the_rolling_hash_in_the_result_is_that_of_the_stored_events(tools: Lab):
    async with tools.worker():
        handle = await tools.start("name: t\nmain: [{tool: double, arguments: {n: 1}}, {evaluate: $ _ + 1}]")
        ended = await tools.end_of(handle)
        await tools.until(handle, "finish")
    digest, times = "", 0
    for record in await tools.events(handle):
        digest, times = roll_digest(digest, record.seq, record.type, record.body), roll_time(times, record.now_us)
    assert (ended.events, ended.digest, ended.times) == (len(await tools.events(handle)), digest, times)


@pytest.mark.parametrize("task", ["main: [{tool: double, arguments: {n: 1}}]", "main: [{error: no}]"])
async def test_events_of_a_workflow_task_that_was_made_again_are_found_and_get_the_times_of_the_one_that_counts(
    tools: Lab, task: str
):
    async with tools.worker():
        handle = await tools.start(f"name: t\n{task}")
        ended = await tools.end_of(handle)
        await tools.until(handle, "finish" if ended.error is None else "error")
    told = await tools.events(handle)
    # as a worker leaves them that dies when it has told them, if the next one dies before it has
    early = update(events).where(events.c.execution_id == handle.id).values(now_us=events.c.now_us - 6_000_000)
    await tools.store.database.run(lambda connection: connection.execute(early), write=True)
    settled = await settle_from_temporal(tools.client, tools.store, handle.id)
    assert settled is not None
    assert settled.matches is False
    assert await repair_execution(tools.client, tools.store, handle.id, replay_run)
    assert await tools.events(handle) == told
    settled = await settle_from_temporal(tools.client, tools.store, handle.id)
    assert settled is not None
    assert settled.matches is True


async def test_the_repair_tells_nothing_of_an_answer_that_no_worker_has_taken_yet(lab: Lab):
    async with lab.worker():
        handle = await lab.start("name: ask\nmain: [{wait_for_input: {info: go}}, {evaluate: $ _}]")
        await lab.until(handle, "wait")
    asked = await lab.events(handle)
    await lab.answer(handle, 5)
    # the rows are lost too, so that there is something to restore beside what there is not yet
    lost = delete(events).where(events.c.execution_id == handle.id, events.c.type == "wait")
    assert await lab.store.database.run(lambda connection: connection.execute(lost).rowcount, write=True) == 1
    assert await repair_execution(lab.client, lab.store, handle.id, replay_run)
    assert await lab.events(handle) == asked
    assert not await repair_execution(lab.client, lab.store, handle.id, replay_run)
    async with lab.worker():
        ended = await lab.end_of(handle)
    assert await lab.store.digest(handle.id) == (ended.events, ended.digest, ended.times)


async def test_temporal_shows_the_tasks_name_and_our_step_names(tools: Lab):
    async with tools.worker():
        handle = await tools.start("name: my_task\nmain: [{tool: double, arguments: {n: 1}, label: twice}]")
        await tools.end_of(handle)
    assert (await handle.describe()).workflow_type == "my_task"
    scheduled = [
        event.activity_task_scheduled_event_attributes.activity_id
        for event in await history_of(handle)
        if event.HasField("activity_task_scheduled_event_attributes")
    ]
    assert scheduled == ["main.0#1"]


async def test_an_error_of_a_tool_reaches_the_outside_with_code_step_and_details(tools: Lab):
    async with tools.worker():
        ended = await tools.run("name: t\nmain: [{evaluate: $ 1}, {tool: fragile, arguments: {}}]")
    assert ended.error is not None
    assert (ended.error["code"], ended.error["step"], ended.error["attempts"]) == ("tool.failed", "main.1", 1)
    assert "it broke" in ended.error["message"]


async def test_an_overloaded_model_is_asked_again_and_every_attempt_stands_in_the_events(lab: Lab):
    rules = [MockRule(times=2, status=503), MockRule(reply="fine")]
    lab.mock.use(MockScript(rules=rules))
    task = "name: t\nmain: [{prompt: hi, unwrap: true, retry: {attempts: 4, initial: 0.05}}]"
    async with lab.worker():
        handle = await lab.start(task)
        ended = await lab.end_of(handle)
        await lab.until(handle, "finish")
    assert ended.output == "fine"
    types = [event.type for event in await lab.events(handle)]
    assert types.count("effect.started") == 3
    assert types.count("attempt.failed") == 2


async def test_a_wait_is_answered_by_signal_and_the_answer_stands_in_the_events(lab: Lab):
    task = "name: t\nmain: [{wait_for_input: {info: {ask: 'go?'}, schema: {type: object}}}, {evaluate: {got: $ _}}]"
    async with lab.worker():
        handle = await lab.start(task)
        waiting = await lab.until(handle, "wait")
        assert waiting["info"] == {"ask": "go?"}
        await lab.answer(handle, "wrong", key="k1")
        assert (await lab.until(handle, "answer.refused"))["code"] == "input.rejected"
        await lab.answer(handle, {"ok": 1}, key="k2")
        ended = await lab.end_of(handle)
        accepted = await lab.until(handle, "answer.accepted")
    assert ended.output == {"got": {"ok": 1}}
    assert (accepted["key"], accepted["actor"]) == ("k2", "test")


async def test_an_answer_sent_while_no_worker_runs_is_not_lost(lab: Lab):
    task = "name: t\nmain: [{wait_for_input: {info: {}}}]"
    async with lab.worker():
        handle = await lab.start(task)
        await lab.until(handle, "wait")
    await lab.answer(handle, 1)
    async with lab.worker():
        assert (await lab.end_of(handle)).output == 1


async def test_cancel_reaches_a_running_tool_and_tells_the_reason(tools: Lab):
    async with tools.worker():
        handle = await tools.start("name: t\nmain: [{tool: slowly, arguments: {seconds: 60}}]")
        await tools.until(handle, "effect.started")
        await asyncio.sleep(0.2)
        await tools.cancel(handle, "changed my mind")
        ended = await asyncio.wait_for(tools.end_of(handle), PATIENCE_S)
        told = await tools.until(handle, "cancelled")
    assert ended.cancelled
    assert told == {"reason": "changed my mind", "actor": "test"}


async def test_sleep_is_a_durable_timer(lab: Lab):
    async with lab.worker():
        ended = await lab.run("name: t\nmain: [{sleep: {seconds: 0.2}}, {evaluate: $ _}]", "kept")
    assert ended.output == "kept"


async def test_continue_as_new_is_invisible_in_result_and_events(tools: Lab):
    # a run does not continue as new in its first second
    step = "{sleep: 1.1}, {foreach: {in: $ list(range(150)), do: {tool: double, arguments: {n: $ _}}}}"
    async with tools.worker():
        handle = await tools.start(f"name: t\nmain: [{step}]", continue_after_events=100)
        ended = await tools.end_of(handle)
        await tools.until(handle, "finish")
    assert ended.output == [n * 2 for n in range(150)]
    records: list[EventRecord] = await tools.events(handle)
    assert [record.seq for record in records] == list(range(1, ended.events + 1))
    assert len({record.run_id for record in records}) > 1


async def test_waits_and_sleeps_travel_over_continue_as_new(tools: Lab):
    task = """
name: t
main:
  - parallel:
      - {wait_for_input: {info: {}}}
      - {sleep: {seconds: 4}}
      - [{sleep: 1.2}, {foreach: {in: $ list(range(60)), do: {tool: double, arguments: {n: $ _}}}}]
"""
    async with tools.worker():
        handle = await tools.start(task, "in", continue_after_events=60)
        await tools.until(handle, "finish_branch", path="main.0[2].1", count=1)
        await tools.answer(handle, "out")
        ended = await tools.end_of(handle)
        await tools.until(handle, "finish")
    assert ended.output == ["out", "in", [n * 2 for n in range(60)]]
    assert len({record.run_id for record in await tools.events(handle)}) > 1


async def test_http_tools_send_the_idempotency_key_of_their_step(lab: Lab):
    receiver = Receiver()
    async with serve_app(receiver) as url:
        task = f"""
name: t
tools:
  - name: post
    type: api_call
    idempotent: true
    api_call: {{method: POST, url: "{url}/orders?fail=1"}}
main:
  - tool: post
    arguments: {{json: {{n: 1}}}}
    retry: {{attempts: 3, initial: 0.05}}
  - evaluate: $ _.json.got
"""
        async with lab.worker():
            handle = await lab.start(task)
            ended = await lab.end_of(handle)
    assert ended.output == {"n": 1}
    assert receiver.keys == {f"{handle.id}:main.0": 2}


BROKEN_PLANS: dict[str, tuple[dict[str, Any], str]] = {
    "of no format": ({"task": "broken", "blocks": []}, "plan.unreadable"),
    "without its blocks": ({"format": PLAN_FORMAT, "task": "broken"}, "plan.unreadable"),
    "of format 1 and without its blocks": ({"format": 1, "task": "broken"}, "plan.unreadable"),
    "that begins in a block it does not have": (
        {**plan_to_json(plan_of("name: broken\nmain: [{evaluate: 1}]")), "workflows": {"main": 7}},
        "bug.interpreter",
    ),
}


@pytest.mark.parametrize("kind", BROKEN_PLANS)
async def test_a_broken_plan_fails_the_execution_instead_of_hanging_it(lab: Lab, kind: str):
    plan, code = BROKEN_PLANS[kind]
    execution_id = str(uuid.uuid4())
    params = ExecutionParams(execution_id=execution_id, tenant=TENANT, plan=plan, input=None)
    async with lab.worker():
        handle = await lab.client.start_workflow("broken", params, id=execution_id, task_queue=lab.queue)
        ended = await asyncio.wait_for(lab.end_of(handle), PATIENCE_S)
    assert ended.error is not None
    assert ended.error["code"] == code
    assert (await handle.describe()).status is WorkflowExecutionStatus.FAILED


@pytest.fixture
async def service(lab: Lab) -> AsyncIterator[ExecutionService]:
    """Use cases for which every open execution has been silent for long."""
    changes = Changes(lab.store.database)
    temporal = TemporalConnection(Settings(data_dir=lab.folder), client=lab.client)
    yield ExecutionService(lab.store, temporal, changes, silent_s=0)
    await changes.close()


async def test_a_read_of_one_that_waits_for_long_is_fresh_and_never_waits_for_its_end(
    lab: Lab, service: ExecutionService, monkeypatch: pytest.MonkeyPatch
):
    asked: list[str] = []
    histories = lab.client.workflow_service.get_workflow_execution_history

    async def ask(request: Any, **more: Any) -> Any:
        asked.append(request.execution.workflow_id)
        return await histories(request, **more)

    monkeypatch.setattr(lab.client.workflow_service, "get_workflow_execution_history", ask)
    async with lab.worker():
        handle = await lab.start("name: t\nmain: [{wait_for_input: {info: go}}]")
        await lab.until(handle, "wait")
    fresh = await service.read(handle.id, tenant=TENANT)
    assert (fresh.facts.status, fresh.stale_s, fresh.reason) == (ExecutionStatus.AWAITING_INPUT, None, "")
    assert asked == [], "the end of an open run is a question that waits until it is over"
    await handle.terminate("enough")
    ended = await service.read(handle.id, tenant=TENANT)
    assert (ended.facts.settled, ended.facts.status, ended.stale_s) == (True, ExecutionStatus.FAILED, None)
    assert asked == [handle.id]


async def test_a_server_that_is_slower_than_a_read_waits_is_not_called_dead(
    lab: Lab, service: ExecutionService, monkeypatch: pytest.MonkeyPatch
):
    async with lab.worker():
        handle = await lab.start("name: t\nmain: [{wait_for_input: {info: go}}]")
        await lab.until(handle, "wait")

    async def never(*given: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(executions_module, "READ_PATIENCE_S", 0.01)
    monkeypatch.setattr(executions_module, "read_end", never)
    fresh = await service.read(handle.id, tenant=TENANT)
    assert fresh.stale_s is not None
    assert fresh.reason == "slow"
    monkeypatch.undo()
    await handle.terminate("enough")
    # whoever steers it is not told that Temporal is away
    with pytest.raises(Conflict, match="has ended"):
        await service.cancel(handle.id, tenant=TENANT)

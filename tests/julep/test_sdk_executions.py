"""Executions, their transitions, streams and jobs by Julep's SDK: polled, followed, answered, cancelled."""

from __future__ import annotations

import json
from typing import Any

import pytest
from julep import BadRequestError, ConflictError, NotFoundError

from tests.julep.sdk import Sdk, about, ended, everything, text_of, until

ADDS: list[dict[str, Any]] = [
    {"evaluate": {"sum": "$ _.a + _.b"}, "label": "adds"},
    {"evaluate": {"twice": "$ _.sum * 2"}},
]
ASKS: list[dict[str, Any]] = [{"wait_for_input": {"info": {"question": "$ _.q"}}}, {"evaluate": {"said": "$ _.answer"}}]
COUNTS: list[dict[str, Any]] = [{"foreach": {"in": "$ range(_.n)", "do": {"evaluate": {"i": "$ _"}}}}]
NUMBERS = {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}, "required": ["a", "b"]}


async def task_of(julep: Sdk, main: list[dict[str, Any]], **more: Any) -> str:
    """Make a task and return its id."""
    agent = await julep.agents.create(name="Ada")
    return str((await julep.tasks.create(agent.id, name="t", main=main, **more)).id)


async def of_first_scope(julep: Sdk, execution_id: str) -> list[str]:
    """Return the types of the transitions in the scope of the first one, in order."""
    first, *_ = await everything(await julep.executions.transitions.list(execution_id, direction="asc"))
    scope = first.current.scope_id
    found = await julep.executions.transitions.list(execution_id, direction="asc", scope_id=scope)
    return [transition.type for transition in await everything(found)]


@about("executions.create", "executions.get")
async def test_an_execution_runs_to_its_output(julep: Sdk) -> None:
    task_id = await task_of(julep, ADDS, input_schema=NUMBERS)
    made = await julep.executions.create(task_id, input={"a": 2, "b": 3}, metadata={"from": "a test"})
    assert (made.task_id, made.input) == (task_id, {"a": 2, "b": 3})
    read = await ended(julep, made.id)
    assert (read.status, read.output, read.error) == ("succeeded", {"twice": 10}, None)
    assert (read.id, read.input, read.metadata["from"]) == (made.id, {"a": 2, "b": 3}, "a test")


@about("executions.create", "executions.list")
async def test_an_input_that_does_not_fit_the_schema_starts_nothing(julep: Sdk) -> None:
    task_id = await task_of(julep, ADDS, input_schema=NUMBERS)
    with pytest.raises(BadRequestError):
        await julep.executions.create(task_id, input={"a": "two"})
    assert await everything(await julep.executions.list(task_id)) == []


@about("executions.get")
async def test_a_failure_is_told_as_the_error_of_the_execution(julep: Sdk) -> None:
    task_id = await task_of(julep, [{"error": "out of paper"}])
    read = await ended(julep, (await julep.executions.create(task_id, input={})).id)
    assert read.status == "failed"
    assert "out of paper" in read.error
    assert await of_first_scope(julep, read.id) == ["init", "error"]


@about("executions.list")
async def test_executions_of_a_task_are_listed_to_the_end(julep: Sdk) -> None:
    task_id = await task_of(julep, ADDS)
    made = [(await julep.executions.create(task_id, input={"a": n, "b": 0})).id for n in range(5)]
    listed = await everything(await julep.executions.list(task_id, limit=2, direction="asc"))
    assert [execution.id for execution in listed] == made
    newest_first = await everything(await julep.executions.list(task_id, limit=2))
    assert [execution.id for execution in newest_first] == made[::-1]


@about("executions.status.get", "executions.change_status")
async def test_an_execution_waits_for_an_answer_and_goes_on_with_it(julep: Sdk) -> None:
    task_id = await task_of(julep, ASKS)
    made = await julep.executions.create(task_id, input={"q": "tea or coffee?"})
    await until(julep, made.id, "awaiting_input")
    assert (await julep.executions.status.get(made.id)).status == "awaiting_input"
    (wait,) = [
        transition
        for transition in await everything(await julep.executions.transitions.list(made.id))
        if transition.type == "wait"
    ]
    assert "tea or coffee?" in str(wait.output)
    await julep.executions.change_status(made.id, status="running", input={"answer": "tea"})
    assert (await ended(julep, made.id)).output == {"said": "tea"}


@about("executions.change_status")
async def test_a_waiting_execution_is_cancelled_with_a_reason(julep: Sdk) -> None:
    task_id = await task_of(julep, ASKS)
    made = await julep.executions.create(task_id, input={"q": "?"})
    await until(julep, made.id, "awaiting_input")
    await julep.executions.change_status(made.id, status="cancelled", reason="not needed")
    assert (await ended(julep, made.id)).status == "cancelled"
    assert await of_first_scope(julep, made.id) == ["init", "wait", "cancelled"]


@about("executions.change_status")
async def test_an_answer_nobody_waits_for_is_a_conflict_that_is_not_worth_a_retry(julep: Sdk) -> None:
    task_id = await task_of(julep, ADDS)
    made = await julep.executions.create(task_id, input={"a": 1, "b": 1})
    await ended(julep, made.id)
    with pytest.raises(ConflictError) as raised:
        await julep.executions.change_status(made.id, status="running", input={"answer": "tea"})
    assert raised.value.response.headers["x-should-retry"] == "false"


@about("executions.transitions.list", "executions.transitions.retrieve")
async def test_transitions_tell_each_step_and_are_listed_to_the_end(julep: Sdk) -> None:
    task_id = await task_of(julep, ADDS)
    made = await julep.executions.create(task_id, input={"a": 1, "b": 2})
    await ended(julep, made.id)
    listed = await everything(await julep.executions.transitions.list(made.id, limit=2, direction="asc"))
    assert [transition.type for transition in listed] == ["init", "step", "finish"]
    assert [transition.output for transition in listed] == [{"a": 1, "b": 2}, {"sum": 3}, {"twice": 6}]
    assert [(item.current.workflow, item.current.step) for item in listed][1:] == [("main", 0), ("main", 1)]
    assert (listed[1].next.step, listed[2].next, listed[1].step_label) == (1, None, "adds")
    assert await julep.executions.transitions.retrieve(listed[1].id, execution_id=made.id) == listed[1]
    of_scope = await julep.executions.transitions.list(made.id, scope_id=listed[1].current.scope_id)
    assert {item.id for item in await everything(of_scope)} == {item.id for item in listed}
    with pytest.raises(NotFoundError):
        await julep.executions.transitions.retrieve("00000000-0000-4000-8000-000000000000", execution_id=made.id)


@about("executions.transitions.list")
async def test_more_than_a_hundred_transitions_are_listed_to_the_end(julep: Sdk) -> None:
    task_id = await task_of(julep, COUNTS)
    made = await julep.executions.create(task_id, input={"n": 70})
    assert (await ended(julep, made.id)).output == [{"i": n} for n in range(70)]
    listed = await everything(await julep.executions.transitions.list(made.id, direction="asc"))
    assert len(listed) > 100
    assert len({item.id for item in listed}) == len(listed)
    assert (listed[0].type, listed[-1].type) == ("init", "finish")


@about("executions.status.stream")
async def test_the_status_stream_tells_every_change_and_ends(julep: Sdk) -> None:
    task_id = await task_of(julep, ASKS)
    made = await julep.executions.create(task_id, input={"q": "?"})
    await until(julep, made.id, "awaiting_input")
    events = await julep.executions.status.stream(made.id)
    await julep.executions.change_status(made.id, status="running", input={"answer": "tea"})
    told = await everything(events)
    assert {event.id for event in told} == {made.id}
    assert (told[0].status in {"awaiting_input", "running"}, told[-1].status) == (True, "succeeded")
    again = await everything(await julep.executions.status.stream(made.id))
    assert [event.status for event in again] == ["succeeded"]


@about("executions.transitions.stream")
async def test_the_transition_stream_tells_each_step_as_json_and_can_be_taken_up_again(julep: Sdk) -> None:
    task_id = await task_of(julep, ADDS)
    made = await julep.executions.create(task_id, input={"a": 1, "b": 2})
    response = await julep.executions.transitions.with_raw_response.stream(made.id)
    assert response.headers["content-type"].startswith("text/event-stream")
    text = await text_of(response)
    assert "[DONE]" not in text
    events = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
    assert [event["transition"]["type"] for event in events] == ["init", "step", "finish"]
    assert events[-1]["transition"]["output"] == {"twice": 6}
    token = events[0]["next_page_token"]
    rest = await julep.executions.transitions.with_raw_response.stream(made.id, next_page_token=token)
    told = [line for line in (await text_of(rest)).splitlines() if line.startswith("data: ")]
    assert [json.loads(line.removeprefix("data: "))["transition"]["type"] for line in told] == ["step", "finish"]


@about("jobs.get", "executions.create")
async def test_the_job_of_an_execution_tells_how_far_it_is(julep: Sdk) -> None:
    task_id = await task_of(julep, ADDS)
    made = await julep.executions.create(task_id, input={"a": 1, "b": 2})
    (job_id,) = made.metadata["jobs"]
    assert (await julep.jobs.get(job_id)).id == job_id
    await ended(julep, made.id)
    assert (await julep.jobs.get(job_id)).state == "succeeded"

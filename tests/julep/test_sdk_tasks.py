"""Tasks by Julep's SDK: made, read back with their named lists, listed, changed without touching what runs."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import yaml
from julep import BadRequestError, NotFoundError

from tests.julep.sdk import Sdk, about, ended, everything, until

SHOUTS = """\
name: shouts
description: Says it loud
input_schema:
  type: object
  properties: {word: {type: string}}
  required: [word]
metadata: {team: north}
main:
  - workflow: loud
    arguments: {text: $ _.word}
  - evaluate: {answer: $ _.text + '!'}
loud:
  - evaluate: {text: $ _.text.upper()}
"""


def given(text: str = SHOUTS) -> dict[str, Any]:
    """Return the arguments of tasks.create for a task in YAML; named lists go into the body as they are."""
    task: dict[str, Any] = yaml.safe_load(text)
    named = {name: task.pop(name) for name in ("loud",) if name in task}
    return {**task, "extra_body": named}


@about("tasks.create", "tasks.get")
async def test_a_task_is_read_back_with_its_named_lists(julep: Sdk) -> None:
    agent = await julep.agents.create(name="Ada", canonical_name="ada")
    made = await julep.tasks.create(agent.id, canonical_name="shouts", **given())
    read = await julep.tasks.get(made.id)
    assert (read.id, read.name, read.description, read.metadata) == (
        made.id,
        "shouts",
        "Says it loud",
        {"team": "north"},
    )
    assert read.input_schema["required"] == ["word"]
    assert len(read.main) == 2
    assert len(read.loud) == 1
    execution = await julep.executions.create(made.id, input={"word": "hello"})
    assert (await ended(julep, execution.id)).output == {"answer": "HELLO!"}


@about("tasks.list")
async def test_tasks_of_an_agent_are_listed_to_the_end(julep: Sdk) -> None:
    agent = await julep.agents.create(name="Ada")
    other = await julep.agents.create(name="Bob")
    step = [{"evaluate": {"x": "$ 1"}}]
    made = [(await julep.tasks.create(agent.id, name=f"task {n}", main=step)).id for n in range(5)]
    await julep.tasks.create(other.id, name="another", main=step)
    listed = await everything(await julep.tasks.list(agent.id, limit=2, direction="asc", sort_by="created_at"))
    assert [task.id for task in listed] == made


@about("tasks.create_or_update")
async def test_create_or_update_changes_a_task_and_leaves_alone_what_runs(julep: Sdk) -> None:
    agent = await julep.agents.create(name="Ada")
    id_ = str(uuid.uuid4())
    asks = [{"wait_for_input": {"info": {"q": "go on?"}}}, {"evaluate": {"version": "$ 1"}}]
    made = await julep.tasks.create_or_update(id_, agent_id=agent.id, name="t", main=asks)
    assert made.id == id_
    old = await julep.executions.create(id_, input={})
    await julep.tasks.create_or_update(id_, agent_id=agent.id, name="t", main=[{"evaluate": {"version": "$ 2"}}])
    read = await julep.tasks.get(id_)
    assert (read.id, len(read.main)) == (id_, 1)
    new = await julep.executions.create(id_, input={})
    assert (await ended(julep, new.id)).output == {"version": 2}
    await until(julep, old.id, "awaiting_input")
    await julep.executions.change_status(old.id, status="running", input={"go": True})
    assert (await ended(julep, old.id)).output == {"version": 1}


@about("tasks.create")
async def test_a_task_that_cannot_run_is_refused_with_each_of_its_errors(julep: Sdk) -> None:
    agent = await julep.agents.create(name="Ada")
    with pytest.raises(BadRequestError) as raised:
        await julep.tasks.create(agent.id, name="bad", main=[{"evaluate": {"a": "$ 1 +"}}, {"tool": "nowhere"}])
    told = str(raised.value.body)
    assert "main[0]" in told
    assert "nowhere" in told
    assert await everything(await julep.tasks.list(agent.id)) == []


@about("agents.delete", "tasks.get")
async def test_tasks_go_with_their_agent(julep: Sdk) -> None:
    agent = await julep.agents.create(name="Ada")
    made = await julep.tasks.create(agent.id, **given())
    await julep.agents.delete(agent.id)
    with pytest.raises(NotFoundError):
        await julep.tasks.get(made.id)
